"""Conversion of the authors' weights to Keras networks and back."""

import subprocess
import sys

import golden
import numpy as np
import pytest

from cyclegan_tf.config import Config
from cyclegan_tf.errors import UserError
from cyclegan_tf.networks import registry
from cyclegan_tf.networks.weights import name_weights
from cyclegan_tf.pytorch import weights as pytorch_weights

NETWORKS = golden.names("generators") + golden.names("discriminators")
RUNS = golden.names("train")
CHECKPOINTS = golden.names("checkpoints", ".pth")


def _all_networks():
    """(id, golden file, group, options) of every network among the golden arrays, except those in .pth files."""
    for name in NETWORKS:
        yield name, name, "w", golden.options(golden.manifest()[name]["config"])
    for name in RUNS:
        config = golden.manifest()[name]["config"]
        for net in ("G", "D") if config["model"] == "pix2pix" else ("G_A", "G_B", "D_A", "D_B"):
            yield f"{name}/{net}", name, f"init/{net}", golden.training_options(config, net)


ALL = [pytest.param(*case, id=name) for name, *case in _all_networks()]


def _state_dict(name="generators/resnet_n2_instance_reflect.npz", group="w"):
    return golden.Golden(name).group(group)


def _network(name="generators/resnet_n2_instance_reflect.npz"):
    return golden.options(golden.manifest()[name]["config"])


def test_golden_set_is_complete():
    assert len(NETWORKS) >= 15
    assert len(ALL) >= len(NETWORKS) + 3 * 4 + 2
    assert CHECKPOINTS == [
        "checkpoints/experiment/latest_net_D_A.pth", "checkpoints/experiment/latest_net_G_A.pth",
        "checkpoints/experiment/latest_net_G_B.pth", "checkpoints/old_04/latest_net_G_A.pth",
        "checkpoints/old_pre04/latest_net_G_A.pth",
    ]


@pytest.mark.parametrize(("name", "group", "network"), ALL)
def test_round_trip_is_exact(name, group, network):
    state_dict = _state_dict(name, group)
    back = pytorch_weights.to_pytorch(pytorch_weights.to_keras(state_dict, network), network)
    assert list(back) == list(state_dict)
    for key, array in state_dict.items():
        assert back[key].dtype == array.dtype, key
        if key.endswith("num_batches_tracked"):
            assert back[key].shape == () and back[key] == 0
        else:
            np.testing.assert_array_equal(back[key], array, key)


@pytest.mark.parametrize(("name", "group", "network"), ALL)
def test_architecture_is_inferred(name, group, network):
    if network.get("padding") == "replicate":
        network = {**network, "padding": "reflect"}
    assert pytorch_weights.infer_architecture(_state_dict(name, group)) == network


def test_kernels_by_hand():
    arrays = pytorch_weights.to_keras(_state_dict(), _network())
    state_dict = _state_dict()
    # Output 5, input 2, row 3, column 6 of a convolution; input 31, output 4, row 1, column 2 of a transposed one.
    assert arrays["stem_conv/kernel"][3, 6, 2, 5] == state_dict["model.1.weight"][5, 2, 3, 6]
    assert arrays["up1_conv/kernel"][1, 2, 4, 31] == state_dict["model.12.weight"][31, 4, 1, 2]
    assert arrays["head_conv/kernel"].shape == (7, 7, 8, 3)
    np.testing.assert_array_equal(arrays["head_conv/bias"], state_dict["model.19.bias"])


NORMS = ("instance", "batch", "none")


# Combinations of options that the golden state_dicts do not cover.
@pytest.mark.parametrize(("kind", "options"), [
    ("generator", {"n_blocks": 1, "norm": norm, "padding": padding, "dropout": dropout})
    for norm in NORMS for padding in ("reflect", "zero") for dropout in (False, True)
] + [
    ("generator", {"generator": "unet", "norm": norm, "n_downs": n_downs})
    for norm, n_downs in (("instance", 7), ("batch", 5), ("none", 6))
] + [
    ("discriminator", {"norm": norm, **options})
    for norm in NORMS for options in ({"discriminator": "pixel"}, {"n_layers": 1}, {"n_layers": 5})
], ids=str)
def test_names_and_shapes_fit_the_keras_networks(kind, options):
    config = Config(model="pix2pix", ngf=2, ndf=2, input_channels=2, output_channels=5, **options)
    build, name = {
        "generator": (registry.build_generator, "gen_ab"), "discriminator": (registry.build_discriminator, "disc_b"),
    }[kind]
    model = build(config, name)
    inputs, outputs = (2, 5) if kind == "generator" else (7, 1)
    described = {**vars(config), "kind": kind, "input_channels": inputs, "output_channels": outputs}
    arrays = {name: weight.numpy() for name, weight in name_weights(model).items()}
    state_dict = pytorch_weights.to_pytorch(arrays, described)
    inferred = pytorch_weights.infer_architecture(state_dict)
    assert inferred == {name: described[name] for name in inferred}
    back = pytorch_weights.to_keras(state_dict, inferred)
    assert set(back) == set(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(back[name], array, name)


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_checkpoints_give_the_recorded_outputs(name, tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch reads the authors' .pth files")
    tensors = torch.load(golden.checkpoint(name, tmp_path), map_location="cpu", weights_only=True)
    state_dict = {key: tensor.numpy() for key, tensor in tensors.items()}
    info = golden.manifest()[name]
    config = info["config"]
    network = golden.options(config) if "kind" in config else golden.training_options(config, config["net"])
    assert pytorch_weights.infer_architecture(state_dict) == network

    model = golden.build_with(network, state_dict)
    case = golden.Golden(f"{name.rsplit('/', 1)[0]}/inputs_outputs.npz")
    prefix = f"{config['net']}/" if "net" in config else ""
    for i in (i for i in range(2) if i == 0 or f"{prefix}x{i}" in case):
        case.assert_close(golden.nchw(model(case.images(f"{prefix}x{i}"))), f"{prefix}y{i}")

    removed = info.get("keys_to_remove", [])
    kept = {key: array for key, array in state_dict.items() if key not in removed}
    back = pytorch_weights.to_pytorch(pytorch_weights.to_keras(state_dict, network), network)
    assert list(back) == list(kept)
    for key, array in kept.items():
        np.testing.assert_array_equal(back[key], array, key)


def test_statistics_of_old_instance_norms_are_dropped():
    state_dict = _state_dict()
    old = dict(state_dict)
    for key, array in state_dict.items():
        if key.endswith("bias") and key != "model.19.bias":
            *module, number, _ = key.split(".")
            norm = ".".join([*module, str(int(number) + 1)])
            old |= {f"{norm}.running_mean": array, f"{norm}.running_var": array}
            old[f"{norm}.num_batches_tracked"] = np.array(7)
    assert len(old) == len(state_dict) + 3 * 9
    assert pytorch_weights.infer_architecture(old) == _network()
    arrays, expected = pytorch_weights.to_keras(old, _network()), pytorch_weights.to_keras(state_dict, _network())
    assert list(arrays) == list(expected)
    # Elsewhere, running statistics are unexpected.
    old["model.1.running_mean"] = np.zeros(8, np.float32)
    with pytest.raises(UserError, match=r"unexpected: model\.1\.running_mean$"):
        pytorch_weights.to_keras(old, _network())


def test_batch_norms_get_a_missing_counter():
    name = "generators/unet_downs6_batch.npz"
    state_dict = {key: array for key, array in _state_dict(name).items() if "num_batches" not in key}
    back = pytorch_weights.to_pytorch(pytorch_weights.to_keras(state_dict, _network(name)), _network(name))
    counters = {key: array for key, array in back.items() if key.endswith("num_batches_tracked")}
    assert len(counters) == sum(key.endswith("running_var") for key in state_dict) == 9
    assert {(array.dtype, array.shape) for array in counters.values()} == {(np.dtype(np.int64), ())}


def test_wrong_keys_are_listed():
    state_dict, network = _state_dict(), _network()
    del state_dict["model.4.bias"]
    state_dict["model.5.weight"] = np.ones(16, np.float32)
    state_dict["model.12.weight"] = state_dict["model.12.weight"].transpose(1, 0, 2, 3)
    message = (
        r"do not fit a resnet generator with ngf=8, n_blocks=2, norm=instance, padding=reflect, dropout=False, "
        r"input_channels=3, output_channels=3; missing: model\.4\.bias; unexpected: model\.5\.weight; "
        r"wrong shape: model\.12\.weight \(16, 32, 3, 3\) instead of \(32, 16, 3, 3\)$"
    )
    with pytest.raises(UserError, match=message):
        pytorch_weights.to_keras(state_dict, network)
    assert pytorch_weights.infer_architecture(state_dict) == network


def test_wrong_names_are_listed():
    network = _network()
    arrays = pytorch_weights.to_keras(_state_dict(), network)
    del arrays["stem_conv/bias"]
    arrays["stem_norm/gamma"] = np.ones(8, np.float32)
    arrays["up1_conv/kernel"] = arrays["up1_conv/kernel"].transpose(0, 1, 3, 2)
    with pytest.raises(UserError, match=(
        r"missing: stem_conv/bias; unexpected: stem_norm/gamma; "
        r"wrong shape: up1_conv/kernel \(3, 3, 32, 16\) instead of \(3, 3, 16, 32\)$"
    )):
        pytorch_weights.to_pytorch(arrays, network)


def test_error_for_another_architecture_is_short():
    network = {**_network(), "n_blocks": 9}
    message = r"missing: model\.12\.conv_block\.1\.weight, .* and \d+ more; unexpected"
    with pytest.raises(UserError, match=message) as error:
        pytorch_weights.to_keras(_state_dict(), network)
    assert len(str(error.value)) < 1500


@pytest.mark.parametrize(("keys", "message"), [
    ({}, "belong to no known network .*; keys: none$"),
    ({"conv1.weight": (8, 3, 3, 3), "fc.bias": (8,)}, r"belong to no known network .*; keys: conv1\.weight, fc\.bias$"),
    ({"model.0.weight": (8, 3, 4, 4)}, "patch discriminator with ndf=8, n_layers=1.* missing: "),
    ({"model.0.weight": (8,)}, r"model\.0\.weight is not a convolution kernel$"),
    ({"net.0.weight": (8, 3, 1, 1)}, "pixel discriminator with ndf=8.* missing: "),
    ({"model.model.0.weight": (8, 3, 4, 4)}, r"model\.model\.3\.weight is not a convolution kernel$"),
    (
        {"model.model.0.weight": (8, 3, 4, 4), "model.model.3.weight": (16, 3, 4, 4)},
        "unet generator with ngf=8, n_downs=5.* missing: ",
    ),
    ({"model.10.conv_block.1.weight": (8, 8, 3, 3)}, r"model\.1\.weight is not a convolution kernel$"),
    (
        {"model.1.weight": (8, 3, 7, 7), "model.10.conv_block.1.weight": (32, 32, 3, 3)},
        r"look like a ResNet generator's, but model\.10\.conv_block is not one of its blocks$",
    ),
])
def test_unknown_network_is_an_error(keys, message):
    with pytest.raises(UserError, match=message):
        state_dict = {key: np.zeros(shape, np.float32) for key, shape in keys.items()}
        pytorch_weights.to_keras(state_dict, pytorch_weights.infer_architecture(state_dict))


@pytest.mark.parametrize(("network", "named"), [
    ({"kind": "generator", "generator": "tf_blog"}, "generator=tf_blog"),
    ({"kind": "discriminator", "discriminator": "patch_mean"}, "discriminator=patch_mean"),
    ({"kind": "generator", "generator": "resnet", "norm_affine": True}, "norm_affine"),
    ({"kind": "generator", "generator": "resnet", "upsample": "resize_conv"}, "upsample=resize_conv"),
    ({"kind": "generator", "generator": "unet", "upsample": "resize_conv"}, "upsample=resize_conv"),
])
def test_networks_outside_the_authors_code_are_refused(network, named):
    options = {**_network(), **network}
    for convert in (pytorch_weights.to_pytorch, pytorch_weights.to_keras):
        with pytest.raises(UserError, match=f"--{named} does not exist in the authors' code"):
            convert({}, options)


def test_module_needs_only_numpy():
    code = (
        "import sys; import cyclegan_tf.pytorch.weights; "
        "assert not {'tensorflow', 'keras', 'torch'} & set(sys.modules), 'heavy import'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

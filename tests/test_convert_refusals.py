"""Conversions of .pth files that are refused: networks that do not fit, files that exist, unclear names."""

import os
import sys

import golden
import pytest
from conftest import write_run

from cyclegan_tf.config import Config
from cyclegan_tf.errors import UserError
from cyclegan_tf.exporters import pytorch_run
from cyclegan_tf.models.cyclegan import CycleGAN
from cyclegan_tf.pytorch import files as torch_files


@pytest.mark.parametrize(("options", "message"), [
    ({"dropout": True}, "--dropout has no effect on --generator=unet with --n_downs=5, because only deeper levels have "
                        "dropout; leave the option out"),
    ({"padding": "replicate"}, "--padding=replicate has no effect on --generator=unet; leave the option out"),
], ids=["dropout", "padding"])
def test_options_without_effect_are_refused(torch, tmp_path, options, message):
    write_run(tmp_path / "run", CycleGAN(Config.preset("tiny", generator="unet", n_downs=5, crop_size=32)))
    pytorch_run.convert_to_pytorch(str(tmp_path / "run"), str(tmp_path / "pth"))
    with pytest.raises(UserError) as error:
        pytorch_run.convert_from_pytorch([str(tmp_path / "pth")], str(tmp_path / "out"), **options)
    assert str(error.value) == message
    discriminator = str(tmp_path / "pth" / "latest_net_D_A.pth")
    with pytest.raises(UserError, match="has no effect without a generator; leave the option out"):
        pytorch_run.convert_from_pytorch([discriminator], str(tmp_path / "out"), **options)


@pytest.mark.parametrize("options", [{}, {"generator": "unet", "n_downs": 5}], ids=["resnet", "unet"])
def test_networks_outside_the_authors_code_are_not_written(torch, tmp_path, options):
    write_run(tmp_path, CycleGAN(Config.preset("tiny", upsample="resize_conv", **options)))
    with pytest.raises(UserError, match=r"step-00000007\.npz: --upsample=resize_conv does not exist in the authors'"):
        pytorch_run.convert_to_pytorch(str(tmp_path), str(tmp_path / "pth"))
    assert not (tmp_path / "pth").exists()


def test_files_that_exist_are_not_overwritten(torch, tmp_path):
    write_run(tmp_path, CycleGAN(Config.preset("tiny")))
    (tmp_path / "latest_net_D_A.pth").write_bytes(b"mine")
    with pytest.raises(UserError, match=r"latest_net_D_A\.pth exists already; give another folder to --to_pytorch"):
        pytorch_run.convert_to_pytorch(str(tmp_path), str(tmp_path))
    assert sorted(os.listdir(tmp_path)) == ["checkpoints", "config.json", "latest_net_D_A.pth"]
    with pytest.raises(UserError, match=r"is not a run directory: it has no config\.json"):
        pytorch_run.convert_to_pytorch(str(tmp_path / "none"), str(tmp_path))
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "config.json").write_text(Config().to_json())
    with pytest.raises(UserError, match="empty has no checkpoint yet"):
        pytorch_run.convert_to_pytorch(str(tmp_path / "empty"), str(tmp_path / "pth"))


def test_a_padding_that_the_weights_contradict_is_an_error(torch, tmp_path):
    torch_files.write(tmp_path / "net_G_A.pth", golden.state_dict("generators/resnet_n2_instance_zero.npz"))
    with pytest.raises(UserError, match=r"net_G_A\.pth: the weights do not fit .* padding=replicate"):
        pytorch_run.convert_from_pytorch([str(tmp_path / "net_G_A.pth")], str(tmp_path / "run"), padding="replicate")


def test_a_discriminator_of_a_wrong_shape_is_named(torch, tmp_path):
    state_dict = golden.state_dict("discriminators/nlayer_n2_instance.npz")
    state_dict["model.2.weight"] = state_dict["model.2.weight"][:-1]
    torch_files.write(tmp_path / "net_D_A.pth", state_dict)
    with pytest.raises(UserError, match=r"net_D_A\.pth: .*; wrong shape: model\.2\.weight \(15, 8, 4, 4\) instead of"):
        pytorch_run.convert_from_pytorch([str(tmp_path / "net_D_A.pth")], str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("net", "name", "difference"), [
    ("G_B", "generators/resnet_n9_instance_reflect.npz", "n_blocks is 2 in the first and 9 in the second"),
    ("G_B", "generators/resnet_n2_instance_zero.npz", "padding is reflect in the first and zero in the second"),
    ("G_B", "generators/unet_downs5_instance.npz", "generator is resnet in the first and unet in the second"),
    ("G_B", "generators/resnet_n2_batch_reflect.npz", "norm is instance in the first and batch in the second"),
])
def test_files_that_do_not_belong_together_are_an_error(torch, tmp_path, net, name, difference):
    paths = [str(tmp_path / f"5_net_{n}.pth") for n in ("G_A", net)]
    torch_files.write(paths[0], golden.state_dict())
    torch_files.write(paths[1], golden.state_dict(name))
    message = rf"5_net_G_A\.pth and .*5_net_{net}\.pth do not belong together: {difference}; convert"
    with pytest.raises(UserError, match=message):
        pytorch_run.convert_from_pytorch(paths, str(tmp_path / "run"))


@pytest.mark.parametrize(("paths", "network", "message"), [
    (["zebra.pth"], None, r"zebra\.pth: the name does not say .*add --network=gen_ab \(A to B\), gen_ba, disc_a"),
    (["G_A.pth", "net_G.pth"], None, r"G_A\.pth and .*net_G\.pth are both gen_ab; give only one of them$"),
    (["G_A.pth", "G_B.pth"], "gen_ab", "--network=gen_ab names the network of a single file, but there are 2 files$"),
    (["."], None, r" contains none of latest_net_G_A\.pth, latest_net_G_B\.pth, "),
])
def test_files_whose_network_is_not_clear_are_an_error(tmp_path, paths, network, message):
    (tmp_path / "zebra.pth").touch()
    with pytest.raises(UserError, match=message):
        pytorch_run.convert_from_pytorch([str(tmp_path / path) for path in paths], str(tmp_path / "run"), network)


def test_a_run_is_not_overwritten(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"--output=.* holds a run, or a part of one; give another folder$"):
        pytorch_run.convert_from_pytorch(["G_A.pth"], str(tmp_path))
    (tmp_path / "config.json").rename(tmp_path / "checkpoints")
    assert (tmp_path / "checkpoints").read_text() == "{}"


@pytest.mark.parametrize("name", ["checkpoints", "export/a2b"])
def test_a_part_of_a_run_is_not_overwritten(tmp_path, name):
    (tmp_path / name).mkdir(parents=True)
    with pytest.raises(UserError, match="holds a run, or a part of one"):
        pytorch_run.convert_from_pytorch(["G_A.pth"], str(tmp_path))


def test_without_pytorch_the_error_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UserError, match=r"^reading \.pth files needs PyTorch: pip install 'cyclegan_tf\[pytorch\]'$"):
        pytorch_run.convert_from_pytorch(["G_A.pth"], str(tmp_path / "run"))
    with pytest.raises(UserError, match=r"^writing \.pth files needs PyTorch: pip install 'cyclegan_tf\[pytorch\]'$"):
        pytorch_run.convert_to_pytorch(str(tmp_path), str(tmp_path / "pth"))
    assert os.listdir(tmp_path) == []

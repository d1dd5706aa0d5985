"""Numbers of the authors' PyTorch code that the tests compare with; data/README.md says how they were made.

Arrays are stored as PyTorch has them: images and maps (N, C, H, W), kernels (out, in, H, W), transposed ones (in, out,
H, W). The environment variable CYCLEGAN_TF_GOLDEN names another folder of the same form, such as the full set that
tests/data is a selection of.
"""

import functools
import json
import lzma
import os

import numpy as np

from cyclegan_tf.networks import discriminators, generators
from cyclegan_tf.networks.weights import named_weights
from cyclegan_tf.pytorch import weights as pytorch_weights

ROOT = os.environ.get("CYCLEGAN_TF_GOLDEN") or os.path.join(os.path.dirname(os.path.abspath(__file__)), "data")


@functools.lru_cache(maxsize=1)
def manifest():
    """{file: what it holds, for which options, with which tolerances}."""
    with open(os.path.join(ROOT, "MANIFEST.json"), encoding="utf-8") as file:
        return json.load(file)["files"]


def names(folder, suffix=".npz"):
    """The files in `folder`, sorted: the cases to parametrize a test over."""
    return sorted(name for name in manifest() if name.startswith(f"{folder}/") and name.endswith(suffix))


def read_json(name):
    with open(os.path.join(ROOT, name), encoding="utf-8") as file:
        return json.load(file)


class Golden:
    """The arrays of one .npz file by name, with their entry in the manifest as `info`."""

    def __init__(self, name):
        self.info = manifest()[name]
        with np.load(os.path.join(ROOT, name)) as file:
            self._arrays = {key: file[key] for key in file.files}

    def __contains__(self, key):
        return key in self._arrays

    def __getitem__(self, key):
        return self._arrays[key]

    def group(self, prefix):
        """{REST: array} of the arrays called PREFIX/REST."""
        return {key[len(prefix) + 1:]: array for key, array in self._arrays.items() if key.startswith(f"{prefix}/")}

    def images(self, key):
        """The array, which is (N, C, H, W), as (N, H, W, C)."""
        return nhwc(self[key])

    def assert_close(self, actual, key):
        """Asserts that `actual`, already in PyTorch's layout, is the array within the tolerance of the manifest."""
        tolerance = self.info["arrays"][key]["max_abs_tolerance"]
        np.testing.assert_allclose(np.asarray(actual), self[key], rtol=0, atol=tolerance, err_msg=key)


def nhwc(array):
    """(N, C, H, W) -> (N, H, W, C)."""
    return np.transpose(array, (0, 2, 3, 1))


def nchw(array):
    """(N, H, W, C) -> (N, C, H, W)."""
    return np.transpose(array, (0, 3, 1, 2))


def options(config):
    """A network's configuration in the manifest, as the options that `pytorch.weights` describes networks by."""
    common = {"norm": config["norm"], "input_channels": config.get("input_nc", 3)}
    if "no_antialias" in config:  # CUT's.
        blurs = not config["no_antialias"], not config.get("no_antialias_up", config["no_antialias"])
        common["antialias"] = {(True, True): "both", (True, False): "down", (False, True): "up"}[blurs]
    if config["kind"] == "nlayer":
        common |= {"kind": "discriminator", "discriminator": "patch", "n_layers": config["n_layers"]}
    elif config["kind"] == "pixel":
        common |= {"kind": "discriminator", "discriminator": "pixel"}
    elif config["kind"] == "unet":
        common |= {"kind": "generator", "generator": "unet", "n_downs": config["num_downs"]}
    else:
        common |= {
            "kind": "generator", "generator": "resnet", "n_blocks": config["n_blocks"], "upsample": "transpose",
            "padding": config.get("padding_type", "reflect"),
        }
    if common["kind"] == "discriminator":
        return common | {"ndf": config["ndf"]}
    dropout = config.get("use_dropout", False)
    return common | {"ngf": config["ngf"], "dropout": dropout, "output_channels": config.get("output_nc", 3)}


def training_options(config, net):
    """The same for the network called `net` (G_A, D_B, G ...) of a training run's configuration."""
    config = {**config, "use_dropout": False}
    if net.startswith("D"):
        channels = config["input_nc"] + (config["output_nc"] if config["model"] == "pix2pix" else 0)
        n_layers = config.get("n_layers_D", 3)
        return options({**config, "kind": "nlayer", "n_layers": n_layers, "input_nc": channels})
    kind, size = config["netG"].split("_")
    if kind == "unet":
        return options({**config, "kind": kind, "num_downs": int(size.removeprefix("downs"))})
    return options({**config, "kind": kind, "n_blocks": int(size.removesuffix("blocks"))})


BUILDERS = {
    "resnet": generators.resnet_generator, "unet": generators.unet_generator,
    "patch": discriminators.patch_discriminator, "pixel": discriminators.pixel_discriminator,
}


def build(network, **more):
    """The network that the options `network` describe, with fresh weights."""
    kind = network["kind"]
    arguments = {name: value for name, value in network.items() if name not in ("kind", kind)}
    if kind == "discriminator" and "antialias" in arguments:
        arguments["antialias"] = arguments["antialias"] in ("down", "both")
    return BUILDERS[network[kind]](**arguments, **more)


def build_with(network, state_dict, **more):
    """The network that the options `network` describe, with the weights of a PyTorch state_dict."""
    model = build(network, **more)
    weights = named_weights(model)
    arrays = pytorch_weights.to_keras(state_dict, network)
    assert set(weights) == set(arrays)
    for name, array in arrays.items():
        assert weights[name].shape == array.shape, name
        weights[name].assign(array)
    return model


def checkpoint(name, folder):
    """The path of the .pth file `name`, unpacked into `folder` if it is stored with a further ending .xz."""
    path = os.path.join(ROOT, name)
    if os.path.exists(path):
        return path
    unpacked = os.path.join(folder, os.path.basename(name))
    with lzma.open(f"{path}.xz") as source, open(unpacked, "wb") as target:
        target.write(source.read())
    return unpacked


def state_dict(name="generators/resnet_n2_instance_reflect.npz"):
    """The weights of a network case, {PyTorch key: array}."""
    return Golden(name).group("w")

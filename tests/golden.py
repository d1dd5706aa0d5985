"""Reads the golden numbers: results of the authors' PyTorch code, described in data/README.md.

Arrays have PyTorch's layout: images and feature maps (N, C, H, W), kernels (out, in, H, W), kernels of transposed
convolutions (in, out, H, W). The environment variable CYCLEGAN_TF_GOLDEN names another folder of the same form, for
example the complete set from which tests/data was selected.
"""

import functools
import json
import lzma
import os

import numpy as np

from cyclegan_tf.networks import discriminators, generators
from cyclegan_tf.networks.weights import name_weights
from cyclegan_tf.pytorch import weights as pytorch_weights

ROOT = os.environ.get("CYCLEGAN_TF_GOLDEN") or os.path.join(os.path.dirname(os.path.abspath(__file__)), "data")


@functools.lru_cache(maxsize=1)
def manifest():
    """Returns {file: its content, options and tolerances}."""
    with open(os.path.join(ROOT, "MANIFEST.json"), encoding="utf-8") as file:
        return json.load(file)["files"]


def names(folder, suffix=".npz"):
    """Returns the files in `folder`, sorted: the cases to parametrize a test over."""
    return sorted(name for name in manifest() if name.startswith(f"{folder}/") and name.endswith(suffix))


def read_json(name):
    with open(os.path.join(ROOT, name), encoding="utf-8") as file:
        return json.load(file)


class Golden:
    """The arrays of one .npz file by name; `info` is the file's entry in the manifest."""

    def __init__(self, name):
        self.info = manifest()[name]
        with np.load(os.path.join(ROOT, name)) as file:
            self._arrays = {key: file[key] for key in file.files}

    def __contains__(self, key):
        return key in self._arrays

    def __getitem__(self, key):
        return self._arrays[key]

    def group(self, prefix):
        """Returns {REST: array} for the arrays named PREFIX/REST."""
        return {key[len(prefix) + 1:]: array for key, array in self._arrays.items() if key.startswith(f"{prefix}/")}

    def images(self, key):
        """Returns the array (N, C, H, W) as (N, H, W, C)."""
        return nhwc(self[key])

    def assert_close(self, actual, key):
        """Asserts that `actual`, in PyTorch's layout, equals the array within the manifest's tolerance."""
        tolerance = self.info["arrays"][key]["max_abs_tolerance"]
        np.testing.assert_allclose(np.asarray(actual), self[key], rtol=0, atol=tolerance, err_msg=key)


def nhwc(array):
    """(N, C, H, W) -> (N, H, W, C)."""
    return np.transpose(array, (0, 2, 3, 1))


def nchw(array):
    """(N, H, W, C) -> (N, C, H, W)."""
    return np.transpose(array, (0, 3, 1, 2))


def options(config):
    """Converts a network's configuration in the manifest to the options that `pytorch.weights` uses."""
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
    """Converts a training run's configuration to the options of its network `net` (G_A, D_B, G, ...)."""
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
    """Builds the network with the options `network` and new random weights."""
    kind = network["kind"]
    arguments = {name: value for name, value in network.items() if name not in ("kind", kind)}
    if kind == "discriminator" and "antialias" in arguments:
        arguments["antialias"] = arguments["antialias"] in ("down", "both")
    return BUILDERS[network[kind]](**arguments, **more)


def build_with(network, state_dict, **more):
    """Builds the network with the options `network` and the weights of a PyTorch state_dict."""
    model = build(network, **more)
    weights = name_weights(model)
    arrays = pytorch_weights.to_keras(state_dict, network)
    assert set(weights) == set(arrays)
    for name, array in arrays.items():
        assert weights[name].shape == array.shape, name
        weights[name].assign(array)
    return model


def checkpoint(name, folder):
    """Returns the path of the .pth file `name`; if only NAME.xz exists, unpacks it into `folder` first."""
    path = os.path.join(ROOT, name)
    if os.path.exists(path):
        return path
    unpacked = os.path.join(folder, os.path.basename(name))
    with lzma.open(f"{path}.xz") as source, open(unpacked, "wb") as target:
        target.write(source.read())
    return unpacked


def state_dict(name="generators/resnet_n2_instance_reflect.npz"):
    """Returns the weights of a network case: {PyTorch key: array}."""
    return Golden(name).group("w")

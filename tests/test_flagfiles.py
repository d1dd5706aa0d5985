"""Every flagfile in experiments/ and every preset parses, makes networks of the documented sizes, and trains."""

import dataclasses
import functools
import json
import sys
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT, run_python

from cyclegan_tf.config import Config, presets
from cyclegan_tf.config import flags as config_flags
from cyclegan_tf.data import pipeline, sources
from cyclegan_tf.models.registry import build_model
from cyclegan_tf.networks import registry

keras = tf.keras


def conv(kernel, inputs, outputs):
    return kernel**2 * inputs * outputs + outputs


class Network(NamedTuple):
    """A network's documented properties: the output size (H, W, C) of some layers, in order, and its parameters."""

    stages: dict
    parameters: int


def resnet(size, ngf, n_blocks, kernel=3):
    half, quarter = size // 2, size // 4
    return Network({
        "stem_conv": (size, size, ngf), "down1_conv": (half, half, 2 * ngf), "down2_conv": (quarter, quarter, 4 * ngf),
        "block1_add": (quarter, quarter, 4 * ngf), f"block{n_blocks}_add": (quarter, quarter, 4 * ngf),
        "up1_relu": (half, half, 2 * ngf), "up2_relu": (size, size, ngf), "tanh": (size, size, 3),
    }, 2 * conv(7, 3, ngf) - ngf + 3 + 2 * n_blocks * conv(3, 4 * ngf, 4 * ngf)
        + conv(kernel, ngf, 2 * ngf) + conv(kernel, 2 * ngf, 4 * ngf)
        + conv(kernel, 4 * ngf, 2 * ngf) + conv(kernel, 2 * ngf, ngf))


def blog_generator(size, ngf, n_blocks):
    """Block i reads 4 ngf i channels and appends 4 ngf. Each convolution has a norm with two weights per channel."""
    half, quarter, width = size // 2, size // 4, 4 * ngf
    blocks = sum(conv(3, i * width, width) + conv(3, width, width) for i in range(1, n_blocks + 1))
    normalized = ngf + 2 * ngf + width + 2 * n_blocks * width + 2 * ngf + ngf + 3
    return Network({
        "stem_conv": (size, size, ngf), "down1_conv": (half, half, 2 * ngf), "down2_conv": (quarter, quarter, width),
        "block1_join": (quarter, quarter, 2 * width), "block2_join": (quarter, quarter, 3 * width),
        f"block{n_blocks}_join": (quarter, quarter, (n_blocks + 1) * width),
        "up1_relu": (half, half, 2 * ngf), "up2_relu": (size, size, ngf), "head_norm": (size, size, 3),
        "tanh": (size, size, 3),
    }, conv(7, 3, ngf) + conv(3, ngf, 2 * ngf) + conv(3, 2 * ngf, width) + blocks
        + conv(3, (n_blocks + 1) * width, 2 * ngf) + conv(3, 2 * ngf, ngf) + conv(7, ngf, 3) + 2 * normalized)


def book_unet(size):
    """32, 64, 128, 256 filters down and up; each decoder level is joined to the encoder's map of its size."""
    return Network({
        "down1_norm": (size // 2, size // 2, 32), "down2_norm": (size // 4, size // 4, 64),
        "down3_norm": (size // 8, size // 8, 128), "down4_norm": (size // 16, size // 16, 256),
        "up4_join": (size // 8, size // 8, 128 + 128), "up3_join": (size // 4, size // 4, 64 + 64),
        "up2_join": (size // 2, size // 2, 32 + 32), "tanh": (size, size, 3),
    }, conv(4, 3, 32) + conv(4, 32, 64) + conv(4, 64, 128) + conv(4, 128, 256)
        + conv(4, 256, 128) + conv(4, 256, 64) + conv(4, 128, 32) + conv(4, 64, 3))


def unet(size, ngf, n_downs, batch=False, side=4):
    """Isola et al. 2017. With batch norm, only the last layer has a bias, and a norm has two weights per channel.

    Args:
      side: kernel size of the decoder: 4, or 3 for resize and convolution.
    """
    widths = [ngf * min(2**i, 8) for i in range(n_downs)]
    downs = list(zip([3, *widths], widths, strict=False))
    ups = [(widths[-1], widths[-2]), *((2 * widths[i], widths[i - 1]) for i in range(n_downs - 2, 0, -1))]
    kernels = sum(
        kernel**2 * inputs * outputs for kernel, pairs in ((4, downs), (side, ups)) for inputs, outputs in pairs
    )
    biases = sum(outputs for _, outputs in downs + ups)
    normalized = sum(widths[1:-1]) + sum(outputs for _, outputs in ups)
    return Network({
        "down1_conv": (size // 2, size // 2, ngf),
        f"down{n_downs}_conv": (size >> n_downs, size >> n_downs, widths[-1]),
        "up2_join": (size // 2, size // 2, 2 * ngf), "tanh": (size, size, 3),
    }, kernels + conv(side, 2 * ngf, 3) + (2 * normalized if batch else biases))


def full_unet(size, ngf, n_downs):
    """A U-Net whose last convolution reads ngf / 2 filters and the image, instead of 2 ngf filters."""
    plain, half = unet(size, ngf, n_downs, side=3), ngf // 2
    stages = {"up1_norm": (size, size, half), "head_join": (size, size, half + 3)}
    parameters = plain.parameters - conv(3, 2 * ngf, 3) + conv(3, 2 * ngf, half) + conv(3, half + 3, 3)
    return Network(plain.stages | stages, parameters)


def discriminator(size, ndf, widths, head, inputs=3, norm_weights=0, no_bias=False):
    """A stack of 4x4 convolutions.

    Args:
      widths: (output size, filters as a multiple of ndf) of the layers after the first.
      head: shape of the output.
    """
    stages, parameters, before = {"layer0_conv": (size // 2, size // 2, ndf)}, conv(4, inputs, ndf), ndf
    for i, (side, multiple) in enumerate(widths, 1):
        width = multiple * ndf
        stages[f"layer{i}_conv"] = (side, side, width)
        parameters += conv(4, before, width) + norm_weights * width - (width if no_bias else 0)
        before = width
    return Network({**stages, "scores": head}, parameters + conv(4, before, 1))


def patch(size, ndf=64, **options):
    """70x70 PatchGAN. Each of the last two layers loses a row: 256 px -> 30x30."""
    last = size // 8
    head = options.pop("head", (last - 2, last - 2, 1))
    return discriminator(size, ndf, [(size // 4, 2), (last, 4), (last - 1, 8)], head, **options)


def four_halvings(size, ndf=64):
    """64 px -> 4x4, 128 px -> 8x8."""
    last = size // 16
    return discriminator(size, ndf, [(size // 4, 2), (size // 8, 4), (last, 8)], (last, last, 1))


def blog_discriminator(size, ndf=64):
    """Four stride-2 layers and one more layer: 256 px -> 16x16."""
    last = size // 16
    widths = [(size // 4, 2), (size // 8, 4), (last, 8), (last, 8)]
    return discriminator(size, ndf, widths, (last, last, 1), norm_weights=2)


def antialiased(size, ngf, n_blocks):
    """A ResNet that downsamples by a convolution of stride 1 and a blur of stride 2."""
    plain = resnet(size, ngf, n_blocks)
    return plain._replace(stages=plain.stages | {
        "down1_conv": (size, size, 2 * ngf), "down2_conv": (size // 2, size // 2, 4 * ngf),
    })


def antialiased_patch(size, ndf):
    """A PatchGAN whose first three convolutions, 4x4 with one pixel of padding, move by one pixel before halving."""
    plain = patch(size, ndf)
    return plain._replace(stages=plain.stages | {
        f"layer{i}_conv": (size // 2**i - 1,) * 2 + (ndf * 2**i,) for i in range(3)
    })


AUTHORS = (256, resnet(256, 64, 9), patch(256))
# Flagfile or preset: (crop size, generator, discriminator of B).
SYSTEMS = {
    "preset=demo": (128, full_unet(128, 16, 5), patch(128, 32)),
    "preset=fast_cpu": (128, full_unet(128, 16, 5), patch(128, 32)),
    "preset=paper": AUTHORS,
    "preset=small_data": AUTHORS,
    "preset=tiny": (32, resnet(32, 4, 1), discriminator(32, 4, [(8, 2), (7, 4)], (6, 6, 1))),
    "demo": (128, full_unet(128, 16, 5), patch(128, 32)),
    "demo_model": (128, full_unet(128, 16, 5), patch(128, 32)),
    "demo_maps_model": (128, unet(128, 16, 5, side=3), patch(128, 32)),
    "one_sided/cyclegan": (128, resnet(128, 16, 6), patch(128, 32)),
    "one_sided/cut": (128, antialiased(128, 16, 6), antialiased_patch(128, 32)),
    "one_sided/fastcut": (128, antialiased(128, 16, 6), antialiased_patch(128, 32)),
    "authors_sets/facades_cyclegan": (128, unet(128, 16, 5, side=3), patch(128, 32)),
    "authors_sets/facades_pix2pix": (128, unet(128, 16, 5, side=3), patch(128, 32, inputs=6)),
    "authors_sets/vangogh_cyclegan": (128, unet(128, 16, 5, side=3), patch(128, 32)),
    "authors_sets/vangogh_fastcut": (128, antialiased(128, 16, 6), antialiased_patch(128, 32)),
    "torchgan_cityscapes": (64, resnet(64, 64, 5, kernel=4), four_halvings(64)),
    "reference_horse2zebra": AUTHORS,
    "reference_horse2zebra_vanilla": AUTHORS,
    "reference_monet2photo": AUTHORS,
    "walkthrough_summer2winter": (256, resnet(256, 64, 9), patch(256, head=(1,))),
    "tf_blog_horse2zebra": (256, blog_generator(256, 64, 9), blog_discriminator(256)),
    "apple2orange_resnet6_128": (128, resnet(128, 64, 6), patch(128)),
    "apple2orange_resnet9_256": AUTHORS,
    "apple2orange_unet_128": (128, book_unet(128), four_halvings(128)),
    "cyclegan_demo_64": (64, unet(64, 24, 5), patch(64, 32)),
    "discogan": (64, unet(64, 24, 5), patch(64, 32)),
    "pix2pix_demo": (64, unet(64, 24, 5), patch(64, 32, inputs=6)),
    # A batch norm has two weights per channel, and replaces the bias.
    "pix2pix_facades": (256, unet(256, 64, 8, batch=True), patch(256, inputs=6, norm_weights=2, no_bias=True)),
    "cpu/torchgan": (64, resnet(64, 16, 5, kernel=4), four_halvings(64, 24)),
    "cpu/reference": (64, resnet(64, 32, 6), patch(64, 32)),
    "cpu/reference_vanilla": (64, resnet(64, 32, 6), patch(64, 32)),
    "cpu/walkthrough": (64, resnet(64, 32, 6), patch(64, 32, head=(1,))),
    "cpu/tf_blog": (64, blog_generator(64, 16, 6), blog_discriminator(64, 16)),
    "cpu/apple2orange_resnet6": (64, resnet(64, 32, 6), patch(64, 32)),
    "cpu/apple2orange_resnet9": (64, resnet(64, 24, 9), patch(64, 32)),
    "cpu/apple2orange_unet": (64, book_unet(64), four_halvings(64, 32)),
    "ablation/authors_64": (64, resnet(64, 32, 6), patch(64)),
    "ablation/base": (64, unet(64, 12, 5, side=3), patch(64, 32)),
}


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch):
    """Flagfiles include each other by paths relative to the repository."""
    monkeypatch.chdir(ROOT)


def parse(name):
    argument = f"--{name}" if name.startswith("preset=") else f"--flagfile=experiments/{name}.flags"
    return config_flags.from_arguments([argument])


def test_every_flagfile_and_preset_is_tested():
    folder = ROOT / "experiments"
    files = {path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.flags")}
    assert files | {f"preset={name}" for name in presets.NAMES} == set(SYSTEMS)


def test_the_flagfile_of_the_demo_is_the_preset():
    assert parse("demo") == parse("preset=demo")


def test_closed_forms_give_the_documented_numbers():
    assert (AUTHORS[1].parameters, AUTHORS[2].parameters) == (11_378_179, 2_764_737)
    assert resnet(128, 64, 6).parameters == 7_837_699
    heads = {name: system[2].stages["scores"] for name, system in SYSTEMS.items()}
    assert heads["apple2orange_unet_128"] == (8, 8, 1)
    assert heads["tf_blog_horse2zebra"] == (16, 16, 1)
    assert heads["torchgan_cityscapes"] == (4, 4, 1)
    assert heads["walkthrough_summer2winter"] == (1,)
    assert heads["reference_horse2zebra"] == (30, 30, 1)
    # The cost of concatenation that tf_blog_horse2zebra.flags states: weights for channels that addition sums.
    added = resnet(256, 64, 9).parameters + 2 * (64 + 128 + 256 + 18 * 256 + 128 + 64 + 3)
    concatenated = blog_generator(256, 64, 9).parameters
    assert concatenated - added == 9 * 256 * 256 * sum(range(9)) + 9 * 128 * 9 * 256 == 23_887_872
    text = (ROOT / "experiments" / "tf_blog_horse2zebra.flags").read_text().replace("\n# ", " ")
    assert (
        f"= {concatenated - added:,} weights: a generator has {concatenated:,}, and would have {added:,} if the blocks "
        "added."
    ) in text


_ARCHITECTURE = (
    "model", "generator", "discriminator", "ngf", "ndf", "n_blocks", "n_downs", "n_layers", "norm", "norm_affine",
    "padding", "dropout", "upsample",
)


def get_network(config, name):
    """The network `name` of `config`; configs with the same architecture share it."""
    used = {field: getattr(config, field) for field in _ARCHITECTURE}
    generator = name.startswith("gen")
    for field in ("discriminator", "ndf", "n_layers") if generator else ("generator", "ngf", "n_blocks", "n_downs"):
        del used[field]
    return build_once(registry.build_generator if generator else registry.build_discriminator, Config(**used), name)


@functools.cache
def build_once(build, config, name):
    return build(config, name)


def compute_shapes(network, size):
    """{layer: (H, W, C) or (C,)} of `network` for images of `size` x `size`."""
    found = {}
    for layer in network.layers:
        if isinstance(layer, keras.layers.InputLayer):
            found[id(layer.output)] = layer.name, (1, size, size, network.input_shape[-1])
            continue
        given = [found[id(tensor)][1] for tensor in tf.nest.flatten(layer.input)]
        shape = layer.compute_output_shape(given if len(given) > 1 else given[0])
        found[id(layer.output)] = layer.name, tuple(shape)
    return {name: shape[1:] for name, shape in found.values()}


@pytest.mark.parametrize("name", SYSTEMS)
def test_networks_have_the_documented_sizes(name):
    config = parse(name)
    size, *networks = SYSTEMS[name]
    assert config.crop_size == size
    for expected, built in zip(networks, (get_network(config, "gen_ab"), get_network(config, "disc_b")), strict=True):
        found = compute_shapes(built, size)
        assert {stage: found.get(stage) for stage in expected.stages} == expected.stages
        assert sum(int(np.prod(weight.shape)) for weight in built.trainable_weights) == expected.parameters


def reduce(config):
    """The same system with small networks on 32 px demo images. Options that a step does not use are defaults."""
    small = {
        "dataset": "demo_pairs", "crop_size": 32, "load_size": 36, "ngf": 4, "ndf": 4, "n_blocks": 1, "n_downs": 5,
        "batch_size": min(config.batch_size, 2), "max_dataset_size": 4,
    }
    unseen = (
        "max_steps", "n_epochs", "n_epochs_decay", "lr_policy", "log_every", "sample_every", "sample_epochs",
        "n_samples", "checkpoint_every", "checkpoint_epochs", "keep_checkpoints",
    )
    defaults = Config()
    return dataclasses.replace(config, **small, **{field: getattr(defaults, field) for field in unseen})


@functools.cache
def train_two_steps(config):
    """(scalars of two steps, whether each network's weights changed)."""
    model = build_model(config)
    before = {name: network.get_weights() for name, network in model.networks.items()}
    stream, _ = pipeline.make_batches(sources.open_dataset(config), config, 0, 2)
    model.compiled_step = model.seeded_step  # Eager, because tracing takes longer than two steps.
    scalars = [{name: float(value) for name, value in model.train_step(*batch).items()} for batch in stream]
    moved = {
        name: any(np.any(old != new) for old, new in zip(before[name], network.get_weights(), strict=True))
        for name, network in model.networks.items()
    }
    return scalars, moved


# The flagfiles left out differ from others only by options with tests of their own.
@pytest.mark.parametrize("name", [
    name for name in SYSTEMS if not name.startswith(("ablation/", "one_sided/")) and not name.endswith("_model")
])
def test_flagfile_trains_two_steps(name):
    scalars, moved = train_two_steps(reduce(parse(name)))
    assert len(scalars) == 2
    assert all(np.isfinite(list(step.values())).all() for step in scalars)
    assert scalars[0] != scalars[1]
    assert all(moved.values())


@pytest.fixture
def reproduce(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "experiments"))
    import reproduce

    yield reproduce
    del sys.modules["reproduce"]


def test_every_system_has_a_record(reproduce):
    """Every system that a CPU can train has a record of both stacks and of both usual sizes of the L1 data cache."""
    recorded = {path.stem for path in (ROOT / "experiments" / "recorded").glob("*.json")}
    cpu = {name.removeprefix("cpu/") for name in SYSTEMS if name.startswith("cpu/")}
    assert recorded == cpu | {"cyclegan_demo_64", "discogan", "pix2pix_demo"}
    for name in recorded:
        text = (ROOT / "experiments" / "recorded" / f"{name}.json").read_text()
        stacks = json.loads(text)["stacks"]
        assert set(stacks) == {"Keras 2", "Keras 3"}
        assert all(set(results) == {"32 KiB", "48 KiB"} for results in stacks.values())


@pytest.mark.parametrize(("size", "recorded"), [(24, "32 KiB"), (32, "32 KiB"), (48, "48 KiB"), (64, "48 KiB")])
def test_a_cpu_is_compared_with_the_record_of_the_nearest_cache_size(size, recorded, reproduce):
    assert reproduce.choose_size(["48 KiB", "32 KiB"], size) == recorded


@pytest.mark.parametrize("name", ["pix2pix_demo"])
def test_recorded_run_is_reproduced(name):
    # In a child process, because TensorFlow selects CPU instructions when it starts.
    child = run_python("experiments/reproduce.py", f"experiments/recorded/{name}.json", cwd=ROOT)
    assert child.returncode == 0, child.stdout + child.stderr


def test_losses_that_differ_from_a_record_are_named(reproduce):
    assert reproduce.find_differences({"loss/l1": [1.0, 2.0]}, {"loss/l1": [1.0, 2.001]}) == []
    assert reproduce.find_differences({"loss/l1": [1.0, 2.0]}, {"loss/l1": [1.0, 2.01]}) == [
        "loss/l1: [1.0, 2.0] recorded, [1.0, 2.01] now"
    ]
    assert reproduce.find_differences({"loss/l1": [1.0]}, {}) == ["loss/l1: only in the record"]
    assert reproduce.find_differences({}, {"loss/l1": [1.0]}) == ["loss/l1: not in the record"]

"""Feature maps, sampling MLPs and PatchNCE against CUT's; the draw of positions."""

import golden
import numpy as np
import pytest
import tensorflow as tf

from cyclegan_tf.config import Config
from cyclegan_tf.errors import UserError
from cyclegan_tf.models import patch_nce, seeds
from cyclegan_tf.networks import generators, patch_features
from cyclegan_tf.networks.weights import name_weights

keras = tf.keras

FEATURES = "cut/generators/features_n9_antialias.npz"
# Layers 0, 4, 8, 12 and 16 of the authors' generator without anti-aliasing.
PLAIN_LAYERS = ("stem_pad", "down1_conv", "down2_relu", "block3_add", "block7_add")


@pytest.fixture(scope="module")
def recorded():
    return {name: golden.Golden(f"cut/{name}.npz") for name in ("patch_nce", "sample_mlp")}


@pytest.mark.parametrize(("file", "layers", "block"), [
    (FEATURES, patch_features.list_layers(Config(n_blocks=9)), 5),
    ("cut/generators/features_n9_no_antialias.npz", PLAIN_LAYERS, 7),
], ids=["antialias", "no_antialias"])
def test_feature_maps_and_their_gradients(file, layers, block):
    case = golden.Golden(file)
    generator = golden.build_with(golden.options(case.info["config"]), case.group("w"))
    maps = patch_features.find_maps(generator, layers)
    x, numbers = tf.constant(case.images("x")), case.info["config"]["nce_layers"]
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        found = keras.Model(generator.inputs[0], maps)(x, training=True)
    for number, feature_map in zip(numbers, found, strict=True):
        case.assert_close(golden.nchw(feature_map), f"feat/{number}")
    dy = [golden.nhwc(case[f"dfeat/{number}"]) for number in numbers]
    case.assert_close(golden.nchw(tape.gradient(found, x, output_gradients=dy)), "dx")
    kernel = tape.gradient(found, generator.get_layer(f"block{block}b_conv").kernel, output_gradients=dy)
    case.assert_close(np.transpose(kernel, (3, 2, 0, 1)), "dw/model.16.conv_block.5.weight")


def test_default_layers_of_few_blocks():
    assert patch_features.list_layers(Config(n_blocks=3))[-2:] == ("block1_add", "block3_add")
    assert patch_features.list_layers(Config(n_blocks=1)) == ("stem_pad", "down1_conv", "down2_conv", "block1_add")


def test_unknown_layers_are_named():
    generator = generators.resnet_generator(ngf=1, n_blocks=1)
    with pytest.raises(UserError, match=r"no layer block2_add; its layers: .*block1_add"):
        patch_features.find_maps(generator, ["block2_add"])


def theirs(key):
    """Converts CUT's name of a weight, such as "mlp_1.2.weight", to the name in this package."""
    mlp, number, kind = key.split(".")
    layer = {"0": "hidden", "2": "output"}[number]
    return f"{mlp.replace('_', '')}_{layer}/{ {'weight': 'kernel', 'bias': 'bias'}[kind] }"


@pytest.mark.parametrize("case", ["mlp", "mlp_default_init", "mlp_more_patches"])
def test_features_and_gradients_of_the_mlps(recorded, case):
    golden_case = recorded["sample_mlp"]
    weights = golden_case.group(f"{case}/w")
    network = patch_features.build_feature_network((3, 6, 10), width=16)
    variables = name_weights(network)
    assert {theirs(key) for key in weights} == set(variables)
    for key, array in weights.items():
        variables[theirs(key)].assign(array.T)
    maps = [tf.constant(golden_case.images(f"feats/{i}")) for i in range(3)]
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(maps)
        rows = [patch_features.sample(m, golden_case[f"{case}/patch_ids/{i}"]) for i, m in enumerate(maps)]
        found = network(rows, training=True)
    dy = [golden_case[f"{case}/dy/{i}"] for i in range(3)]
    for i in range(3):
        golden_case.assert_close(found[i], f"{case}/y/{i}")
    gradients = tape.gradient(found, maps, output_gradients=dy)
    for i, gradient in enumerate(gradients):
        golden_case.assert_close(golden.nchw(gradient), f"{case}/dfeat/{i}")
    for key in weights:
        gradient = tape.gradient(found, variables[theirs(key)], output_gradients=dy)
        golden_case.assert_close(np.transpose(gradient), f"{case}/dw/{key}")


def test_sampled_rows_match_the_authors(recorded):
    case = recorded["sample_mlp"]
    for i in range(3):
        rows = patch_features.sample(tf.constant(case.images(f"feats/{i}")), case[f"no_mlp/patch_ids/{i}"])
        case.assert_close(patch_features.normalize_rows(rows), f"no_mlp/y/{i}")


def test_normalized_rows_match_the_authors(recorded):
    case = recorded["sample_mlp"]
    x = tf.constant(case["normalize/x"])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = patch_features.normalize_rows(x)
    case.assert_close(y, "normalize/y")
    dx = tape.gradient(y, x, output_gradients=case["normalize/dy"]).numpy()
    case.assert_close(dx[1:] * np.linalg.norm(x[1:], axis=1, keepdims=True), "normalize/dx_times_norm")
    assert np.isfinite(dx[0]).all()


@pytest.mark.parametrize("name", ["batch1", "batch2", "batch2_temperature", "opposed", "one_patch"])
def test_losses_and_gradients(recorded, name):
    case = recorded["patch_nce"]
    settings = case.info["settings"][name]
    q, k = tf.constant(case[f"{name}/q"]), tf.constant(case[f"{name}/k"])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([q, k])
        loss = patch_nce.patch_nce_loss(q, k, settings["batch_size"], settings["nce_T"])
    case.assert_close(loss, f"{name}/loss")
    case.assert_close(tape.gradient(loss, q, output_gradients=case[f"{name}/dloss"]), f"{name}/dq")
    assert tape.gradient(loss, k) is None


def test_positions_are_a_random_sample_without_repetition():
    def draw(step, size=50, count=20):
        seed = seeds.make_step_seed(3, "patches", tf.constant(step, tf.int64))
        return patch_nce.draw_positions(seed, size, count).numpy().tolist()

    assert draw(1) == draw(1) != draw(2)
    assert sorted(draw(1, count=1000)) == list(range(50))
    for step in range(5):
        assert len(set(draw(step))) == 20
    # Each position is equally likely, at the first place as in the whole sample.
    samples = [draw(step) for step in range(1000)]
    for picked, share in (([p for sample in samples for p in sample], 20 / 50), ([s[0] for s in samples], 1 / 50)):
        counts = np.bincount(picked, minlength=50)
        assert np.all(np.abs(counts - 1000 * share) < 5 * np.sqrt(1000 * share))


def test_seeds_differ_by_run_use_and_step():
    def seed(*arguments):
        return tuple(seeds.make_step_seed(*arguments).numpy().tolist())

    assert len({seed(0, "patches", 1), seed(1, "patches", 1), seed(0, "flip", 1), seed(0, "patches", 2)}) == 4
    assert seed(0, "patches", 1) == seed(0, "patches", 1)

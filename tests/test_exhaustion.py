"""Bounded memory: large images are translated by tiles, and running out of memory gives one line of advice."""

import dataclasses
import re

import numpy as np
import pytest
import tensorflow as tf
from conftest import skip_outputs

import cyclegan_tf
from cyclegan_tf.config import Config
from cyclegan_tf.config.direction import Direction
from cyclegan_tf.data import pipeline, sources
from cyclegan_tf.errors import UserError
from cyclegan_tf.exporters import saved_model
from cyclegan_tf.images import grid
from cyclegan_tf.inference import bounded, tiling, translator
from cyclegan_tf.models.cyclegan import CycleGAN
from cyclegan_tf.networks import registry
from cyclegan_tf.ops import exhaustion
from cyclegan_tf.training import memory_remedies, trainer

ALLOCATOR = "OOM when allocating tensor with shape[1,4000,3000,64] and type float on /device:CPU:0 by allocator cpu"


class Recorder:
    """A translator that keeps the arguments of its calls and returns the image."""

    def __init__(self, supports_tiles=True):
        self.supports_tiles, self.calls = supports_tiles, []

    def translate_pixels(self, image, tile=0, folder=None):
        self.calls.append((tile, folder))
        return image


UNCROPPED = Config(preprocess="none", pool_size=0)


def bind(translator_, config, workdir=None):
    return bounded.make_bounded({Direction.A2B: translator_}, config, "lower it", workdir)[Direction.A2B]


@pytest.mark.parametrize(
    ("size", "supports_tiles", "tile"),
    [((20, 50), True, 0), ((7, 143), True, bounded.TILE), ((7, 143), False, 0)],
    ids=["1000 pixels", "1001 pixels", "no tiles"],
)
def test_images_above_the_budget_are_translated_by_tiles(size, supports_tiles, tile, monkeypatch):
    monkeypatch.setattr(bounded, "WHOLE_PIXELS", 1000)
    recorder = Recorder(supports_tiles)
    image = np.zeros((*size, 3), np.uint8)
    assert bind(recorder, UNCROPPED, "folder")(image) is image
    assert recorder.calls == [(tile, "folder")]


@pytest.mark.parametrize(
    ("options", "pixels"),
    [
        ({}, 1024 * 1024),
        ({"crop_size": 1536, "load_size": 1536}, 1536 * 1536),
        ({"preprocess": "none", "pool_size": 0, "crop_size": 4096}, 1024 * 1024),
    ],
    ids=["small crops", "large crops", "no crops"],
)
def test_the_budget_is_a_megapixel_or_a_training_crop(options, pixels):
    recorder = Recorder()
    for width in (pixels, pixels + 1):
        bind(recorder, Config(**options))(np.zeros((1, width, 1), np.uint8))
    assert recorder.calls == [(0, None), (bounded.TILE, None)]


def test_tiles_of_a_remote_run_are_on_the_local_disk():
    recorder = Recorder()
    bind(recorder, Config(), "gs://bucket/run")(np.zeros((1, 2, 1), np.uint8))
    assert recorder.calls == [(0, None)]


def test_tiles_give_the_translation_of_the_whole_image(monkeypatch):
    config = Config.preset("tiny")
    each = translator.make_translator(config, registry.build_generator(config, "gen_ab"))
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    sizes, translate = [], tiling.translate

    def record(generator, size, *arguments):
        sizes.append(size)
        translate(generator, size, *arguments)

    monkeypatch.setattr(tiling, "translate", record)
    monkeypatch.setattr(bounded, "TILE", 16)
    results = []
    for pixels in (2000, 1999):
        monkeypatch.setattr(bounded, "WHOLE_PIXELS", pixels)
        results.append(bind(each, UNCROPPED)(image))
    whole, tiled = results
    assert sizes == [(40, 52)]  # Width 50 is extended to a multiple of 4.
    assert whole.std() > 1
    np.testing.assert_allclose(tiled.astype(int), whole, atol=1)


def test_training_evaluate_and_the_page_respect_the_budget(tmp_path, make_images, monkeypatch, run_command):
    for part in ("trainA", "trainB", "testA", "testB"):
        make_images(tmp_path / "set" / part, 1, size=(48, 40))
    monkeypatch.setattr(bounded, "WHOLE_PIXELS", 1000)
    monkeypatch.setattr(bounded, "TILE", 32)
    monkeypatch.setattr(saved_model, "export", lambda *arguments: [])
    tiled, translate = [], tiling.translate

    def record(generator, size, *arguments):
        assert size == (48, 40)
        tiled.append(generator.name)
        translate(generator, size, *arguments)

    monkeypatch.setattr(tiling, "translate", record)
    config = Config.preset(
        "tiny", dataset=str(tmp_path / "set"), preprocess="none", max_steps=1, discriminator="pixel", n_samples=1,
        lambda_identity=0.0, pool_size=0,
    )
    run, calls = tmp_path / "run", []
    trainer.train(config, str(run))
    # Two grids with A, B, and both there and back; PSNR and SSIM share one translation of each; the page has both.
    assert len(tiled) == 2 * 4 + 2 + 2
    for command in ("evaluate", "gallery"):
        tiled.clear()
        child = run_command(f"cyclegan_tf.{command}", f"--model={run}", *["--metrics=l1"] * (command == "evaluate"))
        assert child.returncode == 0, child.stderr
        calls.append(len(tiled))
    assert calls == [2, 2]


def test_a_network_with_an_unknown_layer_does_not_support_tiles():
    inputs = tf.keras.Input((None, None, 3))
    known = tf.keras.Model(inputs, tf.keras.layers.ReLU()(inputs))
    unknown = tf.keras.Model(inputs, tf.keras.layers.Softmax(axis=1)(inputs))
    assert [translator.Translator(network, 4, 8).supports_tiles for network in (known, unknown)] == [True, False]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (tf.errors.ResourceExhaustedError(None, None, ALLOCATOR), True),
        (tf.errors.InternalError(None, None, "CUDA_ERROR_OUT_OF_MEMORY: out of memory"), True),
        (MemoryError("Unable to allocate 9.00 GiB"), True),
        (tf.errors.InternalError(None, None, "a worker is gone"), False),
        (tf.errors.InvalidArgumentError(None, None, "out of memory"), False),
        (ValueError("out of memory"), False),
        (tf.errors.ResourceExhaustedError(None, None, "run/export; No space left on device"), False),
    ],
    ids=["tensor", "CUDA", "NumPy", "internal", "argument", "value", "disk"],
)
def test_exhausted_memory_is_recognized(error, expected):
    assert exhaustion.is_exhausted(error) == expected
    with pytest.raises(UserError if expected else type(error)) as caught, exhaustion.explain("it", "lower it"):
        raise error
    assert (str(caught.value) == "it ran out of memory: lower it") == expected


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        ({}, "lower --crop_size or --ngf, or with --recompute or --mixed_precision=bfloat16"),
        ({"batch_size": 4, "recompute": True, "mixed_precision": "bfloat16"},
         "lower --crop_size or --batch_size or --ngf"),
        ({"model": "cut"}, "lower --crop_size or --ngf, or with --mixed_precision=bfloat16"),
        ({"dropout": True}, "lower --crop_size or --ngf, or with --mixed_precision=bfloat16"),
        ({"preprocess": "scale_width", "pool_size": 0, "recompute": True, "mixed_precision": "bfloat16"},
         "lower --load_size or --ngf"),
        ({"preprocess": "none", "pool_size": 0, "recompute": True, "mixed_precision": "bfloat16"},
         "lower --ngf, with smaller images"),
    ],
    ids=["defaults", "batch", "cut", "dropout", "scale", "none"],
)
def test_remedies_are_options_that_the_run_can_change(options, remedy):
    assert memory_remedies.describe_for_steps(Config(**options)) == f"start a new run with a {remedy}"


def test_remedies_for_held_out_images():
    assert memory_remedies.describe_for_images(Config()) == "start a new run with a lower --crop_size or --ngf"
    assert memory_remedies.describe_for_images(Config(preprocess="crop")).startswith("use smaller held-out images")


def test_a_translation_that_needs_too_much_memory_names_the_size():
    recorder = Recorder()

    def exhaust(image, tile, folder):
        raise tf.errors.ResourceExhaustedError(None, None, ALLOCATOR)

    recorder.translate_pixels = exhaust
    with pytest.raises(UserError, match=r"^translating an image of 30 x 20 pixels ran out of memory: lower it$"):
        bind(recorder, Config())(np.zeros((20, 30, 3)))


def fail_to_allocate(*arguments):
    # TensorFlow turns a MemoryError into a ResourceExhaustedError, the error of its own allocations.
    raise MemoryError("Unable to allocate 9.00 GiB")


@pytest.mark.usefixtures("plugins")
def test_building_networks_that_need_too_much_memory_says_what_to_lower(tmp_path):
    @cyclegan_tf.register_generator("greedy", size_multiple=4)
    def build(config, input_channels, output_channels, name):
        def allocate(x):
            return tf.ensure_shape(tf.numpy_function(fail_to_allocate, [x], tf.float32), (None, None, None, 3))

        inputs = tf.keras.Input((None, None, input_channels))
        x = tf.keras.layers.Lambda(allocate, output_shape=(None, None, output_channels), name="allocate")(inputs)
        return tf.keras.Model(inputs, x, name=name)

    with pytest.raises(UserError, match=r"^building the networks ran out of memory: start a new run"):
        trainer.train(Config.preset("tiny", generator="greedy"), str(tmp_path))


def test_a_step_that_needs_too_much_memory_says_what_to_lower(tmp_path, monkeypatch):
    skip_outputs(monkeypatch)
    step = CycleGAN.step

    def exhausting_step(self, real_a, real_b, past):
        scalars, fakes = step(self, real_a, real_b, past)
        return scalars | {"loss/disc_a": tf.numpy_function(fail_to_allocate, [real_a], tf.float32)}, fakes

    monkeypatch.setattr(CycleGAN, "step", exhausting_step)
    config = Config.preset("tiny", max_steps=2, discriminator="pixel", lambda_identity=0.0)
    with pytest.raises(UserError) as caught:
        trainer.train(config, str(tmp_path))
    assert str(caught.value) == f"step 1 ran out of memory: {memory_remedies.describe_for_steps(config)}"


@pytest.mark.parametrize("error", [MemoryError(), tf.errors.ResourceExhaustedError(None, None, ALLOCATOR)])
def test_exhausted_memory_ends_any_command_with_one_line(tmp_path, monkeypatch, run_command, error):
    def exhaust(*arguments, **options):
        raise error

    monkeypatch.setattr(trainer, "train", exhaust)
    child = run_command("cyclegan_tf.train", f"--workdir={tmp_path}")
    assert child.returncode == 2
    assert child.stderr == (
        "error: out of memory: close other programs, or use smaller images or batches\n"
    )


def test_images_that_need_too_much_memory_are_named_and_say_what_to_lower(caplog):
    config = Config.preset("tiny")
    dataset = sources.open_dataset(config)
    dataset = dataclasses.replace(dataset, train_a=dataclasses.replace(dataset.train_a, read=fail_to_allocate))
    stream, loaders = pipeline.make_batches(dataset, config, 0, 1)
    with pytest.raises(UserError, match=r"^loading training images ran out of memory: lower --load_size or"):
        next(pipeline.read_batches(stream, loaders))
    assert re.match(rf"{dataset.train_a.where}/.*\.jpg: memory is exhausted while this image is read$",
                    caplog.records[0].getMessage())
    assert not dataset.bad.reasons


@pytest.mark.parametrize(
    ("size", "side", "expected"),
    [((30, 40), 40, (30, 40)), ((30, 40), 20, (15, 20)), ((3000, 8), 1024, (1024, 3)), ((4000, 1), 1024, (1024, 1))],
)
def test_large_images_are_shrunk_for_display(size, side, expected):
    assert grid.shrink(np.zeros((*size, 5), np.float32), side).shape == (*expected, 3)


def test_a_grid_stays_below_the_limit_of_the_drawing_library(monkeypatch):
    monkeypatch.setattr(grid, "_LARGEST_FIGURE", 300)
    image = np.full((100, 50, 3), 7, np.uint8)
    # Five rows of 300 pixels in all: cells of 60 pixels, including a gap of 4.
    drawn = grid.draw([[image, image]] * 5, ["A", "B"])
    assert drawn.shape == (22 + 5 * 60, 2 * (28 + 4), 3)

"""Translation in tiles gives the same result as the network on the whole image."""

import errno
import os
import tempfile

import numpy as np
import pytest
import tensorflow as tf

from cyclegan_tf.config import Config
from cyclegan_tf.errors import UserError
from cyclegan_tf.images import ranges
from cyclegan_tf.inference import tiling
from cyclegan_tf.inference import translator as translator_lib
from cyclegan_tf.networks import generators, layers
from cyclegan_tf.networks.receptive_field import ReceptiveField
from cyclegan_tf.networks.registry import build_generator

keras = tf.keras


def randomized(generator, seed=0):
    """Sets random weights and running statistics that are so large that every layer changes the result."""
    random = np.random.default_rng(seed)
    for weight in generator.weights:
        positive = weight.name.split("/")[-1].startswith(("gamma", "moving_variance"))
        weight.assign(random.uniform(0.5, 1.5, weight.shape) if positive else random.normal(0, 0.1, weight.shape))
    return generator


def slices(window):
    return tuple(slice(*span) for span in window)


def tiled(generator, image, tile, **options):
    """Translates a float image in tiles; returns the result and how often each pixel was written."""
    result = np.zeros(generator.compute_output_shape((1, *image.shape))[1:], np.float32)
    times = np.zeros(result.shape[:2], int)

    def write(window, pixels):
        result[slices(window)] = pixels
        times[slices(window)] += 1

    tiling.translate(generator, image.shape[:2], lambda window: image[slices(window)], write, tile, **options)
    return result, times


CASES = {
    "resnet": lambda: generators.resnet_generator(ngf=4, n_blocks=2),
    "resnet of other channels": lambda: generators.resnet_generator(1, 2, ngf=4, n_blocks=1),
    "resnet, replicate, resize": lambda: generators.resnet_generator(
        ngf=4, n_blocks=2, padding="replicate", upsample="resize_conv"
    ),
    "resnet, zero, batch, dropout": lambda: generators.resnet_generator(
        ngf=4, n_blocks=2, padding="zero", norm="batch", dropout=True
    ),
    "resnet without norm": lambda: generators.resnet_generator(ngf=4, n_blocks=1, norm="none"),
    "unet": lambda: generators.unet_generator(ngf=4, n_downs=5, norm="instance"),
    "unet, resize": lambda: generators.unet_generator(ngf=4, n_downs=5, norm="instance", upsample="resize_conv"),
    "unet, reflect, resize": lambda: generators.unet_generator(
        ngf=4, n_downs=5, norm="instance", upsample="resize_conv", padding="reflect"
    ),
    "torchgan": lambda: build_generator(Config(generator="torchgan", ngf=4, n_blocks=2), "gen_ab"),
    "tf_blog, affine": lambda: build_generator(
        Config(generator="tf_blog", norm_affine=True, ngf=4, n_blocks=2), "gen_ab"
    ),
    "unet_book": lambda: build_generator(Config(generator="unet_book", ngf=4), "gen_ab"),
    "unet, batch, dropout": lambda: generators.unet_generator(ngf=4, n_downs=6, norm="batch", dropout=True),
}


@pytest.mark.parametrize("tile", [16, 40])
@pytest.mark.parametrize("case", CASES)
def test_tiles_equal_the_whole_image(case, tile):
    generator = randomized(CASES[case]())
    # Brightness and contrast change across the image, so that the statistics of a tile differ from the whole image's.
    ramp = np.linspace(0.1, 1, 128)[:, np.newaxis]
    image = np.random.default_rng(1).uniform(-1, 1, (64, 128, generator.input_shape[-1])) * ramp + (1 - ramp) / 2
    image = image.astype(np.float32)
    whole = generator(image[np.newaxis], training=False).numpy()[0]
    result, times = tiled(generator, image, tile)
    assert (times == 1).all()
    assert whole.std() > 0.05, "a constant image would equal anything"
    np.testing.assert_allclose(result, whole, atol=3e-5)


def stack(*stacked):
    """Makes a network of layers, one after the other."""
    inputs = outputs = keras.Input((None, None, 3))
    for layer in stacked:
        outputs = layer(outputs)
    return keras.Model(inputs, outputs)


@keras.utils.register_keras_serializable("test_tiling")
class Blur(keras.layers.Layer):
    """Declares that an output pixel reads two pixels above and one pixel to the right, with zeros outside the image."""

    def call(self, inputs):
        padded = tf.pad(inputs, [(0, 0), (2, 0), (0, 1), (0, 0)])
        height, width = tf.shape(inputs)[1], tf.shape(inputs)[2]
        return padded[:, :height, 1:] - padded[:, 2:, :width] * 0.3

    def compute_output_shape(self, input_shape):
        return input_shape

    def receptive_field(self):
        return ReceptiveField(before=2), ReceptiveField(after=1)


KERAS_LAYERS = {
    f"{kind.__name__}, {padding}, {' '.join(f'{key} {value}' for key, value in options.items())}":
        lambda kind=kind, padding=padding, options=options: kind(**{
            "filters" if kind is not keras.layers.DepthwiseConv2D else "depth_multiplier": 2,
            "kernel_size": 4, "padding": padding, **options
        })
    for kind in (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.SeparableConv2D)
    for padding in ("same", "valid")
    for options in ({}, {"strides": 2}, {"strides": 3, "kernel_size": 2}, {"dilation_rate": 2}, {"kernel_size": 7})
} | {
    f"{kind.__name__}, {padding}, {size} {strides}": lambda kind=kind, padding=padding, size=size, strides=strides:
        kind(size, strides, padding=padding)
    for kind in (keras.layers.MaxPooling2D, keras.layers.AveragePooling2D)
    for padding in ("same", "valid")
    for size, strides in ((2, 2), (3, 2), (3, 1))
} | {
    "Conv2DTranspose, same": lambda: keras.layers.Conv2DTranspose(2, 3, 2, padding="same"),
    "Conv2DTranspose, valid": lambda: keras.layers.Conv2DTranspose(2, 4, 2, padding="valid"),
    "UpSampling2D, bilinear": lambda: keras.layers.UpSampling2D(2, interpolation="bilinear"),
    "LayerNormalization": keras.layers.LayerNormalization,
    "gelu": lambda: keras.layers.Activation("gelu"),
    "declared": Blur,
}


@pytest.mark.parametrize("make", KERAS_LAYERS.values(), ids=KERAS_LAYERS)
def test_tiles_of_a_known_layer_equal_the_whole_image(make):
    # The layer reads a stored map, and its output is normalized and read by another layer of its kind.
    generator = randomized(stack(
        keras.layers.Conv2D(4, 3, padding="same"), keras.layers.MaxPooling2D(2), make(),
        layers.instance_normalization("norm"), make(), keras.layers.Conv2D(2, 3, padding="same"),
    ))
    image = np.random.default_rng(4).uniform(-1, 1, (90, 110, 3)).astype(np.float32)
    image[:, :40] += 1
    whole = generator(image[np.newaxis], training=False).numpy()[0]
    assert whole.std() > 0.03, "a constant image would equal anything"
    result, times = tiled(generator, image, 32)
    assert (times == 1).all()
    np.testing.assert_allclose(result, whole, atol=1e-5)


@pytest.mark.parametrize("layer", [
    type("MyConv2D", (keras.layers.Conv2D,), {})(2, 3, name="mystery"),
    keras.layers.Lambda(lambda x: x, name="mystery"),
    keras.layers.Permute((2, 1, 3), name="mystery"),
], ids=lambda layer: type(layer).__name__)
def test_a_layer_of_unknown_receptive_field_is_an_error(layer):
    message = r"tiles are not possible: .* layer mystery \(\w+\) is unknown; give its .*; or translate whole images"
    with pytest.raises(UserError, match=message):
        tiled(stack(layer), np.zeros((32, 32, 3), np.float32), 16)


def stack_shared():
    layer = keras.layers.Conv2D(3, 3, padding="same")
    return stack(layer, layer)


def stack_operations():
    inputs = keras.Input((None, None, 3))
    return keras.Model(inputs, keras.layers.ReLU()(inputs + 1.0))


def stack_last_operation():
    inputs = keras.Input((None, None, 3))
    return keras.Model(inputs, keras.layers.ReLU()(inputs) + 1.0)


@pytest.mark.parametrize("make", [
    stack_shared, stack_operations, stack_last_operation, lambda: stack(stack(keras.layers.ReLU())),
], ids=["a layer called twice", "an operation", "an operation at the end", "a model in a model"])
def test_a_network_that_is_not_a_plain_graph_is_an_error(make):
    # Keras 2 makes layers of operations.
    with pytest.raises(UserError, match=r"is not a plain graph of layers|the receptive field of layer .* is unknown"):
        tiling.translate(make(), (32, 32), read=None, write=None, tile=16)


def test_moments_accumulate_over_parts():
    random = np.random.default_rng(2)
    # A mean far from zero, where sums of squares in float32 would have no digit left.
    parts = [random.normal(1000, 0.5, (1, height, 7, 3)).astype(np.float32) for height in (1, 5, 40)]
    moments = tiling.Moments()
    for part in parts:
        moments.add(tf.constant(part))
    pixels = np.concatenate(parts, axis=1).astype(np.float64)
    np.testing.assert_allclose(moments.mean, pixels.mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(moments.variance, pixels.var((0, 1, 2)), rtol=1e-3)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_translator_tiles_images_of_any_size_and_dtype(dtype):
    generator = randomized(build_generator(Config.preset("tiny"), "gen_ab"))
    translator = translator_lib.make_translator(Config.preset("tiny"), generator)
    image = ranges.from_float(np.random.default_rng(3).uniform(-1, 1, (45, 67, 3)).astype(np.float32), dtype)
    whole = translator.translate_floats(ranges.to_float(image)[np.newaxis])["images"][0].numpy()
    result = translator.translate_pixels(image, 16)
    assert (result.dtype, result.shape) == (dtype, image.shape)
    np.testing.assert_allclose(ranges.to_float(result), np.clip(whole, -1, 1), atol={1: 1, 2: 0.005, 4: 0.005}[
        np.dtype(dtype).itemsize] / 127.5)


def test_tiles_have_the_output_channels():
    config = Config.preset("tiny", input_channels=3, output_channels=1, lambda_identity=0.0)
    translator = translator_lib.make_translator(config, randomized(build_generator(config, "gen_ab")))
    image = np.random.default_rng(3).uniform(-1, 1, (40, 48, 3)).astype(np.float32)
    result = translator.translate_pixels(image, 16)
    assert result.shape == (40, 48, 1)
    np.testing.assert_allclose(result, translator.translate_pixels(image), atol=1e-5)


def test_progress_ends_at_one_and_no_files_are_left(tmp_path):
    shares = []
    image = np.zeros((32, 32, 3), np.float32)
    tiled(randomized(CASES["resnet"]()), image, 16, folder=str(tmp_path), progress=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert os.listdir(tmp_path) == []


def test_a_full_disk_is_an_error(monkeypatch, tmp_path):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match=r"no room for 0\.0 GB .* in .*No space left on device") as caught:
        tiled(CASES["resnet"](), np.zeros((32, 32, 3), np.float32), 16, folder=str(tmp_path))
    assert caught.value.filename == str(tmp_path)  # So that a command prints one line.


def test_maps_of_full_size_are_not_stored_and_others_are_deleted_early(monkeypatch, tmp_path):
    """A ResNet stores at most two maps of a quarter of the size and one of half the size at a time."""
    files, sizes = [], []
    open_file, allocate = tempfile.TemporaryFile, os.posix_fallocate

    def open_and_remember(**options):
        files.append(open_file(**options))
        return files[-1]

    def allocate_and_measure(*arguments):
        allocate(*arguments)
        sizes.append(sum(os.fstat(file.fileno()).st_size for file in files if not file.closed))

    monkeypatch.setattr(tempfile, "TemporaryFile", open_and_remember)
    monkeypatch.setattr(os, "posix_fallocate", allocate_and_measure)
    tiled(CASES["resnet"](), np.zeros((64, 64, 3), np.float32), 32, folder=str(tmp_path))
    # 8 channels at half and 16 at a quarter of height and width: 2 values and 1 value per pixel, of 4 bytes each.
    assert max(sizes) == (1 + 1 + 2) * 64 * 64 * 4
    assert all(file.closed for file in files)

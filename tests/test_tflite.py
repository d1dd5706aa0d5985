"""Translating with .tflite files."""

import zipfile

import numpy as np
import pytest
import tensorflow as tf

from cyclegan_tf.config import Config
from cyclegan_tf.config.value_ranges import NO_UNITS, Units, ValueRange
from cyclegan_tf.errors import UserError
from cyclegan_tf.inference import loading, tflite_model
from cyclegan_tf.networks.layers import keras
from cyclegan_tf.networks.registry import build_generator
from cyclegan_tf.storage import zip_metadata

pytest.importorskip("ai_edge_litert", reason="runs .tflite files: pip install ai-edge-litert")

IMAGES = np.random.default_rng(0).uniform(-1, 1, (2, 32, 40, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def generator():
    keras.utils.set_random_seed(0)
    model = build_generator(Config.preset("tiny"), "gen_ab")
    for weight in model.weights:
        weight.assign(weight * 5)
    return model


def convert(generator, path, size, quantized=False):
    """Writes a .tflite file of `generator` with the converter's entry point that works on this stack."""
    if tf.__version__.startswith("2.15."):
        spec = tf.TensorSpec((1, *size, 3), tf.float32, name="images")
        function = tf.function(lambda images: generator(images, training=False), input_signature=[spec])
        converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()], generator)
    else:
        inputs = keras.Input((*size, 3), batch_size=1)
        converter = tf.lite.TFLiteConverter.from_keras_model(keras.Model(inputs, generator(inputs, training=False)))
    if quantized:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.representative_dataset = lambda: ([image[np.newaxis]] for image in IMAGES)
        converter.inference_input_type = converter.inference_output_type = tf.uint8
    path.write_bytes(converter.convert())
    return path


@pytest.fixture(scope="module")
def free(generator, tmp_path_factory):
    """A loaded file that accepts images of any size."""
    return loading.load(convert(generator, tmp_path_factory.mktemp("tflite") / "free.tflite", (None, None)))


def test_files_of_free_and_fixed_sizes_translate(generator, free, tmp_path):
    expected = generator(IMAGES, training=False).numpy()
    np.testing.assert_allclose(free.translate(IMAGES), expected, atol=1e-4)
    np.testing.assert_allclose(
        free.translate(IMAGES[0, :24, :28]), generator(IMAGES[:1, :24, :28], training=False)[0], atol=1e-4
    )
    fixed = loading.load(convert(generator, tmp_path / "fixed.tflite", (32, 40)))
    np.testing.assert_allclose(fixed.translate(IMAGES), expected, atol=1e-4)
    with pytest.raises(ValueError, match=r"the \.tflite file accepts only images of 40 x 32 pixels"):
        fixed.translate(IMAGES[0, :24, :28])


def test_an_image_that_the_interpreter_refuses_is_an_error_of_this_image_only(free):
    expected = free.translate(IMAGES[0])
    # Reflection padding by 3 pixels needs 4.
    with pytest.raises(ValueError, match=r"^the \.tflite file fails on images of 2 x 2 pixels \("):
        free.translate(IMAGES[0, :2, :2])
    np.testing.assert_array_equal(free.translate(IMAGES[0]), expected)


@pytest.mark.filterwarnings("ignore:Statistics for quantized inputs")
def test_quantized_input_and_output_are_converted(generator, tmp_path):
    model = loading.load(convert(generator, tmp_path / "int8.tflite", (32, 40), quantized=True))
    expected = generator(IMAGES, training=False).numpy()
    # Every layer has 8 bits. A wrong scale or zero point would give errors as large as the whole range.
    assert np.abs(model.translate(IMAGES) - expected).mean() < 0.1


def test_a_damaged_file_is_an_error(tmp_path):
    (tmp_path / "a.tflite").write_bytes(b"no model")
    with pytest.raises(UserError, match=r"a\.tflite is damaged or not a \.tflite file"):
        tflite_model.Interpreter(tmp_path / "a.tflite")


def write_function(path, function, dtype=tf.float32):
    """Writes a .tflite file of a function of images (1, 4, 4, 3)."""
    traced = tf.function(function, input_signature=[tf.TensorSpec((1, 4, 4, 3), dtype)], autograph=False)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([traced.get_concrete_function()], tf.Module())
    path.write_bytes(converter.convert())
    return path


@pytest.mark.parametrize(("function", "dtype", "message"), [
    (lambda images: tf.reduce_mean(images, (1, 2)), tf.float32, "is not a generator: expected one batch"),
    (lambda images: tf.cast(images, tf.float32) / 127.5 - 1, tf.uint8, "takes or returns uint8 without a scale"),
    (lambda images: tf.cast(127.5 * images, tf.int32), tf.float32, "takes or returns int32 without a scale"),
], ids=["classifier", "8-bit input", "integer output"])
def test_a_file_of_something_other_than_images_is_an_error(tmp_path, function, dtype, message):
    with pytest.raises(UserError, match=message):
        tflite_model.Interpreter(write_function(tmp_path / "a.tflite", function, dtype))


@pytest.fixture(scope="module")
def doubling(tmp_path_factory):
    """A .tflite file that doubles its images, and has no archive behind it."""
    return write_function(tmp_path_factory.mktemp("doubling") / "a.tflite", lambda images: 2 * images)


def test_a_file_without_ranges_has_no_units(doubling):
    assert tflite_model.Interpreter(doubling).units == NO_UNITS


@pytest.mark.parametrize(("old", "new"), [(b"1.5]", b"1.7]"), (b"PK\1\2", b"PK\1\1")], ids=["content", "directory"])
def test_ranges_with_a_changed_byte_are_an_error(doubling, tmp_path, old, new):
    path = tmp_path / "a.tflite"
    path.write_bytes(doubling.read_bytes())
    zip_metadata.add(str(path), {"source": [0.0, 1.5]})
    assert tflite_model.Interpreter(path).units == Units(ValueRange(0, 1.5))
    data = path.read_bytes()
    assert data.count(old) == 1
    path.write_bytes(data.replace(old, new))
    with pytest.raises(UserError, match=r"a\.tflite has damaged ranges of values \(.+\); export the file again"):
        tflite_model.Interpreter(path)


def test_ranges_that_are_cut_off_are_an_error(doubling, tmp_path):
    path = tmp_path / "a.tflite"
    path.write_bytes(doubling.read_bytes())
    zip_metadata.add(str(path), {"source": [0.0, 1.5]})
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(UserError, match=r"has damaged ranges of values \(the file is cut off\); export the file again"):
        tflite_model.Interpreter(path)


@pytest.mark.parametrize("text", ["{", "[]", "[0, 1.5]", '{"source": [0]}', '{"center": [0, 1.5]}'])
def test_ranges_of_another_form_are_an_error(doubling, tmp_path, text):
    path = tmp_path / "a.tflite"
    path.write_bytes(doubling.read_bytes())
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(zip_metadata.NAME, text)
    with pytest.raises(UserError, match="has damaged ranges of values"):
        tflite_model.Interpreter(path)

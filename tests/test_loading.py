"""A generator gives the same images from every kind of file; .pth files give the authors' numbers."""

import golden
import numpy as np
import pytest
import tensorflow as tf
from conftest import run_python
from PIL import Image
from translations import make_translator

import cyclegan_tf
from cyclegan_tf.config.value_ranges import NO_UNITS, Units, ValueRange
from cyclegan_tf.errors import UserError
from cyclegan_tf.images.stacks import StackOptions
from cyclegan_tf.inference import loading, translator
from cyclegan_tf.pytorch import files as torch_files

IMAGE = np.random.default_rng(0).integers(0, 256, (30, 41, 3), np.uint8)


def test_importing_the_package_imports_no_tensorflow(tiny_run, tmp_path):
    Image.fromarray(IMAGE).save(tmp_path / "horse.png")
    code = (
        "import sys, cyclegan_tf; assert 'tensorflow' not in sys.modules\n"
        f"print(cyclegan_tf.load({str(tiny_run)!r}).translate({str(tmp_path / 'horse.png')!r}).shape)"
    )
    child = run_python("-c", code)
    assert child.stdout.strip() == "(30, 41, 3)", child.stderr


def test_a_run_and_its_saved_model_give_the_same_images(tiny_run):
    for direction, own in translator.load_run(str(tiny_run)).translators.items():
        expected = own.translate_uint8(IMAGE[np.newaxis])["images"].numpy()
        assert expected.std() > 1, "a constant image would equal anything"
        for model in (cyclegan_tf.load(tiny_run, direction), loading.load(tiny_run / "export" / direction)):
            np.testing.assert_allclose(model.translate(IMAGE).astype(int), expected[0], atol=1)
            batch = np.stack([IMAGE, IMAGE[::-1]])
            np.testing.assert_allclose(model.translate(batch)[0].astype(int), expected[0], atol=1)


def test_loading_many_models_prints_no_warnings(tiny_run):
    # In a child process, because TensorFlow warns of retracing by the calls of the whole process.
    code = f"""
import numpy as np
import cyclegan_tf
for size in range(16, 23):
    cyclegan_tf.load({str(tiny_run)!r}).translate(np.zeros((size, 16, 3), np.uint8))
"""
    child = run_python("-c", code)
    assert child.returncode == 0, child.stderr
    assert "retracing" not in child.stderr


def test_every_dtype_gives_the_same_image(tiny_run):
    model = cyclegan_tf.load(tiny_run)
    result = model.translate(IMAGE)
    deep = model.translate(IMAGE.astype(np.uint16) * 257)
    floats = model.translate(IMAGE.astype(np.float64) / 127.5 - 1)
    assert (result.dtype, deep.dtype, floats.dtype) == (np.uint8, np.uint16, np.float32)
    np.testing.assert_allclose(deep / 257, result, atol=0.51)
    np.testing.assert_allclose((floats + 1) * 127.5, result, atol=0.51)


def test_a_run_supports_tiles_and_a_saved_model_does_not(tiny_run):
    image = np.random.default_rng(1).integers(0, 256, (2, 50, 37, 3), np.uint8)
    model = cyclegan_tf.load(tiny_run)
    np.testing.assert_allclose(model.translate(image, tile=16).astype(int), model.translate(image), atol=1)
    with pytest.raises(UserError, match=r"tiles need the generator's layers"):
        loading.load(tiny_run / "export" / "a2b").translate(image, tile=16)


@pytest.mark.parametrize("name", ["checkpoints/experiment", "checkpoints/old_pre04"])
def test_a_pth_file_gives_the_authors_numbers(tmp_path, name):
    pytest.importorskip("torch", reason="reads .pth files: pip install torch")
    model = loading.load(golden.checkpoint(f"{name}/latest_net_G_A.pth", tmp_path))
    case = golden.Golden(f"{name}/inputs_outputs.npz")
    prefix = "G_A/" if "G_A/x0" in case else ""
    indices = [index for index in range(2) if f"{prefix}x{index}" in case]
    assert indices
    for index in indices:
        result = model.translate(case.images(f"{prefix}x{index}"))
        case.assert_close(golden.nchw(result), f"{prefix}y{index}")


def test_a_pth_file_may_have_other_channels(tmp_path):
    pytest.importorskip("torch", reason="reads .pth files: pip install torch")
    name, path = "generators/resnet_n1_1to2channels.npz", tmp_path / "latest_net_G_A.pth"
    torch_files.write(path, golden.state_dict(name))
    case = golden.Golden(name)
    case.assert_close(golden.nchw(loading.load(path).translate(case.images("x0"))), "y0")


def test_a_pth_file_of_a_discriminator_is_an_error(tmp_path):
    pytest.importorskip("torch", reason="reads .pth files: pip install torch")
    path = golden.checkpoint("checkpoints/experiment/latest_net_D_A.pth", tmp_path)
    with pytest.raises(UserError, match=r"latest_net_D_A\.pth holds a discriminator"):
        loading.load(path)


@pytest.mark.parametrize(("make", "message"), [
    (lambda path: None, "does not exist: expected a run directory, a checkpoint in one, a SavedModel folder"),
    (lambda path: path.mkdir(), "model is not a trained model: expected a run directory"),
    (lambda path: (path.mkdir(), (path / "latest_net_G_A.pth").write_bytes(b"x")),
     r"model is a folder of \.pth files: give one generator, such as latest_net_G_A\.pth, or convert the folder to a "
     r"run with `cyclegan convert --from_pytorch=.*model --output=RUN`"),
    (lambda path: (path.mkdir(), (path / "saved_model.pb").write_bytes(b"x")), "is not a SavedModel with one input"),
])
def test_a_path_without_a_model_is_an_error(tmp_path, make, message):
    make(tmp_path / "model")
    with pytest.raises(UserError, match=message):
        loading.load(tmp_path / "model")


@pytest.mark.parametrize("load", [lambda path: loading.load(path, "a2b"), loading.load_directions])
def test_a_mistyped_path_is_the_error_before_the_direction(tmp_path, load):
    for name in ("typo", "typo.pth", "typo.tflite"):
        with pytest.raises(UserError, match=f"^{tmp_path}/{name} does not exist: expected a run directory"):
            load(tmp_path / name)
    with pytest.raises(UserError, match="is not a trained model: expected a run directory"):
        load(tmp_path)


def save_model(path, function, shape=(None, None, None, 3)):
    """Writes a SavedModel of `function` of float32 tensors of a shape."""
    module = tf.Module()
    spec = tf.TensorSpec(shape, tf.float32, name="x")
    module.f = tf.function(lambda x: {"y": function(x)}, input_signature=[spec], autograph=False)
    tf.saved_model.save(module, str(path), signatures=module.f)


@pytest.mark.parametrize(("function", "shape", "message"), [
    (tf.identity, (None, 4), r"takes float32 of shape \(None, 4\)"),
    (tf.identity, (None, None, None, None), r"takes float32 of shape \(None, None, None, None\)"),
    (lambda x: tf.reduce_mean(x, (1, 2)), (None, 8, 8, 3), r"returns float32 \(None, 3\)"),
    (lambda x: tf.compat.v1.placeholder_with_default(x, 4 * (None,)), (None, 8, 8, 3),
     r"returns float32 \(None, None, None, None\)"),
    (lambda x: tf.cast(127.5 * x + 127.5, tf.uint8), (None, 8, 8, 3), r"returns uint8 \(None, 8, 8, 3\)"),
], ids=["vectors", "any channels", "classifier", "unknown channels", "8 bits"])
def test_a_saved_model_of_something_other_than_images_is_an_error(tmp_path, function, shape, message):
    save_model(tmp_path, function, shape)
    with pytest.raises(UserError, match=f"{message}; expected float32 images"):
        loading.load(tmp_path)


def test_an_image_that_a_saved_model_refuses_is_an_error_of_this_image(tmp_path):
    save_model(tmp_path, lambda x: x + tf.zeros((16, 16, 3)))
    model, image = loading.load(tmp_path), np.zeros((16, 16, 3), np.uint8)
    with pytest.raises(ValueError, match=r"^the SavedModel fails on images of 6 x 8 pixels \(.*shapes"):
        model.translate(image[:8, :6])
    np.testing.assert_array_equal(model.translate(image), image)


@pytest.mark.parametrize(("function", "shape"), [
    (lambda images: images[:, ::2], r"\(2, 3, 4, 3\)"), (lambda images: images[..., :1], r"\(2, 6, 4, 1\)"),
    (lambda images: images[:1], r"\(1, 6, 4, 3\)"),
], ids=["size", "channels", "number"])
def test_translations_of_another_shape_are_an_error(function, shape):
    with pytest.raises(ValueError, match=rf"returns an array of shape {shape} instead of \(2, 6, 4, 3\)"):
        make_translator(3, function=function).translate(np.zeros((2, 6, 4, 3), np.uint8))


@pytest.fixture
def identity():
    """A translator that returns its images."""
    return make_translator(3)


@pytest.mark.parametrize(("value", "message"), [
    pytest.param(255, r"the values are 0 to 255; floats must be in \[-1, 1\], for example x / 127\.5 - 1 for 8-bit",
                 id="8-bit levels"),
    pytest.param(-1.5, r"the values are -1\.5 to 0; floats must be in \[-1, 1\]", id="below"),
    pytest.param(np.inf, r"the values are 0 to inf; floats must be in \[-1, 1\]", id="infinite"),
    pytest.param(np.nan, r"1 of 36 values are NaN; floats must be in \[-1, 1\]", id="NaN"),
])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_floats_outside_of_the_range_are_an_error(identity, dtype, value, message):
    image = np.zeros((3, 4, 3), dtype)
    image[1, 2, 0] = value
    for given in (image, np.stack([np.zeros_like(image), image])[1:]):
        with pytest.raises(ValueError, match=f"^{message}"):
            identity.translate(given)


def test_floats_at_the_ends_of_the_range_are_translated(identity):
    image = np.tile(np.float32([-1, 0, 1]), (3, 4, 1))
    np.testing.assert_array_equal(identity.translate(image), image)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_network_that_returns_nan_is_an_error(dtype):
    broken = make_translator(3, function=lambda images: np.where(images < 0, np.nan, images))
    image = np.ones((3, 4, 3), dtype)
    image[0, 0] = -1 if dtype == np.float32 else 0
    image[1:] = 1 if dtype == np.float32 else np.iinfo(dtype).max
    with pytest.raises(ValueError, match="the network returns NaN in"):
        broken.translate(image)


def test_tiles_with_nan_are_an_error_only_if_the_network_made_them():
    inputs = tf.keras.Input((None, None, 3))
    convolution = tf.keras.layers.Conv2D(3, 1, kernel_initializer="ones", name="convolution")
    own = translator.Translator(tf.keras.Model(inputs, convolution(inputs)), 1, 1)
    images = np.full((8, 8, 3), -0.25, np.float32)
    images[7, 7] = np.nan
    # By hand: each channel is the sum of three channels. Sample grids show test images with NaN.
    expected = np.full((8, 8, 3), -0.75, np.float32)
    expected[7, 7] = np.nan
    np.testing.assert_array_equal(own.translate_pixels(images, tile=4), expected)
    convolution.bias.assign([0, np.nan, 0])
    model = loading.LoadedTranslator(own, StackOptions())
    with pytest.raises(ValueError, match="the network returns NaN in"):
        model.translate(np.zeros((8, 8, 3), np.uint8), tile=4)


@pytest.mark.parametrize("dtype", [">u2", ">f4"])
def test_big_endian_arrays_are_translated(identity, dtype):
    image = np.tile(np.array([0, 1, 1], dtype), (3, 4, 1))
    np.testing.assert_array_equal(identity.translate(image), image)


@pytest.mark.parametrize(("name", "reason"), [
    ("missing.jpg", "No such file or directory"), ("folder", "not a regular file"),
    ("text.jpg", "cannot identify image file"),
])
def test_a_file_that_cannot_be_read_is_named(identity, tmp_path, name, reason):
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.jpg").write_text("no image")
    with pytest.raises(UserError, match=f"^{tmp_path}/{name} cannot be read as an image: {reason}$"):
        identity.translate(tmp_path / name)


def test_an_image_without_pixels_is_an_error(identity):
    with pytest.raises(ValueError, match=r"the image has shape \(0, 4, 3\) and no pixels"):
        identity.translate(np.zeros((0, 4, 3), np.uint8))


@pytest.mark.parametrize("units", [NO_UNITS, Units(ValueRange(0, 255), ValueRange(0, 255))], ids=["plain", "units"])
@pytest.mark.parametrize(("out", "shape"), [(1, (30, 41)), (3, (30, 41, 3))])
def test_a_gray_image_needs_no_axis_of_channels(units, out, shape):
    model = make_translator(1, units, lambda images: np.repeat(-images, out, axis=-1), out)
    gray = IMAGE[..., 0]
    result = model.translate(gray)
    assert (result.shape, result.dtype) == (shape, np.uint8)
    np.testing.assert_array_equal(result, 255 - (gray if out == 1 else np.stack([gray] * 3, axis=-1)))
    with pytest.raises(UserError, match="tiles need the generator's layers"):
        model.translate(gray, tile=16)


def test_the_error_of_gray_images_without_an_axis_of_channels_shows_both_shapes():
    message = r"has shape \(5, 30, 41\); expected \(height, width, 1\), or \(N, height, width, 1\) for N images$"
    with pytest.raises(ValueError, match=message):
        make_translator(1).translate(np.zeros((5, 30, 41), np.uint8))
    with pytest.raises(ValueError, match=r"has shape \(30, 41, 3\); expected \(height, width, 1\)"):
        make_translator(1).translate(IMAGE)


def test_wrong_directions_and_images_are_errors(tiny_run):
    with pytest.raises(UserError, match="holds only one direction"):
        loading.load(tiny_run / "export" / "b2a", "b2a")
    model = cyclegan_tf.load(tiny_run)
    with pytest.raises(ValueError, match=r"image has shape \(30, 41\); expected \(height, width, 3\)"):
        model.translate(IMAGE[..., 0])
    with pytest.raises(ValueError, match="image has dtype int64"):
        model.translate(IMAGE.astype(np.int64))

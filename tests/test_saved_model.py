"""SavedModel exports, run in a process that has TensorFlow but not this package."""

import base64
import io
import json

import numpy as np
import pytest
import tensorflow as tf
from conftest import run_python, save_checkpoint
from PIL import Image

from cyclegan_tf.config import Config
from cyclegan_tf.config.direction import Direction
from cyclegan_tf.exporters import saved_model
from cyclegan_tf.images.codec import decode, encode_png
from cyclegan_tf.inference import translator as translator_lib
from cyclegan_tf.models.cyclegan import CycleGAN
from cyclegan_tf.networks.weights import name_weights
from cyclegan_tf.runs import model_state

CHILD = """
import sys
sys.modules["cyclegan_tf"] = None  # Importing it would fail.
import numpy as np, tensorflow as tf
export, folder = sys.argv[1:]
loaded = tf.saved_model.load(export)
image = np.load(folder + "/image.npy")
as_float = image.astype(np.float32) / 127.5 - 1
signatures = loaded.signatures
outputs = {
    "float": signatures["serving_default"](images=tf.constant(as_float[None]))["images"][0],
    "uint8": signatures["translate"](images=tf.constant(image[None]))["images"][0],
    "png": np.frombuffer(signatures["translate_bytes"](
        image_bytes=tf.constant([open(folder + "/image.png", "rb").read()] * 2))["image_bytes"][1].numpy(), np.uint8),
}
np.savez(folder + "/outputs.npz", **{name: np.asarray(value) for name, value in outputs.items()})
"""


@pytest.mark.parametrize("direction", ["a2b", "b2a"])
def test_the_three_signatures_work_without_the_package(tiny_run, tmp_path, direction):
    image = np.random.default_rng(0).integers(0, 256, (100, 140, 3), np.uint8)
    np.save(tmp_path / "image.npy", image)
    (tmp_path / "image.png").write_bytes(encode_png(image))
    child = run_python("-c", CHILD, tiny_run / "export" / direction, tmp_path, cwd=tmp_path)
    assert child.returncode == 0, child.stderr
    outputs = np.load(tmp_path / "outputs.npz")
    translator = translator_lib.load_run(str(tiny_run)).translators[direction]
    expected = translator.translate_uint8(image[None])["images"][0].numpy()
    assert expected.shape == image.shape
    assert expected.std() > 1, "a constant image would equal anything"
    assert (outputs["uint8"] == expected).all()
    assert (decode(outputs["png"].tobytes()) == expected).all()
    floats = translator.translate_floats(image[None].astype(np.float32) / 127.5 - 1)["images"][0].numpy()
    np.testing.assert_allclose(outputs["float"], floats, atol=1e-6)


def test_an_export_leaves_other_folders_alone(tmp_path):
    (tmp_path / "a2b.tmp").mkdir()
    (tmp_path / "a2b.tmp" / "file").write_text("precious")
    (tmp_path / "b2a").write_text("")  # A file where a folder must go.
    inputs = tf.keras.Input((None, None, 1))
    network = tf.keras.Model(inputs, tf.keras.layers.Activation("tanh")(inputs))
    translator = translator_lib.Translator(network, 1, 1)
    assert saved_model.export({Direction("a2b"): translator}, str(tmp_path)) == [str(tmp_path / "a2b")]
    with pytest.raises(OSError):
        saved_model.export({Direction("b2a"): translator}, str(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a2b", "a2b.tmp", "b2a"]
    assert (tmp_path / "a2b.tmp" / "file").read_text() == "precious"


@pytest.mark.parametrize("size", [(1, 1), (3, 9), (30, 41), (64, 64)])
def test_translations_have_the_size_of_their_image(tiny_run, size):
    translator = translator_lib.load_run(str(tiny_run)).translators["a2b"]
    image = np.random.default_rng(1).integers(0, 256, (2, *size, 3), np.uint8)
    assert translator.translate_uint8(image)["images"].shape == image.shape


def test_odd_sizes_are_extended_by_reflection(tiny_run):
    translator = translator_lib.load_run(str(tiny_run)).translators["a2b"]
    image = np.random.default_rng(2).integers(0, 256, (1, 30, 41, 3), np.uint8)
    continued = np.pad(image, ((0, 0), (0, 2), (0, 3), (0, 0)), mode="reflect")
    expected = translator.translate_uint8(continued)["images"][:, :30, :41]
    assert (translator.translate_uint8(image)["images"].numpy() == expected.numpy()).all()


def test_averaged_weights_are_loaded(tmp_path):
    config = Config.preset("tiny", ema_decay=0.5)
    model = CycleGAN(config)
    for variable in name_weights(model.averages["gen_ab"]).values():
        variable.assign(variable + 1.0)
    (tmp_path / "config.json").write_text(config.to_json())
    save_checkpoint(str(tmp_path / "checkpoints"), model, model_state.Progress(1), keep=1)
    loaded = translator_lib.load_run(str(tmp_path)).translators["a2b"].generator.get_weights()
    for weight, average in zip(loaded, model.averages["gen_ab"].get_weights(), strict=True):
        assert np.array_equal(weight, average)
    assert not np.array_equal(loaded[0], model.networks["gen_ab"].get_weights()[0])


SERVER = """
import base64, json, sys
sys.modules["cyclegan_tf"] = None  # Importing it would fail.
import tensorflow as tf
request = json.load(open(sys.argv[2]))
signature = tf.saved_model.load(sys.argv[1]).signatures[request["signature_name"]]
# A server learns the names and types of the signature's tensors only from the SavedModel.
(name, spec), = signature.structured_input_signature[1].items()
assert spec.dtype == tf.string and spec.shape.rank == 1, spec
values = [base64.b64decode(instance[name]["b64"]) for instance in request["instances"]]
outputs = signature(**{name: tf.constant(values)})
(name, tensor), = outputs.items()
# The answer encodes outputs whose names end in _bytes, and leaves out the name of a single output.
assert name.endswith("_bytes"), name
json.dump({"predictions": [{"b64": base64.b64encode(value).decode()} for value in tensor.numpy()]},
          open(sys.argv[3], "w"))
"""


def save(pixels, kind, **options):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def test_translate_bytes_answers_a_rest_request(tiny_run, tmp_path):
    """Decodes a predict request in row format, and encodes the answer, as TensorFlow Serving does."""
    picture, small = (np.random.default_rng(size).integers(0, 256, (size, 40, 3), np.uint8) for size in (30, 50))
    alpha = np.random.default_rng(0).integers(0, 256, (30, 40, 1), np.uint8)
    exif = Image.Exif()
    exif[274] = 6  # A phone's upright photograph.
    contents = [encode_png(picture), encode_png(small), save(picture, "JPEG", exif=exif),
                save(np.concatenate([picture, alpha], -1), "PNG")]
    request = {
        "signature_name": "translate_bytes",
        "instances": [{"image_bytes": {"b64": base64.b64encode(content).decode()}} for content in contents],
    }
    (tmp_path / "request.json").write_text(json.dumps(request))
    child = run_python("-c", SERVER, tiny_run / "export" / "a2b", tmp_path / "request.json", tmp_path / "answer.json")
    assert child.returncode == 0, child.stderr
    answer = json.loads((tmp_path / "answer.json").read_text())
    translator = translator_lib.load_run(str(tiny_run)).translators["a2b"]
    for content, prediction in zip(contents, answer["predictions"], strict=True):
        expected = translator.translate_uint8(decode(content)[np.newaxis])["images"][0].numpy()
        assert (decode(base64.b64decode(prediction["b64"])) == expected).all()

"""Exports, run in their own runtimes and compared with the SavedModel that training wrote."""

import dataclasses
import functools
import os
import shutil
import types

import numpy as np
import pytest
import tensorflow as tf
from conftest import run_python

from cyclegan_tf.config import Config
from cyclegan_tf.config.direction import Direction
from cyclegan_tf.config.run_options import CONVERTED_DATASET
from cyclegan_tf.config.value_ranges import Units, ValueRange
from cyclegan_tf.errors import UserError
from cyclegan_tf.exporters import (
    conversion,
    formats,
    keras_file,
    portable,
    saved_model,
    source,
    tflite,
    verify,
    web_page,
)
from cyclegan_tf.exporters import onnx as onnx_lib
from cyclegan_tf.images import ranges
from cyclegan_tf.inference import loading, translator
from cyclegan_tf.networks import registry
from cyclegan_tf.networks.weights import name_weights
from cyclegan_tf.runs import checkpoints
from cyclegan_tf.storage import zip_metadata

keras = tf.keras

# Neither square nor of the size of the check images.
IMAGE = np.random.default_rng(0).uniform(-1, 1, (1, 36, 44, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def expected(tiny_run):
    """Translation of IMAGE by the run's SavedModel."""
    loaded = tf.saved_model.load(str(tiny_run / "export" / "a2b"))
    images = loaded.signatures["serving_default"](images=tf.constant(IMAGE))["images"].numpy()
    assert images.std() > 0.05, "a constant image would equal anything"
    return images


def difference(a, b):
    assert a.shape == b.shape
    return np.abs(a - b).max()


def translate_tflite(path, image, threads=1):
    litert = pytest.importorskip("ai_edge_litert.interpreter")
    interpreter = litert.Interpreter(str(path), num_threads=threads)
    interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], image.shape, strict=True)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def translate_onnx(path, image):
    session = pytest.importorskip("onnxruntime").InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(["translations"], {"images": image})[0]


def test_tflite_files_of_every_precision_translate_any_size(tiny_run, tmp_path, expected):
    results = formats.export(str(tiny_run), "tflite", str(tmp_path / "out"))
    sizes = {result.artifact.name: result.size_bytes for result in results}
    assert sizes == {path.name: path.stat().st_size for path in (tmp_path / "out").iterdir()}
    assert sizes["a2b-float16.tflite"] < sizes["a2b-float32.tflite"]
    for result, bound in zip(results, (1e-4, 1 / 255, 0.2, 0.75), strict=True):
        assert result.largest <= result.artifact.largest == bound
        assert set(result.milliseconds) == {1, 2}
        translation = translate_tflite(tmp_path / "out" / result.artifact.name, IMAGE)
        assert difference(translation, expected) <= bound
        assert np.abs(translation - expected).mean() <= result.artifact.mean
        assert np.corrcoef(translation.ravel(), expected.ravel())[0, 1] > 0.9, "the picture stays"


def test_onnx_files_translate_any_size(tiny_run, tmp_path, expected):
    (result,) = formats.export(str(tiny_run), "onnx", str(tmp_path), "a2b")
    assert set(result.milliseconds) == {1, 2}
    assert difference(translate_onnx(tmp_path / "a2b.onnx", IMAGE), expected) <= 1e-4


def test_keras_files_load_without_this_package_and_addons(tiny_run, tmp_path, expected):
    formats.export(str(tiny_run), "keras", str(tmp_path))
    np.save(tmp_path / "image.npy", IMAGE)
    code = (
        "import sys; sys.modules['cyclegan_tf'] = sys.modules['tensorflow_addons'] = None\n"
        "import numpy as np, tensorflow as tf\n"
        "model = tf.keras.models.load_model('a2b.keras')\n"
        "np.save('result.npy', np.asarray(model(np.load('image.npy'))))"
    )
    child = run_python("-c", code, cwd=tmp_path)
    assert child.returncode == 0, child.stderr
    assert difference(np.load(tmp_path / "result.npy"), expected) <= 1e-4


def test_the_other_direction_is_exported_on_request(tiny_run, tmp_path, expected):
    formats.export(str(tiny_run), "saved_model", str(tmp_path), "b2a")
    ours, trainers = (
        tf.saved_model.load(str(folder / "b2a")).signatures["serving_default"](images=tf.constant(IMAGE))["images"]
        for folder in (tmp_path, tiny_run / "export")
    )
    assert difference(ours.numpy(), trainers.numpy()) <= 1e-4
    assert difference(ours.numpy(), expected) > 1e-2


def test_a_file_of_a_fixed_size_accepts_no_other(tiny_run, tmp_path, expected):
    formats.export(str(tiny_run), "onnx", str(tmp_path), size=(36, 44))
    assert difference(translate_onnx(tmp_path / "a2b.onnx", IMAGE), expected) <= 1e-4
    with pytest.raises(Exception, match="invalid dimensions"):
        translate_onnx(tmp_path / "a2b.onnx", IMAGE[:, :, :40])
    with pytest.raises(UserError, match="--size=30x44: height and width must be multiples of 4"):
        formats.export(str(tiny_run), "onnx", str(tmp_path / "other"), size=(30, 44))


def test_a_web_export_of_two_directions_reads_the_checkpoint_once(tiny_run, tmp_path, monkeypatch):
    pytest.importorskip("tf2onnx")
    pytest.importorskip("onnxruntime")
    read, paths, found = checkpoints.read, [], []
    monkeypatch.setattr(checkpoints, "read", lambda path: paths.append(path) or read(path))
    monkeypatch.setattr(web_page, "write", lambda generators, *_, **options: found.extend(generators) or [])
    formats.export(str(tiny_run), "web", str(tmp_path / "page"))
    assert [generator.direction for generator in found] == ["a2b", "b2a"]
    assert len(paths) == 1


def test_an_export_with_other_images_is_an_error_and_leaves_nothing(tiny_run, tmp_path, monkeypatch):
    a_to_b, b_to_a = source.load(str(tiny_run))
    onnx_lib.write(b_to_a, str(tmp_path))
    artifact = verify.Artifact("b2a.onnx", "onnx", largest=1e-4)
    with pytest.raises(UserError, match=r"b2a\.onnx does not match the generator's images: largest difference"):
        verify.check(artifact, str(tmp_path), a_to_b)
    monkeypatch.setitem(tflite.BOUNDS, "float16", (0.0, 0.0))
    with pytest.raises(UserError, match="does not match the generator's images"):
        formats.export(str(tiny_run), "tflite", str(tmp_path / "out"), precision=["float16"])
    assert not (tmp_path / "out").exists()


def test_images_of_another_shape_of_one_color_or_with_nan_fail_the_check(tiny_run, monkeypatch):
    generator = source.load(str(tiny_run))[0]
    images = [translation for _, translation in generator.check_pairs]
    artifact = verify.Artifact("x", "onnx", largest=2.0)
    for wrong, message in (
        ([image[..., :1] for image in images], r"x returns images of shape \(1, 32, 32, 1\); expected \(1, 32, 32"),
        ([np.full_like(image, np.median(image)) for image in images], "x does not match the generator's images"),
        ([np.where(image == image.max(), np.nan, image) for image in images],
         "x does not match the generator's images"),
    ):
        outputs = {f"image{i}": image for i, image in enumerate(wrong)}
        monkeypatch.setattr(verify, "run", lambda *arguments, outputs=outputs: outputs)
        with pytest.raises(UserError, match=message):
            verify.check(artifact, "/", generator)


def test_the_images_of_a_check_are_computed_in_full_precision(tiny_run, monkeypatch):
    is_rounded, modes = tf.config.experimental.tensor_float_32_execution_enabled, []
    assert is_rounded(), "nothing to switch off"

    def translate(image, training):
        modes.append(is_rounded())
        return image

    monkeypatch.setattr(source.Source, "network", property(lambda self: translate))
    assert len(source.load(str(tiny_run), Direction.A2B)[0].check_pairs) == 2
    assert modes == [False, False] and is_rounded()


def test_exports_run_on_the_cpu(tmp_path, monkeypatch):
    runner = tmp_path / "runner.py"
    runner.write_text(
        "import os, sys\nimport numpy as np\nnp.savez(sys.argv[4], gpus=os.environ['CUDA_VISIBLE_DEVICES'])\n"
    )
    monkeypatch.setattr(verify, "_RUNNER", str(runner))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert verify.run("keras", "a2b.keras", [])["gpus"] == "-1"


def test_a_check_does_not_download_a_data_set(tiny_run, tmp_path, caplog):
    config = dataclasses.replace(Config.load(str(tiny_run)), dataset="horse2zebra", data_dir=str(tmp_path))
    generator = dataclasses.replace(source.load(str(tiny_run))[0], config=config)
    assert len(generator.check_pairs) == 2
    assert "horse2zebra is not prepared here: the check and the samples use images of the demo set" in caplog.text


def test_the_images_of_a_check_need_no_training_images(tiny_run, tmp_path, make_images, caplog):
    for folder in ("testA", "testB"):
        make_images(tmp_path / folder, 1)
    config = dataclasses.replace(Config.load(str(tiny_run)), dataset=str(tmp_path))
    generator = dataclasses.replace(source.load(str(tiny_run))[0], config=config)
    assert len(generator.check_pairs) == 2
    assert "images of the demo set" not in caplog.text


def test_the_demo_set_replaces_a_missing_data_set_whatever_its_options_are():
    generator = generator_source({
        "dataset": "/no/such/folder", "paired": "yes", "range_a": "-1024,3071", "window": "40,400", "direction": "b2a",
        "eval_metrics": "mae", "output_channels": 2, "lambda_identity": 0.0,
    })
    images = [*generator.load_samples(2, 64), *(image for image, _ in generator.check_pairs)]
    # With the range of the run, the photographs would be nearly of one color.
    assert [np.ptp(ranges.to_float(image)) > 1.5 for image in images] == [True] * 4


def test_a_run_directory_named_like_a_packaged_model_is_exported_by_its_path(tmp_path, monkeypatch, tiny_run):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").symlink_to(tiny_run)
    assert source.load("./demo")[0].config == Config.load(str(tiny_run))


def test_a_network_of_many_channels_is_checked_without_its_data_set(caplog):
    generator = generator_source(
        {"input_channels": 5, "output_channels": 2, "lambda_identity": 0.0, "dataset": "/no/such/folder"}
    )
    shapes = [(image.shape[-1], translation.shape[-1]) for image, translation in generator.check_pairs]
    assert shapes == [(5, 2), (5, 2)]
    assert [np.abs(image).max() <= 1 < 2 * image.std() for image, _ in generator.check_pairs] == [True, True]
    assert "the check uses noise: --dataset=/no/such/folder: no such folder" in caplog.text


def test_a_damaged_export_is_an_error_with_the_runtimes_reason(tmp_path):
    (tmp_path / "a2b.onnx").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"a2b\.onnx does not run in its own runtime \(onnx\): .*(?i:protobuf)"):
        verify.run("onnx", str(tmp_path / "a2b.onnx"), [IMAGE])


def test_existing_exports_are_replaced_only_on_request(tiny_run, tmp_path):
    (tmp_path / "a2b.onnx").write_text("mine")
    with pytest.raises(UserError, match=r"a2b\.onnx exists already"):
        formats.export(str(tiny_run), "onnx", str(tmp_path))
    assert (tmp_path / "a2b.onnx").read_text() == "mine"
    formats.export(str(tiny_run), "onnx", str(tmp_path), overwrite=True)
    assert (tmp_path / "a2b.onnx").stat().st_size > 10_000
    assert [path.name for path in tmp_path.iterdir()] == ["a2b.onnx"]


@pytest.mark.parametrize(
    ("name", "direction", "existing", "message"),
    [
        ("keras", None, "a2b.keras", "/a2b.keras exists already; give another --output, or --overwrite"),
        ("keras", "b2a", "b2a.keras", "/b2a.keras exists already"),
        ("web", None, "b2a.onnx", "/b2a.onnx exists already"),
        # The files do not exist, so the run is loaded.
        ("keras", None, "b2a.keras", "/run has no checkpoint yet"),
        ("keras", "b2a", "a2b.keras", "/run has no checkpoint yet"),
    ],
)
def test_existing_exports_are_found_before_the_run_is_loaded(name, direction, existing, message, tmp_path):
    run, output = tmp_path / "run", tmp_path / "out"
    for folder in (run, output):
        folder.mkdir()
    Config.preset("tiny").save(str(run))  # Loading this run fails, because it has no checkpoint.
    (output / existing).write_text("mine")
    with pytest.raises(UserError, match=message):
        formats.export(str(run), name, str(output), direction)
    # A converted run may have one direction only, such as b2a; only its checkpoint shows which.
    Config.preset("tiny", dataset=CONVERTED_DATASET).save(str(run))
    with pytest.raises(UserError, match=message if direction else "/run has no checkpoint yet"):
        formats.export(str(run), name, str(output), direction)
    assert [path.name for path in output.iterdir()] == [existing]


def test_only_int8_needs_the_runs_images(tiny_run, tmp_path):
    shutil.copytree(tiny_run, tmp_path / "run")
    config = dataclasses.replace(Config.load(str(tiny_run)), dataset="/no/such/folder")
    (tmp_path / "run" / "config.json").write_text(config.to_json())
    with pytest.raises(UserError, match=r"needs images that .*run was trained on.*/no/such/folder.*leave int8 out"):
        formats.export(str(tmp_path / "run"), "tflite", str(tmp_path / "out"))
    formats.export(str(tmp_path / "run"), "tflite", str(tmp_path / "out"), precision=["float16"])


# Together these options use every layer of the package's generators.
ARCHITECTURES = [
    {"norm": "batch", "padding": "replicate", "upsample": "resize_conv", "dropout": True},
    {"generator": "unet", "n_downs": 5, "dropout": True, "norm": "instance"},
    {"generator": "unet_reflect", "n_downs": 5, "norm": "instance", "upsample": "resize_conv"},
    {"generator": "unet_full", "n_downs": 5, "norm": "instance", "upsample": "resize_conv"},
    {"padding": "zero", "norm": "none"},
    {"generator": "torchgan"},
    {"generator": "tf_blog", "norm_affine": True},
    {"generator": "unet_book"},
]


def generator_source(options):
    """Returns a `Source` of a generator whose random weights are so large that every layer changes the result."""
    config = Config.preset("tiny", **options)
    network = registry.build_generator(config, "gen_ab")
    random = np.random.default_rng(1)
    for name, weight in name_weights(network).items():
        positive = name.endswith(("gamma", "moving_variance"))
        weight.assign(random.uniform(0.5, 1.5, weight.shape) if positive else random.normal(0, 0.1, weight.shape))
    return source.Source("run", config, Direction.A2B, translator.make_translator(config, network))


@pytest.mark.parametrize("options", ARCHITECTURES, ids=str)
def test_every_architecture_is_rebuilt_from_keras_layers(options):
    network = generator_source(options).network
    twin = portable.rebuild(network)
    image = np.random.default_rng(2).uniform(-1, 1, (2, 64, 96, 3)).astype(np.float32)
    expected = np.asarray(network(image))
    assert expected.std() > 0.05, "a constant image would equal anything"
    assert difference(np.asarray(twin(image)), expected) <= 1e-6
    assert "cyclegan_tf" not in twin.to_json()
    assert "Addons" not in twin.to_json()


@pytest.mark.parametrize("options", ARCHITECTURES[:2], ids=str)
def test_every_architecture_converts_to_onnx_and_tflite(options, tmp_path):
    generator = generator_source(options)
    artifacts = onnx_lib.write(generator, str(tmp_path)) + tflite.write(generator, str(tmp_path), ["float32"])
    image = np.random.default_rng(3).uniform(-1, 1, (1, 64, 96, 3)).astype(np.float32)
    expected = np.asarray(generator.network(image))
    assert expected.std() > 0.05, "a constant image would equal anything"
    for artifact, translate in zip(artifacts, (translate_onnx, translate_tflite), strict=True):
        assert difference(translate(tmp_path / artifact.name, image), expected) <= 1e-4


@pytest.mark.parametrize("exporter", ["onnx", "tflite"])
def test_exhausted_memory_is_not_called_an_unsupported_network(exporter, tmp_path, monkeypatch):
    def convert(*arguments, **options):
        raise MemoryError

    write = {"onnx": onnx_lib.write, "tflite": functools.partial(tflite.write, precision=["float32"])}[exporter]
    if exporter == "onnx":
        monkeypatch.setattr(pytest.importorskip("tf2onnx").convert, "from_function", convert)
    else:
        monkeypatch.setattr(tflite, "_make_converter", lambda source: types.SimpleNamespace(convert=convert))
    with pytest.raises(MemoryError):
        write(generator_source({"norm": "none"}), str(tmp_path))


def test_a_network_that_cannot_be_converted_is_a_one_line_error(capfd):
    with pytest.raises(UserError) as caught, conversion.run_converter("tool 1.2", "ONNX", "--format=tflite"):
        print("noise of Python")
        os.write(2, b"noise of C++")
        raise RuntimeError("no operation\nTraceback")
    assert str(caught.value) == (
        f"tool 1.2 cannot convert this network to ONNX with TensorFlow {tf.__version__} (no operation); "
        "try --format=tflite, or another version of TensorFlow"
    )
    assert capfd.readouterr() == ("", "")


def test_files_of_a_fixed_size_have_only_2d_convolutions(tmp_path):
    # For a single image of known size this package uses 3-D convolutions, which runtimes do not support.
    generator, onnx = dataclasses.replace(generator_source({}), size=(16, 24)), pytest.importorskip("onnx")
    (in_onnx,), (in_tflite,) = onnx_lib.write(generator, str(tmp_path)), tflite.write(
        generator, str(tmp_path), ["float32"]
    )
    nodes = [node for node in onnx.load(tmp_path / in_onnx.name).graph.node if node.op_type == "Conv"]
    sides = [len(attribute.ints) for node in nodes for attribute in node.attribute if attribute.name == "kernel_shape"]
    assert set(sides) == {2}
    interpreter = pytest.importorskip("ai_edge_litert.interpreter").Interpreter(str(tmp_path / in_tflite.name))
    interpreter.allocate_tensors()
    names = {operation["op_name"] for operation in interpreter._get_ops_details()}
    assert "CONV_2D" in names
    assert "CONV_3D" not in names


def test_the_command_exports_and_reports(tiny_run, tmp_path, run_command):
    command = ("cyclegan_tf.export", f"--output={tmp_path}")
    child = run_python("-m", *command, f"--model={tiny_run}", "--format=onnx", "--direction=b2a", "--size=64")
    assert child.returncode == 0, child.stderr
    line = child.stderr.strip().splitlines()[-1]
    assert line.startswith("b2a.onnx: ")
    assert "MB" in line
    assert "largest difference" in line
    assert "ms with 1 thread" in line
    assert line.endswith("at 64x64")
    for arguments, message in (
        ([], "error: --model is missing; give --model=RUN"),
        ([f"--model={tmp_path}", "--format=keras"], f"error: {tmp_path} is not a run directory"),
        ([f"--model={tiny_run}", "--format=tflite", "--precision=int4"], "error: --precision=int4: unknown int4; expe"),
        ([f"--model={tiny_run}", "--format=tflite", "--precision="], "error: --precision is missing; give some of"),
        ([f"--model={tiny_run}", "--format=onnx", "--size=big"], "error: --size=big is not HEIGHTxWIDTH"),
        ([f"--model={tiny_run}", "--format=web", "--size=64"], "error: --size is for tflite and onnx, not for "),
        ([f"--model={tiny_run}", "--format=onnx", "--precision=int8"], "error: --precision is for tflite, not for "),
    ):
        child = run_command(*command, *arguments)
        assert child.returncode == 2
        assert child.stderr.strip().splitlines()[-1].startswith(message)


def test_exports_name_the_ranges_of_their_values(tmp_path):
    import onnxruntime

    options = {"range_a": "-1024,3071", "range_b": "percentile:1,99=0,1.5", "n_blocks": 1, "ngf": 2}
    generator = generator_source(options)
    for artifact in (
        *saved_model.write(generator, str(tmp_path)), *keras_file.write(generator, str(tmp_path)),
        *onnx_lib.write(generator, str(tmp_path)), *tflite.write(generator, str(tmp_path), ["float32"]),
    ):
        path = str(tmp_path / artifact.name)
        assert artifact.name in formats.list_outputs(artifact.runtime, ["a2b"])
        if artifact.runtime in ("saved_model", "tflite"):
            model = loading.load(path)
            assert model.units == Units(ValueRange(-1024, 3071), ValueRange(0, 1.5))
            values = model.translate(np.full((16, 16, 3), 1023.5))
            assert values.dtype == np.float64
            assert 0 <= values.min() < values.max() <= 1.5
        elif artifact.runtime == "keras":
            tf.keras.models.load_model(path, compile=False)  # Ignores the file of ranges.
            assert zip_metadata.read(path) == {"source": [-1024, 3071], "target": [0, 1.5]}
        else:
            found = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).get_modelmeta()
            assert found.custom_metadata_map == {"source_range": "-1024.0,3071.0", "target_range": "0.0,1.5"}

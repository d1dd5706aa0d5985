"""Runs of CUT: train, resume, translate, tile, evaluate, export and convert one direction."""

import dataclasses
import shutil

import golden
import numpy as np
import pytest
from conftest import run_python

import cyclegan_tf
from cyclegan_tf.config import Config
from cyclegan_tf.errors import UserError
from cyclegan_tf.exporters import formats, pytorch_run, saved_model
from cyclegan_tf.models.cut import Cut
from cyclegan_tf.runs import checkpoints
from cyclegan_tf.training import trainer, warm_start

# Everything that draws random numbers is on.
CONFIG = Config.preset(
    "tiny", model="fastcut", nce_identity=True, nce_patches=16, nce_features=8, initialization="normal",
    lr_policy="constant", diff_augment="color,translation,cutout", ema_decay=0.9, dropout=True, max_dataset_size=4,
)
CONVERTED = "cut/generators/resnet_n1_antialias.npz"


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cut") / "run"
    measures = trainer.train(CONFIG, str(folder))
    assert sorted(measures) == ["psnr_ab", "ssim_ab"]
    return folder


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).uniform(-1, 1, (70, 90, 3)).astype(np.float32)


def read_newest(folder):
    return checkpoints.read_newest(str(folder / "checkpoints"))[1]


def test_a_resumed_and_an_uninterrupted_run_have_equal_bits(workdir, tmp_path):
    resumed = shutil.copytree(workdir, tmp_path / "resumed")
    (resumed / "checkpoints" / "step-00000004.npz").unlink()
    assert read_newest(resumed)["step"] == 2
    trainer.train(CONFIG, str(resumed))
    expected, found = read_newest(workdir), read_newest(resumed)
    assert expected.keys() == found.keys()
    assert expected["step"] == 4
    assert {"network/features/mlp0_hidden/kernel", "optimizer/features/0"} <= expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def test_a_run_without_measures_announces_none(tmp_path, caplog):
    config = dataclasses.replace(CONFIG, max_steps=1, paired="no")
    with caplog.at_level("INFO", "cyclegan_tf"):
        assert trainer.train(config, str(tmp_path / "run")) == {}
    assert "training steps 1 to 1" in caplog.text
    assert "images: \n" not in caplog.text


@pytest.mark.parametrize("options", [{}, {"keep_best": "kid_ab"}])
def test_evaluations_that_measure_nothing_are_an_error(tmp_path, options):
    config = dataclasses.replace(CONFIG, eval_every=1, paired="no", **options)
    message = "--eval_every=1: this run measures nothing, .* --model=fastcut has no cycle; add .* --eval_metrics"
    with pytest.raises(UserError, match=message):
        trainer.train(config, str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_tiles_give_the_translation_of_the_whole_image(workdir, image):
    model = cyclegan_tf.load(workdir)
    whole = model.translate(image)
    assert whole.shape == image.shape
    assert whole.std() > 0.01
    np.testing.assert_allclose(model.translate(image, tile=32), whole, rtol=0, atol=1e-5)


def test_the_other_direction_is_refused(workdir, tmp_path):
    with pytest.raises(UserError, match="translates a2b only and holds no generator of b2a"):
        cyclegan_tf.load(workdir, "b2a")
    with pytest.raises(UserError, match="translates a2b only and holds no generator of b2a"):
        formats.export(str(workdir), "keras", str(tmp_path), "b2a")
    assert not list(tmp_path.iterdir())
    assert [path.name for path in (workdir / "export").iterdir()] == ["a2b"]


@pytest.mark.parametrize(
    ("kind", "name"), [("keras", "a2b.keras"), ("onnx", "a2b.onnx"), ("tflite", "a2b-float32.tflite")]
)
def test_exports_translate_like_the_saved_model(workdir, tmp_path, kind, name):
    if kind == "onnx":
        pytest.importorskip("tf2onnx")
    # `export` compares each file, in its own runtime, with the SavedModel.
    (result,) = formats.export(str(workdir), kind, str(tmp_path), precision=["float32"])
    assert result.artifact.name == name


def test_weights_go_to_pytorch_files_of_one_direction(workdir, tmp_path):
    torch = pytest.importorskip("torch")
    pytorch_run.convert_to_pytorch(str(workdir), str(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latest_net_D.pth", "latest_net_G.pth"]
    state_dict = torch.load(tmp_path / "latest_net_G.pth")
    average = read_newest(workdir)["average/gen_ab/stem_conv/kernel"]
    np.testing.assert_array_equal(state_dict["model.1.weight"].numpy(), np.transpose(average, (3, 2, 0, 1)))
    assert {"model.7.filt", "model.11.filt", "model.13.filt", "model.17.filt"} <= state_dict.keys()


def test_the_authors_generator_converts(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(saved_model, "export", lambda translators, folder: [])
    case = golden.Golden(CONVERTED)
    path = tmp_path / "latest_net_G.pth"
    torch.save({key: torch.from_numpy(array) for key, array in case.group("w").items()}, path)
    pytorch_run.convert_from_pytorch([str(path)], str(tmp_path / "run"))
    assert Config.load(str(tmp_path / "run")).antialias == "both"
    for source in (path, tmp_path / "run"):
        model = cyclegan_tf.load(source)
        for i in range(2):
            case.assert_close(golden.nchw(model.translate(case.images(f"x{i}"))), f"y{i}")


def test_training_starts_from_the_authors_generator(tmp_path):
    torch = pytest.importorskip("torch")
    case = golden.Golden(CONVERTED)
    path = tmp_path / "latest_net_G.pth"
    torch.save({key: torch.from_numpy(array) for key, array in case.group("w").items()}, path)
    model = Cut(dataclasses.replace(CONFIG, ngf=case.info["config"]["ngf"]))
    warm_start.initialize(model, str(path))
    for network in (model.networks["gen_ab"], model.averages["gen_ab"]):
        case.assert_close(golden.nchw(network(case.images("x0"))), "y0")


_TWO_REPLICAS = """
import numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from cyclegan_tf.config import Config
from cyclegan_tf.models.cut import Cut
from cyclegan_tf.training import strategies

options = {"model": "fastcut", "nce_identity": True, "nce_features": 8, "nce_patches": 16, "initialization": "normal",
           "diff_augment": "color,translation,cutout"}
a, b = np.random.default_rng(0).uniform(-1, 1, (2, 2, 32, 32, 3)).astype(np.float32)
tf.keras.utils.set_random_seed(0)
whole = Cut(Config.preset("tiny", batch_size=2, **options)).train_step(tf.constant(a), tf.constant(b))
config = Config.preset("tiny", strategy="mirrored", **options)
replicas = strategies.open_replicas(config)
assert replicas.count == 2
tf.keras.utils.set_random_seed(0)
with replicas.scope():
    model = Cut(config, replicas.local)
parts = replicas.train_step(model, [(a[:1], b[:1]), (a[1:], b[1:])], lambda: None)()
for name, value in whole.items():
    np.testing.assert_allclose(parts[name], value, rtol=1e-4, atol=1e-5, err_msg=name)
"""


def test_two_replicas_equal_one_with_the_whole_batch():
    process = run_python("-c", _TWO_REPLICAS)
    assert process.returncode == 0, process.stderr

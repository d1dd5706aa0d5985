"""Initial weights from runs, SavedModels and .pth files."""

import logging
from pathlib import Path

import golden
import numpy as np
import pytest
import tensorflow as tf
from conftest import save_checkpoint

from cyclegan_tf.config import Config
from cyclegan_tf.errors import UserError
from cyclegan_tf.models.cyclegan import CycleGAN
from cyclegan_tf.models.pix2pix import Pix2Pix
from cyclegan_tf.models.registry import build_model
from cyclegan_tf.networks.weights import name_weights
from cyclegan_tf.pytorch import files as torch_files
from cyclegan_tf.runs import checkpoints, model_state
from cyclegan_tf.runs import directory as run_directory
from cyclegan_tf.runs.model_state import Progress
from cyclegan_tf.training import warm_start

CONFIG = Config.preset("tiny", ema_decay=0.9)


def have_equal_weights(network, other):
    return all(map(np.array_equal, network.get_weights(), other.get_weights()))


def test_networks_of_another_run(tmp_path):
    tf.keras.utils.set_random_seed(1)
    model, other = CycleGAN(CONFIG), CycleGAN(CONFIG)
    # Averages that differ from the networks: a new run must start from the networks.
    for average in model.averages.values():
        average.set_weights([array + 1 for array in average.get_weights()])
    save_checkpoint(str(tmp_path / "checkpoints"), model, Progress(6), keep=1)
    warm_start.initialize(other, str(tmp_path))
    assert all(have_equal_weights(network, other.networks[name]) for name, network in model.networks.items())
    assert all(have_equal_weights(model.networks[name], average) for name, average in other.averages.items())
    assert other.optimizers["gen_ab"].iterations.numpy() == 0


def test_networks_of_a_checkpoint_file(tmp_path):
    best, newest, model = CycleGAN(CONFIG), CycleGAN(CONFIG), CycleGAN(CONFIG)
    folder = tmp_path / "checkpoints"
    save_checkpoint(str(folder), newest, Progress(6), keep=1)
    checkpoints.write(str(folder), model_state.collect_state(best, Progress(3)), keep=1, file_name=checkpoints.BEST)
    warm_start.initialize(model, str(folder / "best.npz"))
    assert all(have_equal_weights(network, model.networks[name]) for name, network in best.networks.items())
    with pytest.raises(UserError, match=r"there is no checkpoint .*step-00000005\.npz"):
        warm_start.initialize(model, str(folder / "step-00000005.npz"))


def test_networks_of_the_run_in_the_package(caplog):
    path = run_directory.locate("demo_maps")
    model = CycleGAN(Config.load(path))
    with caplog.at_level(logging.INFO, logger="cyclegan_tf"):
        warm_start.initialize(model, "demo_maps")
    assert caplog.messages == ["networks from demo_maps; fresh: disc_a, disc_b"]
    (file,) = Path(path, "checkpoints").iterdir()
    with np.load(file) as arrays:
        for name in ("gen_ab", "gen_ba"):
            for key, weight in name_weights(model.networks[name]).items():
                np.testing.assert_array_equal(weight.numpy(), arrays[f"network/{name}/{key}"], err_msg=key)


@pytest.mark.parametrize(("folder", "names"), [("export", {"gen_ab", "gen_ba"}), ("export/b2a", {"gen_ba"})])
def test_generators_of_saved_models(tiny_run, folder, names, caplog):
    config = Config.load(str(tiny_run))
    trained, model = CycleGAN(config), CycleGAN(config)
    model_state.restore(trained, checkpoints.read_newest(str(tiny_run / "checkpoints"))[1], "tiny")
    before = {name: network.get_weights() for name, network in model.networks.items()}
    with caplog.at_level(logging.INFO, logger="cyclegan_tf"):
        warm_start.initialize(model, str(tiny_run / folder))
    for name, network in model.networks.items():
        if name in names:
            assert have_equal_weights(network, trained.networks[name]), name
        else:
            assert all(map(np.array_equal, network.get_weights(), before[name])), name
            assert name in caplog.text.split("fresh:")[1]


@pytest.mark.parametrize(("given", "names"), [("", {"gen_ab", "disc_b"}), ("latest_net_D_A.pth", {"disc_b"})])
def test_networks_of_the_authors_files(tmp_path, given, names):
    pytest.importorskip("torch", reason="PyTorch reads and writes .pth files")
    cases = {"G_A": "generators/resnet_n2_instance_reflect.npz", "D_A": "discriminators/nlayer_n2_instance.npz"}
    for net, case in cases.items():
        torch_files.write(tmp_path / f"latest_net_{net}.pth", golden.state_dict(case))
    model = CycleGAN(Config(ngf=8, n_blocks=2, ndf=8, n_layers=2))
    fresh = {name: network.get_weights() for name, network in model.networks.items()}
    warm_start.initialize(model, str(tmp_path / given))
    # The authors' D_A judges the images that G_A makes: images of B.
    for name, case in (("gen_ab", cases["G_A"]), ("disc_b", cases["D_A"])):
        if name in names:
            recorded = golden.Golden(case)
            recorded.assert_close(golden.nchw(model.networks[name](recorded.images("x0")).numpy()), "y0")
    for name in set(model.networks) - names:
        assert all(map(np.array_equal, model.networks[name].get_weights(), fresh[name])), name


def test_networks_that_compute_something_else_are_a_warning(tmp_path, caplog):
    save_checkpoint(str(tmp_path / "checkpoints"), CycleGAN(CONFIG), Progress(6))
    CONFIG.save(str(tmp_path))
    caplog.set_level(logging.WARNING, logger="cyclegan_tf")
    warm_start.initialize(CycleGAN(CONFIG), str(tmp_path))
    assert not caplog.messages
    # A ResNet ignores n_downs.
    other = Config.preset("tiny", padding="zero", dropout=True, antialias="down", n_downs=7)
    warm_start.initialize(CycleGAN(other), str(tmp_path))
    assert caplog.messages == [
        f"--init_from={tmp_path}: the weights were trained with other options (padding: reflect -> zero, "
        "dropout: False -> True, antialias: none -> down), so the translations differ"
    ]
    caplog.clear()
    (tmp_path / "config.json").write_text("damaged")
    warm_start.initialize(CycleGAN(other), str(tmp_path))
    assert len(caplog.messages) == 1
    assert "config.json cannot be read (" in caplog.text


def test_options_that_the_networks_ignore_are_no_warning(tmp_path, caplog):
    unet = Config.preset("tiny", generator="unet_full", n_downs=5)
    save_checkpoint(str(tmp_path / "checkpoints"), CycleGAN(unet), Progress(6))
    Config.preset("tiny", generator="unet_full", n_downs=5, padding="zero").save(str(tmp_path))
    caplog.set_level(logging.WARNING, logger="cyclegan_tf")
    warm_start.initialize(CycleGAN(unet), str(tmp_path))
    assert not caplog.messages


def test_networks_of_the_authors_files_that_compute_something_else_are_a_warning(tmp_path, caplog):
    pytest.importorskip("torch", reason="PyTorch reads and writes .pth files")
    caplog.set_level(logging.WARNING, logger="cyclegan_tf")
    path = tmp_path / "latest_net_G_A.pth"
    torch_files.write(path, golden.state_dict("generators/resnet_n2_instance_reflect.npz"))
    warm_start.initialize(CycleGAN(Config(ngf=8, n_blocks=2, ndf=1, antialias="down")), str(path))
    (message,) = caplog.messages
    assert "the weights were trained with other options (antialias: none -> down)" in message


@pytest.mark.parametrize(("options", "advice"), [
    ({"ngf": 5, "n_downs": 7}, "give the options that RUN was trained with: --ngf=4"),
    ({"ndf": 5}, "give the options that RUN was trained with: --ndf=4"),
    ({"model": "cut", "nce_features": 4}, "give the options that RUN was trained with: --antialias=none"),
    ({"model": "cut", "antialias": "none", "ndf": 5}, "give the options that RUN was trained with: --ndf=4"),
    ({"model": "pix2pix"}, "--model=cyclegan has other discriminators than --model=pix2pix; give RUN/export, which"),
    ({"input_channels": 1, "output_channels": 1}, "give the options that RUN was trained with: --input_channels=3 "
     "--output_channels=3"),
], ids=str)
def test_the_error_for_other_networks_says_what_to_do(tiny_run, options, advice):
    model = build_model(Config.preset("tiny", **options))
    with pytest.raises(UserError) as caught:
        warm_start.initialize(model, str(tiny_run))
    assert f"; {advice}".replace("RUN", str(tiny_run)) in str(caught.value)
    assert "n_downs" not in str(caught.value)  # A ResNet ignores n_downs.


def test_unusable_sources_are_errors(tiny_run, tmp_path):
    model = CycleGAN(CONFIG)
    with pytest.raises(UserError, match="none does not exist; give a run directory"):
        warm_start.initialize(model, str(tmp_path / "none"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty holds no networks; give a run directory"):
        warm_start.initialize(model, str(tmp_path / "empty"))
    (tmp_path / "a2b").mkdir()
    (tmp_path / "a2b" / "saved_model.pb").write_bytes(b"")
    with pytest.raises(UserError, match=r"a2b is not a SavedModel"):
        warm_start.initialize(model, str(tmp_path))
    (tmp_path / "a2b").rename(tmp_path / "zebra")
    with pytest.raises(UserError, match="the name of the folder does not show the direction; rename"):
        warm_start.initialize(model, str(tmp_path / "zebra"))
    one_way = Pix2Pix(Config.preset("tiny", model="pix2pix"))
    with pytest.raises(UserError, match="b2a holds only gen_ba, but --model=pix2pix has only gen_ab, disc_b; give"):
        warm_start.initialize(one_way, str(tiny_run / "export" / "b2a"))
    wider = CycleGAN(Config.preset("tiny", ngf=5))
    message = r"stem_conv/kernel has shape \(7, 7, 3, 4\), the network \(7, 7, 3, 5\).*; give the options that"
    with pytest.raises(UserError, match=message):
        warm_start.initialize(wider, str(tiny_run))

"""Checkpoints: restoring, damage, other architectures, and the background writer."""

import os
import time

import numpy as np
import pytest
import tensorflow as tf
from conftest import save_checkpoint

from cyclegan_tf.config import Config
from cyclegan_tf.errors import UserError
from cyclegan_tf.models.cyclegan import CycleGAN
from cyclegan_tf.networks import registry
from cyclegan_tf.networks.weights import name_weights
from cyclegan_tf.runs import checkpoints, model_state
from cyclegan_tf.runs.model_state import Progress
from cyclegan_tf.storage import array_files

CONFIG = Config.preset("tiny", ema_decay=0.9)


def batch(seed):
    return np.random.default_rng(seed).uniform(-1, 1, (1, 32, 32, 3)).astype(np.float32)


def trained(steps, config=CONFIG):
    model = CycleGAN(config)
    for step in range(steps):
        model.train_step(batch(step), batch(100 + step))
    return model


@pytest.fixture(scope="module")
def model():
    return trained(6)


def arrays_equal(one, other):
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def test_restored_model_continues_with_the_same_bits(model, tmp_path):
    path = save_checkpoint(str(tmp_path), model, Progress(6, 2, {"loss/x": 1.5}), keep=1)
    other = CycleGAN(CONFIG)
    assert model_state.restore(other, checkpoints.read(path), path) == Progress(6, 2, {"loss/x": 1.5})
    for step in (6, 7):
        model.train_step(batch(step), batch(100 + step))
        other.train_step(batch(step), batch(100 + step))
    assert arrays_equal(model_state.collect_state(model, Progress(8)), model_state.collect_state(other, Progress(8)))


def test_weights_are_named_by_layer(model):
    arrays = model_state.collect_state(model, Progress(0))
    assert arrays["network/gen_ab/stem_conv/kernel"].shape == (7, 7, 3, 4)
    assert arrays["average/gen_ba/block1b_conv/bias"].shape == (16,)
    assert arrays["pool/fake_a/images"].shape == (4, 32, 32, 3)
    # Adam: the number of updates, and two moments per trainable variable.
    slots = [name for name in arrays if name.startswith("optimizer/disc_a/")]
    assert len(slots) - 2 * len(model.networks["disc_a"].trainable_variables) == 1


def test_network_weights_are_grouped_by_network_and_averaged_if_asked():
    arrays = {
        "step": np.int64(3), "optimizer/gen_ab/0": np.float32(7),
        "network/gen_ab/stem_conv/kernel": np.float32(1), "network/gen_ab/stem_conv/bias": np.float32(2),
        "network/disc_b/head/bias": np.float32(3), "average/gen_ab/stem_conv/kernel": np.float32(4),
        "average/gen_ab/stem_conv/bias": np.float32(5),
    }
    discriminator = {"head/bias": 3}
    assert model_state.get_network_weights(arrays) == {
        "gen_ab": {"stem_conv/kernel": 4, "stem_conv/bias": 5}, "disc_b": discriminator,
    }
    assert model_state.get_network_weights(arrays, averaged=False) == {
        "gen_ab": {"stem_conv/kernel": 1, "stem_conv/bias": 2}, "disc_b": discriminator,
    }


def test_network_weights_make_a_checkpoint_of_themselves(model):
    weights = model_state.get_network_weights(model_state.collect_state(model, Progress(6)), averaged=False)
    state = model_state.make_network_state(weights, 6)
    assert state["step"] == 6
    assert arrays_equal(model_state.get_network_weights(state)["disc_a"], weights["disc_a"])
    assert state.keys() - {"step"} == {f"network/{name}/{key}" for name, named in weights.items() for key in named}


def test_checkpoints_of_nine_digits_are_the_newest(model, tmp_path):
    for step in (2, 99_999_999, 100_000_000):
        save_checkpoint(str(tmp_path), model, Progress(step), keep=2)
    assert [step for step, _ in checkpoints.list_files(str(tmp_path))] == [100_000_000, 99_999_999]


def test_only_the_newest_checkpoints_are_kept(model, tmp_path):
    for step in (1, 2, 10):
        save_checkpoint(str(tmp_path), model, Progress(step), keep=2)
    assert [step for step, _ in checkpoints.list_files(str(tmp_path))] == [10, 2]
    (tmp_path / "step-00000011.npz.tmp").write_bytes(b"half a checkpoint")
    assert [step for step, _ in checkpoints.list_files(str(tmp_path))] == [10, 2]


def test_damaged_newer_checkpoint_does_not_displace_the_new_one(tmp_path):
    for step in (3, 9):
        write_arrays(tmp_path, step)
    (tmp_path / "step-00000009.npz").write_bytes(b"damaged")
    checkpoints.write(str(tmp_path), {"step": np.array(4)}, keep=1)
    assert [step for step, _ in checkpoints.list_files(str(tmp_path))] == [9, 4]
    assert checkpoints.read_newest(str(tmp_path))[1] == {"step": 4}


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty"])
def test_damaged_checkpoint_is_reported_and_skipped(model, tmp_path, caplog, damage):
    save_checkpoint(str(tmp_path), model, Progress(1), keep=3)
    path = save_checkpoint(str(tmp_path), model, Progress(2), keep=3)
    with open(path, "r+b") as file:
        data = bytearray(file.read())
        if damage == "flip":
            data[len(data) // 2] ^= 1
        file.seek(0)
        file.truncate()
        file.write({"truncate": data[: len(data) // 2], "flip": data, "empty": b""}[damage])
    found, arrays = checkpoints.read_newest(str(tmp_path))
    assert found.endswith("step-00000001.npz")
    assert arrays["step"] == 1
    (message,) = caplog.messages
    assert "step-00000002.npz is damaged" in message


def write_arrays(folder, step, changes=()):
    """Writes a checkpoint of a few arrays; an array of None is left out."""
    arrays = {"step": np.array(step), "replicas": np.array(1), "best": np.array(0.5), "epoch/x": np.array(1.0)}
    arrays.update(changes)
    array_files.write(folder / f"step-{step:08d}.npz", {name: a for name, a in arrays.items() if a is not None})


@pytest.mark.parametrize(("changes", "reason"), [
    ({"step": None}, "it holds no step"),
    ({"step": np.array(2.0)}, "step is not a count"),
    ({"step": np.array([2])}, "step is not a count"),
    ({"step": np.array("2")}, "step is not a count"),
    ({"step": np.array(-2)}, "step is not a count"),
    ({"replicas": np.array(True)}, "replicas is not a count"),
    ({"images/a/count": np.array(3.0)}, "images/a/count is not a count"),
    ({"best": np.array([0.5])}, "best is not a number"),
    ({"epoch/x": np.array("1")}, "epoch/x is not a number"),
], ids=str)
def test_checkpoint_with_impossible_progress_is_skipped(tmp_path, caplog, changes, reason):
    write_arrays(tmp_path, 1)
    write_arrays(tmp_path, 2, changes)
    found, arrays = checkpoints.read_newest(str(tmp_path))
    assert (found, int(arrays["step"])) == (f"{tmp_path}/step-00000001.npz", 1)
    assert caplog.messages == [f"checkpoint {tmp_path}/step-00000002.npz is damaged ({reason}); trying an older one"]


@pytest.mark.parametrize(("block", "reason"), [
    (lambda path: path.mkdir(), "Is a directory"),
    (lambda path: path.symlink_to(path.name), "Too many levels of symbolic links"),
], ids=["folder", "link to itself"])
def test_checkpoint_that_cannot_be_opened_is_not_replaced_by_an_older_one(tmp_path, caplog, block, reason):
    write_arrays(tmp_path, 1)
    block(path := tmp_path / "step-00000002.npz")
    with pytest.raises(UserError) as error:
        checkpoints.read_newest(str(tmp_path))
    assert str(error.value) == f"cannot read checkpoint {path}: {reason}; make it readable or remove it"
    assert not caplog.messages


def test_a_checkpoint_that_a_running_process_removes_is_not_read(tmp_path, monkeypatch):
    write_arrays(tmp_path, 1)
    read = checkpoints.read

    def read_late(path):
        if path.endswith("step-00000001.npz"):
            write_arrays(tmp_path, 2)
            os.remove(path)
        return read(path)

    monkeypatch.setattr(checkpoints, "read", read_late)
    path, arrays = checkpoints.read_newest(str(tmp_path))
    assert path == str(tmp_path / "step-00000002.npz") and arrays["step"] == 2


def test_missing_image_pool_is_an_error_that_names_it(model):
    arrays = model_state.collect_state(model, Progress(1))
    del arrays["pool/fake_b/random"]
    with pytest.raises(UserError, match=r"^x\.npz does not fit this configuration: pool/fake_b/random is missing$"):
        model_state.restore(CycleGAN(CONFIG), arrays, "x.npz")


def test_only_damaged_checkpoints_are_an_error(model, tmp_path):
    assert checkpoints.read_newest(str(tmp_path / "none")) is None
    path = save_checkpoint(str(tmp_path), model, Progress(1), keep=1)
    with open(path, "wb") as file:
        file.write(b"")
    with pytest.raises(UserError, match=r"all 1 checkpoints in .* are damaged"):
        checkpoints.read_newest(str(tmp_path))


def test_archive_of_other_arrays_is_not_a_checkpoint(tmp_path):
    np.savez(tmp_path / "other.npz", x=1)
    with pytest.raises(UserError, match=r"other\.npz is damaged \(it holds no step\): use another checkpoint"):
        checkpoints.read_user_file(str(tmp_path / "other.npz"))


def test_other_architecture_is_an_error_that_names_the_difference(model):
    arrays = model_state.collect_state(model, Progress(1))
    wider = CycleGAN(Config.preset("tiny", ema_decay=0.9, ngf=5))
    before = model_state.collect_state(wider, Progress(0))
    with pytest.raises(UserError, match=r"stem_conv/kernel has shape \(7, 7, 3, 4\), the network \(7, 7, 3, 5\)"):
        model_state.restore(wider, arrays, "x.npz")
    assert arrays_equal(before, model_state.collect_state(wider, Progress(0)))
    deeper = CycleGAN(Config.preset("tiny", ema_decay=0.9, n_blocks=2))
    with pytest.raises(UserError, match="network/gen_ab/block2a_conv/kernel is missing"):
        model_state.restore(deeper, arrays, "x.npz")


def test_weight_names_are_equal_in_every_instance():
    # Keras appends numbers to repeated layer names; checkpoints need constant names.
    one, other = (registry.build_generator(CONFIG, "gen_ab") for _ in range(2))
    assert list(name_weights(one)) == list(name_weights(other))


def test_writer_stores_the_state_at_the_time_of_the_call(tmp_path):
    for name in (".0123456789abcdef.tmp", "step-00000007.npz.tmp"):  # The second as in earlier versions.
        (tmp_path / name).write_bytes(b"left by a killed process")
    model = trained(1)
    writer = checkpoints.Writer(str(tmp_path), keep=2)
    assert list(tmp_path.iterdir()) == []
    for step in (1, 2, 3):
        expected = model_state.collect_state(model, Progress(step))
        writer.save(model, Progress(step))
        # Change the weights in place, as optimizers do, while the file may not be written yet.
        for variable in model.networks["gen_ab"].trainable_variables:
            variable.assign_add(tf.ones(variable.shape))
        model.pools["fake_a"].images[0] += 1
    writer.close()
    assert [step for step, _ in checkpoints.list_files(str(tmp_path))] == [3, 2]
    assert arrays_equal(checkpoints.read(str(tmp_path / "step-00000003.npz")), expected)


def test_writer_error_is_raised_by_check(model, tmp_path):
    writer = checkpoints.Writer(str(tmp_path / "checkpoints"), keep=1)
    writer.check()
    (tmp_path / "checkpoints").rmdir()
    writer.save(model, Progress(1))
    with pytest.raises(FileNotFoundError):
        while True:
            writer.check()
            time.sleep(0.01)
    writer.close()

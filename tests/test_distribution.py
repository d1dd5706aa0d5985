"""Replicas in one or several processes against one replica with the whole batch; workers that die, hang or stop."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from conftest import run_python, save_checkpoint, skip_outputs
from PIL import Image

from cyclegan_tf.config import Config
from cyclegan_tf.data import pipeline, sources
from cyclegan_tf.errors import UserError
from cyclegan_tf.models.cyclegan import CycleGAN
from cyclegan_tf.networks import weights as weights_lib
from cyclegan_tf.networks.weights import name_weights
from cyclegan_tf.runs import checkpoints, model_state
from cyclegan_tf.runs.metrics_log import read_records
from cyclegan_tf.training import distribution, local_workers, strategies, trainer, worker_faults
from cyclegan_tf.training.workers import Workers

WORKER = Path(__file__).with_name("worker.py")
# L2 losses have no kink at zero, so rounding errors stay small. For five steps the pools fill and return what they get,
# as if there were no pools. Four images of each domain: an epoch ends within five steps.
CONFIG = {
    "cycle_loss": "l2", "lambda_identity": 0.0, "discriminator": "pixel", "pool_size": 5, "max_steps": 8,
    "sample_every": 0, "checkpoint_every": 1, "keep_checkpoints": 9,
}

TIMEOUT = 15  # --worker_timeout of the workers here.


@pytest.fixture(scope="module", autouse=True)
def images(tmp_path_factory):
    """Makes images of noise, because instance norms enlarge the rounding errors of feature maps without variance."""
    folder, random = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for domain in ("trainA", "trainB"):
        (folder / domain).mkdir()
        for index in range(4):
            pixels = random.integers(0, 256, (40, 40, 3), np.uint8)
            Image.fromarray(pixels).save(folder / domain / f"{index}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(CONFIG, "dataset", str(folder))
        yield


def start(workdir, n_workers=2, overrides=None, **how):
    """Starts worker.py in `n_workers` processes, each with its own overrides; a single one gets two logical devices."""
    config, overrides = {**CONFIG, "worker_timeout": TIMEOUT, **how.pop("config", {})}, overrides or [{}] * n_workers
    if n_workers == 1:
        how, config = {"cpus": 2, **how}, {**config, "strategy": "mirrored"}
    arguments = [json.dumps({"config": {**config, **own}, "workdir": str(workdir), **how}) for own in overrides]
    environments = local_workers.make_environments(n_workers) if n_workers > 1 else [os.environ]
    return [
        subprocess.Popen([sys.executable, str(WORKER), argument], env=env, stderr=subprocess.PIPE, text=True)
        for argument, env in zip(arguments, environments, strict=True)
    ]


def finish(processes, timeout=200):
    """[(exit status, stderr)] of the processes."""
    try:
        texts = [process.communicate(timeout=timeout)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, text) for process, text in zip(processes, texts, strict=True)]


def run(workdir, n_workers=2, **how):
    for status, text in finish(start(workdir, n_workers, **how)):
        assert status == 0, text


def saved(workdir, step):
    return checkpoints.read(dict(checkpoints.list_files(str(workdir / "checkpoints")))[step])


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Folder of four runs of the same eight steps: two workers, two devices, these compiled, one replica ("whole")."""
    folder = tmp_path_factory.mktemp("runs")
    processes = start(folder / "workers") + start(folder / "mirrored", 1)
    processes += start(folder / "compiled", 1, config={"jit_compile": "on"})
    config = Config.preset("tiny", **{**CONFIG, "batch_size": 2, "pool_size": 0})
    with pytest.MonkeyPatch.context() as patch:
        skip_outputs(patch)
        trainer.train(config, str(folder / "whole"))
    for status, text in finish(processes):
        assert status == 0, text
    return folder


def select_weights(arrays):
    # A bias before an instance norm cancels; its gradient is rounding noise, which Adam turns into steps.
    with_effect = ("head_conv/bias", "layer0_conv/bias")
    return {
        name: array for name, array in arrays.items()
        if name.startswith("network/") and (name.endswith(with_effect) or not name.endswith("bias"))
    }


@pytest.mark.parametrize("kind", ["workers", "mirrored", "compiled"])
def test_two_replicas_equal_one_with_the_whole_batch(runs, kind):
    theirs, whole = (
        [record for record in read_records(runs / name) if record["kind"] == "train"][:5]
        for name in (kind, "whole")
    )
    for ours, record in zip(theirs, whole, strict=True):
        assert ours.keys() == record.keys()
        assert ours.pop("kind") == record.pop("kind")
        for name, value in record.items():
            # Gradient norms have another order of magnitude.
            assert ours[name] == pytest.approx(value, abs=1e-5, rel=1e-4 if "norm" in name else 0), (name, ours["step"])
    weights = select_weights(saved(runs / "whole", 5))
    assert len(weights) > 20
    for name, array in weights.items():
        np.testing.assert_allclose(saved(runs / kind, 5)[name], array, rtol=0, atol=1e-5, err_msg=name)
    # The weights have changed by more than the tolerance.
    before = select_weights(saved(runs / "whole", 1))
    assert max(np.abs(array - before[name]).max() for name, array in weights.items()) > 1e-4


@pytest.mark.parametrize("kind", ["workers", "mirrored"])
def test_each_replica_pools_the_fakes_of_its_own_images(runs, kind):
    config = Config.preset("tiny", **{**CONFIG, "batch_size": 2})
    batches = [(a.numpy(), b.numpy()) for a, b in pipeline.make_batches(sources.open_dataset(config), config, 0, 5)[0]]
    arrays = saved(runs / kind, 5)
    assert arrays["replicas"] == 2
    tf.keras.utils.set_random_seed(config.seed)
    model = CycleGAN(config)
    for step, (real_a, real_b) in enumerate(batches):
        if step:
            stored = saved(runs / kind, step)
            for name, network in model.networks.items():
                own = {key: stored[f"network/{name}/{key}"] for key in name_weights(network)}
                weights_lib.load(network, own, name)
        fakes = {"fake_b": model.networks["gen_ab"](real_a), "fake_a": model.networks["gen_ba"](real_b)}
        for pool, fake in fakes.items():
            for number, suffix in enumerate(("", "@1")):
                ours = arrays[f"pool/{pool}{suffix}/images"]
                assert len(ours) == 5
                np.testing.assert_allclose(ours[step], fake[number], rtol=0, atol=1e-5)
                assert np.abs(ours[step] - fake[1 - number]).max() > 1e-3
    # The pools are full now and exchange images, each with its own random draws.
    last = saved(runs / kind, 8)
    assert not np.array_equal(last["pool/fake_a/random"], last["pool/fake_a@1/random"])


def test_mirrored_devices_equal_workers(runs):
    ours, theirs = saved(runs / "workers", 8), saved(runs / "mirrored", 8)
    assert ours.keys() == theirs.keys()
    for name, array in select_weights(ours).items():
        np.testing.assert_allclose(theirs[name], array, rtol=0, atol=1e-4, err_msg=name)


def count_reports(text):
    """Counts the lines in a survivor's stderr that report a lost worker, found by heartbeats or by the watchdog.

    No other line may be an error of the package; TensorFlow's own errors begin with a letter and the time.
    """
    assert sum(line.startswith("error: ") for line in text.splitlines()) <= 1, text
    return sum(text.count(f"error: {words}") for words in ("a worker is gone", f"no step has ended in {TIMEOUT} s"))


def test_run_resumes_to_the_same_bits_after_a_dead_a_hanging_and_a_stopped_worker(runs, tmp_path):
    # Worker 1 is killed before step 4: worker 0 reports the loss and exits. The newest checkpoint has step 2.
    written = str(tmp_path / "checkpoints" / "step-00000002.npz")  # In a thread, during step 3.
    processes = start(tmp_path, config={"checkpoint_every": 2}, signal="SIGKILL", worker=1, step=4, after=written)
    (survivor, text), (killed, _) = finish(processes)
    assert (survivor, killed) == (75, -9), text
    assert "error: a worker is gone" in text
    assert count_reports(text) == 1, text
    assert "start all workers again" in text
    newest = checkpoints.list_files(str(tmp_path / "checkpoints"))[0][0]
    assert newest == 2
    # The chief is suspended before step 6: the other worker notices.
    processes = start(tmp_path, signal="SIGSTOP", worker=0, step=6, from_step=newest)
    try:
        processes[1].wait(timeout=200)
        waited = time.time() - max(path.stat().st_mtime for path in (tmp_path / "checkpoints").iterdir())
    finally:
        processes[0].kill()
    (_, _), (status, text) = finish(processes)
    assert status == 75, text
    assert count_reports(text) == 1, text
    assert waited < TIMEOUT + 15
    # The last checkpoint may be unfinished. Worker 1 gets SIGHUP before step 7: both workers save after step 7.
    newest = checkpoints.list_files(str(tmp_path / "checkpoints"))[0][0]
    assert newest in (4, 5)
    stopped = finish(start(tmp_path, signal="SIGHUP", worker=1, step=7, from_step=newest))
    assert [status for status, _ in stopped] == [129, 129], stopped
    assert all("stopped by SIGHUP after step 7; start again to resume" in text for _, text in stopped)
    assert checkpoints.list_files(str(tmp_path / "checkpoints"))[0][0] == 7
    run(tmp_path)
    ours, theirs = saved(tmp_path, 8), saved(runs / "workers", 8)
    assert ours.keys() == theirs.keys()
    for name, array in theirs.items():
        np.testing.assert_array_equal(ours[name], array, err_msg=name)
    # The records have each step once.
    steps = [record["step"] for record in read_records(tmp_path) if record["kind"] == "train"]
    assert steps == list(range(1, 9))


def test_workers_without_pools_save_checkpoints_and_batches_that_are_not_finite(tmp_path):
    # The two replicas train on two of four pairs in step 1 and on the other two in step 2. All pairs differ in size.
    sizes, random = [(32, 32), (36, 32), (40, 32), (44, 32)], np.random.default_rng(0)
    for domain in ("trainA", "trainB"):
        (tmp_path / "set" / domain).mkdir(parents=True)
        for index, size in enumerate(sizes):
            image = random.uniform(-1, 1, (*size, 3)).astype(np.float32)
            image[0, 0, 0] = np.nan if (domain, index) == ("trainA", 1) else 0
            np.save(tmp_path / "set" / domain / f"{index}.npy", image)
    results = finish(start(tmp_path / "run", config={
        "dataset": str(tmp_path / "set"), "preprocess": "none", "model": "pix2pix", "cycle_loss": "l1", "pool_size": 0,
    }, accepts_nan=True))
    for status, text in results:
        assert status == 1
        assert "NotFinite: step 2: " in text, text
    arrays = saved(tmp_path / "run", 1)
    assert arrays["replicas"] == 2
    assert not [name for name in arrays if name.startswith("pool/")]
    with np.load(tmp_path / "run" / "not-finite-step-000002.npz") as batch:
        assert sorted(batch) == ["a_0", "a_1", "b_0", "b_1"]
        for number in "01":
            assert batch[f"a_{number}"].shape == batch[f"b_{number}"].shape
        assert sum(int(np.isnan(batch[name]).sum()) for name in batch) == 1


@pytest.mark.parametrize("name", ["seed", "n_epochs_decay"])
def test_workers_with_different_options_are_an_error_in_each_worker(tmp_path, name):
    results = finish(start(tmp_path, overrides=({}, {name: 1})))
    for (status, text), other in zip(results, (1, 0), strict=True):
        assert status == 1
        assert f"UserError: worker {other} and worker {1 - other} differ in --{name}; give all workers" in text
    assert not list((tmp_path / "checkpoints").glob("*"))


def test_workers_compare_the_weights_of_init_from(tmp_path, monkeypatch):
    compared = []

    def stop(self, values):
        compared.append(values)
        raise UserError("compared")

    monkeypatch.setattr(Workers, "require_equal", stop)
    monkeypatch.setattr(Workers, "count", 2)
    config = Config.preset("tiny", init_from="source")
    for number in (0, 1):
        tf.keras.utils.set_random_seed(number)
        save_checkpoint(tmp_path / str(number) / "source" / "checkpoints", CycleGAN(config), model_state.Progress(1))
    for number in (0, 1, 0):
        monkeypatch.chdir(tmp_path / str(number))
        with pytest.raises(UserError, match="compared"):
            trainer.train(config, str(tmp_path / "run"))
    first, other, again = compared
    assert first == again
    assert [name for name in first if first[name] != other[name]] == [
        "the initial weights (--init_from) or the state in the checkpoint"
    ]


def test_restoring_another_number_of_replicas_is_an_error(runs):
    model = CycleGAN(Config.preset("tiny", **CONFIG))
    with pytest.raises(UserError, match="needs 2 replicas, but this run has 1: resume it with 2"):
        model_state.restore(model, saved(runs / "workers", 8), "it")


def test_replicas_split_the_whole_batch():
    config = Config.preset("tiny", batch_size=2, max_dataset_size=5)
    dataset = sources.open_dataset(config)
    whole = list(pipeline.make_batches(dataset, Config.preset("tiny", batch_size=8, max_dataset_size=5), 3, 5)[0])
    # Two workers with two replicas of batch 2 each: 8 images per step.
    for worker in range(2):
        parts = list(pipeline.make_batches(dataset, config, 3, 5, range(2 * worker, 2 * worker + 2), 4)[0])
        assert len(parts) == 4
        for index, pair in enumerate(parts):
            step, start_ = divmod(index, 2)
            first = 4 * worker + 2 * start_
            for part, batch in zip(pair, whole[step], strict=True):
                np.testing.assert_array_equal(part, batch[first : first + 2])


@pytest.mark.parametrize(("strategy", "cluster", "message"), [
    pytest.param("multi_worker", "", "needs TF_CONFIG with more than one worker", id="no cluster"),
    pytest.param(
        "mirrored", "", "needs more than one GPU, but this machine has none; use --strategy=one_device", id="no GPU"
    ),
    pytest.param("auto", "{", "TF_CONFIG={ does not have the format that TensorFlow documents", id="no JSON"),
    pytest.param("auto", '{"cluster": {"worker": "a:1,b:1"}}', "the addresses of a cluster must be a list", id="text"),
    *(
        pytest.param(
            "auto", f'{{"cluster": {{"worker": ["a:1", "b:1"]}}, "task": {{{task}}}}}', "does not list its own task",
            id=task.replace('"', ""),
        )
        for task in (
            '"type": "worker", "index": 2', '"type": "worker", "index": -1', '"type": "worker"', '"index": 0',
            '"type": "chief", "index": 0', '"type": "evaluator", "index": 0',
        )
    ),
])
def test_impossible_strategies_are_errors(monkeypatch, strategy, cluster, message):
    monkeypatch.setenv("TF_CONFIG", cluster)
    with pytest.raises(UserError, match=message):
        strategies.open_replicas(Config(strategy=strategy))


def test_state_that_replicas_would_not_share_is_an_error():
    strategy = tf.distribute.MirroredStrategy(["/cpu:0"])
    with pytest.raises(UserError, match="float16 does not work with several replicas"):
        distribution.StrategyReplicas(strategy, Config(mixed_precision="float16"), Workers())
    networks = {norm: CycleGAN(Config.preset("tiny", norm=norm)).networks["gen_ab"] for norm in ("instance", "batch")}
    with pytest.raises(UserError, match=r"^batch has running statistics of batch norms"):
        distribution.StrategyReplicas(strategy, Config(), Workers()).require_stateless(networks)
    distribution.OneReplica().require_stateless(networks)


def test_copy_of_scalars_from_a_gpu_is_queued_before_the_next_step(monkeypatch):
    monkeypatch.setattr(distribution.hardware, "has_gpu", lambda: True)
    copied = threading.Event()

    class Values:
        """Stacked scalars that record when their copy begins."""

        def numpy(self):
            copied.set()
            return np.array([1.5, -2.0], np.float32)

    monkeypatch.setattr(distribution.tf, "stack", lambda scalars: Values())
    model = SimpleNamespace(train_step=lambda a, b: {"loss/a": 1.5, "loss/b": -2.0})
    read_scalars = distribution.OneReplica().train_step(model, [(None, None)], lambda: None)
    assert copied.wait(5)
    assert read_scalars() == {"loss/a": 1.5, "loss/b": -2.0}


def test_an_error_in_a_single_process_is_raised():
    replicas = distribution.StrategyReplicas(tf.distribute.MirroredStrategy(["/cpu:0"]), Config(), Workers())

    def fail(real_a, real_b, past):
        raise tf.errors.InternalError(None, None, "out of something")

    model, zeros = SimpleNamespace(seeded_step=fail, draw_past=lambda *shapes: [{}]), np.zeros((1, 8, 8, 3), np.float32)
    with pytest.raises(tf.errors.InternalError, match="out of something"):
        replicas.train_step(model, [(zeros, zeros)], lambda: None)


def test_step_is_traced_twice_for_images_of_many_sizes():
    replicas = distribution.StrategyReplicas(tf.distribute.MirroredStrategy(["/cpu:0"]), Config(), Workers())
    traced = []

    def step(real_a, real_b, past):
        traced.append(real_a.shape)
        return {"loss": tf.reduce_mean(real_a + real_b)}, {}

    model = SimpleNamespace(seeded_step=step, draw_past=lambda *shapes: [{}], store_fakes=lambda fakes: None)
    for side in (8, 9, 10, 11):
        images = np.ones((1, side, side, 3), np.float32)
        assert replicas.train_step(model, [(images, images)], lambda: None)() == {"loss": 2.0}
    assert len(traced) == 2


def test_an_exhausted_worker_does_not_blame_another_worker(monkeypatch):
    monkeypatch.setattr(worker_faults, "exit_now", sys.exit)
    exhausted = tf.errors.InternalError(None, None, "CUDA_ERROR_OUT_OF_MEMORY: out of memory")
    with pytest.raises(tf.errors.InternalError, match="out of memory"), worker_faults.exit_on_lost_worker():
        raise exhausted
    with pytest.raises(SystemExit, match="a worker is gone"), worker_faults.exit_on_lost_worker():
        raise tf.errors.InternalError(None, None, "connection reset")


def test_a_second_run_of_a_process_may_exchange_other_shapes():
    result = run_python("-c", """
import tensorflow as tf
from types import SimpleNamespace
from cyclegan_tf.config import Config
from cyclegan_tf.training import strategies
two = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], two)
images = tf.ones((1, 8, 8, 3))
for names in "a", "ab":  # An all-reduce averages as many numbers as a step has scalars.
    model = SimpleNamespace(
        seeded_step=lambda a, b, past: ({name: tf.reduce_mean(a) for name in names}, {}),
        draw_past=lambda *shapes: [{}], store_fakes=lambda fakes: None,
    )
    replicas = strategies.open_replicas(Config(strategy="mirrored"))
    replicas.train_step(model, [(images, images)] * 2, lambda: None)()
""", TF_CONFIG="", CUDA_VISIBLE_DEVICES="-1")  # An empty TF_CONFIG counts as none.
    assert result.returncode == 0, result.stderr


def test_auto_is_one_device_without_cluster(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert strategies.open_replicas(Config()).count == 1

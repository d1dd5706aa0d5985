"""Run directories that cannot be written, fill up or disappear: one line, exit status 2, the last checkpoint intact."""

import ctypes
import os
import resource
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from cyclegan_tf.config import Config
from cyclegan_tf.errors import UserError
from cyclegan_tf.runs import checkpoints
from cyclegan_tf.runs import directory as run_directory
from cyclegan_tf.runs.metrics_log import read_records
from cyclegan_tf.training import signals, trainer

# A small graph starts sooner.
ARGUMENTS = [
    "--preset=tiny", "--max_steps=100000", "--checkpoint_every=1", "--sample_every=0", "--discriminator=pixel",
    "--lambda_identity=0",
]


def start(workdir, *arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "cyclegan_tf.train", *ARGUMENTS, *arguments, f"--workdir={workdir}"],
        stderr=subprocess.PIPE, text=True, **options,
    )


def wait_for(child, text):
    for line in child.stderr:
        if text in line:
            return
    pytest.fail(f"the run ended before it said: {text}")


def error_of(child):
    """The last line of a child that must end by itself, with status 2."""
    rest = child.stderr.read()
    child.stderr.close()
    assert child.wait() == 2, rest
    assert "Traceback" not in rest
    return rest.strip().splitlines()[-1]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 3 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)]
    if os.geteuid() or not shutil.which("mount") or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a small disk")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def limit_file_sizes():
    # Above TensorBoard's files, which TensorFlow writes, and below a checkpoint.
    resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000))


def test_a_limit_on_file_sizes_stops_the_run(tmp_path):
    line = error_of(start(tmp_path / "run", preexec_fn=limit_file_sizes))
    assert "files may not grow that large here" in line
    assert os.listdir(tmp_path / "run" / "checkpoints") == []


def test_a_full_disk_stops_the_run_and_leaves_a_checkpoint_that_loads(small_disk):
    # A checkpoint of the tiny preset takes some 0.3 MB: space ends after a few.
    line = error_of(start(small_disk / "run", "--keep_checkpoints=1000"))
    assert line.startswith("error: cannot write ")
    assert "no space is left there: free some, then start again" in line
    path, arrays = checkpoints.read_newest(str(small_disk / "run" / "checkpoints"), report=pytest.fail)
    assert arrays["step"] >= 1
    # With some space it goes on: older checkpoints go.
    (small_disk / "run" / "log.txt").unlink()
    for _, old in checkpoints.list_files(os.path.dirname(path))[1:]:
        os.remove(old)
    again = start(small_disk / "run", "--keep_checkpoints=1")
    wait_for(again, f"resuming from {path}")
    again.kill()
    again.stderr.close()
    again.wait()


def without_override():
    """Lets even root be refused: drops CAP_DAC_OVERRIDE for the program that this process becomes."""
    if os.geteuid() == 0:
        pr_capbset_drop, cap_dac_override = 24, 1
        assert ctypes.CDLL(None).prctl(pr_capbset_drop, cap_dac_override, 0, 0, 0) == 0


def test_a_read_only_run_directory_is_an_error_that_changes_nothing(tiny_run, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(tiny_run, workdir)
    before = (workdir / "metrics.jsonl").read_bytes()
    folders = [path for path in [workdir, *workdir.rglob("*")] if path.is_dir()]
    for path in [workdir / ".lock", *folders]:
        path.chmod(0o444 if path.is_file() else 0o555)
    child = subprocess.Popen(
        [sys.executable, "-m", "cyclegan_tf.train", "--preset=tiny", "--max_steps=6", f"--workdir={workdir}"],
        stderr=subprocess.PIPE, text=True, preexec_fn=without_override,  # noqa: PLW1509 -- sets a limit, no more.
    )
    line = error_of(child)
    for path in folders:
        path.chmod(0o755)
    assert line.startswith(f"error: cannot write {workdir}")
    assert "the permission is missing: make it writable" in line
    assert (workdir / "metrics.jsonl").read_bytes() == before
    assert checkpoints.read_newest(str(workdir / "checkpoints"), report=pytest.fail)[1]["step"] == 4


def test_a_run_directory_that_disappears_stops_the_run(tmp_path):
    child = start(tmp_path / "run")
    wait_for(child, "step 3/")  # The first checkpoint is written: the second waited for it.
    (tmp_path / "run").rename(tmp_path / "elsewhere")
    line = error_of(child)
    assert line.startswith(f"error: run directory {tmp_path / 'run'} is gone")
    assert not (tmp_path / "run").exists()
    assert checkpoints.read_newest(str(tmp_path / "elsewhere" / "checkpoints"), report=pytest.fail)[1]["step"] >= 1


def test_a_run_directory_in_use_is_refused(tmp_path):
    config = Config.preset("tiny")
    held = run_directory.open_run(config, str(tmp_path))
    with held, pytest.raises(UserError, match="another process trains in"):
        trainer.train(config, str(tmp_path))


def test_other_options_in_a_used_run_directory_are_an_error(tmp_path):
    with run_directory.open_run(Config.preset("tiny"), str(tmp_path)):
        before = (tmp_path / "config.json").read_text()
    with pytest.raises(UserError, match=r"run with other options \(ngf: 4 -> 5\)"):
        trainer.train(Config.preset("tiny", ngf=5), str(tmp_path))
    assert (tmp_path / "config.json").read_text() == before


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_either_signal_is_noted_and_the_next_one_is_the_systems(signum, status, capfd):
    before = [signal.getsignal(known) for known in (signal.SIGTERM, signal.SIGINT)]
    with signals.catch_signals() as get_signal:
        assert get_signal() is None
        os.kill(os.getpid(), signum)
        assert get_signal() == signum
        assert [signal.getsignal(known) for known in (signal.SIGTERM, signal.SIGINT)] == [signal.SIG_DFL] * 2
    assert [signal.getsignal(known) for known in (signal.SIGTERM, signal.SIGINT)] == before
    assert "a second signal stops at once" in capfd.readouterr().err
    assert signals.Stopped(signum, 3).status == status


def test_a_signal_saves_and_ends_with_its_status(tmp_path):
    child = start(tmp_path, "--checkpoint_every=0")
    wait_for(child, "step 3/")
    child.send_signal(signal.SIGTERM)
    rest = child.stderr.read()
    child.stderr.close()
    assert child.wait() == 143
    step = int(checkpoints.read_newest(str(tmp_path / "checkpoints"), report=pytest.fail)[1]["step"])
    assert f"stopped by SIGTERM after step {step}; start again to resume" in rest
    assert read_records(tmp_path)[-1]["step"] == step


def test_a_second_signal_stops_at_once(tmp_path):
    child = start(tmp_path)
    # Long before the first step is traced.
    wait_for(child, "training steps")
    time.sleep(0.5)
    child.send_signal(signal.SIGINT)
    wait_for(child, "a second signal stops at once")
    child.send_signal(signal.SIGINT)
    child.stderr.close()
    assert child.wait(timeout=3) == -signal.SIGINT
    assert np.all([step == 0 for step, _ in checkpoints.list_files(str(tmp_path / "checkpoints"))])

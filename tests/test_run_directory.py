"""A run directory that is full, removed or read-only gives a one-line error, and the last checkpoint survives."""

import contextlib
import ctypes
import errno
import fcntl
import os
import resource
import shutil
import signal
import subprocess
import sys

import pytest
from conftest import skip_outputs, wait_for_step

from cyclegan_tf.config import Config
from cyclegan_tf.errors import Stopped, UserError
from cyclegan_tf.runs import checkpoints, page, reporter
from cyclegan_tf.runs import directory as run_directory
from cyclegan_tf.storage import filesystem
from cyclegan_tf.training import trainer

# Small networks, so that a run starts quickly.
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
    pytest.fail(f"the run ended before it printed: {text}")


def error_of(child):
    """Returns the last line on stderr of a child that ends by itself; asserts status 2 and no traceback."""
    rest = child.stderr.read()
    child.stderr.close()
    assert child.wait() == 2, rest
    assert "Traceback" not in rest
    return rest.strip().splitlines()[-1]


@pytest.fixture
def small_disk(tmp_path):
    """An empty file system of 3 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)]
    if os.geteuid() or not shutil.which("mount"):
        pytest.skip("needs root and the command mount, to mount a small disk")
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def limit_file_sizes():
    # TensorBoard's event files stay below the limit; a checkpoint does not.
    resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000))


def test_limit_on_file_sizes_is_an_error(tmp_path):
    line = error_of(start(tmp_path / "run", preexec_fn=limit_file_sizes))
    assert "the file is larger than the limit for this process" in line
    assert os.listdir(tmp_path / "run" / "checkpoints") == []


def test_full_disk_is_an_error_and_the_run_resumes_with_free_space(small_disk, caplog):
    # A checkpoint of the tiny preset takes 0.3 MB: a few of them fill the disk.
    line = error_of(start(small_disk / "run", "--keep_checkpoints=1000"))
    assert line.startswith("error: cannot write ")
    assert "the disk is full: free some space, then start again" in line
    path, arrays = checkpoints.read_newest(str(small_disk / "run" / "checkpoints"))
    assert not caplog.messages
    assert arrays["step"] >= 1
    # Without the older checkpoints, there is space to resume.
    (small_disk / "run" / "log.txt").unlink()
    for _, old in checkpoints.list_files(os.path.dirname(path))[1:]:
        os.remove(old)
    again = start(small_disk / "run", "--keep_checkpoints=1")
    wait_for(again, f"resuming from {path}")
    again.kill()
    again.stderr.close()
    again.wait()


def test_full_disk_is_an_error_of_tensorboard_too(small_disk):
    reports = reporter.Reporter(str(small_disk), Config.preset("tiny"), 0)
    with contextlib.suppress(OSError), open(small_disk / "others", "wb", buffering=0) as file:
        while file.write(bytes(1024)):
            pass
    with pytest.raises(OSError, match="No space left on device") as caught:
        for step in range(1000):
            reports.write_scalars(step, {"loss/gen_ab": 0.0})
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(small_disk))
    (small_disk / "others").unlink()
    reports.close()


def without_override():
    """Drops CAP_DAC_OVERRIDE before exec, so that file permissions apply even to root."""
    if os.geteuid() == 0:
        pr_capbset_drop, cap_dac_override = 24, 1
        assert ctypes.CDLL(None).prctl(pr_capbset_drop, cap_dac_override, 0, 0, 0) == 0


def test_read_only_run_directory_is_an_error_and_stays_unchanged(tiny_run, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(tiny_run, workdir)
    before = (workdir / "metrics.jsonl").read_bytes()
    folders = [path for path in [workdir, *workdir.rglob("*")] if path.is_dir()]
    for path in [workdir / ".lock", *folders]:
        path.chmod(0o444 if path.is_file() else 0o555)
    child = subprocess.Popen(
        [sys.executable, "-m", "cyclegan_tf.train", "--preset=tiny", "--max_steps=6", f"--workdir={workdir}"],
        stderr=subprocess.PIPE, text=True, preexec_fn=without_override,  # noqa: PLW1509 - only drops a capability.
    )
    line = error_of(child)
    for path in folders:
        path.chmod(0o755)
    assert line.startswith(f"error: cannot access {workdir}")
    assert "permission denied: make it readable and writable" in line
    assert (workdir / "metrics.jsonl").read_bytes() == before
    assert checkpoints.read_newest(str(workdir / "checkpoints"))[1]["step"] == 4


def test_run_with_all_files_damaged_resumes_and_ends_with_the_same_bits(tiny_run, tmp_path, monkeypatch, caplog):
    workdir, write_page = shutil.copytree(tiny_run, tmp_path / "run"), page.write
    newest = workdir / "checkpoints" / "step-00000004.npz"
    expected = checkpoints.read(str(newest))
    data = bytearray(newest.read_bytes())
    data[data.index(b"'shape': (7, 7, 3, 4)") + len("'shape': (")] ^= 2  # (7, 7, 3, 4) becomes (5, 7, 3, 4).
    newest.write_bytes(data)
    records = (workdir / "metrics.jsonl").read_bytes()
    (workdir / "metrics.jsonl").write_bytes(b"5\n\xff\xfe\n" + records)
    for name in ("gallery/results.json", "log.txt", "bad_images.txt", "training_images.json"):
        (workdir / name).write_bytes(b"\xff\xfe")
    skip_outputs(monkeypatch)
    monkeypatch.setattr(page, "write", write_page)
    trainer.train(Config.preset("tiny"), str(workdir))
    assert f"checkpoint {newest} is damaged (Bad CRC-32 for file " in caplog.text
    assert f"{workdir}/metrics.jsonl is damaged: ignoring line 1 and 1 more" in caplog.text
    found = checkpoints.read(str(newest))
    assert found.keys() == expected.keys()
    assert all((found[name] == array).all() for name, array in expected.items())
    lines = (workdir / "metrics.jsonl").read_bytes().splitlines()
    assert lines[:4] == records.splitlines()[:4]  # The records of steps 1 to 4.
    assert "results.json is damaged" in (workdir / "index.html").read_text()


def test_removed_run_directory_is_an_error(tmp_path):
    child = start(tmp_path / "run")
    wait_for_step(tmp_path / "run", 3)  # By then, the first checkpoint is complete: the second one waited for it.
    (tmp_path / "run").rename(tmp_path / "elsewhere")
    line = error_of(child)
    assert line.startswith(f"error: run directory {tmp_path / 'run'} was removed")
    assert not (tmp_path / "run").exists()
    assert checkpoints.read_newest(str(tmp_path / "elsewhere" / "checkpoints"))[1]["step"] >= 1


def test_run_directory_in_use_is_an_error(tmp_path):
    config = Config.preset("tiny")
    held = run_directory.open_run(config, str(tmp_path))
    with held, pytest.raises(UserError, match="another process trains in"):
        trainer.train(config, str(tmp_path))


@pytest.mark.parametrize("name", ["checkpoints/step-00000002.npz", "checkpoints/best.npz", "export/a2b"])
def test_other_options_than_the_run_directory_holds_are_an_error(tmp_path, name):
    with run_directory.open_run(Config.preset("tiny"), str(tmp_path)):
        before = (tmp_path / "config.json").read_text()
    (tmp_path / name).parent.mkdir()
    (tmp_path / name).touch()
    with pytest.raises(UserError, match=r"run with other options \(ngf: 4 -> 5\)"):
        trainer.train(Config.preset("tiny", ngf=5), str(tmp_path))
    assert (tmp_path / "config.json").read_text() == before


@pytest.mark.parametrize("name", [None, "best.npz"])
def test_a_finished_run_without_checkpoints_does_not_start_anew(tmp_path, name):
    Config.preset("tiny").save(str(tmp_path))
    (tmp_path / "export" / "a2b").mkdir(parents=True)
    (tmp_path / "metrics.jsonl").write_text('{"step": 2}')
    if name:
        (tmp_path / "checkpoints").mkdir()
        (tmp_path / "checkpoints" / name).touch()
    with pytest.raises(UserError, match="holds the exports of a run, but no checkpoint to resume from: put the"):
        trainer.train(Config.preset("tiny"), str(tmp_path))
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 2}'


def test_config_is_on_the_disk_before_it_replaces_the_former_one(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(filesystem, "sync", lambda file: synced.append(os.listdir(tmp_path)))
    Config().save(str(tmp_path))
    (names,) = synced
    assert "config.json" not in names


def test_a_start_that_failed_does_not_claim_the_run_directory(tmp_path, monkeypatch):
    skip_outputs(monkeypatch)
    workdir = str(tmp_path / "run")
    with pytest.raises(UserError, match="--init_from=no_such_run does not exist"):
        trainer.train(Config.preset("tiny", init_from="no_such_run"), workdir)
    trainer.train(Config.preset("tiny", max_steps=1), workdir)
    assert Config.load(workdir).init_from == ""


def test_a_foreign_config_is_kept_with_its_files(tmp_path):
    contents = {"config.json": '{"architectures": ["Bert"]}', "events.out.tfevents.1.host": "log"}
    for name, text in contents.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=r"config\.json is not a JSON object of options"), \
            run_directory.open_run(Config(), str(tmp_path)):
        pass
    assert {name: (tmp_path / name).read_text() for name in contents} == contents


@pytest.mark.parametrize(("others", "kept"), [
    ((), True), (("config.json",), False), (("config.json", "checkpoints/step-00000002.npz"), True),
], ids=["foreign folder", "failed start", "run"])
def test_a_new_run_does_not_add_to_the_files_of_a_failed_start(tmp_path, others, kept):
    names = ("bad_images.txt", "events.out.tfevents.1.host")
    (tmp_path / "checkpoints").mkdir()
    for name in (*names, *others):
        (tmp_path / name).write_text("{}")
    with run_directory.open_run(Config(dataset="demo_maps"), str(tmp_path)):
        assert [(tmp_path / name).exists() for name in names] == [kept, kept]


def test_ranges_that_a_failed_start_has_measured_are_measured_again(tmp_path):
    stored, asked = Config(range_a="percentile:1,99=5.0,7.0"), Config(range_a="percentile:1,99")
    stored.save(str(tmp_path))
    assert run_directory.adopt_ranges(asked, str(tmp_path)) == asked
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "step-00000002.npz").touch()
    assert run_directory.adopt_ranges(asked, str(tmp_path)) == stored
    for text, expected in (("percentile: 1, 99.0", "percentile:1,99=5.0,7.0"), ("percentile:2,99", "percentile:2,99")):
        assert run_directory.adopt_ranges(Config(range_a=text), str(tmp_path)).range_a == expected


def test_an_old_run_on_the_demo_is_resumed_as_demo_maps(tmp_path):
    # Before config.json had a version, demo was the name of demo_maps.
    (tmp_path / "config.json").write_text('{"dataset": "demo"}')
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "step-00000002.npz").touch()
    held = run_directory.open_run(Config(dataset="demo"), str(tmp_path))
    with pytest.raises(UserError, match=r"run with other options \(dataset: demo_maps -> demo\)"), held:
        pass
    with run_directory.open_run(Config(dataset="demo_maps"), str(tmp_path)):
        assert Config.load(str(tmp_path)).dataset == "demo_maps"


@pytest.mark.parametrize("name", ["file", "file/run"])
def test_a_file_in_the_place_of_the_run_is_an_error(tmp_path, name):
    (tmp_path / "file").touch()
    held = run_directory.open_run(Config.preset("tiny"), str(tmp_path / name))
    with pytest.raises(UserError, match=f"{name} cannot be created, because a file is in the way; give another"), held:
        pass


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_file_system_without_locks_is_a_warning(number, monkeypatch, tmp_path, caplog):
    def fail(file, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", fail)
    with run_directory.open_run(Config.preset("tiny"), str(tmp_path)):
        assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "cannot lock files: do not start two processes in this run directory" in (tmp_path / "log.txt").read_text()


def test_operating_system_without_locks_is_a_warning(monkeypatch, tmp_path, caplog):
    monkeypatch.setitem(sys.modules, "fcntl", None)  # As on Windows.
    with run_directory.open_run(Config.preset("tiny"), str(tmp_path)):
        assert "cannot lock files" in caplog.text


def test_other_errors_of_the_lock_are_errors(monkeypatch, tmp_path):
    def fail(file, operation):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", fail)
    run = run_directory.open_run(Config.preset("tiny"), str(tmp_path))
    with pytest.raises(UserError, match="Input/output error"), run:
        pass


@pytest.mark.parametrize(
    ("error", "last_line"),
    [
        (Stopped(signal.SIGHUP, 7), "ERROR stopped by SIGHUP after step 7; start again to resume"),
        (UserError("step 3: loss/gen not finite"), "ERROR step 3: loss/gen not finite"),
        (OSError(errno.ENOSPC, "No space left on device", "/x"), "ERROR cannot write /x: the disk is full: free some "
         "space, then start again: the run resumes from its newest checkpoint"),
        (OSError(errno.EIO, "Input/output error", "/x"), "ERROR cannot access /x: Input/output error: remove the "
         "cause, then start again: the run resumes from its newest checkpoint"),
        (KeyboardInterrupt(), "ERROR KeyboardInterrupt"),
        (RuntimeError("a fault"), "RuntimeError: a fault"),
    ],
    ids=["signal", "user error", "full disk", "another file error", "interrupt", "fault"],
)
def test_log_says_what_ended_the_run(error, last_line, tmp_path):
    with pytest.raises((type(error), UserError)), run_directory.open_run(Config.preset("tiny"), str(tmp_path)):
        raise error
    *before, last = (tmp_path / "log.txt").read_text().splitlines()
    assert last.endswith(last_line)
    assert any("Traceback" in line for line in before) == isinstance(error, RuntimeError)


@pytest.mark.parametrize(("dataset", "name"), [
    ("horse2zebra", "horse2zebra"), ("sets/photos.zip", "photos"), ("sets/photos/", "photos"), (".", "zebras"),
    ("..", "my sets"), ("/", "dataset"), ("gs://bucket/photos/", "photos"), ("cats.2023", "cats.2023"),
])
def test_default_run_directory_is_named_after_the_dataset(tmp_path, monkeypatch, dataset, name):
    (tmp_path / "my sets" / "zebras").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "my sets" / "zebras")
    assert run_directory.choose_default(Config(dataset=dataset)) == f"runs/{name}"


def test_log_file_has_one_line_for_a_name_of_two_lines(tmp_path):
    with run_directory.open_run(Config(), str(tmp_path)):
        run_directory.log.warning("skipping %s", "a\nb\x1b.png")
    assert [line.split(" ", 2)[2] for line in (tmp_path / "log.txt").read_text().split("\n")[:-1]] == [
        r"WARNING skipping a\nb\x1b.png"
    ]

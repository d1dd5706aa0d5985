"""Remote files, on TensorFlow's ram://, against local ones."""

import concurrent.futures
import errno
import io
import itertools
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from remote_files import Killed, read, store

from cyclegan_tf.errors import UserError
from cyclegan_tf.storage import atomic, filesystem, path_checks


def test_two_processes_can_write_one_file(tmp_path):
    """As `cyclegan gallery` does beside a training, and two evaluations that fill the cache of features."""
    path = tmp_path / "file"
    with atomic.open_for_writing(path) as slow:
        slow.write("slow")
        slow.flush()
        with atomic.open_for_writing(path) as fast:
            fast.write("fast, and longer")
        assert path.read_text() == "fast, and longer"
        slow.write(" file")
        slow.flush()
        assert path.read_text() == "fast, and longer"
    assert path.read_text() == "slow file"
    assert list(tmp_path.iterdir()) == [path]


def test_two_processes_can_write_one_remote_file(tmp_path):
    path = f"ram://{tmp_path.name}/file"

    class Slow(io.BytesIO):
        """Content that another process overtakes after its first chunk."""

        def read(self, *arguments):
            if self.tell() == 1:
                store(path, b"fast")
                assert read(path) == b"fast"
            return super().read(1)

    filesystem.upload(path, Slow(b"slow"))
    assert read(path) == b"slow"
    assert tf.io.gfile.listdir(f"ram://{tmp_path.name}") == ["file"]


def test_names_may_have_the_greatest_length(tmp_path):
    path = tmp_path / f"{'図' * 83}.png"  # 253 bytes.
    with atomic.open_for_writing(path) as file:
        file.write("picture")
    assert path.read_text() == "picture"


def test_a_file_has_the_permissions_of_any_new_file(tmp_path):
    (tmp_path / "plain").write_text("x")
    with atomic.open_for_writing(tmp_path / "file") as file:
        file.write("x")
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_an_error_names_the_file(tmp_path):
    with pytest.raises(FileNotFoundError) as caught, atomic.open_for_writing(tmp_path / "missing" / "file"):
        pass
    assert caught.value.filename == str(tmp_path / "missing" / "file")


def test_remote_write_is_complete_or_absent(tmp_path):
    path = f"ram://{tmp_path.name}/file"
    with atomic.open_for_writing(path) as file:
        file.write("é\n")
    with pytest.raises(Killed), atomic.open_for_writing(path) as file:
        file.write("half")
        raise Killed
    assert read(path) == "é\n".encode()

    class Failing(io.BytesIO):
        def read(self, *arguments):
            if self.tell():
                raise Killed
            return super().read(1)

    with pytest.raises(Killed):
        filesystem.upload(path, Failing(b"other"))
    assert read(path) == "é\n".encode()
    assert tf.io.gfile.listdir(f"ram://{tmp_path.name}") == ["file"]


def test_remote_folder_is_replaced(tmp_path):
    path = f"ram://{tmp_path.name}/model"
    for name in ("model/old", "model.tmp/top", "model.tmp/inner/deep/file"):
        store(f"ram://{tmp_path.name}/{name}", name.encode())
    atomic.replace_folder(path, f"{path}.tmp")
    assert read(f"{path}/inner/deep/file") == b"model.tmp/inner/deep/file"
    assert sorted(tf.io.gfile.listdir(path)) == ["inner", "top"]
    assert tf.io.gfile.listdir(f"ram://{tmp_path.name}") == ["model"]


def test_empty_remote_folders_and_files(tmp_path):
    # Object stores do not keep empty folders, and cannot rename an empty object.
    assert filesystem.listdir(f"ram://{tmp_path.name}/none") == []
    with atomic.open_for_writing(f"ram://{tmp_path.name}/empty"):
        pass
    assert read(f"ram://{tmp_path.name}/empty") == b""


def test_listing_omits_the_folder_itself(monkeypatch):
    # An object store may list a folder that was created in its console under an empty name.
    monkeypatch.setattr(tf.io.gfile, "listdir", lambda path: ["", "file"])
    assert filesystem.listdir("gs://bucket/folder") == ["file"]


def test_growing_remote_file_keeps_old_lines_and_flushes_rarely(tmp_path, monkeypatch):
    path = f"ram://{tmp_path.name}/log.txt"
    with filesystem.open_for_appending(path) as file:
        file.write("one\n")
    with filesystem.open_for_appending(path) as file:
        file.write("two\n")
        file.flush()
        assert read(path) == b"one\n", "FLUSH_SECONDS have not passed"
        filesystem.sync(file)
        assert read(path) == b"one\ntwo\n"
        monkeypatch.setattr(filesystem, "FLUSH_SECONDS", 0)
        file.write("three \udce9\n")
        file.flush()
        assert read(path) == b"one\ntwo\nthree \\udce9\n"


@pytest.mark.parametrize("folder", ["", "ram://"], ids=["local", "remote"])
def test_damage_in_a_growing_file_stays_as_it_is(tmp_path, folder):
    path = f"{folder}{tmp_path}/log.txt"
    store(path, b"\xff\xfe\r\n")
    with filesystem.open_for_appending(path) as file:
        file.write("new\n")
    assert read(path) == b"\xff\xfe\r\nnew\n"


def test_local_line_with_an_undecodable_file_name_is_escaped(tmp_path):
    with filesystem.open_for_appending(tmp_path / "log.txt") as file:
        file.write(os.fsdecode(b"skipping caf\xe9.png\n"))
    assert (tmp_path / "log.txt").read_bytes() == b"skipping caf\\udce9.png\n"


def test_remote_file_is_seekable(tmp_path):
    data = np.random.default_rng(0).bytes(300_000)
    path = f"ram://{tmp_path.name}/data"
    store(path, data)
    with filesystem.open_for_reading(path) as file:
        for offset, whence, expected in ((250_000, 0, 250_000), (-10, 1, 249_997), (-5, 2, 299_995), (7, 0, 7)):
            assert file.seek(offset, whence) == expected
            assert file.read(7) == data[expected : expected + 7]
        assert file.seek(0) == 0
        assert file.read() == data
    assert filesystem.read_bytes(path, 299_000, 500) == data[299_000:299_500]
    assert filesystem.read_bytes(path, 299_999, 500) == data[299_999:]
    for open_missing in (filesystem.open_for_reading, filesystem.read_bytes):
        with pytest.raises(FileNotFoundError) as caught:
            open_missing(f"{path}.none")
        assert caught.value.filename == f"{path}.none"


@pytest.mark.parametrize("check", [filesystem.exists, filesystem.isdir, filesystem.isfile])
def test_unreachable_file_system_is_not_a_missing_file(check):
    assert not check("ram://nowhere/at/all")
    with pytest.raises(UserError, match="cannot access nfs://host/file: File system scheme 'nfs' not implemented"):
        check("nfs://host/file")


@pytest.mark.parametrize(("error", "expected"), [
    (tf.errors.NotFoundError, FileNotFoundError), (tf.errors.PermissionDeniedError, PermissionError),
    (tf.errors.UnauthenticatedError, PermissionError), (tf.errors.UnavailableError, OSError),
])
def test_tensorflow_errors_become_os_errors(error, expected):
    with pytest.raises(expected, match="the reason") as caught, filesystem.translate_errors("gs://bucket/file"):
        raise error(None, None, "the reason\nand its details")
    assert caught.value.filename == "gs://bucket/file"
    assert caught.value.strerror == "the reason"


def test_durable_file_is_synced_before_it_is_renamed(tmp_path, monkeypatch):
    calls = []
    for name in ("fsync", "replace"):
        function = getattr(os, name)
        monkeypatch.setattr(
            os, name, lambda *arguments, name=name, function=function: [calls.append(name), function(*arguments)]
        )
    for durable in (True, False):
        with atomic.open_for_writing(tmp_path / "file", durable=durable) as file:
            file.write("content")
    assert calls == ["fsync", "replace", "replace"]


def test_local_folder_is_restored_if_its_replacement_fails(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "old").write_bytes(b"old")
    with pytest.raises(FileNotFoundError):
        atomic.replace_folder(str(folder), str(tmp_path / "missing"))
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert (folder / "old").read_bytes() == b"old"


@pytest.mark.parametrize(("call", "interfere"), [
    (1, shutil.rmtree),
    (2, lambda path: shutil.copytree(f"{path}.other", path)),
], ids=["removed", "replaced"])
def test_another_process_replaces_a_folder_at_the_same_time(tmp_path, monkeypatch, call, interfere):
    folders = {name: tmp_path / name for name in ("model", "model.other", "new")}
    for name, folder in folders.items():
        folder.mkdir()
        (folder / "file").write_text(name)
    rename, calls = os.rename, itertools.count(-1)  # The first rename moves `new` beside `model`.

    def rename_late(source, target):
        if next(calls) == call - 1:
            interfere(str(folders["model"]))
        rename(source, target)

    monkeypatch.setattr(os, "rename", rename_late)
    atomic.replace_folder(str(folders["model"]), str(folders["new"]))
    assert sorted(os.listdir(tmp_path)) == ["model", "model.other"]
    assert (folders["model"] / "file").read_text() == "new"


@pytest.fixture
def linked(tmp_path):
    """Path of a link run/model to the folder disk/model; beside the link, there is a folder `new`."""
    for name in ("disk/model", "run/new"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "file").write_text(name)
    (tmp_path / "run" / "model").symlink_to(tmp_path / "disk" / "model")
    return tmp_path / "run" / "model"


def use_two_disks(monkeypatch):
    """Makes os.rename fail between folders, as it does between disks."""
    rename = os.rename

    def rename_on_one_disk(source, target):
        if os.path.dirname(source) != os.path.dirname(target):
            raise OSError(errno.EXDEV, "another disk")
        rename(source, target)

    monkeypatch.setattr(os, "rename", rename_on_one_disk)


@pytest.mark.parametrize("n_disks", [1, 2])
def test_replacing_a_link_replaces_its_target(linked, tmp_path, n_disks, monkeypatch):
    if n_disks == 2:
        use_two_disks(monkeypatch)
    atomic.replace_folder(str(linked), str(linked.with_name("new")))
    assert linked.is_symlink() and (linked / "file").read_text() == "run/new"
    assert os.listdir(tmp_path / "run") == os.listdir(tmp_path / "disk") == ["model"]


def test_the_target_of_a_link_is_restored_if_another_disk_is_full(linked, tmp_path, monkeypatch):
    def copy_in_part(source, target, **options):
        os.mkdir(target)
        raise OSError(errno.ENOSPC, "no space", target)

    use_two_disks(monkeypatch)
    monkeypatch.setattr(shutil, "copytree", copy_in_part)
    with pytest.raises(OSError, match="no space"):
        atomic.replace_folder(str(linked), str(linked.with_name("new")))
    assert (linked / "file").read_text() == "disk/model"
    assert os.listdir(tmp_path / "disk") == ["model"]


@pytest.mark.parametrize("is_there", [False, True], ids=["new folder", "replaced folder"])
def test_replacing_a_folder_leaves_other_folders_alone(tmp_path, is_there):
    names = ["model.old", "new", *(["model"] if is_there else [])]
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    atomic.replace_folder(str(tmp_path / "model"), str(tmp_path / "new"))
    assert {path.name: (path / "file").read_text() for path in tmp_path.iterdir()} == {
        "model": "new", "model.old": "model.old"
    }


@pytest.mark.parametrize(("path", "folder"), [
    ("new/deep", None), ("file", None), ("file/new/deep", "file"), ("link/new", "link"), ("/proc/new/deep", "/proc"),
])
def test_a_path_that_cannot_be_created_is_an_error(tmp_path, path, folder):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to("nowhere")
    given = os.path.join(tmp_path, path)
    if folder is None:
        path_checks.require_creatable("output", given)
    else:
        message = f"^--output={given}: cannot write into folder {os.path.join(tmp_path, folder)} [(].*[)]; give a path"
        with pytest.raises(UserError, match=message):
            path_checks.require_creatable("output", given)
    assert sorted(os.listdir(tmp_path)) == ["file", "link"]


@pytest.mark.parametrize("mode, content", [("w", "text"), ("wb", b"bytes"), ("w+b", b"bytes")])
def test_a_device_is_written_and_not_replaced(tmp_path, mode, content):
    path = tmp_path / "null"
    path.symlink_to(os.devnull)
    with atomic.open_for_writing(path, mode) as file:
        file.write(content)
    assert path.is_symlink()
    assert path.is_char_device()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("mode, content", [("w", "content"), ("w+b", b"content")])
def test_a_named_pipe_gets_the_content(tmp_path, mode, content):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        received = pool.submit(path.read_bytes)
        with atomic.open_for_writing(path, mode) as file:
            file.write(content)
    assert received.result() == b"content"
    assert path.is_fifo()


def test_stdout_that_is_a_file_gets_the_content(tmp_path):
    # Not /dev/stdout itself: as root, a failing test would replace this link of the machine.
    code = ("from cyclegan_tf.storage import atomic\n"
            "with atomic.open_for_writing('/proc/self/fd/1') as file: file.write('content')")
    with open(tmp_path / "out.txt", "w") as file:
        subprocess.run([sys.executable, "-c", code], stdout=file, check=True)
    assert (tmp_path / "out.txt").read_text() == "content"
    assert filesystem.is_special("/dev/stdout")


@pytest.mark.parametrize("name", ["runs/caf\u00e9", "runs/\u6771\u4eac", "gs://bucket/run", ""])
def test_names_in_utf8_are_accepted(name):
    path_checks.require_utf8("workdir", name)


def test_a_name_that_is_not_utf8_is_an_error():
    with pytest.raises(UserError, match=r"^--workdir=.*: the name is not valid UTF-8; rename the file"):
        path_checks.require_utf8("workdir", os.fsdecode(b"caf\xe9"))


def test_a_locale_in_which_tensorflow_would_use_another_name_is_an_error(monkeypatch):
    monkeypatch.setattr(os, "fsencode", lambda text: text.encode("latin-1"))
    monkeypatch.setattr(sys, "getfilesystemencoding", lambda: "iso8859-1")
    with pytest.raises(UserError, match="set PYTHONUTF8=1, because Python takes names in iso8859-1 in this locale"):
        path_checks.require_utf8("workdir", "caf\u00e9")


def test_local_file_whose_writing_fails_leaves_the_old_file_alone(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(KeyError), atomic.open_for_writing(path) as file:
        file.write("new")
        raise KeyError
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("a.txt", "old")]


def test_remote_file_without_new_lines_is_not_written_again(tmp_path, monkeypatch):
    path = f"ram://{tmp_path.name}/log.txt"
    written = []
    upload = filesystem.upload
    monkeypatch.setattr(filesystem, "upload", lambda *arguments: (written.append(1), upload(*arguments)))
    with filesystem.open_for_appending(path) as file:
        for line in ("first\n", "", "second\n", ""):
            file.write(line)
            filesystem.sync(file)
    assert len(written) == 2
    assert filesystem.read_bytes(path) == b"first\nsecond\n"

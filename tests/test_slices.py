"""Lists of the slices of stacks: open files, errors and limits."""

import concurrent.futures
import dataclasses
import errno
import os
import re
import tempfile
import weakref

import numpy as np
import pytest
import tifffile
from PIL import Image

from cyclegan_tf.data import folders, pairing, slices
from cyclegan_tf.errors import UserError
from cyclegan_tf.images import tiff_stack
from cyclegan_tf.images.stacks import StackOptions

RNG = np.random.default_rng(23)
PAGES = RNG.integers(0, 65536, (4, 6, 9)).astype(np.uint16)


def expand(folder, limit=0):
    """Returns the slices of all files in a folder, decoded to one channel."""
    return slices.expand(dataclasses.replace(folders.list_folder(folder), channels=1), StackOptions(channels=1), limit)


def test_slices_of_two_domains_are_pairs():
    assert pairing.match_names(["s.tif[0]", "s.tif[1]", "t.nii.gz[4]", "u.png"],
                               ["s.tiff[1]", "s.tiff[0]", "t.nii[4]", "u.jpg"]) == {0: 1, 1: 0, 2: 2, 3: 3}


def make_failing_list(folder, *numbers):
    """Returns a list of one stack. Its n-th opening raises an OSError with the n-th of `numbers`; 0: no error."""
    tifffile.imwrite(folder / "s.tif", PAGES, photometric="minisblack")
    found, left = dataclasses.replace(folders.list_folder(folder), channels=1), list(numbers)

    def open_file(index):
        if left and (number := left.pop(0)):
            raise OSError(number, os.strerror(number))
        return found.open(index)

    return dataclasses.replace(found, open_file=open_file)


@pytest.mark.parametrize("number", [
    errno.ENOENT, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.EINVAL,
], ids=errno.errorcode.get)
def test_a_bad_file_is_one_bad_image(tmp_path, number):
    found = slices.expand(make_failing_list(tmp_path, number, number), StackOptions(channels=1))
    assert [found.load(index) for index in range(len(found))] == [None]
    assert found.bad.reasons == {f"{tmp_path}/s.tif": os.strerror(number)}


@pytest.mark.parametrize(("number", "message"), [
    (errno.ENOSPC, r"s\.tif cannot be unpacked to {folder}: No space left on device; make room there, or set TMPDIR"),
    (errno.EFBIG, r"s\.tif cannot be unpacked to {folder}: File too large; make room there, or set TMPDIR"),
    (errno.EMFILE, r"s\.tif cannot be read: Too many open files; allow more with `ulimit -n`"),
    (errno.EIO, r"s\.tif cannot be read: Input/output error; check the disk and the network, and start again"),
], ids=["full disk", "large file", "open files", "outage"])
def test_a_file_that_may_be_intact_is_not_a_bad_image(tmp_path, number, message):
    image_list = make_failing_list(tmp_path, number)
    with pytest.raises(UserError, match=message.format(folder=re.escape(tempfile.gettempdir()))):
        slices.expand(image_list, StackOptions(channels=1))
    assert not image_list.bad


def test_a_full_disk_skips_no_slice(tmp_path, monkeypatch):
    monkeypatch.setattr(slices, "MOST_OPEN_FILES", 0)  # Each slice opens the file again.
    found = slices.expand(make_failing_list(tmp_path, 0, errno.ENOSPC), StackOptions(channels=1))
    with pytest.raises(UserError, match="TMPDIR"):
        found.load(0)
    assert (found.load(0)[..., 0] == PAGES[0]).all()


def test_lists_share_the_limit_of_open_files(tmp_path, monkeypatch):
    monkeypatch.setattr(slices, "MOST_OPEN_FILES", 4)
    monkeypatch.setattr(slices._Files, "_lists", weakref.WeakSet())  # Without the lists of other tests.
    opened, lists = [], []
    for name in "abc":
        (tmp_path / name).mkdir()
        for number in range(3):
            tifffile.imwrite(tmp_path / name / f"{number}.tif", PAGES + np.uint16(number), photometric="minisblack")
        files = dataclasses.replace(folders.list_folder(tmp_path / name), channels=1)
        files = dataclasses.replace(files, open_file=lambda index, open_file=files.open_file: (
            opened.append(open_file(index)) or opened[-1]))
        lists.append(slices.expand(files, StackOptions(channels=1)))
    assert sum(not file.closed for file in opened) <= 4
    for _ in range(2):
        for index in range(12):
            for found in lists:
                assert (found.decode(index)[..., 0] == PAGES[index % 4] + np.uint16(index // 4)).all()
                assert sum(not file.closed for file in opened) <= 4


def test_slices_are_read_from_any_thread(tmp_path, monkeypatch):
    monkeypatch.setattr(slices, "MOST_OPEN_FILES", 20)
    for number in range(40):
        tifffile.imwrite(tmp_path / f"{number:02d}.tif", PAGES + np.uint16(number), photometric="minisblack")
    found = expand(tmp_path)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        images = list(pool.map(found.decode, RNG.permutation(len(found)).tolist()))
    assert len(images) == 160
    for index in range(160):
        assert (found.decode(index)[..., 0] == PAGES[index % 4] + np.uint16(index // 4)).all()


@pytest.mark.parametrize(("limit", "names"), [
    (0, ["a.png", "b.tif[0]", "b.tif[1]", "b.tif[2]", "b.tif[3]", "c.tif", "d.png"]), (1, ["a.png"]),
    (3, ["a.png", "b.tif[0]", "b.tif[1]"]), (6, ["a.png", "b.tif[0]", "b.tif[1]", "b.tif[2]", "b.tif[3]", "c.tif"]),
])
def test_limit_counts_slices(tmp_path, limit, names):
    for name in ("a.png", "c.tif", "d.png"):
        Image.fromarray(PAGES[0]).save(tmp_path / name)
    tifffile.imwrite(tmp_path / "b.tif", PAGES, photometric="minisblack")
    found = expand(tmp_path, limit)
    assert list(found.names) == names
    for index, name in enumerate(names):
        page = int(name[6]) if "[" in name else 0
        assert (found.decode(index)[..., 0] == PAGES[page]).all()


def test_files_without_slices_are_left_out(tmp_path, monkeypatch):
    for name in ("a.tif", "b.tif", "c.tif"):
        tifffile.imwrite(tmp_path / name, PAGES, photometric="minisblack")
    Image.fromarray(PAGES[0]).save(tmp_path / "d.tif")
    monkeypatch.setattr(tiff_stack.TiffStack, "list_indices", lambda self: [] if len(self) > 1 else [0])
    for limit in (0, 1):
        found = slices.expand(folders.list_folder(tmp_path), StackOptions(), limit)
        assert list(found.names) == ["d.tif"]
        assert (found.decode(0) == PAGES[0][..., np.newaxis]).all()

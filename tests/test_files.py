"""Which files of a folder or an archive are images, and which archives are rejected."""

import contextlib
import os
import zipfile

import numpy as np
import pytest
from PIL import Image

from cyclegan_tf.data import folders
from cyclegan_tf.data.bad_images import BadImages
from cyclegan_tf.errors import UserError


def write(path, kind="PNG"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4)).save(path, format=kind)
    return path


def test_signature_decides_if_the_suffix_is_unknown(tmp_path):
    for name, kind in (
        ("photo", "JPEG"), ("scan.dat", "TIFF"), ("page.PnG", "PNG"), ("deep/er/é ü 図.jpeg", "JPEG"),
        ("x.orig", "WEBP"), ("old.1", "GIF"), ("b", "BMP"),
    ):
        write(tmp_path / name, kind)
    np.save(tmp_path / "array", np.zeros((2, 2), np.uint8))
    (tmp_path / "page.jpg").write_bytes(b"<html>")  # Becomes a bad image when it is read.
    (tmp_path / "iphone").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0")  # An image that is damaged.
    for other in ("notes.txt", "Thumbs.db", "README", "movie.avi", ".DS_Store", ".hidden.png", ".git/a.png",
                  "__MACOSX/a.png", "labels.csv", "empty"):
        (tmp_path / other).parent.mkdir(exist_ok=True)
        (tmp_path / other).write_bytes(b"" if other == "empty" else b"other bytes")
    found = folders.list_folder(tmp_path)
    assert found.names == sorted([
        "photo", "scan.dat", "page.PnG", "deep/er/é ü 図.jpeg", "x.orig", "old.1", "b", "array.npy",
        "page.jpg", "iphone",
    ])
    bad = [name for index, name in enumerate(found.names) if found.load(index) is None]
    # The array has one channel instead of three.
    assert bad == ["array.npy", "iphone", "page.jpg"]
    assert list(found.bad.reasons) == [f"{tmp_path}/{name}" for name in bad]


# Beginnings of files as ffmpeg (mov, mp4, m4a) and cameras write them: the size of the first box, and its brands.
BOXES = {
    "IMG_1.MOV": b"\0\0\0\x14ftypqt  \0\0\0\0qt  ",
    "clip.mp4": b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41",
    "memo.m4a": b"\0\0\0\x1cftypM4A \0\0\2\0M4A isomiso2",
    "IMG_1.HEIC": b"\0\0\0\x24ftypheic\0\0\0\0mif1MiHBMiHEMiPrmiafheic",
    "burst.heics": b"\0\0\0\x18ftyphevc\0\0\0\0msf1hevc",
    "a.avif": b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf",
    "IMG_1.CR3": b"\0\0\0\x18ftypcrx \0\0\0\1crx isom",
}


def test_videos_and_text_beside_photographs_are_no_images(tmp_path):
    for name, head in BOXES.items():
        (tmp_path / name).write_bytes(head + bytes(200))
    (tmp_path / "LICENSE").write_bytes(b"BMW photographs\0\0\0, free to use")  # "BM", and no size of a BMP header.
    (tmp_path / "short").write_bytes(b"BM")
    photographs = ["IMG_1.CR3", "IMG_1.HEIC", "a.avif", "burst.heics"]  # Damaged or unreadable, so bad images.
    assert folders.list_folder(tmp_path).names == photographs
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for name in [*BOXES, "LICENSE"]:
            archive.write(tmp_path / name, f"trainA/{name}")
    assert folders.list_archive(folders.open_archive(tmp_path / "set.zip"), "trainA").names == photographs


@pytest.mark.parametrize("size", [12, 16, 40, 52, 56, 64, 108, 124])
def test_bmp_files_of_all_versions_are_images(tmp_path, size):
    (tmp_path / "a").write_bytes(b"BM" + bytes(12) + size.to_bytes(4, "little") + bytes(99))
    assert folders.list_folder(tmp_path).names == ["a"]


@pytest.mark.parametrize("name", ["DICOMDIR", "dicomdir"])
def test_the_table_of_contents_of_a_dicom_disk_is_no_image(tmp_path, name):
    scan = bytes(128) + b"DICM"
    (tmp_path / name).write_bytes(scan)
    (tmp_path / "scan" / name).mkdir(parents=True)
    (tmp_path / "scan" / name / "IM0001").write_bytes(scan)  # A folder of this name is a folder as any other.
    assert folders.list_folder(tmp_path).names == [f"scan/{name}/IM0001"]
    assert not folders.is_image(str(tmp_path / name))


def test_files_with_an_image_suffix_are_not_opened(tmp_path):
    # Opening a million files takes minutes; opening a pipe blocks forever.
    os.mkfifo(tmp_path / "pipe.png")
    os.mkfifo(tmp_path / "pipe")
    found = folders.list_folder(tmp_path)
    assert found.names == ["pipe.png"]
    assert found.load(0) is None
    assert found.bad.reasons == {f"{tmp_path}/pipe.png": "not a regular file"}


def test_links_are_followed_and_broken_links_are_bad_images(tmp_path):
    write(tmp_path / "elsewhere" / "a.png")
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "b.png").symlink_to(tmp_path / "elsewhere" / "a.png")
    (folder / "gone.png").symlink_to(tmp_path / "nowhere.png")
    found = folders.list_folder(folder)
    assert found.names == ["b.png", "gone.png", "linked/a.png"]
    assert [found.load(index) is not None for index in range(3)] == [True, False, True]
    assert found.bad.reasons == {f"{folder}/gone.png": "No such file or directory"}


@pytest.mark.parametrize("target", [".", "..", "../../set/inner"])
def test_link_to_a_parent_folder_is_an_error(tmp_path, target):
    write(tmp_path / "set" / "inner" / "a.png")
    (tmp_path / "set" / "inner" / "loop").symlink_to(target)
    message = r"inner.*/loop is a link that leads back to a folder above it; remove the link"
    with pytest.raises(UserError, match=message):
        folders.list_folder(tmp_path / "set")


def test_link_to_itself_is_an_error(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(UserError, match=r"cannot list .*loop: Too many levels of symbolic links"):
        folders.list_folder(tmp_path)


def test_file_instead_of_a_folder_is_an_error(tmp_path):
    write(tmp_path / "trainA")
    with pytest.raises(UserError, match=r"trainA is not a folder"):
        folders.list_folder(tmp_path / "trainA")


@pytest.fixture
def archive(tmp_path):
    """Function that writes a .zip file with the given (name, content) members and returns its path."""

    def make(*members):
        path = tmp_path / "set.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            for name, content in members:
                file.writestr(name, content)
        return path

    return make


@pytest.mark.parametrize("name", ["../evil.png", "trainA/../../evil.png", "/etc/evil.png", "..\\evil.png"])
def test_archive_with_a_path_out_of_it_is_rejected(archive, name):
    path = archive(("trainA/a.png", b""), (name, b""))
    with pytest.raises(UserError, match="a path that leads out of the archive; do not use this archive"):
        folders.open_archive(path)


@pytest.mark.parametrize("other", ["y/trainA", "trainA"])
def test_archive_of_two_data_sets_is_an_error(archive, other):
    path = archive(("x/trainA/1.png", b"x"), (f"{other}/2.png", b"x"), ("x/trainB/1.png", b"x"))
    opened = folders.open_archive(path)
    assert folders.list_archive(opened, "trainB").names == ["1.png"]
    message = rf"set.zip has images in x/trainA and in {other}; give an archive of one data set"
    with pytest.raises(UserError, match=message):
        folders.list_archive(opened, "trainA")


def test_split_names_inside_a_split_are_plain_folders(archive):
    opened = folders.open_archive(archive(("trainA/testA/1.png", b"x"), ("trainA/2.png", b"x"), ("3.png", b"x")))
    assert folders.list_archive(opened, "trainA").names == ["2.png", "testA/1.png"]
    assert folders.list_archive(opened, "testA").names == []


def test_zip_bomb_is_rejected(archive):
    path = archive(("trainA/a.png", bytes(2**27)))
    message = r"'trainA/a\.png', 134217728 bytes packed into \d+, which is too large for an image; .*give the folder"
    with pytest.raises(UserError, match=message):
        folders.open_archive(path)


def test_large_member_with_plausible_compression_is_accepted(archive):
    path = archive(("trainA/a.npy", np.random.default_rng(0).bytes(2**21) + bytes(2**26)))
    assert folders.list_archive(folders.open_archive(path), "trainA").names == ["a.npy"]


def test_member_larger_than_its_declared_size_is_a_bad_image(archive):
    path = archive(("trainA/a.png", bytes(2**27)))
    data = path.read_bytes()
    # Change the declared size in the local header and in the central directory.
    path.write_bytes(data.replace((2**27).to_bytes(4, "little"), (4096).to_bytes(4, "little")))
    found = folders.list_archive(folders.open_archive(path), "trainA")
    assert found.load(0) is None
    assert "damaged in the archive: Bad CRC-32" in next(iter(found.bad.reasons.values()))


def test_encrypted_archive_is_rejected(archive):
    path = archive(("trainA/a.png", b"x"))
    data = bytearray(path.read_bytes())
    data[6] |= 1  # Set the flag in the local header and in the central directory.
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    message = r"set\.zip is encrypted \(trainA/a\.png\); unpack the archive and give the folder"
    with pytest.raises(UserError, match=message):
        folders.open_archive(path)


def test_damaged_members_are_bad_images(tmp_path, archive):
    image = write(tmp_path / "a.png").read_bytes()
    path = archive(("top/trainA/a.png", image), ("top/trainA/b.png", os.urandom(999)), ("top/trainA/no suffix", image),
                   ("top/trainA/.hidden.png", image), ("top/trainA\\windows.png", image), ("top/other.png", image),
                   ("top/inner/trainA/too_deep.png", image))
    data = bytearray(path.read_bytes())
    data[data.index(b"b.png") + 300] ^= 255
    path.write_bytes(data)
    found = folders.list_archive(folders.open_archive(path), "trainA")
    assert found.names == ["a.png", "b.png", "no suffix", "windows.png"]
    assert [found.load(index) is not None for index in range(4)] == [True, False, True, True]
    assert "damaged in the archive" in found.bad.reasons[f"{path}/trainA/b.png"]


def test_each_flipped_bit_of_an_archive_is_an_error_or_a_bad_image_or_changes_no_image(archive):
    # The first entry of the directory takes 64 bytes (46 + 18), so that one bit of a length could hide the second one.
    path = archive(("a/trainA/roads.png", bytes(9)), ("a/trainA/b.png", bytes(9)))
    whole = path.read_bytes()
    with open(path, "r+b", buffering=0) as file:
        for bit in range(8 * len(whole)):
            position = bit // 8
            os.pwrite(file.fileno(), bytes([whole[position] ^ 1 << bit % 8]), position)
            with contextlib.suppress(UserError):
                opened = folders.open_archive(path)
                assert len(opened.namelist()) == 2
                for folder in {name.partition("/")[0] for name in opened.namelist()}:
                    found = folders.list_archive(opened, folder)
                    for index in range(len(found)):
                        with contextlib.suppress(OSError):
                            assert found.read(index) == bytes(9)
            os.pwrite(file.fileno(), whole[position : position + 1], position)


def test_bad_image_is_logged_once_with_its_first_reason(caplog):
    bad = BadImages()
    for reason in ("first", "second"):
        bad.add("a.png", reason)
    assert bad.reasons == {"a.png": "first"}
    assert caplog.messages == ["skipping a.png: first"]


def test_bad_images_with_one_reason_are_logged_once_if_a_file_lists_them(tmp_path, caplog):
    bad = BadImages()
    for name in ("a.npy", "b.npy"):
        bad.add(name, "no file lists them")
    assert caplog.messages == ["skipping a.npy: no file lists them", "skipping b.npy: no file lists them"]
    caplog.clear()
    bad.record_to(str(tmp_path / "bad_images.txt"))
    for number in range(5):
        bad.add(f"{number}.npy", f"the values are -3 to {810 + number}")
    bad.add("4a.npy", "the values are 3 to 10")
    bad.add("a.pgm", "invalid literal for int() with base 10: b'52A40'")
    bad.add("b.pgm", "invalid literal for int() with base 10: b'7F1'")
    bad.add("5.npy", "no file lists them")
    bad.add("6.npy", "truncated")
    more = "; only bad_images.txt lists further files with this reason"
    assert caplog.messages == [
        f"skipping 0.npy: the values are -3 to 810{more}",
        f"skipping a.pgm: invalid literal for int() with base 10: b'52A40'{more}",
        f"skipping 5.npy: no file lists them{more}",
        f"skipping 6.npy: truncated{more}",
    ]
    assert len((tmp_path / "bad_images.txt").read_text().splitlines()) == 12


def test_bad_images_are_recorded_once(tmp_path):
    name = os.fsdecode(b"caf\xe9\n\x1b[2J\tx.png")  # Not valid UTF-8, two lines, and a command to clear the screen.
    (tmp_path / "set").mkdir()
    for bad in (name, "b.png"):
        (tmp_path / "set" / bad).write_bytes(b"")
    record = tmp_path / "bad_images.txt"
    for _ in range(2):
        found = folders.list_folder(tmp_path / "set")
        found.load(0)
        found.bad.record_to(record)
        assert found.load(0) is found.load(1) is None
        lines = record.read_bytes().splitlines()
        assert [os.path.basename(line.split(b"\t")[0]) for line in lines] == [
            b"b.png", rb"caf\xe9\n\x1b[2J\tx.png"
        ]
        assert lines[0].endswith(b"\tcannot identify image file")

"""Files of arrays: any damage is reported, and no memory is allocated before the size is known to fit."""

import errno
import io
import os
import struct
import zipfile

import numpy as np
import pytest

from cyclegan_tf.storage import array_files, filesystem
from cyclegan_tf.storage.zip_files import DamagedFileError

ARRAYS = {
    "step": np.array(7, np.int64), "a/kernel": np.array([[1.5, -2]], np.float32).T,
    # The entry of this array in the directory takes 64 bytes (46 + 18), so that one bit of a length can hide the entry.
    "epoch/loss/gen": np.array(0.25),
}


@pytest.fixture(scope="module")
def contents(tmp_path_factory):
    path = tmp_path_factory.mktemp("arrays") / "x.npz"
    array_files.write(path, ARRAYS)
    return path.read_bytes()


def read(path, data):
    path.write_bytes(data)
    return array_files.read(path)


def assert_equal(arrays):
    assert list(arrays) == list(ARRAYS)
    for name, array in arrays.items():
        expected = ARRAYS[name]
        assert (array.dtype, array.shape, array.tobytes()) == (expected.dtype, expected.shape, expected.tobytes())
        array[...] = array  # Not read-only.


def test_files_are_exchanged_with_numpy(tmp_path, contents):
    with np.load(io.BytesIO(contents)) as file:
        assert_equal({name: file[name] for name in file.files})
    np.savez(tmp_path / "numpy.npz", **ARRAYS)
    assert_equal(array_files.read(tmp_path / "numpy.npz"))


@pytest.mark.parametrize("n_reads", range(8))
@pytest.mark.parametrize(("number", "expected"), [
    (errno.EIO, OSError), (errno.EINVAL, DamagedFileError), (None, DamagedFileError),
])
def test_a_failing_disk_is_not_called_damage(tmp_path, contents, monkeypatch, number, expected, n_reads):
    class File(io.BytesIO):
        left = n_reads

        def read(self, size=-1):
            self.left -= 1
            if self.left < 0:
                raise OSError(number, "no luck")
            return super().read(size)

    monkeypatch.setattr(filesystem, "open_for_reading", lambda path: File(contents))
    with pytest.raises(expected) as caught:
        array_files.read(tmp_path / "x.npz")
    assert getattr(caught.value, "errno", None) == (errno.EIO if expected is OSError else None)


def test_each_flipped_bit_is_named_as_damage_or_changes_nothing(tmp_path, contents):
    path, reasons = tmp_path / "x.npz", set()
    path.write_bytes(contents)
    with open(path, "r+b", buffering=0) as file:
        for bit in range(8 * len(contents)):
            position, mask = bit // 8, 1 << bit % 8
            os.pwrite(file.fileno(), bytes([contents[position] ^ mask]), position)
            try:
                assert_equal(array_files.read(path))
            except DamagedFileError as error:
                reasons.add(str(error))
            os.pwrite(file.fileno(), contents[position : position + 1], position)
    # zipfile verifies neither of these two fields.
    assert {"the directory of the archive does not list all members", "the size of array 'step' is wrong"} <= reasons
    assert not [reason for reason in reasons if not reason or "\n" in reason]


def test_each_truncated_file_is_damaged(tmp_path, contents):
    path = tmp_path / "x.npz"
    path.write_bytes(contents)
    for length in reversed(range(len(contents))):
        os.truncate(path, length)
        with pytest.raises(DamagedFileError):
            array_files.read(path)


def test_missing_file_and_folder_are_os_errors(tmp_path):
    with pytest.raises(FileNotFoundError):
        array_files.read(tmp_path / "none.npz")
    with pytest.raises(IsADirectoryError):
        array_files.read(tmp_path)


def make_npy(header, data=bytes(8)):
    header = header.encode().ljust(118) if len(header) < 118 else header.encode()
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(header)) + header + data


def make_archive(*members, compression=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return file.getvalue()


def test_hand_made_arrays_are_read():
    fortran = make_npy("{'descr': '<i2', 'fortran_order': True, 'shape': (2, 2)}", bytes([1, 0, 2, 0, 3, 0, 4, 0]))
    np.testing.assert_array_equal(array_files.parse(fortran), [[1, 3], [2, 4]])
    text = make_npy("{'descr': '<U2', 'fortran_order': False, 'shape': ()}", "né".encode("utf-32-le"))
    assert array_files.parse(text) == "né"


@pytest.mark.parametrize(("header", "message"), [
    ("{'descr': '<f8', 'fortran_order': False, 'shape': (2,)}", r"shape \(2,\) of float64 does not fit 8 bytes"),
    ("{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}", r"shape \(1,\) of float32 does not fit 8 bytes"),
    ("{'descr': '<f8', 'fortran_order': False, 'shape': (-1, -1)}", r"shape \(-1, -1\) of float64 does not fit"),
    ("{'descr': '<f8', 'fortran_order': False, 'shape': (2**70,)}", "the header is damaged"),
    (f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({2**70},)}}", "does not fit 8 bytes"),
    ("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", "the type object is not supported"),
    ("{'descr': '<f8', 'fortran_order': False, 'shape': (1.5,)}", "the header is damaged"),
    ("{'descr': 5, 'fortran_order': False, 'shape': ()}", "the header is damaged"),
    ("{'descr': '<U0', 'fortran_order': False, 'shape': (1,)}", r"shape \(1,\) of <U0 does not fit 8 bytes"),
    ("__import__('os').abort()", "the header is damaged"),
    ("-" * 9000 + "1", "the header is damaged"),  # Exhausts the stack of Python's parser.
    ("1" * 20_000, "the header is damaged"),
], ids=lambda value: value[:40])
def test_header_that_does_not_describe_the_data_is_damage(header, message):
    with pytest.raises(DamagedFileError, match=message):
        array_files.parse(make_npy(header))


@pytest.mark.parametrize("shape", [(0, 2**70), (1,) * 65 + (0,)], ids=["overflow", "dimensions"])
def test_empty_array_of_impossible_shape_is_damage(shape):
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}}}"
    with pytest.raises(DamagedFileError):
        array_files.parse(make_npy(header, b""))


@pytest.mark.parametrize("data", [b"", b"\x93NUMPY", b"\x93NUMPY\x09\0" + bytes(200), b"no array" * 9], ids=repr)
def test_other_data_are_damage(data):
    with pytest.raises(DamagedFileError, match="the header is damaged"):
        array_files.parse(data)


NPY = make_npy("{'descr': '<f8', 'fortran_order': False, 'shape': ()}")


@pytest.mark.parametrize(("data", "message"), [
    (b"", "File is not a zip file"),
    (make_archive(("a.npy", NPY), ("b.txt", b"text")), "array 'b.txt': the header is damaged"),
    (make_archive(("a.npy", NPY), compression=zipfile.ZIP_DEFLATED), "the size of array 'a' is wrong"),
    (make_archive(("a.npy", NPY), ("a", NPY)), "there are two arrays 'a'"),
])
def test_archive_with_other_members_is_damaged(tmp_path, data, message):
    with pytest.raises(DamagedFileError, match=message):
        read(tmp_path / "x.npz", data)


def test_size_that_the_file_cannot_hold_is_not_allocated(tmp_path):
    data = bytearray(make_archive(("a.npy", NPY)))
    entry = data.index(b"PK\1\2")
    struct.pack_into("<LL", data, entry + 20, 0xFFFFFFF0, 0xFFFFFFF0)  # 4 GiB compressed, 4 GiB uncompressed.
    with pytest.raises(DamagedFileError, match="the size of array 'a' is wrong"):
        read(tmp_path / "x.npz", data)


def test_error_while_writing_leaves_the_old_file(tmp_path, contents):
    path = tmp_path / "x.npz"
    path.write_bytes(contents)
    with pytest.raises(ValueError, match="Object arrays"):
        array_files.write(path, {"a": np.array(1), "b": np.array([{}], object)})
    assert path.read_bytes() == contents
    assert [path.name for path in tmp_path.iterdir()] == ["x.npz"]

"""DICOM files for tests: those that come with pydicom and nibabel, and functions that read, copy and change them."""

import struct
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import SimpleITK
from pydicom.data import get_testdata_file
from pydicom.datadict import tag_for_keyword

from cyclegan_tf.config.value_ranges import ValueRange
from cyclegan_tf.images.dicom import DicomFile
from cyclegan_tf.images.stacks import StackOptions

FILES = Path(str(get_testdata_file("CT_small.dcm"))).parent
CT, MR = FILES / "CT_small.dcm", FILES / "MR_small.dcm"
UINT12 = Path(nibabel.__file__).parent / "nicom" / "tests" / "data" / "0.dcm"  # Values 0 .. 4095, each once.
INT16, FLOAT32 = np.dtype(np.int16), np.dtype(np.float32)
HOUNSFIELD = ValueRange(-1024.0, 3071.0)


def read(path, kind=DicomFile, **options):
    return kind(open(path, "rb"), StackOptions(**options))


def read_with_simpleitk(path):
    """All frames in units, (N, H, W, C)."""
    image = SimpleITK.ReadImage(str(path))
    array = SimpleITK.GetArrayFromImage(image)
    return array.reshape(-1, *array.shape[1:3], image.GetNumberOfComponentsPerPixel())


def copy(source, path, dtype, value_range=None):
    """Writes every frame as it is; returns what pydicom reads."""
    with source.create(str(path), source.channels, np.dtype(dtype), value_range) as writer:
        for index in range(len(source)):
            part = source.read(index)
            writer.write(part.pixels, part)
    return pydicom.dcmread(path)


def change(source, path, **attributes):
    """Copies a file with changed attributes; None removes one."""
    dataset = pydicom.dcmread(source)
    for name, value in attributes.items():
        if value is None:
            delattr(dataset, name)
        else:
            setattr(dataset, name, value)
    dataset.save_as(path)
    return path


def make_dataset(**attributes):
    """Makes an item of a sequence."""
    dataset = pydicom.Dataset()
    for name, value in attributes.items():
        setattr(dataset, name, value)
    return dataset


def damage_number(source, path, name):
    """Copies a file and replaces the number in attribute `name` with a byte that is not valid UTF-8."""
    change(source, path, SpecificCharacterSet="ISO_IR 192", **{name: 7})
    data, header = path.read_bytes(), struct.pack("<HH2sH", *divmod(tag_for_keyword(name), 2**16), b"IS", 2)
    assert data.count(header + b"7 ") == 1
    path.write_bytes(data.replace(header + b"7 ", header + b"\xff "))
    return path

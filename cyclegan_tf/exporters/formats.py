"""Every format by name, and the one way to all: written beside its place, checked there, then moved."""

import contextlib
import importlib.util
import logging
import os
import shutil
import tempfile

from cyclegan_tf.config import Config
from cyclegan_tf.config.direction import Direction
from cyclegan_tf.errors import UserError
from cyclegan_tf.runs import directory as run_directory
from cyclegan_tf.storage import atomic, filesystem

log = logging.getLogger("cyclegan_tf")

FORMATS = ("saved_model", "keras", "tflite", "onnx", "web")
PRECISIONS = ("float32", "float16", "dynamic_range", "int8")
# What each format's converter and check import beyond TensorFlow. Without ai-edge-litert TensorFlow's own interpreter
# checks a .tflite file.
_MODULES = {"onnx": ("tf2onnx", "onnxruntime"), "web": ("tf2onnx", "onnxruntime")}


def export(
    workdir, format_, output, direction="a2b", precisions=PRECISIONS, size=None, max_side=512, runtime_dir=None,
    overwrite=False,
):
    """Writes a run's generator into folder `output` and runs it there once; returns the checks' `Result`s.

    Nothing is left in `output` unless all of its checks pass.

    Args:
      workdir: run directory.
      format_: saved_model, keras, tflite, onnx or web.
      direction: a2b or b2a.
      precisions: of a tflite export: float32, float16, dynamic_range, int8.
      size: (height, width) that a tflite or onnx export takes; None for any multiple of the network's.
      max_side: pixels of the longer side that the web page scales larger images to at first.
      runtime_dir: unpacked npm package onnxruntime-web for the web page; None to get it by npm.
      overwrite: replace files of the same names in `output`.

    Raises:
      UserError: there is no such run, something is missing, or the exported thing does not give the same images.
    """
    filesystem.require_local("output", output)
    direction = Direction.parse(direction)
    Config.load(run_directory.locate(workdir))  # A mistake is told before the long imports.
    _require_modules(format_)
    _require_room(output, list_outputs(format_, direction, precisions), overwrite)

    from cyclegan_tf.exporters import source, verify  # These import TensorFlow.

    generator = source.load(workdir, direction, size)
    os.makedirs(output, exist_ok=True)
    with _staging(output) as folder:
        artifacts = _write(format_, generator, folder, precisions, max_side, runtime_dir)
        results = [verify.check(artifact, folder, generator) for artifact in artifacts]
        for name in sorted(os.listdir(folder)):
            _move(os.path.join(folder, name), os.path.join(output, name))
    if format_ == "web":
        log.info("serve %s as static files, for example: python -m http.server --directory %s", output, output)
    return results


def _write(format_, generator, folder, precisions, max_side, runtime_dir):
    """The artifacts that the format's module wrote into `folder`."""
    if format_ in ("saved_model", "keras"):
        from cyclegan_tf.exporters import keras_file, saved_model

        write = {"saved_model": saved_model.write, "keras": keras_file.write}[format_]
        return write(generator, folder)
    if format_ == "tflite":
        from cyclegan_tf.exporters import tflite

        return tflite.write(generator, folder, precisions)
    if format_ == "onnx":
        from cyclegan_tf.exporters import onnx

        return onnx.write(generator, folder)
    from cyclegan_tf.exporters import web_page

    return web_page.write(generator, folder, max_side, runtime_dir)


def _require_modules(format_):
    missing = [name for name in _MODULES.get(format_, ()) if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"--format={format_} needs {' and '.join(missing)}: pip install 'cyclegan_tf[export]'")


def list_outputs(format_, direction, precisions):
    """What an export leaves in its output folder."""
    return {
        "saved_model": [direction],
        "keras": [f"{direction}.keras"],
        "tflite": [f"{direction}-{precision}.tflite" for precision in precisions],
        "onnx": [f"{direction}.onnx"],
        "web": ["index.html", "style.css", "page.js", "worker.js", "model.json", "model.onnx", "sample.png", "runtime"],
    }[format_]


def _require_room(output, names, overwrite):
    if os.path.exists(output) and not os.path.isdir(output):
        raise UserError(f"--output={output} is a file; give a folder")
    taken = [path for name in names if os.path.exists(path := os.path.join(output, name))]
    if taken and not overwrite:
        raise UserError(f"{taken[0]} exists already; give another --output, or --overwrite")


@contextlib.contextmanager
def _staging(output):
    """A folder on the disk of `output`, gone at the end."""
    folder = tempfile.mkdtemp(dir=output, prefix=".export-")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):  # Not empty, as it should be.
            os.rmdir(output)


def _move(path, target):
    if os.path.isdir(path):
        atomic.replace_folder(target, path)
    else:
        os.replace(path, target)

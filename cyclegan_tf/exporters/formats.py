"""Exports a generator to any format: writes it to a temporary folder, checks it there, then moves it into place."""

import contextlib
import importlib.util
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from cyclegan_tf.config import Config
from cyclegan_tf.config.direction import Direction
from cyclegan_tf.errors import UserError
from cyclegan_tf.ops import startup
from cyclegan_tf.runs import directory as run_directory
from cyclegan_tf.storage import atomic, filesystem

if TYPE_CHECKING:  # These modules import TensorFlow, which --help can do without.
    from cyclegan_tf.exporters.source import Source
    from cyclegan_tf.exporters.verify import Artifact, Result

log = logging.getLogger("cyclegan_tf")

FORMATS = ("saved_model", "keras", "tflite", "onnx", "web")
PRECISIONS = ("float32", "float16", "dynamic_range", "int8")
_N_SAMPLES = 3  # Images of each direction on the web page.
# Modules that a format's converter and check need besides TensorFlow. Without ai-edge-litert, TensorFlow's own
# interpreter checks .tflite files.
_MODULES = {"onnx": ("tf2onnx", "onnxruntime"), "web": ("tf2onnx", "onnxruntime")}


def export(
    workdir: str, format_: str, output: str, direction: str | None = None, precisions: Sequence[str] = PRECISIONS,
    size: tuple[int, int] | None = None, max_side: int = 512, runtime_dir: str | None = None, overwrite: bool = False,
) -> "list[Result]":
    """Writes generators of a run to folder `output`, after running each written file in its own runtime.

    If a check fails, nothing is left in `output`.

    Args:
      workdir: run directory.
      format_: saved_model, keras, tflite, onnx or web.
      output: folder, which may exist.
      direction: a2b or b2a; None: all directions of the run for the web page, a2b for other formats.
      precisions: precisions of a tflite export: float32, float16, dynamic_range, int8.
      size: (height, width) that a tflite or onnx file accepts; None: any multiple of the network's size multiple.
      max_side: longer side in pixels to which the web page scales larger images unless the user chooses another.
      runtime_dir: unpacked npm package onnxruntime-web for the web page; None: download it with npm.
      overwrite: replace files of the same names in `output`.

    Returns:
      The results of the checks, one for each written file or folder.

    Raises:
      UserError: `workdir` is not a run, an optional package or the web runtime is missing, a file exists already, or an
        exported generator gives images that differ from the run's.
    """
    filesystem.require_local("output", output)
    filesystem.require_utf8("output", output)
    config = Config.load(run_directory.locate(workdir))  # Report a wrong path before the slow imports.
    default = config.directions if format_ == "web" else (Direction.A2B,)
    directions = (Direction.parse(direction),) if direction else default
    _require_modules(format_)
    _require_free_names(output, list_outputs(format_, directions, precisions), overwrite)

    startup.import_tensorflow()
    from cyclegan_tf.exporters import source, verify

    generators = source.load(workdir, directions, size)
    os.makedirs(output, exist_ok=True)
    with _make_staging_folder(output) as folder:
        artifacts = _write(format_, generators, folder, precisions, max_side, runtime_dir)
        results = [verify.check(artifact, folder, generator) for generator, artifact in artifacts]
        for name in sorted(os.listdir(folder)):
            _move(os.path.join(folder, name), os.path.join(output, name))
    if format_ == "web":
        log.info("serve %s as static files, for example: python -m http.server --directory %s", output, output)
    return results


def _write(
    format_: str, generators: "Sequence[Source]", folder: str, precisions: Sequence[str], max_side: int,
    runtime_dir: str | None,
) -> "list[tuple[Source, Artifact]]":
    """Writes one format to `folder`; returns each written file with its generator.

    Each branch imports only its own converter. Only the web page has several generators.
    """
    if format_ == "web":
        from cyclegan_tf.exporters import web_page

        return web_page.write(generators, folder, max_side, _N_SAMPLES, runtime_dir)
    (generator,) = generators
    return [(generator, artifact) for artifact in _write_files(format_, generator, folder, precisions)]


def _write_files(format_: str, generator: "Source", folder: str, precisions: Sequence[str]) -> "list[Artifact]":
    if format_ == "saved_model":
        from cyclegan_tf.exporters import saved_model

        return saved_model.write(generator, folder)
    if format_ == "keras":
        from cyclegan_tf.exporters import keras_file

        return keras_file.write(generator, folder)
    if format_ == "tflite":
        from cyclegan_tf.exporters import tflite

        return tflite.write(generator, folder, precisions)
    from cyclegan_tf.exporters import onnx

    return onnx.write(generator, folder)


def _require_modules(format_: str) -> None:
    missing = [name for name in _MODULES.get(format_, ()) if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"--format={format_} needs {' and '.join(missing)}: pip install 'cyclegan_tf[export]'")


def list_outputs(format_: str, directions: Sequence[str], precisions: Sequence[str]) -> list[str]:
    """Lists the names of the files and folders that an export writes."""
    if format_ == "web":
        numbers = range(1, _N_SAMPLES + 1)
        samples = [f"sample-{direction}-{number}.png" for direction in directions for number in numbers]
        models = [f"{direction}.onnx" for direction in directions]
        return ["index.html", "style.css", "page.js", "worker.js", "model.json", "runtime", *models, *samples]
    (direction,) = directions
    return {
        "saved_model": [str(direction)],
        "keras": [f"{direction}.keras"],
        "tflite": [f"{direction}-{precision}.tflite" for precision in precisions],
        "onnx": [f"{direction}.onnx"],
    }[format_]


def _require_free_names(output: str, names: Sequence[str], overwrite: bool) -> None:
    if os.path.exists(output) and not os.path.isdir(output):
        raise UserError(f"--output={output} is a file; give a folder")
    taken = [path for name in names if os.path.exists(path := os.path.join(output, name))]
    if taken and not overwrite:
        raise UserError(f"{taken[0]} exists already; give another --output, or --overwrite")


@contextlib.contextmanager
def _make_staging_folder(output: str) -> Iterator[str]:
    """Makes a temporary folder on the same disk as `output`, and removes it at the end."""
    folder = tempfile.mkdtemp(dir=output, prefix=".export-")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):  # Removes `output` too if nothing was exported; fails if it is not empty.
            os.rmdir(output)


def _move(path: str, target: str) -> None:
    if os.path.isdir(path):
        atomic.replace_folder(target, path)
    else:
        os.replace(path, target)

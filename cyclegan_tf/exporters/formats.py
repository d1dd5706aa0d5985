"""Exports a generator to any format: writes it to a temporary folder, checks it there, then moves it into place."""

import contextlib
import dataclasses
import importlib.util
import itertools
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cyclegan_tf.config import Config
from cyclegan_tf.config.direction import Direction
from cyclegan_tf.config.run_options import CONVERTED_DATASET
from cyclegan_tf.errors import UserError
from cyclegan_tf.ops import startup
from cyclegan_tf.runs import directory as run_directory
from cyclegan_tf.storage import atomic, path_checks

if TYPE_CHECKING:  # These modules import TensorFlow, which --help can do without.
    from cyclegan_tf.exporters.source import Source
    from cyclegan_tf.exporters.verify import Artifact, Result

log = logging.getLogger("cyclegan_tf")

PRECISIONS = ("float32", "float16", "dynamic_range", "int8")
N_SAMPLES = 3  # Largest number of sample images of a direction on the web page.


@dataclasses.dataclass(frozen=True)
class Format:
    """An export format.

    Attributes:
      module: module of `cyclegan_tf.exporters` that writes the format. Its function `write(source, folder)` writes the
        generator of a `Source` and returns an `Artifact` for each file to check. If `holds_run`,
        `write(sources, folder)` writes all generators and returns pairs (`Source`, `Artifact`).
      outputs: names of the files and folders in the output folder, once for each {direction} and each {precision}.
      options: flags that apply to this format but not to all formats. --size is an option of the `Source`; the others
        are keyword arguments of `write`.
      packages: modules that the converter and the check import besides TensorFlow.
      holds_run: whether one export holds all directions of a run, instead of one direction.
      hint: message to log after an export, with the output folder as {output}.
    """

    module: str
    outputs: tuple[str, ...]
    options: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    holds_run: bool = False
    hint: str = ""


FORMATS = {
    "saved_model": Format("saved_model", ("{direction}",)),
    "keras": Format("keras_file", ("{direction}.keras",)),
    # Without the package ai-edge-litert, TensorFlow's own interpreter checks .tflite files.
    "tflite": Format("tflite", ("{direction}-{precision}.tflite",), ("size", "precision")),
    "onnx": Format("onnx", ("{direction}.onnx",), ("size",), ("tf2onnx", "onnxruntime")),
    "web": Format(
        "web_page",
        ("index.html", "style.css", "page.js", "worker.js", "model.json", "runtime", "{direction}.onnx",
         *(f"sample-{{direction}}-{number}.png" for number in range(1, N_SAMPLES + 1))),
        ("max_side", "runtime_dir"), ("tf2onnx", "onnxruntime"), holds_run=True,
        hint="serve {output} as static files, for example: python -m http.server --directory {output}",
    ),
}


def export(
    workdir: str, name: str, output: str, direction: str | None = None, precision: Sequence[str] = PRECISIONS,
    size: tuple[int, int] | None = None, max_side: int = 512, runtime_dir: str | None = None, overwrite: bool = False,
) -> "list[Result]":
    """Writes generators of a run to folder `output`, after running each written file in its own runtime.

    If a check fails, nothing is left in `output`.

    Args:
      workdir: run directory.
      name: the format, a key of `FORMATS`.
      output: folder, which may exist.
      direction: a2b or b2a; None: all directions of the run for the web page; for other formats, a2b or the run's only
        direction.
      precision: precisions of a tflite export: float32, float16, dynamic_range, int8.
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
    path_checks.require_local("output", output)
    path_checks.require_utf8("output", output)
    config = Config.load(run_directory.locate(workdir))  # Report wrong paths before the slow imports.
    format_ = FORMATS[name]
    _require_packages(name)
    wanted, limit = Direction.parse(direction) if direction else None, None if format_.holds_run else 1
    # A run that was converted from .pth files may hold only one direction of two; its checkpoint shows which.
    if wanted or config.dataset != CONVERTED_DATASET:
        directions = [wanted] if wanted else config.directions[:limit]
        _require_free_names(output, list_outputs(name, directions, precision), overwrite)

    startup.import_tensorflow()
    from cyclegan_tf.exporters import source, verify

    generators = source.load(workdir, wanted, limit, size)
    outputs = list_outputs(name, [generator.direction for generator in generators], precision)
    _require_free_names(output, outputs, overwrite)
    options = {"precision": precision, "max_side": max_side, "runtime_dir": runtime_dir}
    os.makedirs(output, exist_ok=True)
    with _make_staging_folder(output) as folder:
        artifacts = _write(
            format_, generators, folder, {key: value for key, value in options.items() if key in format_.options}
        )
        results = [verify.check(artifact, folder, generator) for generator, artifact in artifacts]
        for written in sorted(os.listdir(folder)):
            _move(os.path.join(folder, written), os.path.join(output, written))
    if format_.hint:
        log.info("%s", format_.hint.format(output=output))
    return results


def _write(
    format_: Format, generators: "Sequence[Source]", folder: str, options: Mapping[str, Any]
) -> "list[tuple[Source, Artifact]]":
    """Writes one format to `folder`; returns each written file with its generator."""
    # Import no other converter, because converters need optional packages.
    write = importlib.import_module(f"cyclegan_tf.exporters.{format_.module}").write
    if format_.holds_run:
        return write(generators, folder, **options)
    return [(generator, each) for generator in generators for each in write(generator, folder, **options)]


def _require_packages(name: str) -> None:
    missing = [package for package in FORMATS[name].packages if importlib.util.find_spec(package) is None]
    if missing:
        raise UserError(f"--format={name} needs {' and '.join(missing)}: pip install 'cyclegan_tf[export]'")


def list_outputs(name: str, directions: Sequence[str], precision: Sequence[str] = PRECISIONS) -> list[str]:
    """Lists the names of the files and folders that an export writes."""
    outputs = itertools.product(FORMATS[name].outputs, directions, precision)
    return list(dict.fromkeys(output.format(direction=each, precision=level) for output, each, level in outputs))


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

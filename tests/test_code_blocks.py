"""The code blocks of README.md and docs/ run at tiny size, unless a block needs the network or another program.

Blocks marked `python` run in order, as one program per page, each block after the commands that write the files that
the block reads. Of blocks marked `sh`, the commands of this package run.
"""

import lzma
import os
import re
import shlex
import shutil
import sys
from collections import OrderedDict
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest
import tensorflow as tf
import tifffile
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


def list_programs():
    """Lists groups of commands to run in order: a training and the commands that use its run, or one command."""
    programs = {}
    for page in PAGES:
        trainings = {}
        for name, arguments in read_commands(page):
            line = shlex.join([name, *arguments])
            if ELSEWHERE.match(line):
                continue
            run = re.search(r"--(?:workdir|model)=(runs/\w+)", line)
            if run and name == "train":
                trainings[run[1]] = line
            program = programs.setdefault(trainings.get(run and run[1], line), [])
            if line not in program:
                program.append(line)
    return list(programs.values())


@pytest.fixture
def folder(tmp_path, monkeypatch, make_images):
    """Prepares the current folder of a test, with the files that the examples name."""
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


def write_bands(folder, channels_a, channels_b):
    """Writes a data set of TIFF files with the given numbers of bands."""
    for domain, channels in (("A", channels_a), ("B", channels_b)):
        for part in ("train", "test"):
            (folder / f"{part}{domain}").mkdir(parents=True)
            bands = np.random.default_rng(0).integers(0, 4000, (40, 40, channels), np.uint16)
            path = folder / f"{part}{domain}" / "0.tif"
            layout = {"photometric": "rgb" if channels == 3 else "minisblack"}
            if channels > 1:
                layout["planarconfig"] = "contig"
            tifffile.imwrite(path, bands, **layout)


def copy_runs(text, folder, run):
    """Copies a run to each run directory that the text names, unless a command of the page trains the run."""
    for name in set(re.findall(r"runs/(demo|horse2zebra|apple2orange)", text)):
        shutil.copytree(run, folder / "runs" / name)


def write_modules(folder):
    """Writes the modules that the examples name, from the code blocks that define their contents."""
    blocks = read_blocks("docs/extending.md", "python")
    (folder / "my_package").mkdir()
    code = blocks[0].split("cyclegan_tf.fit(")[0]
    for path in ("my_networks.py", "my_package/networks.py"):
        (folder / path).write_text(code)
    loss, = (block for block in blocks if "softplus" in block)
    (folder / "my_losses.py").write_text(f"import cyclegan_tf\nimport tensorflow as tf\n{loss}")


@pytest.fixture
def run_line(folder, monkeypatch, run_command):
    """Returns a function run_line(line) that runs a command of the package in the folder, at tiny size."""
    skip_outputs(monkeypatch)
    monkeypatch.syspath_prepend(folder)

    def run(line):
        name, *arguments = shlex.split(
            line.replace("--dataset=horse2zebra", "--dataset=FOLDER").replace("gs://bucket", f"ram://{folder.name}")
        )
        arguments += ADDED.get(name, [])
        if "--plugins" in line:
            write_modules(folder)
        if "clip.mp4" in line:
            make_clip = pytest.importorskip("test_video").make_clip
            make_clip("clip.mp4")
        if name == "convert" or ".pth" in line:
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
        if name == "export" and "--format=tflite" in arguments:
            arguments += ["--precision=float32"]
        if name == "train" and (packed := re.search("--dataset=(SHARDS|ram://[^ ]*)", shlex.join(arguments))):
            assert run_command("cyclegan_tf.datasets", "shard", "FOLDER", packed[1]).returncode == 0
        elif name == "train" and (given := re.search(r"--dataset=(stains|cells|s2|bands)", line)):
            channels = [re.search(rf"--{side}_channels=(\d+)", line) for side in ("input", "output")]
            write_bands(folder / given[1], *(int(found[1]) if found else 3 for found in channels))
        result = run_command(f"cyclegan_tf.{name}", *arguments)
        assert result.returncode == 0, result.stderr

    return run


@pytest.mark.parametrize("lines", [pytest.param(lines, id=lines[0][:80]) for lines in list_programs()])
def test_documented_commands_run(lines, folder, run_line, tiny_run):
    if not lines[0].startswith("train"):
        copy_runs(lines[0], folder, tiny_run)
    for line in lines:
        run_line(line)


def list_writers(block):
    """Lists the commands of all pages that write what a block reads: a run, or files of a folder."""
    writers = []
    for line, *_ in list_programs():
        written = re.search(r"--(?:workdir=(runs/\w+)|(?:output|to_pytorch)=(\S+))", line)
        if written and (f'"{written[1]}"' in block or f'"{written[2]}/' in block):
            writers.append(line)
    return writers


def define_generator(*options):
    """Stands in for define_G of the authors' code, with the size of the tiny run."""
    from torch import nn

    class ResidualBlock(nn.Module):
        def __init__(self, width):
            super().__init__()
            first, second = (
                [nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3), nn.InstanceNorm2d(width)] for _ in range(2)
            )
            self.conv_block = nn.Sequential(*first, nn.ReLU(), *second)

        def forward(self, images):
            return images + self.conv_block(images)

    assert options == (3, 3, 64, "resnet_9blocks", "instance")
    layers = [nn.ReflectionPad2d(3), nn.Conv2d(3, 4, 7), nn.InstanceNorm2d(4), nn.ReLU()]
    for width in (4, 8):
        layers += [nn.Conv2d(width, 2 * width, 3, 2, 1), nn.InstanceNorm2d(2 * width), nn.ReLU()]
    layers.append(ResidualBlock(16))
    for width in (16, 8):
        layers += [nn.ConvTranspose2d(width, width // 2, 3, 2, 1, 1), nn.InstanceNorm2d(width // 2), nn.ReLU()]
    layers += [nn.ReflectionPad2d(3), nn.Conv2d(4, 3, 7), nn.Tanh()]
    return nn.Sequential(OrderedDict(model=nn.Sequential(*layers)))  # The keys begin with "model.", as the authors'.


def check_result(source, result, run):
    """Checks that `result` is the run's translation of `source` at the size of `result`, and removes `result`."""
    with Image.open(result) as image, Image.open(source) as original:
        pixels, scaled = np.asarray(image, np.int32), np.asarray(original.resize(image.size))
    np.testing.assert_allclose(pixels, cyclegan_tf.load(str(run)).translate(scaled), atol=1)
    os.remove(result)


@pytest.mark.parametrize("page", [page for page in PAGES if read_blocks(page, "python")])
def test_documented_python_runs(page, folder, run_line, tiny_run, monkeypatch, caplog):
    programs = [(block, list_writers(block)) for block in read_blocks(page, "python")]
    copy_runs(str(programs), folder, tiny_run)
    monkeypatch.setattr(cyclegan_tf, "Config", lambda **options: Config(**{**options, **SMALL}))
    monkeypatch.setitem(sys.modules, "models.networks", SimpleNamespace(define_G=define_generator))
    namespace = {"__name__": "__main__", "cyclegan_tf": cyclegan_tf, "tf": tf}
    done = set()
    for block, lines in programs:
        for line in lines:
            if line not in done:
                run_line(line)
                done.add(line)
        exec(compile(block, page, "exec"), namespace)
        if page == "docs/export.md":
            check_result("horse.jpg", "zebra.png", tiny_run)
    if page in ("docs/translate.md", "docs/medical.md"):
        assert namespace["skipped"] == {}, "translate_files skipped files of an example"
    if page == "docs/extending.md":
        assert Config.load("runs/tiny").generator == "tiny"
        assert "is registered in __main__, so only a process that registers it again can use the run" in caplog.text
        assert "tiny" in registries.GENERATORS and "small" in registries.DISCRIMINATORS and "mine" in registries.MODELS
        # softplus(-x) and softplus(x) are the two cross-entropies of vanilla.
        scores = tf.constant([[0.3], [-2.0]])
        ours, vanilla = (losses.build_loss(Config(gan_mode=mode)) for mode in ("softplus", "vanilla"))
        for part in ("real", "fake", "generator"):
            np.testing.assert_allclose(getattr(ours, part)(scores), getattr(vanilla, part)(scores), rtol=1e-6)

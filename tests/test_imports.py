"""Imports go one way: each module may import only from the layers below its own."""

import ast
from pathlib import Path

import pytest
from conftest import run_python

import cyclegan_tf

PACKAGE = Path(cyclegan_tf.__file__).parent
# From the bottom up; a module may import from lower layers and, where the layer is marked so, from its own.
LAYERS = [
    {"errors"},
    {"storage"},
    {"atomic"},
    {"options", "combinations", "processor", "precision", "execution", "winograd", "rematerialization"},
    {"config", "convolutions", "instance_norm", "borders"},
    {"faults", "schedules"},
    {"config_flags", "run_directory", "interruption", "images", "layers", "losses", "image_pool", "optimizers",
     "distribution", "nonfinite", "pytorch_weights", "torch_files", "pickled_arrays"},
    {"data/__init__", "data/image_list", "data/files", "data/shards", "data/sources", "data/tfds_source",
     "data/pipeline", "data/catalog", "data/download", "data/cityscapes", "data/preview",
     "metrics/__init__", "metrics/paired", "metrics/frechet", "metrics/kernel", "metrics/weights", "metrics/inception",
     "metrics/lpips", "metrics/judge", "metrics/segmentation", "metrics/features", "metrics/measures",
     "models/__init__", "models/generators", "models/discriminators", "tiling", "image_files", "video", "tflite"},
    {"training"},
    {"pix2pix"},
    {"checkpoints", "summaries", "measuring", "console"},
    {"initialization", "inference"},
    {"saved_model", "evaluation", "loading", "translation"},
    {"gallery/__init__", "gallery/page"},
    {"gallery/results", "exporters/__init__", "exporters/runner", "exporters/quiet", "exporters/portable",
     "exporters/source"},
    {"exporters/check"},
    {"exporters/tensorflow_files", "exporters/tflite_file", "exporters/onnx_file"},
    {"exporters/web_page"},
    {"exporters/formats"},
    {"trainer"},
    {"command_line"},
    # What the package itself offers, it imports when it is called.
    {"train", "launch", "convert", "datasets", "translate", "evaluate", "export", "gallery/__main__", "__init__"},
]
SAME_LAYER_ALLOWED = {7}
LEVEL = {module: level for level, modules in enumerate(LAYERS) for module in modules}


def module_name(path):
    return path.relative_to(PACKAGE).with_suffix("").as_posix()


def imported(path):
    """Modules of the package that the file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            inside = name.replace(".", "/").removeprefix("cyclegan_tf/")
            for candidate in (inside, f"{inside}/__init__"):
                if name.startswith("cyclegan_tf.") and candidate in LEVEL:
                    yield candidate


FILES = sorted(PACKAGE.rglob("*.py"))


def test_every_module_has_its_layer():
    assert {module_name(path) for path in FILES} == set(LEVEL)


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_imports_go_down(path):
    own = LEVEL[module_name(path)]
    for other in imported(path):
        assert LEVEL[other] < own or (LEVEL[other] == own and own in SAME_LAYER_ALLOWED), other


def test_help_and_config_need_no_tensorflow():
    code = "from cyclegan_tf import config, train, datasets, evaluate, export; "
    code += "from cyclegan_tf.gallery import __main__; import sys; sys.exit('tensorflow' in sys.modules)"
    assert run_python("-c", code).returncode == 0


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_files_and_functions_stay_short(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 300
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < 60, node.name

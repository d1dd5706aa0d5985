"""What needs no TensorFlow imports none."""

from conftest import run_python


def test_help_and_config_need_no_tensorflow():
    code = "from cyclegan_tf import config, train, datasets, evaluate, export, gallery; "
    code += "import sys; sys.exit('tensorflow' in sys.modules)"
    assert run_python("-c", code).returncode == 0

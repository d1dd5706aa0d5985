"""metrics.jsonl: reading it after a crash, and the records that a resumed run keeps."""

import pytest
from conftest import run_python

from cyclegan_tf.runs import metrics_log

LINES = ('{"step": 1, "kind": "train", "loss/gen_ab": 0.1}\n', '{"step": 2, "kind": "eval", "psnr_ab": NaN}\n')


def test_missing_file_has_no_records(tmp_path):
    assert metrics_log.read_records(tmp_path) == []


@pytest.mark.parametrize("rest", ["", '{"step": 3, "ki'], ids=["complete", "last line cut off"])
def test_complete_lines_are_read(tmp_path, rest):
    (tmp_path / "metrics.jsonl").write_text("".join(LINES) + rest)
    first, second = metrics_log.read_records(tmp_path)
    assert first == {"step": 1, "kind": "train", "loss/gen_ab": 0.1}
    assert second["psnr_ab"] != second["psnr_ab"]


def test_opening_keeps_wanted_lines_byte_for_byte_and_appends(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("".join(LINES) + '{"step": 3, "kind": "train"}\n{"step"')
    with metrics_log.open_log(str(tmp_path), lambda record: record["step"] < 3) as file:
        file.write(metrics_log.format_record({"step": 4}))
    assert (tmp_path / "metrics.jsonl").read_text() == "".join(LINES) + '{"step": 4}\n'


def test_reading_needs_no_tensorflow():
    code = "from cyclegan_tf.runs import metrics_log; import sys; sys.exit('tensorflow' in sys.modules)"
    assert run_python("-c", code).returncode == 0

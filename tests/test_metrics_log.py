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


@pytest.mark.parametrize("line", [
    b"", b"5", b"[]", b"null", b'"text"', b"\xff\xfe", b"\0" * 99, b"[" * 100_000, b"1" * 5000, b'{"step": 1, "ki',
    b"{}", b'{"step": 1}', b'{"kind": "train"}', b'{"step": "1", "kind": "train"}', b'{"step": true, "kind": "train"}',
    b'{"step": 1, "kind": null}', b'{"step": 1, "kind": "train", "x": "1"}', b'{"step": 1, "kind": "train", "x": null}',
    b'{"step": 1, "kind": "train", "x": 1' + b"0" * 400 + b"}",
], ids=lambda line: line[:40].decode(errors="replace"))
def test_damaged_line_costs_only_itself(tmp_path, caplog, line):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(LINES[0].encode() + line + b"\n" + LINES[1].encode())
    metrics_log.open_log(str(tmp_path), lambda record: True).close()
    assert path.read_text() == "".join(LINES)
    assert caplog.messages == [f"{path} is damaged: ignoring line 2"]


def test_damage_is_reported_once_but_no_unfinished_line(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("5\n" + LINES[0] + "5\n5\n" + '{"step": 3, "ki')
    lines = []
    assert [record["step"] for record in metrics_log.read_records(tmp_path, lines.append)] == [1]
    assert lines == [f"{tmp_path}/metrics.jsonl is damaged: ignoring line 1 and 2 more"]


def test_reading_needs_no_tensorflow():
    code = "from cyclegan_tf.runs import metrics_log; import sys; sys.exit('tensorflow' in sys.modules)"
    assert run_python("-c", code).returncode == 0

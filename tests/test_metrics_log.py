"""metrics.jsonl: reading it after a crash, and the records that a resumed run keeps."""

import json
import math

import pytest
from conftest import run_python

from cyclegan_tf.runs import metrics_log
from cyclegan_tf.storage import json_lines

LINES = ('{"step": 1, "kind": "train", "loss/gen_ab": 0.1}\n', '{"step": 2, "kind": "eval", "psnr_ab": "NaN"}\n')


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
        file.write(json_lines.format_line({"step": 4}))
    assert (tmp_path / "metrics.jsonl").read_text() == "".join(LINES) + '{"step": 4}\n'


def test_bare_infinity_and_nan_of_old_files_are_read_and_become_strict_json(tmp_path):
    old = '{"step": 1, "kind": "test", "psnr_ab": Infinity, "kid_ab": NaN, "x": -Infinity}\n'
    (tmp_path / "metrics.jsonl").write_text(old)
    (before,) = metrics_log.read_records(tmp_path)
    metrics_log.open_log(str(tmp_path), lambda record: True).close()
    assert (tmp_path / "metrics.jsonl").read_text() == (
        '{"step": 1, "kind": "test", "psnr_ab": "Infinity", "kid_ab": "NaN", "x": "-Infinity"}\n'
    )
    (after,) = metrics_log.read_records(tmp_path)
    for record in before, after:
        assert (record["psnr_ab"], record["x"]) == (math.inf, -math.inf) and math.isnan(record["kid_ab"])


def test_numbers_that_are_not_finite_are_strings_in_strict_json():
    values = {"value": math.inf, "classes": [1, math.nan], "baselines": {"input": -math.inf, "color_map": 0.5}}
    assert json.loads(json_lines.format_line({"metric": "psnr", **values}), parse_constant=pytest.fail) == {
        "metric": "psnr", "value": "Infinity", "classes": [1, "NaN"],
        "baselines": {"input": "-Infinity", "color_map": 0.5},
    }


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

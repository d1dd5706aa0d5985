"""experiments/troubles.py: the measures of troubles."""

import sys

import numpy as np
import pytest
from conftest import ROOT

ROWS, COLUMNS = np.meshgrid(np.arange(8.0), np.arange(8.0), indexing="ij")
SLOPE = np.broadcast_to((10 * ROWS + 3 * COLUMNS)[None, ..., None], (1, 8, 8, 3))
CHECKERED = np.where((ROWS + COLUMNS) % 2, 5.0, -5.0)[None, ..., None]


@pytest.fixture
def troubles(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "experiments"))
    import troubles

    yield troubles
    del sys.modules["troubles"]


@pytest.mark.parametrize(("name", "images", "translations", "value"), [
    pytest.param("checkerboard", SLOPE, SLOPE, 0, id="slope"),
    pytest.param("checkerboard", SLOPE, SLOPE + CHECKERED, 5, id="checkered"),
    pytest.param("correlation", SLOPE, 2 * SLOPE + 7, 1, id="brighter"),
    pytest.param("correlation", SLOPE, 255 - SLOPE, -1, id="inverted"),
    pytest.param("change", SLOPE, SLOPE + CHECKERED, 5, id="five_levels"),
])
def test_values_of_measures_by_hand(troubles, name, images, translations, value):
    assert getattr(troubles, f"measure_{name}")(images, translations) == pytest.approx(value, abs=1e-9)


def test_loss_is_the_mean_over_the_last_tenth_of_the_run(troubles, tmp_path):
    lines = [f'{{"step": {step}, "kind": "train", "loss/disc_a": {step}, "loss/disc_b": 0.5}}' for step in range(1, 21)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    # Steps 19 and 20: the mean of 19, 0.5, 20 and 0.5.
    assert troubles.measure(troubles.TROUBLES["few"], str(tmp_path), []) == 10


def test_page_has_the_picture_of_each_trouble(troubles):
    text = (ROOT / "docs" / "troubles.md").read_text(encoding="utf-8")
    for name in troubles.TROUBLES:
        assert f"](trouble_{name}.jpg)" in text, name

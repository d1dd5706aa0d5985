"""The packaged run on photographs: its size, and the colors and shapes of its translations."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cyclegan_tf.data import sources
from cyclegan_tf.inference import loading
from cyclegan_tf.runs import directory as run_directory


@pytest.fixture(scope="module")
def photographs():
    """The held-out photographs by domain, uint8 (31, 128, 128, 3)."""
    return {
        domain: np.stack([
            np.asarray(Image.open(path).resize((128, 128), Image.Resampling.BICUBIC))
            for path in sorted((sources.DEMO_DIR / f"test{domain}").iterdir())
        ])
        for domain in "AB"
    }


@pytest.fixture(scope="module")
def translations(photographs):
    """The photographs, translated from A (apples) and from B (oranges)."""
    models = loading.load_directions("demo")
    return {"A": models["a2b"].translate(photographs["A"]), "B": models["b2a"].translate(photographs["B"])}


def measure_orange(images):
    """Mean share of orange pixels (hue of 15 to 45 degrees, saturation above 0.4) among all saturated pixels."""
    shares = []
    for image in images:
        hue, saturation, _ = np.moveaxis(np.asarray(Image.fromarray(image).convert("HSV")).astype(float), -1, 0)
        saturated = saturation > 0.4 * 255
        shares.append(np.mean((hue[saturated] * 360 / 255 >= 15) & (hue[saturated] * 360 / 255 <= 45)))
    return np.mean(shares)


def correlate_brightness(images, others):
    """Mean over pairs of images of the correlation of their gray values."""
    return np.mean([
        np.corrcoef(one.mean(axis=-1).ravel(), other.mean(axis=-1).ravel())[0, 1]
        for one, other in zip(images, others, strict=True)
    ])


def test_the_run_takes_less_than_four_megabytes():
    folder = Path(run_directory.locate("demo"))
    found = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.suffix for path in found} == {".json", ".npz"}
    assert sum(path.stat().st_size for path in found) < 4_000_000


def test_apples_take_the_color_of_oranges_and_oranges_lose_it(photographs, translations):
    apples, oranges = (measure_orange(photographs[domain]) for domain in "AB")
    # The share of orange pixels is closer to the target domain's share than to the source domain's.
    assert measure_orange(translations["A"]) > (apples + oranges) / 2
    assert measure_orange(translations["B"]) < (apples + oranges) / 2


@pytest.mark.parametrize("domain", ["A", "B"])
def test_translations_keep_the_shapes(photographs, translations, domain):
    assert correlate_brightness(photographs[domain], translations[domain]) > 0.8

"""Held-out images through a run's generators: the measures of a run and its sample grid."""

import numpy as np

from cyclegan_tf import images
from cyclegan_tf.data import pipeline
from cyclegan_tf.metrics import paired

_CYCLE_LIMIT = 100  # Held-out images for the cycle error; pairs are all measured.


def _translate(translator, image):
    """An image (H, W, C) of any kind of `images` -> (H, W, C') of the same kind."""
    if image.dtype == np.uint8:
        return translator.uint8_images(image[np.newaxis])["images"][0].numpy()
    translated = translator.float_images(images.to_float(image)[np.newaxis])["images"][0].numpy()
    return images.from_float(translated, image.dtype)


def held_out(config, translators, dataset):
    """Means over the held-out images, as floats by name.

    With pairs: psnr_ab and ssim_ab of A -> B against the true B, and psnr_ba, ssim_ba. Without: cycle_a and cycle_b,
    mean |image -> there and back - image| in units of the range [-1, 1]; of the training images if none are held out.
    Images that cannot be decoded are left out.

    Args:
      translators: `inference.Translator`s by the directions a2b and b2a; pix2pix has only the first.
    """
    values = _paired(config, translators, dataset) if dataset.has_pairs else _cycled(config, translators, dataset)
    return {name: float(np.mean(numbers)) for name, numbers in values.items() if numbers}


def _paired(config, translators, dataset):
    names = {direction: direction.replace("2", "") for direction in translators}
    values = {f"{measure}_{name}": [] for name in names.values() for measure in ("psnr", "ssim")}
    a_images, b_images = (pipeline.test_images(test, config) for test in (dataset.test_a, dataset.test_b))
    for a, b in zip(a_images, b_images, strict=True):
        if a is None or b is None:
            continue
        for direction, translator in translators.items():
            source, truth = (a, b) if direction == "a2b" else (b, a)
            # Measured at the depth of the truth, which may differ from the source's.
            result = images.from_float(images.to_float(_translate(translator, source)), truth.dtype)
            values[f"psnr_{names[direction]}"].append(paired.psnr(result, truth))
            values[f"ssim_{names[direction]}"].append(paired.ssim(result, truth))
    return values


def _cycled(config, translators, dataset):
    values = {}
    if len(translators) < 2:
        return values
    for name, image_list, out, back in (
        ("cycle_a", dataset.test_a or dataset.train_a, "a2b", "b2a"),
        ("cycle_b", dataset.test_b or dataset.train_b, "b2a", "a2b"),
    ):
        found = [image for image in pipeline.test_images(image_list, config, _CYCLE_LIMIT) if image is not None]
        cycled = (_translate(translators[back], _translate(translators[out], image)) for image in found)
        values[name] = [
            np.mean(np.abs(images.to_float(there_and_back) - images.to_float(image)), dtype=np.float64)
            for there_and_back, image in zip(cycled, found, strict=True)
        ]
    return values


def sample_grid(config, translators, dataset):
    """Rows of the first held-out images (else training images): real, translated, there and back, for each direction.

    With pairs the true translation stands beside them. Arguments as of `held_out`; returns uint8 (H, W, 3).
    """
    lists = (dataset.test_a or dataset.train_a, dataset.test_b or dataset.train_b)
    truth = ["truth"] if dataset.has_pairs else []
    titles = {"a2b": ["A", "A to B", "A to B to A"], "b2a": ["B", "B to A", "B to A to B"]}
    there_and_back = len(translators) == 2
    rows = []
    for a, b in zip(*(pipeline.test_images(found, config, config.n_samples) for found in lists), strict=False):
        if a is None or b is None:
            continue
        row = []
        for direction, translator in translators.items():
            source, other, back = (a, b, "b2a") if direction == "a2b" else (b, a, "a2b")
            fake = _translate(translator, source)
            row += [source, fake] + ([_translate(translators[back], fake)] if there_and_back else [])
            row += [other] if dataset.has_pairs else []
        rows.append(row)
    if not rows:
        return np.full((22, 22, 3), 255, np.uint8)
    widest = max(image.shape[1] for row in rows for image in row)
    columns = [title for direction in translators for title in titles[direction][: 2 + there_and_back] + truth]
    return images.grid(rows, columns, scale=max(1, 128 // widest))

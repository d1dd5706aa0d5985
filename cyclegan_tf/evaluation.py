"""Held-out images through a run's generators: the measures of a run and its sample grid."""

import functools

import numpy as np

from cyclegan_tf import images, measuring
from cyclegan_tf.data import pipeline
from cyclegan_tf.errors import UserError
from cyclegan_tf.metrics import measures, paired

_CYCLE_LIMIT = 100  # Held-out images for the cycle error; pairs are all measured.


def _translate(translator, image):
    """An image (H, W, C) of any kind of `images` -> (H, W, C') of the same kind."""
    if image.dtype == np.uint8:
        return translator.uint8_images(image[np.newaxis])["images"][0].numpy()
    translated = translator.float_images(images.to_float(image)[np.newaxis])["images"][0].numpy()
    return images.from_float(translated, image.dtype)


class Evaluator:
    """What a run measures of its held-out images: `held_out`, and the measures of --eval_metrics.

    Raises:
      UserError: a measure cannot be had on these data, or lacks its weights; or --keep_best names none of them.
    """

    def __init__(self, config, dataset):
        self._config, self._dataset = config, dataset
        protocol = measures.Protocol()
        self._networks = measures.Networks(protocol)
        self._protocol = protocol
        directions = ("a2b",) if config.model == "pix2pix" else ("a2b", "b2a")
        names = set()
        for direction in directions:
            task = measures.Task(direction, dict.fromkeys(directions), dataset, config, protocol, self._networks)
            for name in config.extra_metrics:
                measures.KINDS[name](name, task)  # Raises before the run has begun.
                names |= set(measuring.by_name([{"metric": name, "direction": direction, "value": 0}]))
            if dataset.has_pairs:
                names |= {f"{measure}_{direction.replace('2', '')}" for measure in ("psnr", "ssim")}
            elif len(directions) == 2:
                names.add(f"cycle_{direction[0]}")
        if config.keep_best and config.keep_best not in names:
            raise UserError(f"--keep_best={config.keep_best} is none of what this run measures: "
                            f"{', '.join(sorted(names))}; --eval_metrics adds others")

    def __call__(self, translators):
        """The measures as floats by name; `translators` as of `held_out`."""
        values = held_out(self._config, translators, self._dataset)
        if self._config.extra_metrics:
            translate = {way: functools.partial(_translate, translator) for way, translator in translators.items()}
            records, _ = measuring.measure(
                translate, self._dataset, self._config, self._protocol, self._config.extra_metrics, self._networks
            )
            values |= measuring.by_name(records)
        return values


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
    for index, (a, b) in enumerate(zip(a_images, b_images, strict=True)):
        if a is None or b is None:
            continue
        if a.shape[:2] != b.shape[:2]:
            dataset.bad.add(dataset.test_b.path(index), "no pair: its size differs from that of A")
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

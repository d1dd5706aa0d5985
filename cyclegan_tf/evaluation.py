"""Held-out images through both generators: the measures of a run and its sample grid."""

import numpy as np

from cyclegan_tf import images
from cyclegan_tf.data import pipeline
from cyclegan_tf.metrics import paired


def _translate(translator, image):
    """uint8 (H, W, 3) -> uint8 (H, W, 3)."""
    return translator.uint8_images(image[np.newaxis])["images"][0].numpy()


def held_out(config, translators, dataset):
    """Means over the held-out images, as floats by name.

    With pairs: psnr_ab and ssim_ab of A -> B against the true B, and psnr_ba, ssim_ba. Without: cycle_a and cycle_b,
    mean |image -> there and back - image| in units of the range [-1, 1]; of the training images if none are held out.

    Args:
      translators: `inference.Translator`s by the directions a2b and b2a.
    """
    if dataset.has_pairs:
        values = {name: [] for name in ("psnr_ab", "ssim_ab", "psnr_ba", "ssim_ba")}
        a_images, b_images = (pipeline.test_images(test, config) for test in (dataset.test_a, dataset.test_b))
        for (_, a), (_, b) in zip(a_images, b_images, strict=True):
            for direction, source, truth in (("ab", a, b), ("ba", b, a)):
                result = _translate(translators[f"{direction[0]}2{direction[1]}"], source)
                values[f"psnr_{direction}"].append(paired.psnr(result, truth))
                values[f"ssim_{direction}"].append(paired.ssim(result, truth))
    else:
        values = {"cycle_a": [], "cycle_b": []}
        for name, image_list, out, back in (
            ("cycle_a", dataset.test_a or dataset.train_a, "a2b", "b2a"),
            ("cycle_b", dataset.test_b or dataset.train_b, "b2a", "a2b"),
        ):
            for _, image in pipeline.test_images(image_list, config, limit=100):
                cycled = _translate(translators[back], _translate(translators[out], image))
                values[name].append(np.mean(np.abs(cycled / 127.5 - image / 127.5)))
    return {name: float(np.mean(numbers)) for name, numbers in values.items()}


def sample_grid(config, translators, dataset):
    """Rows of the first held-out images (else training images): real, translated, there and back, of both domains.

    With pairs the true translation stands beside them. Arguments as of `held_out`; returns uint8 (H, W, 3).
    """
    sources_a = pipeline.test_images(dataset.test_a or dataset.train_a, config, config.n_samples)
    sources_b = pipeline.test_images(dataset.test_b or dataset.train_b, config, config.n_samples)
    truth = ["truth"] if dataset.has_pairs else []
    titles = ["A", "A to B", "A to B to A", *truth, "B", "B to A", "B to A to B", *truth]
    rows = []
    for (_, a), (_, b) in zip(sources_a, sources_b, strict=False):
        row = []
        for source, other, out, back in ((a, b, "a2b", "b2a"), (b, a, "b2a", "a2b")):
            fake = _translate(translators[out], source)
            row += [source, fake, _translate(translators[back], fake)] + ([other] if dataset.has_pairs else [])
        rows.append(row)
    widest = max(image.shape[1] for row in rows for image in row)
    return images.grid(rows, titles, scale=max(1, 128 // widest))

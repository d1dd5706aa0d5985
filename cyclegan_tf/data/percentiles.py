"""Measures the range of a domain's values: --range_a=percentile:1,99."""

import concurrent.futures
import dataclasses
import logging
import os
from typing import Any

import numpy as np

from cyclegan_tf.config import Config, value_ranges
from cyclegan_tf.config.direction import DOMAINS
from cyclegan_tf.config.value_ranges import ValueRange
from cyclegan_tf.data.dataset import ImageDataset, ImageList
from cyclegan_tf.errors import UserError
from cyclegan_tf.images import sampling

log = logging.getLogger("cyclegan_tf")

# The most images, and the most values of an image, to measure; both evenly spaced. More values hardly change a result.
_N_IMAGES = 128
_N_VALUES = 2**16


def measure_ranges(config: Config, dataset: ImageDataset) -> tuple[Config, ImageDataset]:
    """Measures the ranges that the config gives as percentiles, and sets them in the config and in the data set.

    A range that is a record of an earlier measurement does not change.

    Raises:
      UserError: no training image of a domain can be read, or its values are all equal.
    """
    for domain, train in zip(DOMAINS, (dataset.train_a, dataset.train_b), strict=True):
        flag = f"range_{domain}"
        text = getattr(config, flag)
        option = value_ranges.parse_range(flag, text)
        if option.percentiles is None or option.value is not None:
            continue
        if dataset.stream is not None:
            raise UserError(f"--{flag}={text}: percentiles cannot be measured in a tf.data.Dataset; give LOW,HIGH")
        found = _measure(train, option.percentiles, f"--{flag}={text}")
        log.info("the range of %s is %s, by %s", domain.upper(), found, text)
        values: dict[str, Any] = {flag: value_ranges.record_range(text, found)}
        config = dataclasses.replace(config, **values)
    ranges = {f"{part}_{domain}": config.get_range(domain) for part in ("train", "test") for domain in DOMAINS}
    return config, dataclasses.replace(dataset, **{
        name: dataclasses.replace(getattr(dataset, name), value_range=found) for name, found in ranges.items()
    })


def _measure(image_list: ImageList, percentiles: tuple[float, float], option: str) -> ValueRange:
    """Measures the percentiles of the values of up to 128 images, without infinite values and pixels without data."""
    count = len(image_list)
    chosen = sorted({int(index) for index in np.linspace(0, count - 1, min(count, _N_IMAGES))})

    def read(index: int) -> np.ndarray | None:
        try:
            piece = image_list.read_values(index)
        except (ValueError, OSError):  # Training names the image and leaves it out.
            return None
        values = piece.values.ravel()
        return sampling.sample_evenly(values[np.isfinite(values)], _N_VALUES)

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        parts = [values for values in pool.map(read, chosen) if values is not None and values.size]
    if not parts:
        raise UserError(f"{option}: none of {len(chosen)} images in {image_list.where} can be read and has data; "
                        "repair the images, or give LOW,HIGH")
    # "nearest" chooses values that occur in the images, so the percentiles of integers are integers.
    low, high = np.percentile(np.concatenate(parts), percentiles, method="nearest")
    if low >= high:
        raise UserError(f"{option}: both percentiles of the images in {image_list.where} are {low:g}; give LOW,HIGH")
    return ValueRange(float(low), float(high))

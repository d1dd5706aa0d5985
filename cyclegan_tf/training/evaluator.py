"""Measures the generators of a run on held-out images."""

import logging
from collections.abc import Mapping

from cyclegan_tf.config import Config
from cyclegan_tf.config.direction import Direction
from cyclegan_tf.data.dataset import ImageDataset
from cyclegan_tf.errors import UserError
from cyclegan_tf.metrics import evaluation, report
from cyclegan_tf.metrics.setting import Setting
from cyclegan_tf.metrics.task import Translate

log = logging.getLogger("cyclegan_tf")


class Evaluator:
    """Measures the held-out images of a run: PSNR and SSIM of pairs, else cycle errors, and --eval_metrics.

    If --range_a and --range_b give units to all target domains, MAE and PSNR over the range are measured, too.

    Attributes:
      counts: the number of images behind each measure of the newest call: {`report.format_key`: number}.

    Raises:
      UserError: the data do not allow a measure, the weights of a measure are not installed, --keep_best names a
        measure that this run does not compute, or --eval_every is set and there is nothing to measure.
    """

    def __init__(self, config: Config, dataset: ImageDataset) -> None:
        self._setting = Setting(dataset, config)
        self.counts: dict[str, int] = {}
        self._warned: set[str] = set()
        standard: tuple[str, ...] = ("cycle",) if len(config.directions) == 2 else ()
        if dataset.has_pairs:
            have_units = all(config.has_units(each.target) for each in config.directions)
            standard = ("psnr", "ssim", "mae", "psnr_range") if have_units else ("psnr", "ssim")
        self._names = tuple(dict.fromkeys((*standard, *config.extra_metrics)))
        # Raises before the first step if a measure cannot be computed.
        keys = evaluation.require_measurable(self._names, config.directions, self._setting)
        if config.eval_every and not keys:
            raise UserError(f"--eval_every={config.eval_every}: this run measures nothing, because the held-out images "
                            f"are not pairs and --model={config.model} has no cycle; add measures with --eval_metrics, "
                            "such as kid, or use --eval_every=0")
        if config.keep_best and config.keep_best not in keys:
            raise UserError(f"--keep_best={config.keep_best}: this run measures only {', '.join(sorted(keys))}; choose "
                            "one of them, or add others with --eval_metrics")

    def __call__(self, translate: Mapping[Direction, Translate]) -> dict[str, float]:
        """Measures the held-out images and logs which measures it skips.

        The first call also logs a warning for each measure that has too few images.

        Args:
          translate: for each direction that the run learns, a function that translates an image (H, W, C).

        Returns:
          {`report.format_key`: value}.
        """
        records, skipped = evaluation.measure(translate, self._setting, self._names)
        if skipped:
            log.warning("%s", report.format_skipped(skipped))
        for warning in report.list_warnings(records):
            if warning not in self._warned:
                log.warning("%s", warning)
                self._warned.add(warning)
        self.counts = {report.format_key(each["metric"], each["direction"]): each["n"] for each in records}
        return report.index_values(records)

    def measure_baselines(self) -> dict[str, float]:
        """Measures trivial translations of the held-out images: {`report.format_key`/BASELINE: value}."""
        found = evaluation.measure_baselines(self._names, self._setting.config.directions, self._setting)
        return {f"{key}/{baseline}": value for key, values in found.items() for baseline, value in values.items()}


def split_by_images(measures: Mapping[str, float], dataset: ImageDataset) -> dict[bool, dict[str, float]]:
    """Separates the measures of held-out images (True) from measures of training images that replace them (False).

    The name of a measure ends with the domain of the images that it translates: cycle_a, psnr_ab. Without measures, the
    result has one empty part: True if there are held-out images of A.
    """
    held_out = {"a": bool(dataset.test_a), "b": bool(dataset.test_b)}
    parts: dict[bool, dict[str, float]] = {}
    for name, value in measures.items():
        domain = name.rpartition("_")[2][0]
        parts.setdefault(held_out[domain], {})[name] = value
    return parts or {held_out["a"]: {}}

"""The measures of a run: held-out images through its generators."""

import logging

from cyclegan_tf.errors import UserError
from cyclegan_tf.metrics import evaluation, measures

log = logging.getLogger("cyclegan_tf")


class Evaluator:
    """What a run measures of its held-out images: PSNR and SSIM of pairs, else cycle errors, and --eval_metrics.

    Raises:
      UserError: a measure cannot be had on these data, or lacks its weights; or --keep_best names none of them.
    """

    def __init__(self, config, dataset):
        self._config, self._dataset, self._protocol = config, dataset, measures.Protocol()
        self._networks = measures.Networks(self._protocol)
        own = ("psnr", "ssim") if dataset.has_pairs else ("cycle",) if len(config.directions) == 2 else ()
        self._names = tuple(dict.fromkeys((*own, *config.extra_metrics)))
        keys = set()
        for direction in config.directions:
            translate = dict.fromkeys(config.directions)
            task = measures.Task(direction, translate, dataset, config, self._protocol, self._networks)
            for name in self._names:
                measures.KINDS[name](name, task)  # Raises before the run has begun.
                keys.add(evaluation.format_key(name, direction))
        if config.keep_best and config.keep_best not in keys:
            raise UserError(f"--keep_best={config.keep_best} is none of what this run measures: "
                            f"{', '.join(sorted(keys))}; --eval_metrics adds others")

    def __call__(self, translators):
        """Measures of the held-out images: {`evaluation.format_key`: value}. Logs a warning for each one left out.

        Args:
          translators: `translator.Translator`s by the directions a2b and b2a; pix2pix has only the first.
        """
        translate = {way: translator.translated for way, translator in translators.items()}
        records, notes = evaluation.measure(
            translate, self._dataset, self._config, self._protocol, self._names, self._networks
        )
        for note in notes:
            log.warning(note)
        return evaluation.values_by_key(records)

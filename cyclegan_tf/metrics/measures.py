"""The measures by name: each measure checks the data, collects values from each image, and returns records."""

import abc
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from cyclegan_tf.config import Config
from cyclegan_tf.data import loaders
from cyclegan_tf.errors import UserError
from cyclegan_tf.images import ranges
from cyclegan_tf.metrics import classifier, feature_cache, fid, kid, lpips, paired, segmentation, weights
from cyclegan_tf.metrics.task import Task

Record = dict[str, Any]

_FUNCTIONS = {"psnr": paired.psnr, "ssim": paired.ssim, "ms_ssim": paired.ms_ssim, "l1": paired.l1}
# Measures of pairs in the unit of the target domain, inside of masks.
_IN_UNITS = ("mae", "psnr_range")
_LPIPS = {"lpips": "alexnet", "lpips_vgg": "vgg16"}
_DISTRIBUTIONS = ("fid", "kid")
NAMES = (*_FUNCTIONS, *_IN_UNITS, *_LPIPS, *_DISTRIBUTIONS, "cycle", "identity", "judge", "segmentation")
# The measures that `evaluate` computes by default, if the data and the installed weights allow.
DEFAULT = ("psnr", "ssim", "ms_ssim", "l1", "lpips", "fid", "kid", "cycle", "identity", "judge")
# The measures that need only the translations. The baselines have values of these measures, too.
COMPARABLE = (*_FUNCTIONS, *_IN_UNITS, *_LPIPS, *_DISTRIBUTIONS, "judge")
_HIGHER_IS_BETTER = ("psnr", "ssim", "ms_ssim", "psnr_range")


def choose_default(config: Config) -> tuple[str, ...]:
    """Returns `DEFAULT`, plus the measures in units if the values of a domain have a unit."""
    return (*DEFAULT, *(_IN_UNITS if config.has_units("a") or config.has_units("b") else ()))


def is_better(name: str, value: float, best: float | None) -> bool:
    """True if `value` improves on `best`, or if there is no `best` yet.

    NaN and infinity never improve: a single pair of equal images makes the mean PSNR infinite.

    Args:
      name: key of the measure and its direction, such as psnr_ab, kid_ba or cycle_a.
    """
    if not np.isfinite(value):
        return False
    if best is None:
        return True
    return value > best if name.rpartition("_")[0] in _HIGHER_IS_BETTER else value < best


class Measure(abc.ABC):
    """A measure of one direction: `add` receives each image in turn, then `compute_records` yields the results.

    Args:
      name: one of `NAMES`.
      task: the direction that is measured.

    Attributes:
      limit: number of images that the measure needs; None for all images.

    Raises:
      UserError: the data set does not allow the measure, or the weights of a measuring network are missing.
    """

    limit: int | None = None

    def __init__(self, name: str, task: Task) -> None:
        self._name, self._task = name, task

    @abc.abstractmethod
    def add(self, source: np.ndarray, result: np.ndarray, truth: np.ndarray | None, index: int) -> None:
        """Adds a source image, its translation and, for a pair, its true translation.

        Args:
          source, result, truth: arrays (H, W, C) of a dtype that `images.ranges` describes.
          index: number of the source image in its list.
        """

    @abc.abstractmethod
    def compute_records(self) -> Iterator[Record]:
        """Yields the results: dicts with value, n and, where they apply, std and others.

        A result whose name differs from the measure's has the entry metric; a result of images other than the
        translated ones has the entries split and size.

        Raises:
          UserError: no image was added, or too few.
        """


class _Paired(Measure):
    """Mean of a distance between the translation and the true image, over the test pairs."""

    def __init__(self, name: str, task: Task) -> None:
        super().__init__(name, task)
        _require_pairs(name, task)
        self._values: list[float] = []
        self._extra: Record = {}
        self._function = _FUNCTIONS.get(name, self._measure_lpips)
        if name in _LPIPS:
            net = _LPIPS[name]
            self._network, self._smallest = task.setting.networks.get_lpips(net), lpips.SMALLEST[net]
            self._extra = {"weights": f"lpips-v0.1 {net} {weights.digest(f'lpips_{net}')}"}

    def _measure_lpips(self, image: np.ndarray, truth: np.ndarray) -> float:
        paired.require_size(self._name, image, self._smallest)
        one, other = (ranges.to_float(ranges.to_rgb(each))[np.newaxis] for each in (image, truth))
        return float(self._network(one, other)[0])

    def add(self, source: np.ndarray, result: np.ndarray, truth: np.ndarray | None, index: int) -> None:
        if truth is not None:
            # The bit depth of the true image may differ from the source's.
            self._values.append(self._function(ranges.from_float(ranges.to_float(result), truth.dtype), truth))

    def compute_records(self) -> Iterator[Record]:
        yield {**_summarize(self._values), **self._extra}


class _InUnits(Measure):
    """Mean absolute error in the unit of the target domain, or PSNR over its range, averaged over the test pairs.

    Only pixels inside the mask that have data in both images count; pairs without such pixels are left out.
    """

    def __init__(self, name: str, task: Task) -> None:
        super().__init__(name, task)
        _require_pairs(name, task)
        domain = task.direction.target
        limits = task.setting.config.get_range(domain)
        if limits is None:
            raise UserError(f"{name} needs the unit of domain {domain.upper()}: train with --range_{domain}")
        self._limits, self._values, self._n_empty = limits, list[float](), 0

    def add(self, source: np.ndarray, result: np.ndarray, truth: np.ndarray | None, index: int) -> None:
        if truth is None:
            return
        region = self._task.load_region(index, truth.shape[:2])
        error = np.abs(ranges.to_float(result) - ranges.to_float(truth)).astype(np.float64)
        error = error if region is None else error[region]
        if not error.size:
            self._n_empty += 1
        elif self._name == "mae":
            self._values.append(float(error.mean()) * (self._limits.high - self._limits.low) / 2)
        else:
            self._values.append(paired.compute_psnr(float(np.square(error).mean()), peak=2.0))

    def compute_records(self) -> Iterator[Record]:
        if self._n_empty and not self._values:
            raise UserError(f"none of the {self._n_empty} pairs has a pixel to measure: all pixels are outside the "
                            "masks or without data; masks in testMask must be above 0 at the pixels to measure")
        yield {**_summarize(self._values), "range": [self._limits.low, self._limits.high]}


class _Distribution(Measure):
    """FID or KID between the translations and the real images of the reference split."""

    def __init__(self, name: str, task: Task) -> None:
        super().__init__(name, task)
        if not len(task.references):
            other = "test" if task.setting.protocol.reference == "train" else "train"
            raise UserError(f"{name} needs real images in {task.references.where}: add some, or use "
                            f"--reference={other}")
        self._network = task.setting.networks.inception
        # FID and KID share one collector.
        self._collector = task.collector = task.collector or feature_cache.Collector(self._network)
        self._n = 0

    def add(self, source: np.ndarray, result: np.ndarray, truth: np.ndarray | None, index: int) -> None:
        self._n += 1
        # The other measure may have added the image, or may have failed to add it.
        if self._collector.count < self._n:
            self._collector.add(result)

    def compute_records(self) -> Iterator[Record]:
        task = self._task
        found = self._collector.join_features()
        real = task.setting.networks.compute_features(task.references)
        if self._name == "kid":
            value, deviation, size = kid.compute_distance(found, real)
            result = {"value": value, "std": deviation, "subset_size": size, "subsets": kid.SUBSETS}
        else:
            result = {"value": fid.compute_distance(found, real)}
        yield {**result, "n": len(found), "reference": task.setting.protocol.reference, "n_reference": len(real),
               "weights": self._network.name}


class _Cycle(Measure):
    """Mean |image - its translation there and back|, for values in [-1, 1], over the first 100 images."""

    limit = 100

    def __init__(self, name: str, task: Task) -> None:
        super().__init__(name, task)
        if len(task.translate) < 2:
            raise UserError(f"{name} needs both directions: give the run directory of a CycleGAN, without --direction")
        self._back = task.translate[task.direction.reverse]
        self._values: list[float] = []

    def add(self, source: np.ndarray, result: np.ndarray, truth: np.ndarray | None, index: int) -> None:
        if len(self._values) < self.limit:
            self._values.append(paired.l1(self._back(result), source))

    def compute_records(self) -> Iterator[Record]:
        yield _summarize(self._values)


class _Identity(Measure):
    """Mean |image - its translation| over real images of the target domain, for values in [-1, 1]."""

    limit = 0  # `compute_records` translates images of the target domain, so the measure needs no source images.

    def __init__(self, name: str, task: Task) -> None:
        super().__init__(name, task)
        source, target = task.sources.channels, task.targets.channels
        if source != target:
            raise UserError(
                f"{name} gives a generator images of its output domain, but the numbers of channels differ: "
                f"{source} in the source domain, {target} in the target domain; leave {name} out"
            )

    def add(self, source: np.ndarray, result: np.ndarray, truth: np.ndarray | None, index: int) -> None:
        pass

    def compute_records(self) -> Iterator[Record]:
        task, errors, shapes = self._task, [], []
        for image in loaders.load_readable_images(task.targets, task.setting.config):
            errors.append(paired.l1(task.run(image), image))
            shapes.append(image.shape)
        split, size = task.target_split, describe_size(shapes)
        yield {**_summarize(errors), "split": split, "size": size}


class _Judge(Measure):
    """Top-1 and top-5 rates of the target's classes, in translations and in the real images of both domains."""

    def __init__(self, name: str, task: Task) -> None:
        super().__init__(name, task)
        domain = task.direction.target
        self._classes = list(task.setting.protocol.classes.get(domain, ()))
        if not self._classes:
            raise UserError(f"{name} needs the numbers of the classes to recognize: --judge_classes_b for translations "
                            "to B, --judge_classes_a for translations to A")
        self._network = task.setting.networks.judge
        self._scores: list[np.ndarray] = []

    def add(self, source: np.ndarray, result: np.ndarray, truth: np.ndarray | None, index: int) -> None:
        self._scores.append(self._network(ranges.to_rgb(result)))

    def compute_records(self) -> Iterator[Record]:
        task = self._task
        real = (task.setting.networks.classify(images) for images in (task.sources, task.targets))
        found, source, target = (classifier.compute_rates(scores, self._classes) for scores in (self._scores, *real))
        for k, value, real_source, real_target in zip((1, 5), found, source, target, strict=True):
            yield {"metric": f"judge_top{k}", "value": value, "real_source": real_source, "real_target": real_target,
                   "n": len(self._scores), "classes": self._classes, "weights": self._network.name}


class _Segmentation(Measure):
    """Cityscapes scores of translated label maps, or of a network's segmentation of translated photographs."""

    def __init__(self, name: str, task: Task) -> None:
        super().__init__(name, task)
        self._to_labels = task.direction.target == task.setting.protocol.labels
        if self._to_labels:
            _require_pairs(name, task)
        elif not task.setting.protocol.segmenter:
            raise UserError(f"{name} of photographs needs a network that segments them: --segmenter=SAVED_MODEL")
        self._segment = segmentation.classify_colors if self._to_labels else task.setting.networks.segmenter
        self._counts, self._n = segmentation.NO_COUNTS, 0

    def add(self, source: np.ndarray, result: np.ndarray, truth: np.ndarray | None, index: int) -> None:
        label_map = truth if self._to_labels else source
        if label_map is not None:
            found, true = self._segment(ranges.to_rgb(result)), segmentation.classify_colors(ranges.to_rgb(label_map))
            self._counts, self._n = self._counts + segmentation.count_confusion(found, true), self._n + 1

    def compute_records(self) -> Iterator[Record]:
        for name, value in segmentation.compute_scores(self._counts).items():
            yield {"metric": f"segmentation_{name}", "value": value, "n": self._n}


_KINDS: dict[str, type[Measure]] = {
    **dict.fromkeys((*_FUNCTIONS, *_LPIPS), _Paired), **dict.fromkeys(_IN_UNITS, _InUnits),
    **dict.fromkeys(_DISTRIBUTIONS, _Distribution),
    "cycle": _Cycle, "identity": _Identity, "judge": _Judge, "segmentation": _Segmentation,
}


def build(name: str, task: Task) -> Measure:
    """Builds the measure `name` of `task`; raises a UserError if the measure cannot be computed, see `Measure`."""
    return _KINDS[name](name, task)


def describe_size(shapes: Sequence[tuple[int, ...]]) -> str:
    """Returns the size of images as WIDTHxHEIGHT, or the number of their sizes, from shapes (H, W, C)."""
    sizes = {f"{shape[1]}x{shape[0]}" for shape in shapes}
    return min(sizes) if len(sizes) == 1 else f"{len(sizes)} sizes"


def _require_pairs(name: str, task: Task) -> None:
    if not task.setting.dataset.has_pairs:
        raise UserError(f"{name} needs pairs: equal file names in testA and testB")


def _summarize(values: Sequence[float]) -> Record:
    if not values:
        raise UserError("no image could be read, or there are no pairs")
    # The PSNR of equal images is infinite, so the values have no standard deviation.
    deviation = {"std": float(np.std(values))} if np.isfinite(values).all() else {}
    return {"value": float(np.mean(values)), **deviation, "n": len(values)}

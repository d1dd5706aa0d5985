"""Measures of translations by name: what each needs, what it gathers from image to image, and its records."""

import dataclasses
import itertools

import numpy as np

from cyclegan_tf.data import pipeline
from cyclegan_tf.errors import UserError
from cyclegan_tf.images import ranges
from cyclegan_tf.metrics import classifier, feature_cache, fid, inception, kid, lpips, paired, segmentation, weights

_FUNCTIONS = {"psnr": paired.psnr, "ssim": paired.ssim, "ms_ssim": paired.ms_ssim, "l1": paired.l1}
_LPIPS = {"lpips": "alexnet", "lpips_vgg": "vgg16"}
_DISTRIBUTIONS = ("fid", "kid", "fid_keras")
NAMES = (*_FUNCTIONS, *_LPIPS, *_DISTRIBUTIONS, "cycle", "identity", "judge", "segmentation")
# Measured where nothing else is asked for and the data and the weights allow it.
DEFAULT = ("psnr", "ssim", "ms_ssim", "l1", "lpips", "fid", "kid", "cycle", "identity", "judge")
_HIGHER_IS_BETTER = ("psnr", "ssim", "ms_ssim")


def is_better(name, value, best):
    """Whether `value` of the measure `name` (psnr_ab, kid_ba, cycle_a ...) is better than `best`, if there is one.

    NaN is never better.
    """
    if best is None:
        return not np.isnan(value)
    return value > best if name.rpartition("_")[0] in _HIGHER_IS_BETTER else value < best


@dataclasses.dataclass(frozen=True)
class Protocol:
    """What figures depend on besides the model and the data set.

    Attributes:
      reference: test or train, the split of real images that translations are compared with as a distribution.
      weights_dir: folder of weights; empty: `weights.default_folder()`.
      inception: SavedModel in place of the network of `metrics.inception`, or empty.
      judge: efficientnet_lite0, or the path of a Keras model.
      classes: domain (a, b) -> numbers of the classes that the judge should see there.
      labels: the domain of label maps, a or b.
      segmenter: SavedModel that segments photographs, or empty.
    """

    reference: str = "test"
    weights_dir: str = ""
    inception: str = ""
    judge: str = "efficientnet_lite0"
    classes: dict = dataclasses.field(default_factory=dict)
    labels: str = "b"
    segmenter: str = ""


class Networks:
    """The networks that measure, loaded when the first measure needs them and shared by all."""

    def __init__(self, protocol):
        self._protocol, self._loaded = protocol, {}

    def get(self, name):
        """The network of measure `name`; raises the UserError of weights that cannot be had."""
        protocol, folder = self._protocol, self._protocol.weights_dir
        makers = {net: (lambda net=net: lpips.LPIPS(net, folder)) for net in _LPIPS.values()} | {
            "inception": lambda: (
                inception.SavedInception(protocol.inception) if protocol.inception else inception.Inception(folder)
            ),
            "keras": inception.KerasInception,
            "judge": lambda: (
                classifier.EfficientNetLite0(folder) if protocol.judge == "efficientnet_lite0"
                else classifier.KerasClassifier(protocol.judge)
            ),
            "segmenter": lambda: segmentation.Segmenter(protocol.segmenter),
        }
        if name not in self._loaded:
            self._loaded[name] = makers[name]()
        return self._loaded[name]


class Task:
    """One direction of a model on a data set.

    Args:
      direction: a `Direction`.
      translate: direction -> function of an image (H, W, C) of any kind of `images.ranges` to the same kind.
    """

    def __init__(self, direction, translate, dataset, config, protocol, networks):
        self.direction, self.translate, self.config, self.protocol = direction, translate, config, protocol
        self.networks, self.dataset, self.collectors = networks, dataset, {}
        tests = direction.order(dataset.test_a, dataset.test_b)
        trains = direction.order(dataset.train_a, dataset.train_b)
        self.split = "test" if tests[0] else "train"
        self.sources, self.targets = (test or train for test, train in zip(tests, trains, strict=True))
        self.references = (trains if protocol.reference == "train" else tests)[1]

    def load(self, image_list, limit=None):
        """Generator of the first images of a list, all without `limit`; None for those that cannot be decoded."""
        return pipeline.load_test_images(image_list, self.config, limit)

    def pairs(self, limit=None):
        """Generator of (source image, its true translation or None), of the images that can be decoded.

        A pair of two sizes is none: that is told once, and the image goes without truth.
        """
        truths = self.load(self.targets, limit) if self.dataset.has_pairs else itertools.repeat(None)
        for index, (source, truth) in enumerate(zip(self.load(self.sources, limit), truths, strict=False)):
            if source is None:
                continue
            if truth is not None and truth.shape[:2] != source.shape[:2]:
                self.targets.bad.add(self.targets.path(index), "no pair: its size differs from that of the other image")
                yield source, None
            else:
                yield source, truth

    def run(self, image):
        return self.translate[self.direction](image)


class _Measure:
    """What all have in common.

    Attributes:
      limit: how many of the first images it wants; None: all.
    """

    limit = None


class _Paired(_Measure):
    """Mean, over held-out pairs, of a function of a translation and the truth."""

    def __init__(self, name, task):
        if not task.dataset.has_pairs:
            raise UserError(f"{name} needs pairs: testA and testB with equal names")
        self._name, self._values, self._extra = name, [], {}
        if name in _LPIPS:
            net = _LPIPS[name]
            self._network, self._smallest = task.networks.get(net), lpips.SMALLEST[net]
            self._function, self._extra = self._lpips, {"weights": f"lpips-v0.1 {net} {weights.digest(f'lpips_{net}')}"}
        else:
            self._function = _FUNCTIONS[name]

    def _lpips(self, image, truth):
        if min(image.shape[:2]) < self._smallest:
            raise UserError(f"{self._name} needs images of at least {self._smallest} x {self._smallest} pixels")
        one, other = (ranges.to_float(ranges.to_rgb(each))[np.newaxis] for each in (image, truth))
        return float(self._network(one, other)[0])

    def add(self, source, result, truth):
        del source
        if truth is not None:
            # At the depth of the truth, which may differ from the source's.
            self._values.append(self._function(ranges.from_float(ranges.to_float(result), truth.dtype), truth))

    def records(self):
        yield {"metric": self._name, **_moments(self._values), **self._extra}


class _Distribution(_Measure):
    """FID or KID between translations and the real images of the reference split."""

    def __init__(self, name, task):
        self._name, self._task = name, task
        if not len(task.references):
            raise UserError(f"{name} needs real images in {task.references.where}: give them, or --reference=train")
        network = "keras" if name == "fid_keras" else "inception"
        self._network = task.networks.get(network)
        # FID and KID share the features; the first of them collects.
        self._collects = network not in task.collectors
        self._collector = task.collectors.setdefault(network, feature_cache.Collector(self._network))

    def add(self, source, result, truth):
        del source, truth
        if self._collects:
            self._collector.add(result)

    def records(self):
        task = self._task
        found = self._collector.features()
        real = feature_cache.load_or_compute(self._network, task.references, task.config, task.protocol.weights_dir)
        record = {"metric": self._name, "n": len(found), "reference": task.protocol.reference, "n_reference": len(real),
                  "weights": self._network.name}
        if self._name == "kid":
            value, deviation, size = kid.distance(found, real)
            yield record | {"value": value, "std": deviation, "subset_size": size, "subsets": kid.SUBSETS}
        else:
            yield record | {"value": fid.distance(found, real)}


class _Cycle(_Measure):
    """Mean |image -> there and back - image|, in units of the range [-1, 1], of the first 100 images."""

    limit = 100

    def __init__(self, name, task):
        if len(task.translate) < 2:
            raise UserError(f"{name} needs both directions: give a run directory of a CycleGAN")
        self._back, self._name, self._values = task.translate[task.direction.reverse], name, []

    def add(self, source, result, truth):
        del truth
        if len(self._values) < self.limit:
            self._values.append(paired.l1(self._back(result), source))

    def records(self):
        yield {"metric": self._name, **_moments(self._values)}


class _Identity(_Measure):
    """Mean |translation of a real image of the target domain - that image|, in units of the range [-1, 1]."""

    def __init__(self, name, task):
        if task.sources.channels != task.targets.channels:
            raise UserError(f"{name} needs domains of equally many channels")
        self._name, self._task = name, task

    def add(self, source, result, truth):
        pass

    def records(self):
        task = self._task
        found = (image for image in task.load(task.targets) if image is not None)
        yield {"metric": self._name, **_moments([paired.l1(task.run(image), image) for image in found])}


class _Judge(_Measure):
    """Top-1 and top-5 rates of the target's classes: of translations, and of the real images of both domains."""

    def __init__(self, name, task):
        domain = task.direction.target
        self._classes = task.protocol.classes.get(domain)
        if not self._classes:
            raise UserError(f"{name} needs the classes of domain {domain}: --judge_classes_{domain}=950")
        self._task, self._network, self._scores = task, task.networks.get("judge"), []

    def add(self, source, result, truth):
        del source, truth
        self._scores.append(self._network(ranges.to_rgb(result)))

    def records(self):
        real = {}
        for kind, image_list in (("source", self._task.sources), ("target", self._task.targets)):
            found = (image for image in self._task.load(image_list) if image is not None)
            real[kind] = classifier.rates([self._network(ranges.to_rgb(image)) for image in found], self._classes)
        for index, (k, value) in enumerate(zip((1, 5), classifier.rates(self._scores, self._classes), strict=True)):
            yield {"metric": f"judge_top{k}", "value": value, "real_source": real["source"][index],
                   "real_target": real["target"][index], "n": len(self._scores), "classes": list(self._classes),
                   "weights": self._network.name}


class _Segmentation(_Measure):
    """Scores of label maps: of those that photographs were translated to, or of photographs made of label maps."""

    def __init__(self, name, task):
        self._to_labels = task.direction.target == task.protocol.labels
        if self._to_labels and not task.dataset.has_pairs:
            raise UserError(f"{name} needs pairs: testA and testB with equal names")
        if not self._to_labels and not task.protocol.segmenter:
            raise UserError(f"{name} of photographs needs a network that segments them: --segmenter=SAVED_MODEL")
        self._network = None if self._to_labels else task.networks.get("segmenter")
        self._counts, self._n = 0, 0

    def add(self, source, result, truth):
        if self._to_labels and truth is None:
            return
        labels = segmentation.class_ids(ranges.to_rgb(truth if self._to_labels else source))
        result = ranges.to_rgb(result)
        ids = segmentation.class_ids(result) if self._to_labels else self._network(result)
        self._counts, self._n = self._counts + segmentation.confusion(ids, labels), self._n + 1

    def records(self):
        for name, value in segmentation.scores(self._counts).items():
            yield {"metric": f"segmentation_{name}", "value": value, "n": self._n}


KINDS = {
    **dict.fromkeys((*_FUNCTIONS, *_LPIPS), _Paired), **dict.fromkeys(_DISTRIBUTIONS, _Distribution),
    "cycle": _Cycle, "identity": _Identity, "judge": _Judge, "segmentation": _Segmentation,
}


def _moments(values):
    if not values:
        raise UserError("there is no image that can be read, or no pair")
    return {"value": float(np.mean(values)), "std": float(np.std(values)), "n": len(values)}

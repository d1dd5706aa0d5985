"""Trivial translations, which only change colors. A model that scores no better has learned no more than a tint."""

import dataclasses
import logging
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from cyclegan_tf.data.bad_images import BadImageError
from cyclegan_tf.data.dataset import ImageList
from cyclegan_tf.errors import UserError
from cyclegan_tf.images import ranges
from cyclegan_tf.metrics.task import Task

log = logging.getLogger("cyclegan_tf")

# The input itself; the mean color of the target's training images; the color map that gives the source's training
# images the mean and the covariance of the target's images; the color map fitted to the true translations (unfair).
NAMES = ("input", "mean_color", "color_map", "color_map_unfair")
# Most training images of a domain whose colors are collected.
_LIMIT = 500
# Most pixels of an image whose colors are collected.
_PIXEL_LIMIT = 2**20


@dataclasses.dataclass(frozen=True)
class ColorMap:
    """An affine map of colors in [-1, 1]: y = x @ matrix + offset, clipped.

    Attributes:
      matrix: float64 (channels of x, channels of y).
      offset: float64 (channels of y,).
      returns_floats: whether results are float32 for images of any dtype, because 8 bits would round values in units.
    """

    matrix: np.ndarray
    offset: np.ndarray
    returns_floats: bool = False

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Applies the map to an image (H, W, C) of a dtype that `images.ranges` describes.

        The result has the dtype of the image, or float32 if `returns_floats`.
        """
        matrix, offset = self.matrix.astype(np.float32), self.offset.astype(np.float32)
        dtype = np.float32 if self.returns_floats else image.dtype
        return ranges.from_float(ranges.to_float(image) @ matrix + offset, dtype)


class Colors:
    """Mean and covariance of the colors of all pixels that were added.

    Args:
      channels: number of channels.

    Attributes:
      count: number of pixels; `mean` and `covariance` need at least one pixel.
    """

    def __init__(self, channels: int) -> None:
        self.count, self._sum, self._products = 0, np.zeros(channels), np.zeros((channels, channels))

    def add(self, image: np.ndarray, region: np.ndarray | None = None) -> None:
        """Adds the pixels without NaN of an image (H, W, C). `region`, bool (H, W), limits the pixels; None: all."""
        (pixels,) = _list_pixels([image], region)
        self.count += len(pixels)
        self._sum += pixels.sum(axis=0)
        self._products += pixels.T @ pixels

    @property
    def mean(self) -> np.ndarray:
        """Mean color, float64 (C,), in [-1, 1]."""
        return self._sum / self.count

    @property
    def covariance(self) -> np.ndarray:
        """Covariance of the colors, float64 (C, C)."""
        return self._products / self.count - np.outer(self.mean, self.mean)


def fit(task: Task) -> dict[str, ColorMap]:
    """Fits the trivial translations of one direction; leaves out translations that the data do not allow.

    The mean color and the unfair color map need pairs, because both are meaningful only beside a true translation. The
    input and the color map need equal numbers of channels in A and B. The mean color and the color map need training
    images.

    Args:
      task: gives the direction, the test images and the training images; `fit` reads at most 500 training images of a
        domain.
    """
    dataset, channels = task.setting.dataset, (task.sources.channels, task.targets.channels)
    in_units = task.setting.config.get_range(task.direction.target) is not None
    source, target = (
        _collect_colors(task, images) for images in task.direction.order(dataset.train_a, dataset.train_b)
    )
    found = {}
    if channels[0] == channels[1]:
        found["input"] = _keep_values(task, channels[0])
        if source and target:
            found["color_map"] = fit_transport(source, target)
    if dataset.has_pairs:
        if target:
            found["mean_color"] = ColorMap(np.zeros(channels), target.mean)
        try:
            found["color_map_unfair"] = fit_least_squares(_load_regions(task, in_units), *channels)
        except BadImageError:
            raise
        except UserError as error:  # A mask cannot be read or has another size.
            log.warning("the baseline color_map_unfair is left out: %s", error)
    return {name: dataclasses.replace(found[name], returns_floats=in_units) for name in NAMES if name in found}


def _keep_values(task: Task, channels: int) -> ColorMap:
    """Returns the map that keeps each pixel's value: in the unit if both domains have a range, else in [-1, 1]."""
    source, target = (task.setting.config.get_range(each) for each in (task.direction.source, task.direction.target))
    if source is None or target is None:
        return ColorMap(np.eye(channels), np.zeros(channels))
    width = target.high - target.low
    offset = (source.low + source.high - target.low - target.high) / width
    return ColorMap((source.high - source.low) / width * np.eye(channels), np.full(channels, offset))


def _load_regions(task: Task, in_units: bool) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray | None]]:
    """Yields (image, true translation, region) of each pair; measures in units count the pixels of the region."""
    for index, image, truth in task.enumerate_pairs():
        if truth is not None:
            yield image, truth, task.load_region(index, truth.shape[:2]) if in_units else None


def _collect_colors(task: Task, images: ImageList) -> Colors | None:
    """Collects the colors of up to `_LIMIT` images, of pixels with data; None if no image can be read."""
    if not images:
        return None
    step = -(-len(images) // _LIMIT)
    colors = Colors(images.channels)
    chosen = images.subset(range(0, len(images), step))
    for index, image in enumerate(task.load(chosen)):
        if image is not None:
            colors.add(image, task.load_valid(chosen, index, image.shape[:2]))
    return colors if colors.count else None


def fit_transport(source: Colors, target: Colors) -> ColorMap:
    """Returns the optimal transport map between normal distributions with the two means and covariances.

    The matrix is S^-1/2 (S^1/2 T S^1/2)^1/2 S^-1/2 for covariances S and T (Pitie and Kokaram 2007, "The linear
    Monge-Kantorovitch linear colour mapping"). Directions in which the source does not vary map to zero.
    """
    root, inverse = _power(source.covariance, 0.5), _power(source.covariance, -0.5)
    matrix = inverse @ _power(root @ target.covariance @ root, 0.5) @ inverse
    return ColorMap(matrix, target.mean - source.mean @ matrix)


def _power(matrix: np.ndarray, exponent: float) -> np.ndarray:
    """Computes a power of a symmetric positive semidefinite matrix; eigenvalues near zero become zero."""
    values, vectors = np.linalg.eigh(matrix)
    positive = values > 1e-10 * max(values[-1], 1e-10)
    powers = np.where(positive, np.where(positive, values, 1) ** exponent, 0)
    return (vectors * powers) @ vectors.T


def fit_least_squares(
    pairs: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray | None]], source_channels: int, target_channels: int
) -> ColorMap:
    """Returns the color map with the least squared error.

    Args:
      pairs: (image, true translation, region). The region is the pixels to fit to, bool (H, W), or None for all.
    """
    products = np.zeros((source_channels + 1, source_channels + 1))
    moments = np.zeros((source_channels + 1, target_channels))
    for image, true_image, region in pairs:
        pixels, truth = _list_pixels([image, true_image], region)
        pixels = np.pad(pixels, ((0, 0), (0, 1)), constant_values=1)
        products += pixels.T @ pixels
        moments += pixels.T @ truth
    solution = np.linalg.lstsq(products, moments, rcond=None)[0]
    return ColorMap(solution[:-1], solution[-1])


def _list_pixels(images: Sequence[np.ndarray], region: np.ndarray | None) -> list[np.ndarray]:
    """Lists the colors of each image as float64 (N, C) in [-1, 1], for images of one height and width.

    Lists only pixels in the region, and skips each pixel at which a value of any image is NaN. If the region has many
    pixels, lists only evenly spaced pixels.
    """
    pixels = [image.reshape(-1, image.shape[-1]) if region is None else image[region] for image in images]
    step = max(1, -(-len(pixels[0]) // _PIXEL_LIMIT))
    floats = [ranges.to_float(each[::step]).astype(np.float64) for each in pixels]
    are_numbers = np.all([~np.isnan(each).any(axis=1) for each in floats], axis=0)
    return [each[are_numbers] for each in floats]

"""Large images in bounded memory: runs a generator tile by tile, with the same result as for the whole image.

Instance normalization needs the mean and variance of a whole feature map, so tiles that are translated independently
get different statistics and show seams. This module runs the network one feature map at a time instead. It computes a
map that feeds an instance norm in tiles, each with the margin that the receptive fields of its layers need, and
accumulates the map's statistics over the tiles; given the statistics, the norm is a function of each pixel. Maps are
stored in a temporary file between stages. Maps of the image's own size are recomputed instead, because they are the
largest and the cheapest to compute (the ResNet's first convolution and its last upsampling, 3 % of its work).

Every layer but instance norms must have a known receptive field; see `networks.receptive_field`.
"""

import itertools
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from cyclegan_tf.errors import UserError
from cyclegan_tf.networks import layers
from cyclegan_tf.networks.graph import Node, read_graph
from cyclegan_tf.networks.receptive_field import ReceptiveField, find_receptive_fields
from cyclegan_tf.storage import filesystem

Span = tuple[int, int]  # Pixels [begin, end) along one axis.
Window = tuple[Span, Span]  # Pixels (rows, columns) of a feature map.

_SMALLEST_TILE = 16  # Side in pixels of a feature map. Smaller tiles would be mostly margin.


class Stage(NamedTuple):
    """A feature map to compute in all its tiles.

    Attributes:
      name: name of the layer that computes the map.
      stored: whether later stages read the map from a temporary file.
      normalized: whether an instance norm needs the map's statistics.
    """

    name: str
    stored: bool
    normalized: bool


def translate(
    generator: tf.keras.Model,
    size: tuple[int, int],
    read: Callable[[Window], np.ndarray],
    write: Callable[[Window, np.ndarray], None],
    tile: int,
    folder: str | None = None,
    progress: Callable[[float], None] | None = None,
) -> None:
    """Runs `generator` on an image that is read and written window by window.

    Args:
      generator: Keras functional model, (N, H, W, C) -> (N, H, W, C').
      size: (height, width) of the image, multiples of the generator's size multiple.
      read: maps a window ((top, bottom), (left, right)) to its pixels, float32 (bottom - top, right - left, C) in
        [-1, 1].
      write: takes a window and its result, float32 (bottom - top, right - left, C') in [-1, 1]. Called once for each
        tile.
      tile: side of a tile in pixels of the image.
      folder: where to store feature maps; default: the system's temporary folder. The paper's ResNet needs 256 bytes
        per pixel of the image, 6.1 GB at 6000 x 4000.
      progress: called after each tile with the fraction of the work that is done, in (0, 1].

    Raises:
      OSError: the disk has no room for the feature maps.
      UserError: a layer has no known receptive field, or the network is not a plain graph of layers (see
        `networks.graph.read_graph`).
    """
    network = _Network(generator, size, read)
    stages = network.plan_stages()
    windows = {stage: _cut_into_tiles(network.get_size(stage.name), size, tile) for stage in stages}
    done, total = 0, sum(map(len, windows.values()))
    for index, stage in enumerate(stages):
        stored = _StoredMap(network.get_shape(stage.name), folder) if stage.stored else None
        moments = Moments()
        for window in windows[stage]:
            pixels = network.compute(stage.name, window)
            if stage.normalized:
                moments.add(pixels)
            if stored:
                stored.write(window, pixels)
            if stage is stages[-1]:
                write(window, pixels.numpy()[0])
            done += 1
            if progress:
                progress(done / total)
        network.finish_stage(stage, stored, moments, stages[index + 1 :])


def require_support(generator: tf.keras.Model, multiple: int) -> None:
    """Raises the UserError of `translate` if it does not accept the generator.

    Args:
      multiple: the generator's size multiple.
    """
    side = 64 * multiple  # Any size that the generator accepts.
    _Network(generator, (side, side), lambda window: np.zeros(()))


def supports(generator: tf.keras.Model, multiple: int) -> bool:
    """True if `translate` accepts the generator: a plain graph of layers with known receptive fields."""
    try:
        require_support(generator, multiple)
    except UserError:
        return False
    return True


class _Network:
    """Computes any window of any feature map of a functional model.

    A feature map has the name of the layer that computes the map.
    """

    def __init__(self, generator: tf.keras.Model, size: tuple[int, int], read: Callable[[Window], np.ndarray]) -> None:
        graph = read_graph(generator)
        self._nodes, self._output = graph.nodes, graph.output
        self._read, self._area = read, math.prod(size)
        self._stored: dict[str, _StoredMap] = {}
        self._statistics: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self._fields: dict[str, tuple[ReceptiveField, ReceptiveField]] = {}
        self._shapes: dict[str, tuple[int, int, int]] = {}
        for name, node in self._nodes.items():
            if node.inputs and not layers.is_instance_normalization(node.layer):
                self._fields[name] = _find_fields(node.layer)
            self._shapes[name] = self._find_shape(node) if node.inputs else (*size, generator.input_shape[-1])

    def _find_shape(self, node: Node) -> tuple[int, int, int]:
        given = [self._shapes[name] for name in node.inputs]
        if len({shape[:2] for shape in given}) > 1:
            raise UserError(f"layer {node.layer.name} reads feature maps of different sizes, which tiles do not "
                            "support; translate whole images")
        batch = [(1, *shape) for shape in given]
        _, *shape = node.layer.compute_output_shape(batch if len(batch) > 1 else batch[0])
        return tuple(shape)

    def get_shape(self, name: str) -> tuple[int, int, int]:
        """(H, W, C) of a feature map."""
        return self._shapes[name]

    def get_size(self, name: str) -> tuple[int, int]:
        """(H, W) of a feature map."""
        return self._shapes[name][:2]

    def plan_stages(self) -> list[Stage]:
        """Lists the feature maps to compute completely, in order; the last is the network's output.

        These are the maps that an instance norm reads, because the norm needs their statistics, and the maps that
        several layers read, so that a window of a late map does not reach back through all earlier maps.
        """
        readers: dict[str, list[tf.keras.layers.Layer]] = {name: [] for name in self._nodes}
        for node in self._nodes.values():
            for source in node.inputs:
                readers[source].append(node.layer)
        stages = []
        for name, node in self._nodes.items():
            if not node.inputs:
                continue
            normalized = any(map(layers.is_instance_normalization, readers[name]))
            is_small = math.prod(self.get_size(name)) < self._area
            stored = is_small and (normalized or len(readers[name]) > 1)
            if stored or normalized or name == self._output:
                stages.append(Stage(name, stored, normalized))
        return stages

    def finish_stage(
        self, stage: Stage, stored: "_StoredMap | None", moments: "Moments", later: Sequence[Stage]
    ) -> None:
        """Keeps the results of a stage, and deletes the stored maps that none of the `later` stages reads."""
        if stage.normalized:
            self._statistics[stage.name] = moments.mean, moments.variance
        if stored:
            self._stored[stage.name] = stored
        names = {other.name for other in later}
        needed = {source for name in names for source in self._find_stored_sources(name, names)}
        for name in set(self._stored) - needed:
            self._stored.pop(name).close()

    def _find_stored_sources(self, name: str, later: set[str]) -> Iterator[str]:
        """The stored maps that a window of map `name` reads, while the maps in `later` are not stored yet."""
        for source in self._nodes[name].inputs:
            if source in self._stored:
                yield source
            elif source not in later:
                yield from self._find_stored_sources(source, later)

    def compute(self, name: str, window: Window) -> tf.Tensor:
        """Computes a window of a feature map: float32 (1, bottom - top, right - left, C)."""
        if name in self._stored:
            return self._stored[name].read(window)
        layer, inputs = self._nodes[name]
        if not inputs:
            return tf.convert_to_tensor(self._read(window))[tf.newaxis]
        if name not in self._fields:
            return self._normalize(layer, inputs[0], window)
        pieces = [
            field.find_input(*span, size)
            for field, span, size in zip(self._fields[name], window, self.get_size(inputs[0]), strict=True)
        ]
        (top, bottom, row), (left, right, column) = pieces
        pixels = [self.compute(source, ((top, bottom), (left, right))) for source in inputs]
        result = layer(pixels if len(pixels) > 1 else pixels[0], training=False)
        height, width = (end - begin for begin, end in window)
        return result[:, row : row + height, column : column + width]

    def _normalize(self, layer: tf.keras.layers.Layer, source: str, window: Window) -> tf.Tensor:
        """Computes a window of an instance norm's output from the statistics of the whole input map."""
        mean, variance = self._statistics[source]
        scale = 1 / np.sqrt(variance + layer.epsilon)
        pixels = (self.compute(source, window) - mean.astype(np.float32)) * scale.astype(np.float32)
        if layer.scale:
            pixels *= layer.gamma
        return pixels + layer.beta if layer.center else pixels


def _find_fields(layer: tf.keras.layers.Layer) -> tuple[ReceptiveField, ReceptiveField]:
    try:
        return find_receptive_fields(layer)
    except UserError as error:
        raise UserError(f"tiles are not possible: {error}; or translate whole images") from error


def _cut_into_tiles(size: tuple[int, int], image: tuple[int, int], tile: int) -> list[Window]:
    """Windows that cover a map of `size` (H, W), of nearly equal sides, at most `tile` pixels of the image."""
    spans = []
    for length, full in zip(size, image, strict=True):
        side = max(tile * length // full, _SMALLEST_TILE)
        count = -(-length // side)
        edges = [length * i // count for i in range(count + 1)]
        spans.append(list(itertools.pairwise(edges)))
    rows, columns = spans
    return list(itertools.product(rows, columns))


class Moments:
    """Mean and biased variance of each channel, accumulated over tiles in float64 (Chan et al. 1983)."""

    def __init__(self) -> None:
        self._count = 0
        self._mean: float | np.ndarray = 0.0
        self._squares: float | np.ndarray = 0.0

    @property
    def mean(self) -> np.ndarray:
        return np.asarray(self._mean)

    @property
    def variance(self) -> np.ndarray:
        return np.asarray(self._squares) / self._count

    def add(self, pixels: tf.Tensor) -> None:
        """Adds the pixels of a tile, float32 (1, h, w, C)."""
        count = math.prod(pixels.shape[:3])
        mean, variance = (np.float64(moment) for moment in tf.nn.moments(pixels, axes=(0, 1, 2)))
        total, distance = self._count + count, mean - self._mean
        self._squares += variance * count + distance**2 * (self._count * count / total)
        self._mean += distance * (count / total)
        self._count = total


class _StoredMap:
    """A float32 feature map (H, W, C) in an unnamed temporary file, which vanishes however the process ends."""

    def __init__(self, shape: tuple[int, int, int], folder: str | None) -> None:
        self._shape = shape
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - close() closes it.
        n_bytes = 4 * math.prod(shape)
        try:
            filesystem.reserve(self._file, n_bytes)
        except OSError as error:
            self.close()
            where = folder or tempfile.gettempdir()
            remedy = "free some space, or name an output folder on a larger disk" if folder else (
                "name a larger folder in the environment variable TMPDIR"
            )
            # An OSError, because there may be room for a smaller image. Commands explain OSErrors with a path.
            problem = f"no room for {n_bytes / 1e9:.1f} GB of temporary maps in {where} ({error.strerror})"
            raise OSError(error.errno, f"{problem}; {remedy}", where) from error

    def _map(self) -> np.ndarray:
        # Map the file for each access: the pages of a lasting mapping would count as this process's memory.
        return np.memmap(self._file, np.float32, "r+", shape=self._shape)

    def read(self, window: Window) -> tf.Tensor:
        """Reads a window as (1, h, w, C)."""
        return tf.convert_to_tensor(self._map()[_slice(window)])[tf.newaxis]

    def write(self, window: Window, pixels: tf.Tensor) -> None:
        """Writes pixels (1, h, w, C) to a window."""
        self._map()[_slice(window)] = pixels.numpy()[0]

    def close(self) -> None:
        """Deletes the file."""
        self._file.close()


def _slice(window: Window) -> tuple[slice, slice]:
    rows, columns = window
    return slice(*rows), slice(*columns)

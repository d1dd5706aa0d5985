"""Large images in bounded memory: a generator run tile by tile that gives what it gives for the whole image.

Instance normalization needs the mean and the variance of a whole map, so tiles that are translated on their own get
other statistics each, and show seams. Here the network is run map by map instead. A map that feeds an instance norm is
computed in tiles, each with the few pixels around it that its convolutions reach; its statistics are accumulated over
the tiles, and the norm is then a function of each pixel. Maps are kept in a temporary file between stages, except those
of the image's own size: these are the largest and the cheapest to compute again (the ResNet's first convolution and its
last up-sampling, 3 % of its work). The layers of any functional model made of those in `networks` are handled.
"""

import itertools
import math
import os
import tempfile
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from cyclegan_tf.errors import UserError
from cyclegan_tf.networks import layers

keras = layers.keras

_SMALLEST_TILE = 16  # Pixels of a map: smaller tiles are mostly border.


class Stage(NamedTuple):
    """A map to compute over all its tiles: whether it is kept, and whether its statistics are needed."""

    name: str
    stored: bool
    normalized: bool


class _Reach(NamedTuple):
    """Along one axis: the pixels of a layer's input that a window of its output needs.

    `padding` is what a padding layer adds before and after them; the window begins at pixel `offset` of what the layer
    makes of them.
    """

    begin: int
    end: int
    padding: tuple = (0, 0)
    offset: int = 0


def translate(generator, size, read, write, tile, folder=None, progress=None):
    """Runs `generator` over an image that is read and written window by window.

    Args:
      generator: Keras functional model, as `networks` builds them.
      size: (height, width) of the image, multiples of what the generator halves.
      read: function of ((top, bottom), (left, right)) to these pixels, float32 (bottom - top, right - left, C) in
        [-1, 1].
      write: function of a window and its result, float32 (bottom - top, right - left, C') in [-1, 1]; called once for
        each tile.
      tile: side of a tile in pixels of the image.
      folder: where the maps are kept; default the system's temporary folder. The paper's ResNet needs 256 bytes a pixel
        of the image there, 6.1 GB at 6000 x 4000.
      progress: function called with the share that is done, in (0, 1], after each tile.

    Raises:
      UserError: there is no room for the maps.
    """
    network = _Network(generator, size, read)
    stages = network.stages()
    windows = {stage: _tiles(network.size(stage.name), size, tile) for stage in stages}
    done, total = 0, sum(map(len, windows.values()))
    for index, stage in enumerate(stages):
        stored = _Stored(network.shape(stage.name), folder) if stage.stored else None
        moments = _Moments()
        for window in windows[stage]:
            pixels = network.window(stage.name, window)
            if stage.normalized:
                moments.add(pixels)
            if stored:
                stored.write(window, pixels)
            if stage is stages[-1]:
                write(window, pixels.numpy()[0])
            done += 1
            if progress:
                progress(done / total)
        network.finish(stage, stored, moments, stages[index + 1 :])


class _Network:
    """A functional model as a graph of layers, of which any window of any map can be computed.

    A map is known by the name of the layer that makes it; a window is ((top, bottom), (left, right)) in its pixels.
    """

    def __init__(self, generator, size, read):
        producers = {id(layer.output): layer.name for layer in generator.layers}
        self._layers = {layer.name: layer for layer in generator.layers}
        self._inputs = {
            layer.name: [producers[id(tensor)] for tensor in tf.nest.flatten(layer.input)]
            for layer in generator.layers
            if not isinstance(layer, keras.layers.InputLayer)
        }
        self._result = producers[id(generator.output)]
        self._read, self._area = read, math.prod(size)
        self._stored, self._statistics = {}, {}
        image = (1, *size, generator.input_shape[-1])
        self._shapes = {name: image for name in self._layers if name not in self._inputs}
        for name, inputs in self._inputs.items():
            given = [self._shapes[other] for other in inputs]
            self._shapes[name] = tuple(self._layers[name].compute_output_shape(given if len(given) > 1 else given[0]))

    def shape(self, name):
        """(H, W, C) of a map."""
        return self._shapes[name][1:]

    def size(self, name):
        """(H, W) of a map."""
        return self._shapes[name][1:3]

    def stages(self):
        """The maps to compute in full, in order; the last is the result.

        Those that an instance norm reads, for its statistics, and those that several layers read, so that a window of
        a late map does not reach back through all the earlier ones.
        """
        readers = {name: [] for name in self._layers}
        for name, inputs in self._inputs.items():
            for other in inputs:
                readers[other].append(name)
        found = []
        for name in self._inputs:
            normalized = any(layers.is_instance_normalization(self._layers[reader]) for reader in readers[name])
            small = math.prod(self.size(name)) < self._area
            stored = small and (normalized or len(readers[name]) > 1)
            if stored or normalized or name == self._result:
                found.append(Stage(name, stored, normalized))
        return found

    def finish(self, stage, stored, moments, later):
        """Takes a stage's results, and forgets the maps that none of the `later` stages reads."""
        if stage.normalized:
            self._statistics[stage.name] = moments.mean, moments.variance
        if stored:
            self._stored[stage.name] = stored
        names = {other.name for other in later}
        needed = {source for name in names for source in self._sources(name, names)}
        for name in set(self._stored) - needed:
            self._stored.pop(name).close()

    def _sources(self, name, later):
        """The stored maps that a window of map `name` reads, given that those in `later` are not stored yet."""
        for other in self._inputs.get(name, ()):
            if other in self._stored:
                yield other
            elif other not in later:
                yield from self._sources(other, later)

    def window(self, name, window):
        """float32 (1, bottom - top, right - left, C) of a map."""
        if name in self._stored:
            return self._stored[name].read(window)
        if name not in self._inputs:
            return tf.convert_to_tensor(self._read(window))[tf.newaxis]
        layer, inputs = self._layers[name], self._inputs[name]
        if layers.is_instance_normalization(layer):
            mean, variance = self._statistics[inputs[0]]
            scale = 1 / np.sqrt(variance + layer.epsilon)
            pixels = (self.window(inputs[0], window) - mean.astype(np.float32)) * scale.astype(np.float32)
            return pixels * layer.gamma + layer.beta if layer.scale else pixels
        reach = _REACH.get(type(layer))
        if reach is None:  # A function of each pixel.
            values = [self.window(other, window) for other in inputs]
            return layer(values if len(values) > 1 else values[0], training=False)
        axes = [
            reach(layer, axis, *span, size)
            for axis, (span, size) in enumerate(zip(window, self.size(inputs[0]), strict=True))
        ]
        pixels = self.window(inputs[0], tuple((axis.begin, axis.end) for axis in axes))
        if type(layer) in _PADDING:
            pixels = tf.pad(pixels, [(0, 0), *(axis.padding for axis in axes), (0, 0)], mode=_PADDING[type(layer)][0])
        elif not isinstance(layer, layers.Cropping2D):
            pixels = layer(pixels)
        top, left = (axis.offset for axis in axes)
        (top_, bottom), (left_, right) = window
        return pixels[:, top : top + bottom - top_, left : left + right - left_]


def _pad(layer, axis, begin, end, size):
    """A padding's window inside its input, and what of the padding is in the window."""
    before = _PADDING[type(layer)][1](layer, axis)
    first, last = begin - before, end - before
    return _Reach(max(first, 0), min(last, size), padding=(max(-first, 0), max(last - size, 0)))


def _conv(layer, axis, begin, end, size):
    del size
    stride, kernel = layer.strides[axis], layer.kernel_size[axis]
    return _Reach(begin * stride, (end - 1) * stride + kernel)


def _transposed_conv(layer, axis, begin, end, size):
    # Pixel i of the input adds to pixels i stride .. i stride + kernel - 1 of the output.
    stride, kernel = layer.strides[axis], layer.kernel_size[axis]
    first = max(-(-(begin - kernel + 1) // stride), 0)
    return _Reach(first, min((end - 1) // stride + 1, size), offset=begin - first * stride)


def _crop(layer, axis, begin, end, size):
    del size
    before = layer.cropping[axis][0]
    return _Reach(begin + before, end + before)


def _upsample(layer, axis, begin, end, size):
    del size
    factor = layer.size[axis]
    first = begin // factor
    return _Reach(first, -(-end // factor), offset=begin - first * factor)


# The mode of `tf.pad`, and the pixels that are added before the first one along an axis.
_PADDING = {
    layers.ReflectionPadding2D: ("REFLECT", lambda layer, axis: layer.padding),
    layers.ReplicationPadding2D: ("SYMMETRIC", lambda layer, axis: 1),
    keras.layers.ZeroPadding2D: ("CONSTANT", lambda layer, axis: layer.padding[axis][0]),
}
# The layers that read more than one pixel for one: function of (layer, axis, begin, end, size of the input) to _Reach.
_REACH = {
    **dict.fromkeys(_PADDING, _pad),
    layers.Conv2D: _conv,
    layers.Conv2DTranspose: _transposed_conv,
    layers.Cropping2D: _crop,
    keras.layers.UpSampling2D: _upsample,
}


def _tiles(size, image, tile):
    """Windows that cover a map of `size` (H, W): tiles of nearly equal sides, `tile` pixels of the image or less."""
    spans = []
    for length, full in zip(size, image, strict=True):
        side = max(tile * length // full, _SMALLEST_TILE)
        count = -(-length // side)
        edges = [length * i // count for i in range(count + 1)]
        spans.append(list(itertools.pairwise(edges)))
    return list(itertools.product(*spans))


class _Moments:
    """Mean and biased variance of each channel, accumulated over tiles in float64 (Chan et al. 1983)."""

    def __init__(self):
        self._count, self.mean, self._squares = 0, 0.0, 0.0

    @property
    def variance(self):
        return self._squares / self._count

    def add(self, pixels):
        """float32 (1, h, w, C)."""
        count = math.prod(pixels.shape[:3])
        mean, variance = (np.float64(moment) for moment in tf.nn.moments(pixels, axes=(0, 1, 2)))
        total, distance = self._count + count, mean - self.mean
        self._squares += variance * count + distance**2 * (self._count * count / total)
        self.mean += distance * (count / total)
        self._count = total


class _Stored:
    """A float32 map (H, W, C) in an unnamed temporary file, which goes with the process however it ends."""

    def __init__(self, shape, folder):
        self._shape = shape
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        bytes_ = 4 * math.prod(shape)
        try:
            # Now, since a write to a mapping that finds no room kills the process.
            os.posix_fallocate(self._file.fileno(), 0, bytes_)
        except OSError as error:
            self.close()
            raise UserError(
                f"no room for {bytes_ / 1e9:.1f} GB of temporary maps in {folder or tempfile.gettempdir()} "
                f"({error.strerror}); name a larger folder in the environment variable TMPDIR"
            ) from error

    def _map(self):
        # Mapped anew each time: pages of a lasting mapping would count as this process's memory.
        return np.memmap(self._file, np.float32, "r+", shape=self._shape)

    def read(self, window):
        return tf.convert_to_tensor(self._map()[_slices(window)])[tf.newaxis]

    def write(self, window, pixels):
        self._map()[_slices(window)] = pixels.numpy()[0]

    def close(self):
        self._file.close()


def _slices(window):
    return tuple(slice(*span) for span in window)

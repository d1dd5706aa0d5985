"""Features of image patches, as the contrastive loss of CUT compares them (Park et al. 2020, section 3).

A patch is one position of a feature map of the generator's encoder. Positions are row * W + column.
"""

from collections.abc import Sequence

import tensorflow as tf

from cyclegan_tf.config import Config, registries
from cyclegan_tf.config.options import split_names
from cyclegan_tf.errors import UserError
from cyclegan_tf.networks import blocks

_EPSILON = 1e-7


def list_layers(config: Config) -> tuple[str, ...]:
    """Returns the names of the generator layers whose outputs CUT compares: --nce_layers, or else the generator's own.

    If --nce_layers is empty, the generator must be registered with such layers; the `Config` of CUT requires it.
    """
    if config.nce_layers:
        return tuple(split_names("nce_layers", config.nce_layers))
    list_own = registries.GENERATORS[config.generator].nce_layers
    assert list_own is not None, "the Config of CUT requires --nce_layers"
    return list_own(config)


def find_maps(generator: tf.keras.Model, names: Sequence[str]) -> list[tf.Tensor]:
    """Returns the symbolic outputs (N, H, W, C) of the layers called `names`.

    Raises:
      UserError: the generator has no layer of that name.
    """
    layers = {layer.name: layer for layer in generator.layers}
    for name in names:
        if name not in layers:
            raise UserError(f"--nce_layers: the generator has no layer {name}; its layers: {', '.join(layers)}")
    return [layers[name].output for name in names]


def build_feature_network(channels: Sequence[int], width: int = 256, name: str = "features") -> tf.keras.Model:
    """Builds an MLP of two dense layers of `width` units for each feature map, with a ReLU between them.

    Maps a list of float32 (rows, C), one for each number of `channels`, to a list of (rows, width) whose rows have been
    scaled to norm 1 by `normalize_rows`. Kernels are drawn from N(0, 0.02), biases are 0.
    """
    inputs = [tf.keras.Input((count,)) for count in channels]
    outputs = []
    for i, rows in enumerate(inputs):
        hidden = _dense(rows, f"mlp{i}_hidden", width, activation="relu")
        features = _dense(hidden, f"mlp{i}_output", width)
        outputs.append(UnitNormalization(name=f"mlp{i}_unit")(features))
    return tf.keras.Model(inputs, outputs, name=name)


def _dense(rows: tf.Tensor, name: str, width: int, activation: str | None = None) -> tf.Tensor:
    initializer = tf.keras.initializers.RandomNormal(stddev=blocks.INIT_STDDEV)
    return tf.keras.layers.Dense(width, activation, kernel_initializer=initializer, name=name)(rows)


@tf.keras.utils.register_keras_serializable("cyclegan_tf")
class UnitNormalization(tf.keras.layers.Layer):
    """`normalize_rows` as a layer."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return normalize_rows(inputs)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape


def normalize_rows(rows: tf.Tensor) -> tf.Tensor:
    """Divides each row of (rows, C) by its L2 norm + 1e-7.

    The gradient of a zero row is finite, while it is NaN in the authors' code.
    """
    squares = tf.reduce_sum(tf.square(rows), axis=-1, keepdims=True)
    return rows / (tf.sqrt(tf.maximum(squares, 1e-30)) + _EPSILON)


def sample(feature_map: tf.Tensor, positions: tf.Tensor) -> tf.Tensor:
    """Takes the pixels at `positions` (P,) out of each map of (N, H, W, C): float32 (N * P, C), image by image."""
    shape = tf.shape(feature_map)
    rows = tf.gather(tf.reshape(feature_map, (shape[0], -1, feature_map.shape[-1])), positions, axis=1)
    return tf.cast(tf.reshape(rows, (-1, feature_map.shape[-1])), tf.float32)

"""Segments of a network: the builder marks layers at which the network may be cut."""

import tensorflow as tf

from cyclegan_tf.errors import UserError


def mark_segment_end(layer: tf.keras.layers.Layer) -> tf.keras.layers.Layer:
    """Marks `layer` as the end of a segment, and returns it.

    The layers after `layer` must not read the output of any layer before it. --recompute keeps only the output of
    `layer` in memory for the backward pass.
    """
    layer.ends_segment = True
    return layer


def split_into_segments(network: tf.keras.Model) -> list[tf.keras.Model]:
    """Splits `network` after each marked layer into networks that share its layers.

    Each segment maps the output of the segment before it to the next one. A network without marks is one segment.

    Raises:
      UserError: a layer after a mark reads a layer before the mark.
    """
    ends = [layer for layer in network.layers if getattr(layer, "ends_segment", False)]
    starts = [network.inputs[0], *(layer.output for layer in ends)]
    stops = [*(layer.output for layer in ends), network.outputs[0]]
    try:
        return [tf.keras.Model(start, stop) for start, stop in zip(starts, stops, strict=True)]
    except ValueError as error:
        names = ", ".join(layer.name for layer in ends)
        raise UserError(
            f"network {network.name} cannot be cut after each of its marked layers ({names}), because a later layer "
            "reads a layer before the cut; call mark_segment_end only for layers whose output is all that later layers "
            "read"
        ) from error

"""Exports TensorFlow Lite (LiteRT) files."""

import os
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from cyclegan_tf.exporters.conversion import run_converter
from cyclegan_tf.exporters.source import Source
from cyclegan_tf.exporters.verify import Artifact
from cyclegan_tf.ops import hardware
from cyclegan_tf.storage import zip_metadata

keras = tf.keras

# Precision -> largest and mean difference allowed, in units of the range [-1, 1]. Integer arithmetic keeps the picture
# but not its exact pixels, because the variance of an instance norm has only 256 levels.
BOUNDS = {"float32": (1e-4, 1e-4), "float16": (1 / 255, 1e-3), "dynamic_range": (0.2, 0.02), "int8": (0.75, 0.15)}


def write(source: Source, folder: str, precision: Sequence[str]) -> list[Artifact]:
    """Writes FOLDER/DIRECTION-PRECISION.tflite for each given precision; input and output are always float32.

    The files map (1, H, W, C) in [-1, 1] to (1, H, W, C'). The ranges of the run, if it has any, are the file
    value_ranges.json in an archive at the end of each file, as TensorFlow Lite's own metadata are.

    Args:
      source: what to export.
      folder: existing folder to write to.
      precision: among float32; float16 (weights); dynamic_range (8-bit weights); int8 (8-bit weights and arithmetic).

    Raises:
      UserError: TensorFlow cannot convert the network, or int8 lacks training images.
    """
    # Load the images before the conversions, because loading them can fail.
    representative = source.load_representative_images() if "int8" in precision else None
    artifacts = []
    for level in precision:
        name = f"{source.direction}-{level}.tflite"
        path = os.path.join(folder, name)
        with open(path, "wb") as file:
            file.write(_convert(source, level, representative))
        if source.translator.units:
            zip_metadata.add(path, source.translator.units.to_lists())
        artifacts.append(Artifact(name, "tflite", *BOUNDS[level]))
    return artifacts


def _convert(source: Source, precision: str, representative: list[np.ndarray] | None) -> bytes:
    converter = _make_converter(source)
    if precision != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if precision == "int8":
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.representative_dataset = lambda: ([image] for image in representative or ())
    alternatives = "--format=onnx" if source.size else "--size=256x256 (a fixed size is easier), --format=onnx"
    with run_converter("the converter of TensorFlow Lite", f"TFLite {precision}", alternatives):
        return converter.convert()


def _make_converter(source: Source) -> tf.lite.TFLiteConverter:
    """Makes the converter, with the entry point that works with this version of Keras.

    With other entry points, a conversion for images of any size fails, or its file gives NaN.
    """
    shape = source.shape
    if hasattr(keras, "ops"):
        inputs = keras.Input(shape[1:], batch_size=1, name="images")
        network = keras.models.clone_model(source.network, inputs, clone_function=_replace_upsampling)
        return tf.lite.TFLiteConverter.from_keras_model(network)
    function = tf.function(
        lambda images: source.network(images, training=False),
        input_signature=[tf.TensorSpec(shape, tf.float32, name="images")],
    )
    with hardware.force_portable_ops():
        traced = function.get_concrete_function()
    return tf.lite.TFLiteConverter.from_concrete_functions([traced], source.network)


class _RepeatPixels(tf.keras.layers.Layer):
    """Nearest-neighbor UpSampling2D(2): with free sizes, the converter loses the channels of Keras's own layer."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return tf.nn.depth_to_space(tf.concat([inputs] * 4, axis=-1), 2)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        batch, height, width, channels = input_shape
        return (batch, height and 2 * height, width and 2 * width, channels)


def _replace_upsampling(layer: tf.keras.layers.Layer) -> tf.keras.layers.Layer:
    is_nearest = type(layer) is keras.layers.UpSampling2D and layer.interpolation == "nearest"
    return _RepeatPixels(name=layer.name) if is_nearest and tuple(layer.size) == (2, 2) else layer

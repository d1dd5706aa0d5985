"""Exports ONNX files with tf2onnx."""

import os

import tensorflow as tf

from cyclegan_tf.exporters.conversion import run_converter
from cyclegan_tf.exporters.source import Source
from cyclegan_tf.exporters.verify import Artifact

_OPSET = 17


def write(source: Source, folder: str) -> list[Artifact]:
    """Writes DIRECTION.onnx: `images`, float32 (1, H, W, C) in [-1, 1] -> `translations`, float32 (1, H, W, C').

    The ranges of the run, if it has any, are the metadata source_range and target_range.

    Args:
      source: what to export.
      folder: existing folder to write to.

    Raises:
      UserError: tf2onnx cannot convert the network.
    """
    name = f"{source.direction}.onnx"
    # tf.function and tf2onnx get the same spec, because tf2onnx finds the input by its name.
    signature = [tf.TensorSpec(source.shape, tf.float32, name="images")]

    @tf.function(input_signature=signature)
    def translate(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"translations": source.network(images, training=False)}

    import tf2onnx

    with run_converter(f"tf2onnx {tf2onnx.__version__}", "ONNX", "--format=tflite"):
        model, _ = tf2onnx.convert.from_function(translate, input_signature=signature, opset=_OPSET)
    for key, limits in source.translator.units.to_lists().items():
        model.metadata_props.add(key=f"{key}_range", value=",".join(map(str, limits)))
    with open(os.path.join(folder, name), "wb") as file:
        file.write(model.SerializeToString())
    return [Artifact(name, "onnx", largest=1e-4)]

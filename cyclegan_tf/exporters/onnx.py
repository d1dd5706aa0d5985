"""ONNX files, by tf2onnx."""

import os

import tensorflow as tf

from cyclegan_tf.errors import UserError
from cyclegan_tf.exporters.quiet import quiet
from cyclegan_tf.exporters.verify import Artifact
from cyclegan_tf.ops import hardware

_OPSET = 17


def write(source, folder, name=None):
    """FOLDER/DIRECTION.onnx: `images` float32 (1, H, W, C) in [-1, 1] -> `translations`, the same."""
    name = name or f"{source.direction}.onnx"
    # The names must agree, else tf2onnx loses the input.
    signature = [tf.TensorSpec(source.shape, tf.float32, name="images")]

    @tf.function(input_signature=signature)
    def translations(images):
        return {"translations": source.network(images, training=False)}

    import tf2onnx

    try:
        with quiet(), hardware.force_portable_ops():
            model, _ = tf2onnx.convert.from_function(translations, input_signature=signature, opset=_OPSET)
    except Exception as error:  # tf2onnx raises many kinds.
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise UserError(f"tf2onnx {tf2onnx.__version__} cannot convert this network with TensorFlow {tf.__version__} "
                        f"({reason}); try --format=tflite, or TensorFlow 2.15 on Python 3.11") from error
    with open(os.path.join(folder, name), "wb") as file:
        file.write(model.SerializeToString())
    return [Artifact(name, "onnx", largest=1e-4)]

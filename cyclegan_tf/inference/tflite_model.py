"""Running .tflite files with LiteRT's interpreter, an optional extra."""

import numpy as np

from cyclegan_tf.errors import UserError
from cyclegan_tf.storage import filesystem


class Interpreter:
    """A .tflite generator of one image input and one image output, float32 or quantized.

    Args:
      path: the file.

    Attributes:
      input_channels, output_channels: of the images.

    Raises:
      UserError: LiteRT is missing, or this is no such file.
    """

    def __init__(self, path):
        try:
            from ai_edge_litert import interpreter
        except ImportError as error:
            raise UserError("reading .tflite files needs LiteRT: pip install 'cyclegan_tf[export]'") from error
        try:
            content = {"model_content": filesystem.read_bytes(path)} if filesystem.is_remote(path) else {}
            self._interpreter = interpreter.Interpreter(**(content or {"model_path": str(path)}))
        except (ValueError, RuntimeError) as error:
            raise UserError(f"{path} is damaged or no .tflite file ({_first_line(error)})") from error
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        if len(inputs) != 1 or len(outputs) != 1 or len(inputs[0]["shape"]) != 4:
            raise UserError(f"{path} is no generator: it takes or gives something else than one batch of images")
        self.input_channels, self.output_channels = int(inputs[0]["shape"][-1]), int(outputs[0]["shape"][-1])
        self._input, self._output = inputs[0], outputs[0]
        self._shape = None

    def __call__(self, images):
        """float32 (N, H, W, C) in [-1, 1] -> float32 (N, H, W, C').

        Raises:
          ValueError: the file is for images of another size.
        """
        # One by one: a file may be for a batch of one image.
        return np.stack([self._one(image[np.newaxis])[0] for image in np.asarray(images)])

    def _one(self, image):
        if self._shape != image.shape:
            self._resize(image.shape)
        self._interpreter.set_tensor(self._input["index"], _quantized(image, self._input))
        self._interpreter.invoke()
        result = _dequantized(self._interpreter.get_tensor(self._output["index"]), self._output)
        if result.shape[:3] != image.shape[:3]:
            raise ValueError(f"the .tflite file makes {_size(result)} of {_size(image)} pixels")
        return result

    def _resize(self, shape):
        fixed = self._input["shape_signature"][1:3]
        if any(length not in (-1, own) for length, own in zip(fixed, shape[1:3], strict=True)):
            raise ValueError(f"the .tflite file is for images of {fixed[1]} x {fixed[0]} pixels only")
        self._interpreter.resize_tensor_input(self._input["index"], shape)
        self._interpreter.allocate_tensors()
        self._shape = shape


def _quantized(values, details):
    scale, zero = details["quantization"]
    if details["dtype"] == np.float32:
        return values.astype(np.float32)
    limits = np.iinfo(details["dtype"])
    return np.clip(np.rint(values / scale) + zero, limits.min, limits.max).astype(details["dtype"])


def _dequantized(values, details):
    scale, zero = details["quantization"]
    return values if details["dtype"] == np.float32 else ((values.astype(np.float32) - zero) * scale).astype(np.float32)


def _size(images):
    return f"{images.shape[2]} x {images.shape[1]}"


def _first_line(error):
    return str(error).splitlines()[0] if str(error) else type(error).__name__

"""Runs .tflite generators with LiteRT's interpreter, an optional extra."""

from typing import Any

import numpy as np

from cyclegan_tf.config.value_ranges import Units
from cyclegan_tf.errors import UserError, get_first_line, import_extra
from cyclegan_tf.storage import filesystem, zip_metadata


class Interpreter:
    """A .tflite generator as a function of images; its input and output are float32 or quantized.

    Args:
      path: the file.

    Attributes:
      input_channels, output_channels: channels of the images and of their translations.
      units: the ranges that an export of this package names.

    Raises:
      UserError: LiteRT is not installed, or the file is not a generator of one image input and one image output, or
        its images are integers without a scale.
    """

    def __init__(self, path: str) -> None:
        interpreter = import_extra("ai_edge_litert.interpreter", "reading .tflite files needs LiteRT", "export")
        try:
            if filesystem.is_remote(path):
                self._interpreter = interpreter.Interpreter(model_content=filesystem.read_bytes(path))
            else:
                self._interpreter = interpreter.Interpreter(model_path=str(path))
        except (ValueError, RuntimeError) as error:
            raise UserError(f"{path} is damaged or not a .tflite file ({get_first_line(error)})") from error
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        if len(inputs) != 1 or len(outputs) != 1 or any(len(each["shape"]) != 4 for each in (*inputs, *outputs)):
            raise UserError(f"{path} is not a generator: expected one batch of images as input and one as output")
        for each in (*inputs, *outputs):
            if each["dtype"] != np.float32 and not each["quantization"][0]:
                raise UserError(f"{path} takes or returns {each['dtype'].__name__} without a scale; expected float32 "
                                "or quantized images; convert the network again")
        self.input_channels, self.output_channels = int(inputs[0]["shape"][-1]), int(outputs[0]["shape"][-1])
        self._input, self._output = inputs[0], outputs[0]
        try:
            found = zip_metadata.read(path)
            self.units = Units() if found is None else Units.from_lists(found)
        except (TypeError, ValueError, AttributeError) as error:
            raise UserError(f"{path} has damaged ranges of values ({error}); export the file again") from error
        self._shape: tuple[int, ...] | None = None

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Translates float32 images (N, H, W, C) in [-1, 1] to float32 (N, H, W, C').

        Raises:
          ValueError: the file does not accept images of this size, or the interpreter fails.
        """
        # Translate the images one by one, because the file may have a fixed batch size of 1.
        return np.stack([self._translate(image[np.newaxis])[0] for image in np.asarray(images)])

    def _translate(self, image: np.ndarray) -> np.ndarray:
        try:
            if self._shape != image.shape:
                self._resize(image.shape)
            self._interpreter.set_tensor(self._input["index"], _quantize(image, self._input))
            self._interpreter.invoke()
        except RuntimeError as error:  # For example, an image too small for reflection padding, or too little memory.
            reason = get_first_line(error)
            raise ValueError(f"the .tflite file fails on images of {_format_size(image)} pixels ({reason})") from error
        return _dequantize(self._interpreter.get_tensor(self._output["index"]), self._output)

    def _resize(self, shape: tuple[int, ...]) -> None:
        fixed = self._input["shape_signature"][1:3]
        if any(length not in (-1, own) for length, own in zip(fixed, shape[1:3], strict=True)):
            raise ValueError(f"the .tflite file accepts only images of {fixed[1]} x {fixed[0]} pixels")
        self._shape = None  # The next image must resize again if the interpreter fails here.
        self._interpreter.resize_tensor_input(self._input["index"], shape)
        self._interpreter.allocate_tensors()
        self._shape = shape


def _quantize(values: np.ndarray, details: dict[str, Any]) -> np.ndarray:
    scale, zero = details["quantization"]
    if details["dtype"] == np.float32:
        return values.astype(np.float32)
    limits = np.iinfo(details["dtype"])
    return np.clip(np.rint(values / scale) + zero, limits.min, limits.max).astype(details["dtype"])


def _dequantize(values: np.ndarray, details: dict[str, Any]) -> np.ndarray:
    scale, zero = details["quantization"]
    return values if details["dtype"] == np.float32 else ((values.astype(np.float32) - zero) * scale).astype(np.float32)


def _format_size(images: np.ndarray) -> str:
    return f"{images.shape[2]} x {images.shape[1]}"

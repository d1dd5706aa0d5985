"""Decodes images inside a TensorFlow graph, where SavedModels cannot call `codec`; the results are the same."""

import functools
from collections.abc import Callable

import tensorflow as tf

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8"
_EXIF_IN_JPEG = int.from_bytes(b"Exif\0\0", "big")  # The beginning of a segment with the marker APP1.
_EXIF, _TRANSPARENCY, _PIXELS, _END = (int.from_bytes(name, "big") for name in (b"eXIf", b"tRNS", b"IDAT", b"IEND"))
_APP1, _START_OF_SCAN = 0xFFE1, 0xFFDA  # Markers of JPEG segments.
_ORIENTATION, _LONG = 274, 4  # A tag of EXIF, and the type of 4-byte numbers.


def decode(data: tf.Tensor, channels: int) -> tf.Tensor:
    """Decodes a JPEG, PNG, BMP (without a palette) or GIF (first frame) to uint8 (H, W, channels).

    Like `codec.decode`, applies the EXIF orientation of JPEG and PNG files, composites transparent pixels of PNG files
    on white, and converts colors to luminance for one channel. Differs in three points: 16-bit PNG files become 8-bit,
    transparent pixels of a GIF are not white, and the orientation is not read from XMP data.

    Args:
      data: scalar string, the bytes of the file.
      channels: 1 or 3.

    Raises:
      tf.errors.InvalidArgumentError: when the graph runs, if the bytes are not an image.
    """
    return _make_function(channels)(data)


@functools.cache
def _make_function(channels: int) -> Callable[[tf.Tensor], tf.Tensor]:
    """Makes the function behind `decode`. All models of a process share it, because tracing takes most of a second."""
    return tf.function(
        functools.partial(_decode, channels=channels), input_signature=[tf.TensorSpec((), tf.string)], autograph=False
    )


def _decode(data: tf.Tensor, channels: int) -> tf.Tensor:
    def decode_other() -> tf.Tensor:
        return tf.io.decode_image(data, channels=3, expand_animations=False)

    def decode_jpeg() -> tf.Tensor:
        content = _Content(data)
        # Use Pillow's method, because TensorFlow's default is less accurate.
        image = tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE")
        return _apply_orientation(image, _read_orientation(content, _find_exif_in_jpeg(content)))

    def decode_png() -> tf.Tensor:
        content = _Content(data)
        # Decode alpha only if the file has alpha, because TensorFlow adds wrong alpha to images of less than 8 bits.
        image = tf.cond(
            _has_alpha(content),
            lambda: _composite_on_white(tf.io.decode_png(data, channels=4)),
            lambda: tf.io.decode_png(data, channels=3),
        )
        return _apply_orientation(image, _read_orientation(content, _find_in_png(content, _EXIF, _END)))

    head = tf.strings.substr(data, 0, len(_PNG))
    is_png, is_jpeg = head == _PNG, tf.strings.substr(head, 0, len(_JPEG)) == _JPEG
    image = tf.cond(is_png, decode_png, lambda: tf.cond(is_jpeg, decode_jpeg, decode_other))
    image.set_shape((None, None, 3))
    return image if channels == 3 else _compute_luminance(image)


def _composite_on_white(image: tf.Tensor) -> tf.Tensor:
    """uint8 (H, W, 4) -> (H, W, 3), rounded as Pillow's alpha_composite does."""
    color, alpha = tf.cast(image[..., :3], tf.int32), tf.cast(image[..., 3:], tf.int32)
    total = 128 * (color * alpha + 255 * (255 - alpha)) + 128 * 128
    return tf.cast(tf.bitwise.right_shift(tf.bitwise.right_shift(total, 8) + total, 15), tf.uint8)


def _compute_luminance(image: tf.Tensor) -> tf.Tensor:
    """uint8 (H, W, 3) -> (H, W, 1), with Pillow's weights."""
    weighted = tf.cast(image, tf.int32) * tf.constant([19595, 38470, 7471])
    total = tf.reduce_sum(weighted, axis=-1, keepdims=True) + 32768
    return tf.cast(tf.bitwise.right_shift(total, 16), tf.uint8)


def _apply_orientation(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Rotates and flips uint8 (H, W, C) as `codec.apply_orientation` does."""
    def is_any_of(*values: int) -> tf.Tensor:
        return tf.reduce_any(orientation == tf.constant(values, tf.int64))

    image = tf.cond(is_any_of(5, 6, 7, 8), lambda: tf.transpose(image, (1, 0, 2)), lambda: image)
    image = tf.cond(is_any_of(3, 4, 7, 8), lambda: image[::-1], lambda: image)
    return tf.cond(is_any_of(2, 3, 6, 7), lambda: image[:, ::-1], lambda: image)


class _Content:
    """The bytes of a file, for reading numbers; all bytes after the end are zero.

    Attributes:
      end: a position after the end.
    """

    def __init__(self, data: tf.Tensor) -> None:
        self._bytes = tf.pad(tf.io.decode_raw(data, tf.uint8), [[0, 1]])
        self.end = tf.size(self._bytes, tf.int64) - 1

    def read(self, position: tf.Tensor, length: int, is_big_endian: bool | tf.Tensor = True) -> tf.Tensor:
        """Reads the unsigned numbers of `length` bytes at one or more positions, as int64."""
        index = tf.cast(position, tf.int64)[..., tf.newaxis] + tf.range(length, dtype=tf.int64)
        digits = tf.cast(tf.gather(self._bytes, tf.clip_by_value(index, 0, self.end)), tf.int64)
        digits = tf.where(is_big_endian, digits, digits[..., ::-1])
        return tf.reduce_sum(digits * tf.constant([256**power for power in reversed(range(length))], tf.int64), axis=-1)


def _find_exif_in_jpeg(content: _Content) -> tf.Tensor:
    """Finds the position of the EXIF data, or the end of the file; skips the segments before the pixels one by one."""
    def is_exif(position: tf.Tensor) -> tf.Tensor:
        return (content.read(position, 2) == _APP1) & (content.read(position + 4, 6) == _EXIF_IN_JPEG)

    def may_skip(position: tf.Tensor) -> tf.Tensor:
        marker = content.read(position, 2)
        return (marker > 0xFF00) & (marker != _START_OF_SCAN) & ~is_exif(position)

    def skip(position: tf.Tensor) -> tf.Tensor:
        # A marker may follow any number of bytes of value 0xFF.
        is_fill = content.read(position, 2) == 0xFFFF
        return position + tf.where(is_fill, tf.constant(1, tf.int64), 2 + content.read(position + 2, 2))

    position, = tf.while_loop(may_skip, lambda position: (skip(position),), (tf.constant(2, tf.int64),))
    return tf.where(is_exif(position), position + 10, content.end)


def _has_alpha(content: _Content) -> tf.Tensor:
    """True if a PNG file has an alpha channel or transparent colors."""
    color_type = content.read(25, 1)
    return (color_type == 4) | (color_type == 6) | (_find_in_png(content, _TRANSPARENCY, _PIXELS) < content.end)


def _find_in_png(content: _Content, name: int, last: int) -> tf.Tensor:
    """Finds the position of the data of chunk `name`, or the end of the file; stops at the chunk `last`."""
    def may_skip(position: tf.Tensor) -> tf.Tensor:
        kind = content.read(position + 4, 4)
        return (position < content.end) & (kind != name) & (kind != last)

    def skip(position: tf.Tensor) -> tuple[tf.Tensor]:
        return (position + 12 + content.read(position, 4),)

    position, = tf.while_loop(may_skip, skip, (tf.constant(len(_PNG), tf.int64),))
    return tf.where(content.read(position + 4, 4) == name, position + 8, content.end)


def _read_orientation(content: _Content, start: tf.Tensor) -> tf.Tensor:
    """Reads the orientation in the first directory of the EXIF data at `start`; 0 if there is none."""
    is_big_endian = content.read(start, 2) == int.from_bytes(b"MM", "big")
    directory = start + content.read(start + 4, 4, is_big_endian)
    n_entries = content.read(directory, 2, is_big_endian)
    entries = directory + 2 + 12 * tf.range(n_entries, dtype=tf.int64)
    is_long = content.read(entries + 2, 2, is_big_endian) == _LONG
    values = tf.where(is_long, content.read(entries + 8, 4, is_big_endian), content.read(entries + 8, 2, is_big_endian))
    return tf.reduce_sum(tf.where(content.read(entries, 2, is_big_endian) == _ORIENTATION, values, 0))

"""Images: decoding, resizing and writing with Pillow, and the two value ranges, uint8 and float in [-1, 1]."""

import io

import numpy as np
import tensorflow as tf
from PIL import Image, ImageOps

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff")


def to_float(image):
    """uint8 0..255 -> float32 -1..1: k / 127.5 - 1."""
    return tf.cast(image, tf.float32) / 127.5 - 1.0


def to_uint8(image):
    """Float -1..1 -> uint8 0..255, rounded; values outside are clipped."""
    return tf.cast(tf.round(tf.clip_by_value((tf.cast(image, tf.float32) + 1.0) * 127.5, 0.0, 255.0)), tf.uint8)


def decode(data):
    """The first frame of an encoded image as uint8 (H, W, 3), upright.

    EXIF orientation is applied, transparency is put on white, 16-bit gray is scaled to 8 bits (not clipped).

    Args:
      data: bytes of any format Pillow reads.

    Raises:
      ValueError: the bytes are no whole image; the message gives Pillow's reason.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            return np.asarray(_to_rgb(ImageOps.exif_transpose(image)))
    # Pillow's decoders raise many kinds (OSError, SyntaxError, struct.error, DecompressionBombError ...).
    except Exception as error:
        # Pillow names the BytesIO's address, which tells the user nothing.
        reason = str(error).split(" <_io.BytesIO")[0] or type(error).__name__
        raise ValueError(reason) from error


def _to_rgb(image):
    if image.mode.startswith("I;16") or image.mode == "I":
        values = np.asarray(image).astype(np.uint32)
        return Image.fromarray((values >> 8).clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def resize(image, height, width):
    """uint8 (H, W, 3) -> (height, width, 3), bicubic and antialiased: Pillow's filter, which the authors use."""
    if image.shape[:2] == (height, width):
        return image
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))


def encode_png(image):
    """uint8 (H, W, 3) -> the bytes of a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(image)).save(buffer, format="PNG")
    return buffer.getvalue()


def grid(rows, titles, scale=1):
    """Rows of equally many images under column titles, drawn by matplotlib pixel for pixel.

    Args:
      rows: list of rows, each a list of uint8 images (H, W, 3); the largest sets the cell.
      titles: one for each column.
      scale: integer magnification of every pixel.

    Returns:
      uint8 (H', W', 3).
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    dpi, gap, header = 100, 4, 22
    cell_h = scale * max(image.shape[0] for row in rows for image in row) + gap
    cell_w = scale * max(image.shape[1] for row in rows for image in row) + gap
    height, width = header + cell_h * len(rows), cell_w * len(titles)
    figure = Figure(figsize=(width / dpi, height / dpi), dpi=dpi, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    for column, title in enumerate(titles):
        left = column * cell_w + gap / 2
        font = min(9.0, cell_w / (0.85 * len(title)))
        figure.text(left / width, 1 - 15 / height, title, fontsize=font)
        for line, row in enumerate(rows):
            image = np.kron(row[column], np.ones((scale, scale, 1), np.uint8))
            figure.figimage(image, left, height - header - line * cell_h - image.shape[0], origin="upper")
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()

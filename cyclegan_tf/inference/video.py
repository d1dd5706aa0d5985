"""Video, frame by frame, through the ffmpeg that imageio-ffmpeg brings; an optional extra."""

import os
from fractions import Fraction
from pathlib import Path

import numpy as np

from cyclegan_tf.errors import UserError

SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".wmv", ".mpg", ".mpeg")
_WRITTEN = (".mp4", ".m4v", ".mov", ".mkv")  # Hold H.264 video and any usual sound.
_QUALITY = 7  # Of imageio-ffmpeg's 1 to 10: H.264 at constant rate factor 15, which shows no loss.


def is_video_name(path):
    """Whether the name ends as a video's."""
    return Path(path).suffix.lower() in SUFFIXES


def get_output_name(name):
    """The name of the result for the video `name`: the same, or .mkv where its kind of file cannot hold H.264."""
    stem, suffix = os.path.splitext(name)
    return name if suffix.lower() in _WRITTEN else f"{stem}.mkv"


def translate(model, source, target, batch_size=1, tile=0, progress=None):
    """Translates every frame of a video; size, frame rate and sound (its first track, copied) stay.

    One batch of frames is in memory at a time. The result is H.264, written beside its place and renamed.

    Args:
      model: `loading.LoadedTranslator` of color images.
      source, target: paths.
      batch_size: frames that are translated at once.
      tile: as in `loading.LoadedTranslator.translate`, for large frames.
      progress: function called with the share that is done, in (0, 1], after each batch; an estimate by the file's
        duration, which sound may have longer than the picture, and 1 at the end.

    Raises:
      ValueError: the video cannot be decoded or the result not be encoded; with the reason. A file that ends early
        gives the frames that it has.
      UserError: imageio-ffmpeg is missing, or the model is not for color images.
    """
    ffmpeg = _import_ffmpeg()
    if (model.input_channels, model.output_channels) != (3, 3):
        raise UserError(f"{source}: videos need a model of color images, this one makes {model.output_channels} "
                        f"channels of {model.input_channels}")
    frames = ffmpeg.read_frames(os.path.abspath(source))
    os.makedirs(os.path.dirname(target) or ".", exist_ok=True)
    stem, suffix = os.path.splitext(os.path.abspath(target))
    temporary = f"{stem}.tmp{suffix}"  # The suffix tells ffmpeg the kind of file.
    try:
        meta = next(frames)
        rate, shape = _rate(meta["fps"]), (meta["size"][1], meta["size"][0], 3)
        writer = ffmpeg.write_frames(
            temporary, meta["size"], fps=rate, quality=_QUALITY, macro_block_size=1, ffmpeg_log_level="fatal",
            # Color at half the resolution, which every player shows, needs even sizes.
            pix_fmt_out="yuv444p" if shape[0] % 2 or shape[1] % 2 else "yuv420p",
            **({"audio_path": os.path.abspath(source), "audio_codec": "copy"} if meta.get("audio_codec") else {}),
        )
        writer.send(None)
        done, expected = 0, meta["duration"] * rate
        for batch in _batches(frames, shape, batch_size):
            for result in model.translate(batch, tile):
                writer.send(np.ascontiguousarray(result))
            done += len(batch)
            if progress and expected:
                progress(min(float(done / expected), 1.0))
        writer.close()
        written = ffmpeg.count_frames_and_secs(temporary)[0]
        if written != done or not done:
            raise ValueError(f"{written} of {done} frames were encoded")
        os.replace(temporary, target)
        if progress:
            progress(1.0)
    except (OSError, RuntimeError) as error:
        raise ValueError(f"ffmpeg: {_last_line(error)}") from error
    finally:
        frames.close()
        Path(temporary).unlink(missing_ok=True)


def _batches(frames, shape, batch_size):
    """uint8 (n, H, W, 3) of up to `batch_size` frames each."""
    waiting = []
    for frame in frames:
        waiting.append(np.frombuffer(frame, np.uint8).reshape(shape))
        if len(waiting) == batch_size:
            yield np.stack(waiting)
            waiting = []
    if waiting:
        yield np.stack(waiting)


def _rate(rate):
    """The exact frame rate of one that ffmpeg prints with two decimals: 29.97 is 30000/1001."""
    for whole in (24, 30, 48, 60, 120):
        exact = Fraction(whole * 1000, 1001)
        if abs(rate - exact) < 0.006:
            return exact
    return Fraction(rate).limit_denominator(100)


def _last_line(error):
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__


def _import_ffmpeg():
    try:
        import imageio_ffmpeg
    except ImportError as error:
        raise UserError("videos need imageio-ffmpeg: pip install 'cyclegan_tf[video]'") from error
    return imageio_ffmpeg

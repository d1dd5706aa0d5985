"""Translates videos frame by frame, through the ffmpeg of imageio-ffmpeg, an optional extra."""

import contextlib
import logging
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import IO, TYPE_CHECKING

import numpy as np

from cyclegan_tf import console
from cyclegan_tf.errors import UserError, import_extra
from cyclegan_tf.images import units
from cyclegan_tf.inference import stack_translation
from cyclegan_tf.storage import filesystem

if TYPE_CHECKING:
    from cyclegan_tf.inference.loading import LoadedTranslator

log = logging.getLogger("cyclegan_tf")

SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".wmv", ".mpg", ".mpeg")
_WRITTEN = (".mp4", ".m4v", ".mov", ".mkv")  # Containers that hold H.264 video and any common audio codec.
_QUALITY = 15  # Constant rate factor of H.264, without visible loss.
_UNKNOWN_RATE = Fraction(16)  # Frames per second of a translation if the rate of its source is unknown.


def is_video_name(path: str) -> bool:
    """Returns whether the file name has the suffix of a video."""
    return Path(path).suffix.lower() in SUFFIXES


def get_output_name(name: str) -> str:
    """Returns the name of the translation of video `name`: `name`, or .mkv if its container cannot hold H.264."""
    stem, suffix = os.path.splitext(name)
    return name if suffix.lower() in _WRITTEN else f"{stem}.mkv"


def translate(
    translator: "LoadedTranslator", source: str, target: str, batch_size: int = 1, tile: int = 0,
    progress: Callable[[float], None] | None = None,
) -> None:
    """Translates every frame of a video and keeps its size, pixel aspect ratio, colors, frame rate and audio tracks.

    Chapters and the metadata that ffmpeg knows in both containers, such as title and creation time, are kept too.

    A video of variable frame rate is converted to its average rate by dropping or repeating frames. A truncated file is
    translated up to the cut; a warning names the file if it is MP4, MOV, MKV or WebM. Holds one batch of frames in
    memory. Writes H.264 to a temporary file beside `target` and renames the file at the end.

    Args:
      translator: translator of color images.
      source, target: paths of the video and of its translation.
      batch_size: frames to translate at once; fewer if they have more than a megapixel together.
      tile: as in `loading.LoadedTranslator.translate`, for large frames.
      progress: called after each batch with the fraction that is done, in (0, 1]. The fraction is an estimate from the
        file's duration, because audio may be longer than video; it is 1 at the end.

    Raises:
      ValueError: ffmpeg cannot decode the video or encode the translation.
      OSError: the disk is full or not writable.
      UserError: as `require_support`.
    """
    require_support(translator, source)
    ffmpeg = _import_ffmpeg()
    if _is_truncated(ffmpeg, source):
        log.warning("%s: the file is truncated; the translation has only the frames before the cut",
                    console.escape(source))
    os.makedirs(os.path.dirname(target) or ".", exist_ok=True)
    # ffmpeg chooses the container by the suffix.
    temporary = filesystem.choose_temporary_path(os.path.abspath(target)) + os.path.splitext(target)[1]
    try:
        done = _encode(ffmpeg, translator, os.path.abspath(source), temporary, batch_size, tile, progress)
        written = ffmpeg.count_frames_and_secs(temporary)[0]
        if written != done or not done:
            raise ValueError(f"ffmpeg encoded {written} of {done} frames")
        os.replace(temporary, target)
        if progress:
            progress(1.0)
    except (OSError, RuntimeError) as error:
        if isinstance(error, OSError) and error.errno:  # From the disk: the OSErrors of imageio-ffmpeg have no number.
            raise
        raise ValueError(f"ffmpeg: {_get_last_line(error)}") from error
    finally:
        Path(temporary).unlink(missing_ok=True)


def require_support(translator: "LoadedTranslator", source: str) -> None:
    """Raises a UserError if imageio-ffmpeg is not installed, or `translator` does not map 8-bit colors to 8-bit colors.

    Args:
      source: path of the video, for error messages.
    """
    _import_ffmpeg()
    channels, limits = (translator.input_channels, translator.output_channels), translator.units.target
    if channels != (3, 3):
        raise UserError(f"{source}: the model maps {channels[0]} channels to {channels[1]}; videos need a model that "
                        "maps color images to color images")
    if units.choose_dtype(limits, np.dtype(np.uint8)) != np.uint8:
        raise UserError(f"{source}: the model outputs values in {limits}; videos need a model that outputs values in "
                        "0,255")


def _encode(
    ffmpeg: ModuleType, translator: "LoadedTranslator", source: str, target: str, batch_size: int, tile: int,
    progress: Callable[[float], None] | None,
) -> int:
    """Writes the translated frames and the audio of `source` to `target`; returns how many frames ffmpeg got."""
    with contextlib.closing(ffmpeg.read_frames(source)) as frames:
        meta = next(frames)
    rate, shape = _find_exact_rate(meta["fps"]), (meta["size"][1], meta["size"][0], 3)
    expected, done = meta["duration"] * rate, 0
    size = stack_translation.limit_batch(batch_size, *shape[:2])
    folder = os.path.dirname(target)  # The disk of the results has room for the feature maps of tiles.
    decoding, encoding = _choose_filters(ffmpeg, source, meta["size"])
    # Without -r, ffmpeg repeats frames of a video of variable frame rate, up to the highest rate. An unknown rate is 0.
    options = ["-vf", decoding, *(["-r", str(rate)] if rate else [])]
    with contextlib.closing(ffmpeg.read_frames(source, output_params=options)) as frames:
        next(frames)  # The first item is `meta` again.
        with _open_encoder(ffmpeg, source, target, meta["size"], rate or _UNKNOWN_RATE, encoding) as encoder:
            for batch in _batch_frames(frames, shape, size):
                for result in translator.translate(batch, tile, folder):
                    encoder.write(np.ascontiguousarray(result))
                done += len(batch)
                if progress and expected:
                    progress(min(float(done / expected), 1.0))
    return done


def _is_truncated(ffmpeg: ModuleType, source: str) -> bool:
    """True if ffmpeg notices that a file is truncated, which it does for MP4, MOV, MKV and WebM files."""
    # Reads the packets of the whole file, but decodes none of them.
    command = [ffmpeg.get_ffmpeg_exe(), "-nostdin", "-v", "error", "-i", source, "-map", "0:v:0", "-c", "copy", "-f",
               "null", "-"]
    printed = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False).stderr
    return bool(re.search(r"(: partial file|\] File ended prematurely.*)$", printed, re.MULTILINE))


def _choose_filters(ffmpeg: ModuleType, source: str, size: tuple[int, int]) -> tuple[str, str]:
    """Returns ffmpeg's filters for decoding and for encoding, which keep the colors and the pixel aspect ratio.

    Args:
      size: width and height of the upright frames.
    """
    command = [ffmpeg.get_ffmpeg_exe(), "-nostdin", "-i", source, "-an", "-frames:v", "1", "-f", "null", "-"]
    printed = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False).stderr
    # The last such line describes upright frames, such as "Stream #0:0: Video: wrapped_avframe,
    # yuv420p(tv, bt709/unknown/unknown, top coded first (swapped)), 360x288 [SAR 16:11 DAR 20:11], ...".
    line = (re.findall(r"Stream #0:0.*: Video: wrapped_avframe(.*)", printed) or [""])[-1]
    details = re.search(r"\w\((.*)\), \d+x\d+", line)
    # Matrix, primaries and transfer function: one name if all three are equal, nothing if all three are unknown.
    colors = [each for each in (details[1] if details else "").split(", ") if re.search("/|^bt|^smpte", each)]
    matrix, primaries, transfer = ((colors or ["unknown"])[0].replace("reserved", "unknown").split("/") * 3)[:3]
    # For videos without a matrix, ffmpeg uses BT.601; players use BT.601 for small frames and BT.709 for large ones.
    is_large = size[0] >= 1280 or size[1] > 576
    decoding = "scale=in_color_matrix=bt709" if matrix == "unknown" and is_large else "null"
    ratio = re.search(r"SAR (\d+):(\d+)", line)
    pixel_ratio = f"{ratio[1]}/{ratio[2]}" if ratio else "1"
    encoding = (
        "scale=out_color_matrix=bt709:out_range=tv,"
        f"setparams=colorspace=bt709:range=tv:color_primaries={primaries}:color_trc={transfer},"
        f"setsar={pixel_ratio}"
    )
    return decoding, encoding


def _choose_audio(ffmpeg: ModuleType, source: str, target: str) -> str:
    """Returns ffmpeg's name of the audio tracks to copy: all, or only the first if `target` cannot hold all of them."""
    probe = f"{os.path.splitext(target)[0]}.probe{os.path.splitext(target)[1]}"

    def can_copy(tracks: str) -> bool:
        command = [
            ffmpeg.get_ffmpeg_exe(), "-nostdin", "-v", "error", "-y", "-i", source, "-map", f"0:{tracks}",
            "-c", "copy", "-t", "1", *_choose_container(target), probe,
        ]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    try:
        if can_copy("a") or not can_copy("a:0"):
            return "a"
    finally:
        Path(probe).unlink(missing_ok=True)
    log.warning("%s: only the first audio track is kept, because %s files cannot hold the others", source,
                os.path.splitext(target)[1])
    return "a:0"


def _choose_container(target: str) -> list[str]:
    """Returns ffmpeg's options for the container of `target`."""
    # For .m4v, ffmpeg's own choice is a format that cannot hold all audio codecs of MP4.
    return ["-f", "mp4"] if target.lower().endswith(".m4v") else []


@contextlib.contextmanager
def _open_encoder(
    ffmpeg: ModuleType, source: str, target: str, size: tuple[int, int], rate: Fraction, filters: str
) -> Iterator[IO[bytes]]:
    """Yields a pipe for frames, (H, W, 3) uint8, from which ffmpeg writes `target` with the audio of `source`.

    Raises:
      ValueError: ffmpeg fails; the message is the first line that ffmpeg prints.
    """
    # Every player shows color at half the resolution, which needs even sizes.
    pixel_format = "yuv444p" if size[0] % 2 or size[1] % 2 else "yuv420p"
    command = [
        ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y",
        "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{size[0]}x{size[1]}", "-r", str(rate), "-i", "-",
        "-i", source, "-map", "0:v", "-map", f"1:{_choose_audio(ffmpeg, source, target)}?", "-c:a", "copy",
        "-vf", filters, "-c:v", "libx264", "-crf", str(_QUALITY), "-pix_fmt", pixel_format,
        "-map_metadata", "1",  # By default, ffmpeg takes the metadata from input 0, the pipe, which has none.
        *_choose_container(target), target,
    ]
    with tempfile.TemporaryFile() as messages:
        # In a process group of its own, ffmpeg does not receive Ctrl-C from the terminal.
        with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=messages, start_new_session=True) as process:
            assert process.stdin
            try:
                with process.stdin:
                    yield process.stdin
            except BrokenPipeError:
                pass  # ffmpeg has ended; the reason is in its messages.
            except BaseException:
                process.kill()
                raise
        if process.returncode:
            messages.seek(0)
            lines = messages.read().decode(errors="replace").split("\n")
            raise ValueError(f"ffmpeg: {lines[0].strip() or f'exit status {process.returncode}'}")


def _batch_frames(frames: Iterable[bytes], shape: tuple[int, int, int], batch_size: int) -> Iterator[np.ndarray]:
    """Yields uint8 arrays (n, H, W, 3) of at most `batch_size` frames."""
    batch: list[np.ndarray] = []
    for frame in frames:
        batch.append(np.frombuffer(frame, np.uint8).reshape(shape))
        if len(batch) == batch_size:
            yield np.stack(batch)
            batch = []
    if batch:
        yield np.stack(batch)


def _find_exact_rate(rate: float) -> Fraction:
    """Returns the exact frame rate, which ffmpeg prints with two decimals: 29.97 stands for 30000/1001."""
    for whole in (15, 24, 30, 48, 60, 120):
        exact = Fraction(whole * 1000, 1001)
        if abs(rate - exact) < 0.006:
            return exact
    return Fraction(rate).limit_denominator(100)


def _get_last_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__


def _import_ffmpeg() -> ModuleType:
    ffmpeg = import_extra("imageio_ffmpeg", "videos need imageio-ffmpeg", "video")
    # For each rotated video, imageio-ffmpeg warns that the upright frames have another size.
    logging.getLogger("imageio_ffmpeg").setLevel(logging.ERROR)
    return ffmpeg

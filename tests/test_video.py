"""Translating clips that imageio-ffmpeg makes and decodes."""

import errno
import re
import subprocess
from fractions import Fraction

import numpy as np
import pytest
from translations import make_translator

from cyclegan_tf.config.value_ranges import Units, ValueRange
from cyclegan_tf.errors import UserError
from cyclegan_tf.inference import loading, stack_translation, video

imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg", reason="needs the extra video: pip install imageio-ffmpeg")

FRAMES = 12


def make_clip(path, size=(48, 32), rate="30000/1001", sound=True):
    """Makes a moving test picture of FRAMES frames, with one second of audio, longer than the picture."""
    tone = ["-f", "lavfi", "-i", "sine=frequency=440:sample_rate=44100:duration=1", "-c:a", "aac"] if sound else []
    subprocess.run(
        [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-f", "lavfi",
         "-i", f"testsrc2=size=96x64:rate={rate}", *tone,
         "-vf", f"trim=end_frame={FRAMES},scale={size[0]}:{size[1]}", "-c:v", "libx264", "-pix_fmt", "yuv444p", path],
        check=True, timeout=60,
    )
    return path


def audio(path, track=0):
    """Returns the encoded packets of an audio track."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", path, "-map", f"0:a:{track}", "-c", "copy", "-f",
               "adts", "-"]
    return subprocess.run(command, check=True, capture_output=True, timeout=60).stdout


def exact_rate(path):
    """Returns the frame rate in the file; ffmpeg prints it rounded."""
    child = subprocess.run(
        [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", path, "-f", "framehash", "-an", "-"],
        check=True, capture_output=True, text=True, timeout=60,
    )
    return 1 / Fraction(re.search(r"#tb 0: (\S+)", child.stdout)[1])


def make_flat_clip(path, yuv, size=(64, 48), options=()):
    """Makes a clip of one color, given as 8-bit Y, Cb and Cr of limited range, which the file stores unchanged."""
    frames = b"".join(bytes([level]) * (size[0] * size[1] // area) for level, area in zip(yuv, (1, 4, 4), strict=True))
    subprocess.run(
        [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-f", "rawvideo", "-pix_fmt", "yuv420p", "-s",
         f"{size[0]}x{size[1]}", "-i", "-", "-c:v", "libx264", "-qp", "1", *options, path],
        input=3 * frames, check=True, timeout=60,
    )


def read_flat_color(path):
    """Returns Y, Cb and Cr of the first pixel of a yuv420p clip, and the lines in which ffmpeg describes the video."""
    child = subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-i", path, "-frames:v", "1", "-f", "rawvideo", "-"],
                           check=True, capture_output=True, timeout=60)
    luma = len(child.stdout) * 2 // 3
    lines = [line for line in child.stderr.decode().splitlines() if " Video: " in line]
    return [child.stdout[place] for place in (0, luma, luma * 5 // 4)], lines[0]


INVERSE = make_translator(3, function=lambda images: -images)  # Translates images to negatives.


def read(path):
    frames = imageio_ffmpeg.read_frames(str(path))
    meta = next(frames)
    return meta, np.stack([np.frombuffer(frame, np.uint8).reshape(*meta["size"][::-1], 3) for frame in frames])


@pytest.mark.parametrize(("rate", "size", "batch_size"), [("30000/1001", (48, 32), 5), ("25", (47, 33), 1)])
def test_every_frame_is_translated_and_size_rate_and_audio_stay(tmp_path, rate, size, batch_size):
    clip = make_clip(tmp_path / "clip.mp4", size, rate)
    shares = []
    video.translate(INVERSE, str(clip), str(tmp_path / "out" / "clip.mp4"), batch_size, progress=shares.append)
    meta, frames = read(tmp_path / "out" / "clip.mp4")
    _, originals = read(clip)
    assert (meta["size"], len(frames), exact_rate(tmp_path / "out" / "clip.mp4")) == (size, FRAMES, Fraction(rate))
    # The bound is wide, because color has half the resolution and the picture consists of edges.
    assert np.abs(255 - originals.astype(int) - frames).mean() < 16
    assert np.abs(np.diff(frames.astype(int), axis=0)).max() > 50, "the picture moves"
    assert len(audio(clip)) > 1000
    assert audio(tmp_path / "out" / "clip.mp4") == audio(clip)
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["clip.mp4"]


def test_a_rotated_clip_becomes_upright_without_a_warning(tmp_path, caplog):
    path = make_clip(tmp_path / "plain.mp4")
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-display_rotation", "90", "-i", path, "-c", "copy",
                    tmp_path / "a.mp4"], check=True, timeout=60)
    video.translate(INVERSE, str(tmp_path / "a.mp4"), str(tmp_path / "b.mp4"))
    assert caplog.messages == []
    meta, _ = read(tmp_path / "b.mp4")
    assert meta["size"] == (32, 48)


@pytest.mark.parametrize(("kr", "kb", "tag", "size"), [
    pytest.param(0.2126, 0.0722, "bt709:color_primaries=bt709:color_trc=bt709", (64, 48), id="bt709"),
    pytest.param(0.2126, 0.0722, "bt709", (64, 48), id="bt709-matrix-only"),
    pytest.param(0.299, 0.114, "smpte170m:color_primaries=smpte170m:color_trc=smpte170m", (64, 48), id="bt601"),
    pytest.param(0.299, 0.114, "unknown", (64, 48), id="untagged-small"),
    pytest.param(0.299, 0.114, "smpte170m:color_primaries=smpte170m:color_trc=smpte170m:field_mode=tff", (64, 580),
                 id="interlaced"),
    pytest.param(0.2126, 0.0722, "unknown", (64, 578), id="untagged-large"),
    pytest.param(0.2126, 0.0722, "unknown", (1280, 48), id="untagged-wide"),
])
def test_colors_stay_and_the_result_states_its_matrix(tmp_path, kr, kb, tag, size):
    def to_yuv(kr, kb):  # BT.601 and BT.709, limited range.
        luma = kr * red + (1 - kr - kb) * green + kb * blue
        return [16 + 219 * luma, 128 + 112 * (blue - luma) / (1 - kb), 128 + 112 * (red - luma) / (1 - kr)]

    red, green, blue = 0.8, 0.2, 0.1
    clip, target = tmp_path / "clip.mp4", tmp_path / "out.mp4"
    options = ["-flags", "+ilme+ildct"] if "field_mode" in tag else []
    options += ["-vf", f"setparams=colorspace={tag}"]
    make_flat_clip(clip, [round(level) for level in to_yuv(kr, kb)], size, options)
    assert ("top " in read_flat_color(clip)[1]) == ("field_mode" in tag)
    video.translate(make_translator(3), str(clip), str(target))
    color, line = read_flat_color(target)
    # ffmpeg's conversion to RGB is 2 levels too dark.
    np.testing.assert_allclose(color, to_yuv(0.2126, 0.0722), atol=3)
    primaries = transfer = re.search("color_primaries=([a-z0-9]+)|$", tag)[1] or "unknown"
    stated = "bt709" if primaries == "bt709" else f"bt709/{primaries}/{transfer}"
    assert f"yuv420p(tv, {stated}, progressive)" in line


@pytest.mark.parametrize(("rotation", "ratio"), [(0, "SAR 16:11"), (90, "SAR 11:16")])
def test_the_shape_of_pixels_stays(tmp_path, rotation, ratio):
    make_flat_clip(tmp_path / "wide.mp4", (90, 100, 160), options=["-vf", "setsar=16/11"])
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-display_rotation", str(rotation), "-i",
                    tmp_path / "wide.mp4", "-c", "copy", tmp_path / "a.mp4"], check=True, timeout=60)
    video.translate(INVERSE, str(tmp_path / "a.mp4"), str(tmp_path / "b.mp4"))
    assert ratio in read_flat_color(tmp_path / "b.mp4")[1]


def test_audio_that_the_container_cannot_hold_is_left_out_with_a_warning(tmp_path, caplog):
    clip, source, target = make_clip(tmp_path / "one.mp4"), tmp_path / "two.mpg", tmp_path / "two.mkv"
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", clip, "-f", "lavfi", "-i", "sine=duration=1",
                    "-map", "0", "-map", "1", "-c:v", "mpeg2video", "-pix_fmt", "yuv420p", "-ar", "48000",
                    "-c:a:0", "mp2", "-c:a:1", "pcm_dvd", "-f", "vob", source], check=True, timeout=60)
    video.translate(INVERSE, str(source), str(target))
    (warning,) = caplog.messages
    assert warning == f"{source}: only the first audio track is kept, because .mkv files cannot hold the others"
    assert read(target)[0]["audio_codec"].startswith("mp2")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.mp4", "two.mkv", "two.mpg"]


def test_all_audio_tracks_stay(tmp_path):
    clip = make_clip(tmp_path / "one.mp4")
    two, target = tmp_path / "two.mp4", tmp_path / "out.mp4"
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", clip, "-f", "lavfi", "-i", "sine=duration=1",
                    "-map", "0", "-map", "1", "-c:v", "copy", "-c:a", "aac", two], check=True, timeout=60)
    video.translate(INVERSE, str(two), str(target))
    assert [audio(target, track) for track in (0, 1)] == [audio(two, track) for track in (0, 1)]
    assert audio(two, 0) != audio(two, 1)


@pytest.mark.parametrize(("source", "target"), [("a.mp4", "b.mp4"), ("a.mov", "b.mov"), ("a.avi", "b.mkv")])
def test_metadata_and_chapters_stay(tmp_path, source, target):
    given = ["title=café", r"comment=x \= y"]
    if source != "a.avi":  # AVI files have no place for these.
        given += ["creation_time=2024-05-06t07:08:09.000000z", "[chapter]", "title=one", "language=fra"]
    (tmp_path / "new").write_text(
        ";FFMETADATA1\ntitle=café\ncomment=x \\= y\ncreation_time=2024-05-06T07:08:09Z\n"
        "[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=500\ntitle=one\n", encoding="utf-8",
    )
    ffmpeg = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i"]
    subprocess.run([*ffmpeg, make_clip(tmp_path / "clip.mp4"), "-i", tmp_path / "new", "-map_metadata", "1",
                    "-metadata:s:a", "language=fra", "-c", "copy", tmp_path / source], check=True, timeout=60)
    video.translate(INVERSE, str(tmp_path / source), str(tmp_path / target))
    for name in (source, target):
        child = subprocess.run([*ffmpeg, tmp_path / name, "-map", "0:a", "-c", "copy", "-f", "ffmetadata", "-"],
                               check=True, capture_output=True, timeout=60)
        found = child.stdout.decode().lower().splitlines()  # MKV files have names in capitals.
        assert [line for line in given if line not in found] == [], name


def test_m4v_may_hold_mp3(tmp_path):
    clip, target = make_clip(tmp_path / "clip.mp4"), tmp_path / "out" / "clip.m4v"
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", clip, "-c:v", "copy", "-c:a", "libmp3lame",
                    "-f", "mp4", tmp_path / "clip.m4v"], check=True, timeout=60)
    video.translate(INVERSE, str(tmp_path / "clip.m4v"), str(target))
    meta, frames = read(target)
    assert (meta["audio_codec"], len(frames)) == ("mp3", FRAMES)


def test_an_error_says_why_ffmpeg_cannot_write(tmp_path):
    clip = tmp_path / "clip.mov"
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", make_clip(tmp_path / "clip.mp4"), "-c:v",
                    "copy", "-c:a", "adpcm_ima_qt", clip], check=True, timeout=60)
    with pytest.raises(ValueError, match=r"^ffmpeg: .*codec adpcm_ima_qt"):
        video.translate(INVERSE, str(clip), str(tmp_path / "out" / "clip.mp4"))
    assert list((tmp_path / "out").iterdir()) == []


def test_a_silent_clip_in_a_container_without_h264_becomes_mkv(tmp_path):
    clip = make_clip(tmp_path / "clip.avi", sound=False)
    assert video.get_output_name("a/clip.avi") == "a/clip.mkv"
    video.translate(INVERSE, str(clip), str(tmp_path / "clip.mkv"))
    assert len(read(tmp_path / "clip.mkv")[1]) == FRAMES


def test_a_variable_frame_rate_keeps_the_duration(tmp_path):
    clip, target = tmp_path / "clip.mp4", tmp_path / "out" / "clip.mp4"
    # One second of 30 frames, then one of 10 frames; the last frame starts at 1.9 s.
    subprocess.run(
        [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-f", "lavfi", "-i", "testsrc2=size=48x32:rate=30:duration=2",
         "-vf", "select='lt(t,1)+not(mod(n,3))'", "-fps_mode", "vfr", clip],
        check=True, timeout=60,
    )
    video.translate(INVERSE, str(clip), str(target))
    assert len(read(target)[1]) / exact_rate(target) == pytest.approx(1.9, abs=0.15)


def test_a_clip_of_a_rate_that_ffmpeg_does_not_print_keeps_its_frames(tmp_path):
    clip = tmp_path / "clip.mkv"
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-f", "lavfi", "-i",
                    "testsrc2=size=48x32:rate=1000:duration=0.01", clip], check=True, timeout=60)
    video.translate(INVERSE, str(clip), str(tmp_path / "out.mkv"))
    assert len(read(tmp_path / "out.mkv")[1]) == 10


def test_batches_hold_at_most_a_megapixel_and_tiles_use_the_disk_of_the_result(tmp_path, monkeypatch):
    def record(translator, image, tile=0, folder=None, progress=None):
        calls.append((len(image), folder))
        return image

    calls = []
    monkeypatch.setattr(loading.LoadedTranslator, "translate", record)
    monkeypatch.setattr(stack_translation, "BATCH_PIXELS", 5 * 48 * 32)
    clip = make_clip(tmp_path / "clip.mp4", sound=False)
    video.translate(INVERSE, str(clip), str(tmp_path / "out" / "clip.mp4"), batch_size=8, tile=16)
    assert calls == [(5, str(tmp_path / "out")), (5, str(tmp_path / "out")), (2, str(tmp_path / "out"))]


def test_a_file_that_is_not_a_video_is_an_error_and_leaves_nothing(tmp_path):
    (tmp_path / "clip.mp4").write_bytes(b"no video")
    with pytest.raises(ValueError, match="ffmpeg: "):
        video.translate(INVERSE, str(tmp_path / "clip.mp4"), str(tmp_path / "out" / "clip.mp4"))
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(("name", "options"), [("clip.mp4", ["-movflags", "+faststart"]), ("clip.mkv", [])])
def test_a_truncated_clip_is_named(tmp_path, caplog, name, options):
    whole = make_clip(str(tmp_path / "whole.mp4"), sound=False)
    clip = tmp_path / name
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", whole, "-c", "copy", *options, str(clip)],
                   check=True, timeout=60)
    video.translate(INVERSE, str(clip), str(tmp_path / "all.mp4"))
    assert not caplog.messages
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size * 7 // 10])
    video.translate(INVERSE, str(clip), str(tmp_path / "rest.mp4"))
    assert caplog.messages == [f"{clip}: the file is truncated; the translation has only the frames before the cut"]
    frames = [len(read(tmp_path / each)[1]) for each in ("all.mp4", "rest.mp4")]
    assert frames[0] == FRAMES and 0 < frames[1] < FRAMES


def test_an_error_of_the_disk_is_not_called_an_error_of_ffmpeg(tmp_path):
    def fill_disk(images):
        raise OSError(errno.ENOSPC, "no room for 2 GB of temporary maps", "maps")

    clip = make_clip(tmp_path / "clip.mp4", sound=False)
    with pytest.raises(OSError, match="no room for 2 GB of temporary maps"):
        video.translate(make_translator(3, function=fill_disk), str(clip), str(tmp_path / "out" / "clip.mp4"))
    assert list((tmp_path / "out").iterdir()) == []


def test_a_clip_can_be_translated_while_another_process_translates_it(tmp_path):
    clip, target = make_clip(tmp_path / "clip.mp4", sound=False), tmp_path / "out" / "clip.mp4"
    batches = []

    def translate_beside(images):
        batches.append(images)
        if len(batches) == 2:  # After the first batch, ffmpeg has created its file.
            video.translate(INVERSE, str(clip), str(target), batch_size=FRAMES)
        return -images

    video.translate(make_translator(3, function=translate_beside), str(clip), str(target), batch_size=5)
    assert len(read(target)[1]) == FRAMES
    assert list(target.parent.iterdir()) == [target]


def test_videos_need_a_translator_of_color_images(tmp_path):
    with pytest.raises(UserError, match="the model maps 1 channels to 3; videos need a model"):
        video.translate(make_translator(1, out=3), "clip.mp4", str(tmp_path / "clip.mp4"))


def test_videos_need_translations_of_8_bits():
    for limits in (ValueRange(0, 10000), ValueRange(0, 1)):
        satellite = make_translator(3, Units(ValueRange(0, 255), limits))
        with pytest.raises(UserError, match=f"^clip.mp4: the model outputs values in {limits}; videos need a model"):
            video.require_support(satellite, "clip.mp4")
    pictures = make_translator(3, Units(None, ValueRange(0, 255)))
    video.require_support(pictures, "clip.mp4")

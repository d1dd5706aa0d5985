import collections
import contextlib
import dataclasses
import functools
import hashlib
import io
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cyclegan_tf.config import Config
from cyclegan_tf.data import folders, loaders, pipeline, sizes, sources
from cyclegan_tf.data.dataset import ImageDataset, ImageList
from cyclegan_tf.errors import UserError
from cyclegan_tf.images import codec, ranges


def constant_images(count, offset=0):
    """A domain of 4 x 4 images; all pixels of image i have the value `offset` + i."""

    def read(index):
        return codec.encode_png(np.full((4, 4, 3), offset + index, np.uint8))

    return ImageList("memory", [f"{i:03d}" for i in range(count)], read)


def dataset_of(count_a, count_b):
    empty = constant_images(0)
    return ImageDataset(constant_images(count_a), constant_images(count_b, 100), empty, empty)


def drawn(dataset, config, first, last):
    """Lists the numbers of the images that steps `first` to `last` - 1 draw from A and from B."""
    stream, _ = pipeline.make_batches(dataset, config, first, last)
    pairs = [(a[:, 0, 0, 0], b[:, 0, 0, 0]) for a, b in stream.as_numpy_iterator()]
    a, b = (np.concatenate(domain) for domain in zip(*pairs, strict=True))
    return (np.rint((a + 1) * 127.5)).astype(int).tolist(), (np.rint((b + 1) * 127.5) - 100).astype(int).tolist()


def config_with(**options):
    return Config(**{"preprocess": "crop", "crop_size": 4, **options})


def training_size(config):
    return functools.partial(sizes.compute_training_size, config)


@settings(max_examples=15, deadline=None)
@given(count_a=st.integers(1, 12), count_b=st.integers(1, 12), batch=st.integers(1, 4), seed=st.integers(0, 2**31))
def test_every_pass_visits_each_image_once(count_a, count_b, batch, seed):
    config = config_with(batch_size=batch, seed=seed)
    passes = 3
    steps = pipeline.count_steps(passes, max(count_a, count_b), batch)
    for numbers, count in zip(drawn(dataset_of(count_a, count_b), config, 0, steps), (count_a, count_b), strict=True):
        assert len(numbers) >= passes * max(count_a, count_b)
        for start in range(0, len(numbers) - count + 1, count):
            assert sorted(numbers[start : start + count]) == list(range(count))


@settings(max_examples=10, deadline=None)
@given(first=st.integers(0, 20), seed=st.integers(0, 2**31))
def test_batches_from_a_later_step_are_the_rest_of_the_run(first, seed):
    config, dataset = config_with(batch_size=2, seed=seed), dataset_of(5, 7)
    whole = drawn(dataset, config, 0, 24)
    later = drawn(dataset, config, first, 24)
    assert [numbers[2 * first :] for numbers in whole] == list(later)


def test_a_and_b_are_drawn_independently():
    a, b = drawn(dataset_of(10, 10), config_with(), 0, 3000)
    pairs = collections.Counter(zip(a, b, strict=True))
    # 100 equally likely pairs, about 30 times each, with a standard deviation of 5.5.
    assert len(pairs) == 100
    assert max(pairs.values()) < 70


def test_passes_differ_in_order_and_in_augmentation():
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    one = ImageList("memory", ["0"], lambda index: codec.encode_png(noise))
    empty = constant_images(0)
    dataset = ImageDataset(one, one, empty, empty)
    stream, _ = pipeline.make_batches(dataset, Config(preprocess="crop", crop_size=16), 0, 40)
    crops = [a[0] for a, _ in stream.as_numpy_iterator()]
    assert len({crop.tobytes() for crop in crops}) > 35
    # Each crop is a part of the image, mirrored or not.
    pixels = ranges.to_float(noise)
    windows = np.lib.stride_tricks.sliding_window_view(pixels, (16, 16), axis=(0, 1)).transpose(0, 1, 3, 4, 2)
    found = [any((windows == view).all((2, 3, 4)).any() for view in (crop, crop[:, ::-1])) for crop in crops[:8]]
    assert all(found)
    mirrored = [(windows == crop[:, ::-1]).all((2, 3, 4)).any() for crop in crops]
    assert 8 < sum(mirrored) < 32
    orders = [tuple(drawn(dataset_of(6, 6), config_with(), 6 * i, 6 * i + 6)[0]) for i in range(5)]
    assert len(set(orders)) > 2


def test_batches_are_the_same_bytes_on_every_stack():
    noise = np.random.default_rng(0).integers(0, 256, (12, 40, 40, 3), np.uint8)
    domain = ImageList("memory", list(range(12)), lambda index: codec.encode_png(noise[index]))
    dataset = ImageDataset(domain, domain, constant_images(0), constant_images(0))
    config = Config(preprocess="crop", crop_size=32, batch_size=2, seed=3)
    digest = hashlib.sha256()
    for pair in pipeline.make_batches(dataset, config, 7, 17)[0].as_numpy_iterator():
        for batch in pair:
            assert (batch.shape, batch.dtype) == ((2, 32, 32, 3), np.float32)
            digest.update(np.rint((batch + 1) * 127.5).astype(np.uint8).tobytes())
    # Recorded with TensorFlow 2.15. Fails if the shuffle or the stateless random numbers of a stack differ.
    assert digest.hexdigest() == "ba3fa71d905d23a8014c566be281ab5135a45883593fb494fd6f10d5a4d098e0"


def test_resize_and_crop_resizes_to_load_size_first():
    gradient = np.broadcast_to(np.arange(0, 200, 2, dtype=np.uint8)[None, :, None], (50, 100, 3))
    loader = loaders.ImageLoader(
        [ImageList("memory", ["0"], lambda index: codec.encode_png(gradient))],
        training_size(Config(load_size=40, crop_size=32)),
    )
    assert (loader(0)[0] == codec.resize(gradient, 40, 40)).all()


def test_images_smaller_than_the_crop_are_enlarged():
    size = training_size(Config(preprocess="crop", crop_size=64))
    assert size(64, 200) == (64, 200)
    assert size(32, 100) == (64, 200)
    assert size(1, 3) == (64, 192)


@pytest.mark.parametrize(("height", "width", "top", "left"), [(10, 12, 3, 4), (9, 11, 2, 4), (4, 4, 0, 0)])
def test_center_crop_rounds_as_pytorch(height, width, top, left):
    # PyTorch computes int(round((height - 4) / 2)); Python rounds 2.5 to 2 and 3.5 to 4.
    image = np.arange(height * width, dtype=np.uint8).reshape(height, width, 1)
    domain = ImageList("memory", ["0"], lambda index: codec.encode_png(image[..., 0]), channels=1)
    dataset = ImageDataset(domain, domain, constant_images(0), constant_images(0))
    config = config_with(crop="center", flip=False, input_channels=1, output_channels=1)
    stream, _ = pipeline.make_batches(dataset, config, 0, 5)
    for a, _ in stream.as_numpy_iterator():
        np.testing.assert_array_equal(np.rint((a[0] + 1) * 127.5), image[top : top + 4, left : left + 4])


def test_cross_identity_draws_pairs():
    dataset = dataset_of(5, 5)
    config = config_with(identity_mode="cross", lambda_identity=1.0)
    a, b = drawn(dataset, config, 0, 10)
    assert a == b


def test_preprocess_none_keeps_sizes(tmp_path, make_images):
    make_images(tmp_path / "trainA", 1, size=(20, 36))
    make_images(tmp_path / "trainB", 1, size=(28, 24))
    config = Config(preprocess="none", pool_size=0, discriminator="pixel")
    stream, _ = pipeline.make_batches(sources.open_folder(tmp_path), config, 0, 1)
    a, b = next(iter(stream))
    assert (a.shape, b.shape) == ((1, 20, 36, 3), (1, 28, 24, 3))


def test_autotuning_is_off():
    # The end of an iterator sometimes waits for the tuning thread, too rarely for a test of the time.
    config = Config.preset("tiny")
    assert pipeline.make_batches(sources.open_dataset(config), config, 0, 1)[0].options().autotune.enabled is False


def test_next_image_replaces_a_bad_image(tmp_path, make_images):
    make_images(tmp_path / "trainA", 4)
    make_images(tmp_path / "trainB", 2)
    (tmp_path / "trainA" / "001.png").write_bytes(b"<html>")
    dataset = sources.open_folder(tmp_path)
    stream, (loader_a, _) = pipeline.make_batches(dataset, config_with(), 0, 8)
    assert len(list(stream)) == 8
    path = str(tmp_path / "trainA" / "001.png")
    assert list(dataset.train_a.bad.reasons) == [path]
    assert "cannot identify image file" in dataset.train_a.bad.reasons[path]
    assert (loader_a(1)[0] == loader_a(2)[0]).all()


def test_bad_image_is_an_error_with_on_bad_image_error(tmp_path, make_images):
    for split in ("trainA", "trainB"):
        make_images(tmp_path / split, 2)
    (tmp_path / "trainA" / "001.png").write_bytes(b"")
    config = config_with(dataset=str(tmp_path), on_bad_image="error")
    stream, loaders = pipeline.make_batches(sources.open_dataset(config), config, 0, 4)
    with pytest.raises(UserError, match=r"trainA/001\.png: cannot identify image file; repair or remove the file"):
        list(pipeline.read_batches(stream, loaders))


def test_a_record_of_bad_images_that_cannot_be_written_is_an_error(tmp_path, make_images):
    make_images(tmp_path / "trainA", 2)
    make_images(tmp_path / "trainB", 2)
    (tmp_path / "trainA" / "001.png").write_bytes(b"")
    config = config_with()
    dataset = sources.open_folder(tmp_path)
    dataset.bad.record_to(str(tmp_path / "missing" / "bad_images.txt"))
    batches = pipeline.read_batches(*pipeline.make_batches(dataset, config, 0, 4))
    with contextlib.closing(batches), pytest.raises(FileNotFoundError, match=r"bad_images\.txt"):
        collections.deque(batches, 0)


def test_domain_without_readable_images_is_an_error(tmp_path, make_images):
    make_images(tmp_path / "trainA", 2)
    for file in (tmp_path / "trainA").iterdir():
        file.write_bytes(b"")
    images = folders.list_folder(tmp_path / "trainA")
    images.bad.add("trainB/000.png", "of the other domain, which has the same record")
    loader = loaders.ImageLoader([images], training_size(Config()))
    with pytest.raises(UserError, match=r"none of the 2 images in .*trainA can be read: .*trainA/000\.png"):
        loader(0)


def test_a_pair_of_one_size_in_training_is_loaded_whatever_its_sizes_in_measures():
    images = constant_images(2)
    lists = [images, dataclasses.replace(images, where="other")]
    images.bad.add(lists[1].path(1), "not a pair: of two sizes in measures", only_as_pair=True)
    loader = loaders.ImageLoader(lists, training_size(config_with()))
    assert [np.unique(image) for image in loader(1)] == [1, 1]


@pytest.mark.parametrize(("cache", "reads"), [("auto", 1), ("memory", 1), ("off", 3)])
def test_cache_keeps_decoded_images(cache, reads):
    calls = []
    source = constant_images(1)
    counted = ImageList("memory", source.names, lambda index: calls.append(index) or source.read(index))
    loader = loaders.ImageLoader([counted], training_size(config_with()), cache)
    for _ in range(3):
        loader(0)
    assert len(calls) == reads


# Computed by hand from the authors' get_transform with load_size 40 and crop_size 32: (height, width) before and after.
@pytest.mark.parametrize(("preprocess", "size", "expected"), [
    ("resize_and_crop", (10, 99), (40, 40)),
    ("scale_width_and_crop", (100, 80), (50, 40)),
    ("scale_width_and_crop", (33, 80), (32, 40)),  # A height of 16 would be too small for the crop.
    ("scale_width_and_crop", (55, 60), (36, 40)),  # 36.7, truncated.
    ("scale_shortside_and_crop", (100, 80), (50, 40)),
    ("scale_shortside_and_crop", (20, 50), (40, 100)),
    ("scale_width", (100, 80), (48, 40)),  # 50 is 12.5 times 4, and Python rounds 12.5 to 12.
    ("scale_width", (46, 80), (32, 40)),
    ("scale_shortside", (20, 53), (40, 104)),
    ("none", (21, 35), (20, 36)),
    ("none", (1, 1), (8, 8)),
])
def test_training_sizes_match_the_authors(preprocess, size, expected):
    options = {} if preprocess.endswith("crop") else {"pool_size": 0}
    config = Config(preprocess=preprocess, load_size=40, crop_size=32, discriminator="pixel", **options)
    assert training_size(config)(*size) == expected


@pytest.mark.parametrize(("preprocess", "size", "expected"), [
    ("resize_and_crop", (10, 99), (32, 32)),
    ("crop", (33, 80), (33, 80)),
    ("scale_width_and_crop", (100, 80), (50, 40)),
    ("none", (21, 35), (20, 36)),
])
def test_test_images_have_the_scale_of_the_training_crops(preprocess, size, expected):
    options = {} if preprocess.endswith("crop") else {"pool_size": 0}
    config = Config(preprocess=preprocess, load_size=40, crop_size=32, **options)
    images = ImageList("memory", ["0"], lambda index: codec.encode_png(np.zeros((*size, 3), np.uint8)))
    (image,) = loaders.load_test_images(images, config)
    assert image.shape == (*expected, 3)


def test_test_images_are_in_order_and_bad_ones_are_none():
    contents = [codec.encode_png(np.full((4, 4, 3), value, np.uint8)) for value in (7, 8, 9)]
    contents[1] = b"not an image"
    images = ImageList("memory", ["0", "1", "2"], contents.__getitem__)
    first, bad, last = loaders.load_test_images(images, config_with())
    assert (first[0, 0, 0], bad, last[0, 0, 0]) == (7, None, 9)
    assert [index for index, _ in loaders.load_test_rows([images], config_with(), 2)] == [0, 2]


@pytest.mark.parametrize(("epochs", "images", "batch_size", "steps"), [(2, 5, 1, 10), (3, 5, 4, 4), (2, 6, 4, 3)])
def test_steps_of_epochs_are_rounded_up(epochs, images, batch_size, steps):
    assert pipeline.count_steps(epochs, images, batch_size) == steps


def test_sizes_are_multiples_that_the_generator_accepts():
    config = Config(preprocess="none", pool_size=0, generator="unet", n_downs=5)
    assert training_size(config)(21, 70) == (32, 64)


@pytest.mark.parametrize(("n_layers", "size"), [(1, 8), (3, 24), (4, 48)])
def test_training_images_are_large_enough_for_the_discriminator(n_layers, size):
    config = Config(preprocess="none", pool_size=0, n_layers=n_layers)
    assert training_size(config)(5, 100) == (size, 100)
    assert sizes.compute_test_size(config, 5, 100) == (8, 100)


def test_image_too_flat_to_enlarge_is_bad():
    pixels = [np.zeros((height, 9000, 3), np.uint8) for height in (1, 90)]
    flat = ImageList("memory", ["flat", "good"], lambda index: codec.encode_png(pixels[index]))
    loader = loaders.ImageLoader([flat], training_size(Config(preprocess="crop")))
    assert loader(0)[0].shape == (256, 25600, 3)
    assert flat.bad.reasons == {"memory/flat": "resizing 9000 x 1 pixels to 2304000 x 256 exceeds the limit of "
                                     "178956970 pixels"}


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_high_bit_depths_keep_their_precision(dtype):
    values = np.random.default_rng(0).uniform(-1, 1, (6, 6, 2)).astype(np.float32)
    buffer = io.BytesIO()
    np.save(buffer, ranges.from_float(values, dtype))
    domain = ImageList("memory", ["0"], lambda index: buffer.getvalue(), channels=2)
    dataset = ImageDataset(domain, domain, constant_images(0), constant_images(0))
    config = Config(preprocess="crop", crop_size=4, flip=False, input_channels=2, output_channels=2)
    (a, _), *_ = pipeline.make_batches(dataset, config, 0, 1)[0].as_numpy_iterator()
    windows = np.lib.stride_tricks.sliding_window_view(values, (4, 4), axis=(0, 1)).transpose(0, 1, 3, 4, 2)
    # Half of one of 65536 levels; with 256 levels the error would be up to 0.004.
    assert np.abs(windows - a[0]).max((2, 3, 4)).min() < 2e-5


@pytest.mark.parametrize(("count", "n_reads"), [(3, 3), (4, 8)])
def test_auto_cache_keeps_all_images_or_none(monkeypatch, count, n_reads):
    calls = []
    source = constant_images(count)
    counted = ImageList("memory", source.names, lambda index: calls.append(index) or source.read(index))
    # The cache has room for three images of 4 x 4 x 3 bytes.
    monkeypatch.setattr(loaders, "AUTO_CACHE_BYTES", 3 * 48)
    loader = loaders.ImageLoader([counted], training_size(config_with()), "auto")
    for index in (*range(count), *range(count)):
        loader(index)
    assert len(calls) == n_reads


def test_memory_does_not_grow_with_the_number_of_images(tmp_path, make_images):
    # A name costs a str of 12 characters and its place in a list: 20 MB for 200,000 images.
    make_images(tmp_path / "one", 1)
    (tmp_path / "many").mkdir()
    for index in range(5000):
        (tmp_path / "many" / f"{index:07d}.png").symlink_to(tmp_path / "one" / "000.png")
    tracemalloc.start()
    found = folders.list_folder(tmp_path / "many")
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found) == 5000
    assert size < 5000 * 100

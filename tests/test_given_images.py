"""Training on images that a program passes to fit: arrays, lists and a tf.data.Dataset."""

import importlib
import logging

import numpy as np
import pytest
import tensorflow as tf
from conftest import make_toy_config, skip_outputs
from PIL import Image

import cyclegan_tf
from cyclegan_tf.config import Config
from cyclegan_tf.data import given_images, pipeline, sources
from cyclegan_tf.errors import UserError

pytestmark = pytest.mark.usefixtures("plugins")

RNG = np.random.default_rng(0)
A = RNG.integers(0, 256, (5, 20, 24, 3), np.uint8)
B = RNG.integers(0, 256, (3, 20, 20, 3), np.uint8)
READY = {"preprocess": "crop", "flip": False, "crop_size": 16}


def take(dataset, options, first, last, local=range(1), n_replicas=1):
    batches, loaders = pipeline.make_batches(dataset, options, first, last, local, n_replicas)
    taken = list(pipeline.read_batches(batches, loaders))
    assert len(taken) == (last - first) * len(local)
    return [tuple(np.asarray(x) for x in batch) for batch in taken]


@pytest.mark.parametrize("options", [{}, {"direction": "b2a"}, {"max_dataset_size": 2, "batch_size": 2}], ids=str)
@pytest.mark.parametrize("convert", [lambda x: x, list, lambda x: x / 127.5 - 1], ids=["array", "list", "float64"])
def test_arrays_train_like_the_same_images_in_a_folder(options, convert, tmp_path):
    for domain, images in ("trainA", A), ("trainB", B):
        (tmp_path / domain).mkdir()
        for index, image in enumerate(images):
            Image.fromarray(image).save(tmp_path / domain / f"{index}.png")
    options = make_toy_config(**options, preprocess="crop")
    given = given_images.open_given((convert(A), convert(B)), options)
    from_folder = sources.open_dataset(make_toy_config(**{**vars(options), "dataset": str(tmp_path)}))
    found, expected = take(given, options, 3, 6), take(from_folder, options, 3, 6)
    for ours, theirs in zip(found, expected, strict=True):
        for image, other in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(image, other, rtol=0, atol=1e-6)


@pytest.mark.parametrize("give", [
    lambda pair: pair, lambda pair: tuple(map(list, pair)), tf.data.Dataset.from_tensor_slices,
], ids=["array", "list", "stream"])
def test_gray_images_need_no_channel_axis(give):
    options = make_toy_config(input_channels=1, output_channels=1)
    gray = A[..., 0], A[:, ::-1, :, 1]
    expanded = tuple(images[..., np.newaxis] for images in gray)
    found, expected = (given_images.open_given(give(pair), options) for pair in (gray, expanded))
    np.testing.assert_equal(take(found, options, 0, 4), take(expected, options, 0, 4))
    np.testing.assert_array_equal(found.train_b.decode(2), expanded[1][2])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("photos", r"dataset is a str; give a pair .* A folder is an option: Config\(dataset=...\)"),
        ((A,), "dataset is a tuple; give a pair"),
        (("photos", B), r"the type str holds no images of A; give an array \(N, H, W, C\), or a sequence"),
        ((A, 5), "the type int holds no images of B; give an array"),
        ((A, B[:0]), "there are no images of B"),
        ((A, B[0]), r"an image of B has shape \(20, 3\); expected \(height, width, 3\)"),
        ((A[..., :1], B), r"an image of A has shape \(20, 24, 1\); expected \(height, width, 3\), or other values of"),
        ((A[..., 0], B), r"an image of A has shape \(20, 24\); expected \(height, width, 3\), or other values of"),
        ((A.astype(np.int64), B), "an image of A has dtype int64; expected uint8, uint16, or floats"),
        ((A, B.astype(np.float32)), r"an image of B cannot be used: the values are \d+ to \d+; floats must be in"),
        ((A, np.full((1, 9, 9, 3), np.nan)), "an image of B cannot be used: 243 of 243 values are NaN"),
        (tf.data.Dataset.from_tensor_slices(A), r"dataset yields TensorSpec.*; expected pairs \(A, B\)"),
        (tf.data.Dataset.from_tensor_slices(((A, [0] * 5), (A, [1] * 5))), "expected pairs .* without labels"),
        (tf.data.Dataset.from_tensor_slices((A[:3], B)).batch(2), r"not of batches: call its method unbatch\(\)"),
    ],
)
def test_wrong_data_are_refused_with_a_reason(given, message):
    with pytest.raises(UserError, match=message):
        given_images.open_given(given, make_toy_config())


def test_a_single_gray_image_instead_of_a_sequence_is_an_error():
    options = make_toy_config(input_channels=1, lambda_identity=0)
    with pytest.raises(UserError, match=r"an image of A has shape \(24, 1\); expected \(height, width, 1\)"):
        given_images.open_given((A[0, ..., :1], B), options)


def stream(images=A, endless=False):
    """Pairs (image, the same image mirrored)."""
    pairs = tf.data.Dataset.from_tensor_slices((images, images[:, :, ::-1]))
    return pairs.repeat() if endless else pairs


def test_stream_is_read_in_its_order_and_repeated():
    dataset = given_images.open_given(stream(A[:, :16, :16]), make_toy_config(**READY))
    assert dataset.count_images_per_epoch(make_toy_config()) == 5
    for step, (a, b) in enumerate(take(dataset, make_toy_config(**READY), 0, 7)):
        np.testing.assert_allclose(a[0], A[step % 5, :16, :16] / 127.5 - 1, atol=1e-6)
        np.testing.assert_allclose(b[0], a[0][:, ::-1])
    swapped = make_toy_config(**READY, direction="b2a")
    (a, b), = take(given_images.open_given(stream(A[:, :16, :16]), swapped), swapped, 0, 1)
    np.testing.assert_allclose(b[0], A[0, :16, :16] / 127.5 - 1, atol=1e-6)


@pytest.mark.parametrize(("n_samples", "count"), [(4, 8), (12, 12)])
def test_stream_keeps_images_for_all_rows_of_a_grid(n_samples, count):
    dataset = given_images.open_given(stream(endless=True), make_toy_config(max_steps=1, n_samples=n_samples))
    assert (len(dataset.train_a), len(dataset.train_b)) == (count, count)


@pytest.mark.parametrize("make", [
    stream, lambda: stream(endless=True), lambda: stream().shuffle(5, seed=3),
], ids=["finite", "endless", "another order in each pass"])
def test_stream_resumes_with_the_same_crops_and_flips(make):
    options = make_toy_config(batch_size=2, max_steps=7)
    # Two data sets, as in two processes: a second pass over one shuffled data set would have a new order.
    whole = take(given_images.open_given(make(), options), options, 0, 7)
    np.testing.assert_equal(take(given_images.open_given(make(), options), options, 4, 7), whole[4:])


def test_images_that_a_stream_repeats_get_new_crops_and_flips():
    options = make_toy_config(batch_size=2, max_steps=7)
    images = np.concatenate([a for a, _ in take(given_images.open_given(stream(), options), options, 0, 7)])
    # The stream has five images.
    assert not np.array_equal(images[0], images[5]) or not np.array_equal(images[1], images[6])


def test_replicas_share_the_stream():
    dataset = given_images.open_given(stream(), make_toy_config())
    whole = take(dataset, make_toy_config(batch_size=6), 1, 3)
    parts = [take(dataset, make_toy_config(batch_size=2), 1, 3, local, 3) for local in (range(1), range(1, 3))]
    for step, (a, _) in enumerate(whole):
        joined = [parts[0][step], *parts[1][2 * step : 2 * step + 2]]
        np.testing.assert_array_equal(np.concatenate([images for images, _ in joined]), a)


def test_pairs_of_a_stream_share_crop_and_flip():
    options = make_toy_config(model="pix2pix")
    dataset = given_images.open_given(tf.data.Dataset.from_tensor_slices((A, A)), options)
    for a, b in take(dataset, options, 0, 4):
        np.testing.assert_array_equal(a, b)
    options = make_toy_config(model="pix2pix", preprocess="crop")
    sizes = tf.data.Dataset.from_tensors((A[0], B[0]))
    with pytest.raises(UserError, match="not a pair: 20 x 20 pixels, 24 x 20 in the other domain"):
        take(given_images.open_given(sizes, options), options, 0, 1)


def test_wrong_image_in_a_stream_is_refused_with_a_reason():
    options = make_toy_config()
    dataset = given_images.open_given(stream(), options)
    bad = tf.data.Dataset.from_tensor_slices((A.astype(np.float32), A))
    object.__setattr__(dataset, "stream", bad)
    with pytest.raises(UserError, match="an image of A cannot be used: the values are 0 to 255"):
        take(dataset, options, 0, 1)


def test_errors_in_a_stream_use_the_domain_names_of_the_caller():
    # The caller's images of B are the inputs.
    options = make_toy_config(direction="b2a", input_channels=1, lambda_identity=0)
    with pytest.raises(UserError, match=r"an image of B has shape \(20, 24, 3\); expected \(height, width, 1\)"):
        given_images.open_given(stream(), options)
    dataset = given_images.open_given(tf.data.Dataset.from_tensor_slices((A, A[..., :1])), options)
    object.__setattr__(dataset, "stream", stream().map(lambda a, b: (b, a)))
    with pytest.raises(UserError, match=r"an image of B has shape \(20, 24, 3\); expected \(height, width, 1\)"):
        take(dataset, options, 0, 1)


def test_stream_that_cannot_be_read_twice_is_one_clear_error(tmp_path, monkeypatch):
    skip_outputs(monkeypatch)
    images = iter(A)
    pairs = tf.data.Dataset.from_generator(
        lambda: ((image, image) for image in images), output_signature=(tf.TensorSpec((20, 24, 3), tf.uint8),) * 2
    )
    with pytest.raises(UserError, match=r"^the tf\.data\.Dataset has ended before the run; give a data set that"):
        cyclegan_tf.fit(make_toy_config(max_steps=3), tmp_path, dataset=pairs)


def test_run_on_a_stream_of_unknown_size_is_one_epoch():
    with pytest.raises(UserError, match=r"has an unknown number of elements, .* set max_steps"):
        given_images.open_given(stream(endless=True), make_toy_config(max_steps=0))
    options = make_toy_config(max_steps=3, batch_size=2)
    dataset = given_images.open_given(stream(endless=True), options)
    assert [dataset.count_images_per_epoch(options, n_replicas) for n_replicas in (1, 4)] == [6, 24]


def test_run_on_given_images_resumes_and_says_what_is_not_exact(tmp_path, monkeypatch, caplog, run_command):
    skip_outputs(monkeypatch)
    caplog.set_level(logging.INFO, "cyclegan_tf")
    importlib.import_module("toy_package.networks")
    importlib.import_module("toy_package.objectives")
    cyclegan_tf.fit(make_toy_config(max_steps=2, plugins=""), tmp_path, dataset=stream())
    assert "skipping" not in caplog.text
    result = cyclegan_tf.fit(make_toy_config(max_steps=3, plugins=""), tmp_path, dataset=stream())
    assert "skipping the images of 2 steps in the tf.data.Dataset; the run resumes exactly only if" in caplog.text
    assert "training steps 3 to 3, 5 images per epoch" in caplog.text
    # The modules of the functions that the config names are recorded.
    assert Config.load(result.workdir).plugins == "toy_package.networks,toy_package.objectives"
    child = run_command("cyclegan_tf.evaluate", f"--model={tmp_path}", "--metrics=cycle")
    assert child.returncode == 2
    assert child.stderr.startswith("error: the images of this run were given to cyclegan_tf.fit and are not stored")

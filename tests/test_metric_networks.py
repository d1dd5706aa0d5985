"""The measuring networks against the original ones in PyTorch (tests/data/metrics), if the weights are installed."""

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest
import remote_files
import tensorflow as tf
from metric_images import metric_images

from cyclegan_tf.errors import UserError
from cyclegan_tf.metrics import classifier, feature_cache, inception, lpips, weights

RECORDED = np.load(Path(__file__).parent / "data" / "metrics" / "networks.npz")


def needs(name):
    return pytest.mark.skipif(
        not weights.is_available(name),
        reason=f"{weights.get_default_folder()} has no weights of {name}: cyclegan evaluate --fetch_weights",
    )


@needs("inception")
def test_inception_features_match_pytorch():
    found = inception.Inception()(metric_images())
    assert np.linalg.norm(found - RECORDED["inception"]) < 1e-4 * np.linalg.norm(RECORDED["inception"])
    np.testing.assert_allclose(found, RECORDED["inception"], rtol=1e-3, atol=1e-4)


@needs("efficientnet_lite0")
def test_efficientnet_scores_match_pytorch():
    network = classifier.EfficientNetLite0()
    # Images of 240 x 240 would be cropped to 210 and enlarged; a crop of 224 x 224 needs no resizing.
    found = network.logits(metric_images()[:, 8:232, 8:232].astype(np.float32) / 127.5 - 1)
    assert found.shape[1] == 1000
    np.testing.assert_allclose(found, RECORDED["judge"], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("net", "key"), [
    pytest.param("alexnet", "lpips", marks=needs("lpips_alexnet")),
    pytest.param("vgg16", "lpips_vgg", marks=needs("lpips_vgg16")),
])
def test_lpips_equals_the_original_packages(net, key):
    images = metric_images().astype(np.float32) / 127.5 - 1
    measure = lpips.LPIPS(net)
    np.testing.assert_allclose(measure(images[:2], images[1:]), RECORDED[key], rtol=1e-4)
    assert measure(images[:1], images[:1]) == 0
    side = lpips.SMALLEST[net]
    small = images[:2, :side, :side]
    assert np.isfinite(measure(small[:1], small[1:])).all()
    try:
        distance = measure(small[:1, 1:], small[1:, 1:])
    except tf.errors.AbortedError:  # oneDNN in TensorFlow 2.15 refuses to pool 0 pixels. Others return NaN.
        distance = np.nan
    assert not np.isfinite(distance).all()


def test_resize_samples_like_the_graph_of_2015():
    # 120 pixels become 299: sample at 0, 0.4, 0.8, ... from the corner of the image, not at pixel centers.
    row = np.zeros((1, 1, 120, 3), np.uint8)
    row[..., :] = np.arange(0, 240, 2)[:, None]
    found = (inception.resize(row)[0, 0, :, 0].numpy() * 128) + 128
    np.testing.assert_allclose(found, np.minimum(np.arange(299) * 120 / 299, 119) * 2, atol=1e-3)


class Saved(tf.Module):
    """Stands in for TF-GAN's Inception: 299 x 299 images to features, here the mean colors."""

    @tf.function(input_signature=[tf.TensorSpec((None, 299, 299, 3), tf.float32, name="images")])
    def __call__(self, images):
        return {"pool_3": tf.reduce_mean(images, axis=(1, 2), keepdims=True), "logits": images[:, 0, 0]}


def test_saved_model_replaces_inception(tmp_path):
    tf.saved_model.save(Saved(), str(tmp_path / "net"), signatures={"serving_default": Saved().__call__})
    images = np.full((2, 8, 8, 3), 64, np.uint8)
    images[1, ..., 2] = 192
    found = inception.SavedInception(str(tmp_path / "net"))(images)
    np.testing.assert_allclose(found, [[-0.5, -0.5, -0.5], [-0.5, -0.5, 0.5]], atol=1e-6)
    with pytest.raises(UserError, match="is not a SavedModel with one input and an output pool_3"):
        inception.SavedInception(str(tmp_path))


class OtherSaved(tf.Module):
    """A network whose features cannot be used: they are NaN, or need images of another size."""

    def __init__(self, side):
        self.call = tf.function(
            lambda images: {"pool_3": tf.math.log(tf.reshape(images, (-1, side * side * 3)))},
            input_signature=[tf.TensorSpec((None, side, side, 3), tf.float32, name="images")],
        )


@pytest.mark.parametrize(("side", "message"), [
    (64, r"net fails on images of 299 x 299 pixels \(.*\); give a SavedModel that takes such images"),
    (299, "net returns features that are not finite; give another SavedModel"),
], ids=["size", "nan"])
def test_a_saved_model_with_useless_features_is_an_error(tmp_path, side, message):
    saved = OtherSaved(side)
    tf.saved_model.save(saved, str(tmp_path / "net"), signatures={"serving_default": saved.call})
    with pytest.raises(UserError, match=message):
        inception.SavedInception(str(tmp_path / "net"))(np.full((2, 8, 8, 3), 64, np.uint8))


def test_the_name_of_a_saved_model_follows_its_files(tmp_path):
    def copy_to(folder):
        for file in (tmp_path / "net").rglob("*"):
            if file.is_file():
                remote_files.store(f"{folder}/{file.relative_to(tmp_path / 'net')}", file.read_bytes())
        return inception.SavedInception(folder).name.split()[-1]

    saved = Saved()
    tf.saved_model.save(saved, str(tmp_path / "net"), signatures={"serving_default": saved.__call__})
    folder = f"ram://{tmp_path.name}"
    first = copy_to(folder)
    assert first == inception.SavedInception(str(tmp_path / "net")).name.split()[-1]
    (tmp_path / "net" / "assets").mkdir(exist_ok=True)
    (tmp_path / "net" / "assets" / "labels.txt").write_text("other")
    assert copy_to(folder) != first


def test_keras_classifier_resizes_the_crop_to_its_input(tmp_path):
    pixels = tf.keras.Input((10, 10, 3))
    tf.keras.Model(pixels, tf.keras.layers.Flatten()(pixels)).save(tmp_path / "judge.keras")
    # Gray outside the central 14 x 14 pixels.
    image = np.full((16, 32, 3), 128, np.uint8)
    image[1:15, 9:23] = 10, 20, 250
    found = classifier.KerasClassifier(str(tmp_path / "judge.keras"))(image)
    np.testing.assert_array_equal(found.reshape(100, 3), np.tile([10, 20, 250], (100, 1)))


def test_a_judge_of_images_that_are_not_square_is_an_error(tmp_path):
    pixels = tf.keras.Input((10, 8, 3))
    tf.keras.Model(pixels, tf.keras.layers.Flatten()(pixels)).save(tmp_path / "judge.keras")
    with pytest.raises(UserError, match=r"it maps \(None, 10, 8, 3\) to .*; expected \(N, SIDE, SIDE, 3\)"):
        classifier.KerasClassifier(str(tmp_path / "judge.keras"))


def make_unbuilt_judge():
    return tf.keras.Sequential([tf.keras.layers.Flatten(), tf.keras.layers.Dense(10)])


def make_judge_of_two_outputs():
    pixels = tf.keras.Input((10, 10, 3))
    return tf.keras.Model(pixels, [tf.keras.layers.Flatten()(pixels), tf.keras.layers.Flatten()(pixels)])


@pytest.mark.filterwarnings("ignore:You are saving a model that has not yet been built")
@pytest.mark.parametrize("make", [make_unbuilt_judge, make_judge_of_two_outputs])
def test_a_judge_without_shapes_or_with_two_outputs_is_an_error(tmp_path, make):
    make().save(tmp_path / "judge.keras")
    with pytest.raises(UserError, match=r"judge\.keras is not a classifier of color images: it maps "):
        classifier.KerasClassifier(str(tmp_path / "judge.keras"))


def test_the_name_of_a_judge_has_the_digest_of_its_file(tmp_path):
    pixels = tf.keras.Input((10, 10, 3))
    tf.keras.Model(pixels, tf.keras.layers.Flatten()(pixels)).save(tmp_path / "judge.keras")
    digest = hashlib.sha256((tmp_path / "judge.keras").read_bytes()).hexdigest()
    name = classifier.KerasClassifier(str(tmp_path / "judge.keras")).name
    assert name == f"{tmp_path / 'judge.keras'} {digest[:12]}"


def test_a_judge_that_is_not_a_keras_model_is_an_error(tmp_path):
    with pytest.raises(UserError, match=r"--judge=.*no\.keras is not a Keras model"):
        classifier.KerasClassifier(str(tmp_path / "no.keras"))


def test_exhausted_memory_is_not_called_a_bad_judge(tmp_path, monkeypatch):
    def load_model(path, compile):
        raise MemoryError

    monkeypatch.setattr(tf.keras.models, "load_model", load_model)
    with pytest.raises(MemoryError):
        classifier.KerasClassifier(str(tmp_path / "judge.keras"))


class LogOfGray(tf.keras.layers.Layer):
    """Scores log(gray - 128), which are finite only for gray levels above 128."""

    def call(self, pixels):
        return tf.math.log(pixels[:, 0, 0] - 128)


@pytest.mark.parametrize("gray", [50, 128], ids=["nan", "infinite"])
def test_a_judge_with_scores_that_are_not_finite_is_an_error(tmp_path, monkeypatch, gray):
    pixels = tf.keras.Input((10, 10, 3))
    model = tf.keras.Model(pixels, LogOfGray()(pixels))
    monkeypatch.setattr(tf.keras.models, "load_model", lambda path, compile: model)
    (tmp_path / "judge.keras").write_bytes(b"")
    judge = classifier.KerasClassifier(str(tmp_path / "judge.keras"))
    np.testing.assert_allclose(judge(np.full((10, 10, 3), 228, np.uint8)), np.full(3, np.log(100)), rtol=1e-6)
    message = r"^--judge=.*judge\.keras returns scores that are not finite; give another Keras model$"
    with pytest.raises(UserError, match=message):
        judge(np.full((10, 10, 3), gray, np.uint8))


def make_judge_of_another_size(path):
    """Saves a judge that accepts images of any size, and fails unless they have 32 x 32 pixels."""
    pixels = tf.keras.Input((None, None, 3))
    tf.keras.Model(pixels, tf.keras.layers.Reshape((32 * 32 * 3,))(pixels)).save(path)


def test_a_judge_that_fails_on_an_image_is_an_error(tmp_path):
    make_judge_of_another_size(tmp_path / "judge.keras")
    judge = classifier.KerasClassifier(str(tmp_path / "judge.keras"))
    # Keras and TensorFlow put the reason behind the first line of their error. 150528 = 3 * 224^2.
    message = r"judge\.keras fails on an image of 224 x 224 pixels \(.*\); give a Keras model that takes such images$"
    with pytest.raises(UserError, match=f"^--judge=.*{message}") as caught:
        judge(np.zeros((32, 32, 3), np.uint8))
    assert re.search(r"must be unchanged\. Received: input_shape=\(224, 224, 3\)|tensor with 150528", str(caught.value))
    assert not {"\n", "\x1b"} & set(str(caught.value))


def test_exhausted_memory_is_not_called_a_failing_judge(tmp_path, monkeypatch):
    def exhaust(pixels, training):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM")

    make_judge_of_another_size(tmp_path / "judge.keras")
    judge = classifier.KerasClassifier(str(tmp_path / "judge.keras"))
    monkeypatch.setattr(judge, "_model", exhaust)
    with pytest.raises(tf.errors.ResourceExhaustedError):
        judge(np.zeros((32, 32, 3), np.uint8))


@pytest.mark.parametrize(("height", "width", "side", "top", "left"), [
    (48, 64, 42, 3, 11),
    (65, 48, 42, 11, 3),
    # 7/8 of 31 is 27.125.
    (31, 31, 27, 2, 2),
], ids=["wide", "tall", "rounded"])
def test_a_classifier_sees_the_central_seven_eighths(tmp_path, height, width, side, top, left):
    # A model that returns its pixels, at the size of the crop, so that nothing is resized.
    pixels = tf.keras.Input((side, side, 3))
    tf.keras.Model(pixels, tf.keras.layers.Flatten()(pixels)).save(tmp_path / "judge.keras")
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    crop = classifier.KerasClassifier(str(tmp_path / "judge.keras"))(image).reshape(side, side, 3)
    np.testing.assert_array_equal(crop, image[top : top + side, left : left + side])


@needs("efficientnet_lite0")
def test_efficientnet_sees_the_central_224_of_256_pixels():
    network = classifier.EfficientNetLite0()
    image = np.random.default_rng(0).integers(0, 256, (256, 300, 3), np.uint8)
    crop = image[16:240, 38:262].astype(np.float32) / 127.5 - 1
    np.testing.assert_allclose(network(image), network.logits(crop[np.newaxis])[0], rtol=1e-5, atol=1e-5)


def test_rates_count_hits_among_the_highest_scores():
    scores = np.array([[0, 9, 8, 7, 6, 5, 4.0], [9, 0, 1, 2, 3, 4, 5.0], [1, 2, 3, 4, 5, 6, 7.0]])
    assert classifier.compute_rates(scores, [1]) == pytest.approx((1 / 3, 1 / 3))
    assert classifier.compute_rates(scores, [6, 0]) == pytest.approx((2 / 3, 2 / 3))
    assert classifier.compute_rates(scores, [2]) == pytest.approx((0, 2 / 3))
    with pytest.raises(UserError, match=r"^class 7: the judge has the classes 0 to 6; correct --judge_classes_a or "):
        classifier.compute_rates(scores, [7, 1])


def test_features_are_batched_by_size_and_keep_their_order():
    sizes = []

    def network(batch):
        sizes.append(batch.shape[:3])
        return batch[:, 0, 0, :2].astype(np.float32)

    collector = feature_cache.Collector(network)
    for index in range(20):
        side = 4 if index != 17 else 5
        collector.add(np.full((side, 4, 1), index, np.uint8))
    np.testing.assert_array_equal(collector.join_features(), np.repeat(np.arange(20.0)[:, None], 2, axis=1))
    assert sizes == [(16, 4, 4), (1, 4, 4), (1, 5, 4), (2, 4, 4)]

"""Cityscapes scores by hand, and segmentation with a SavedModel."""

import numpy as np
import pytest
import tensorflow as tf

from cyclegan_tf.errors import UserError
from cyclegan_tf.metrics import segmentation

ROAD, SKY, CAR, VOID = (128, 64, 128), (70, 130, 180), (0, 0, 142), (0, 0, 0)


def test_pixels_get_the_class_of_the_nearest_color():
    image = np.array([[ROAD, (125, 70, 120), SKY], [(72, 128, 185), (3, 3, 139), (2, 1, 1)]], np.uint8)
    np.testing.assert_array_equal(segmentation.classify_colors(image), [[0, 0, 10], [10, 13, 19]])


def test_each_of_many_colors_gets_its_own_class():
    # More colors than are compared at once, each nearer to the color of the sky or of a car than to any other.
    around = np.stack(np.meshgrid(*[np.arange(21)] * 3, indexing="ij"), axis=-1).reshape(-1, 3) - (0, 0, 10)
    image = np.stack([np.array(SKY) + around, np.array(CAR) + around]).astype(np.uint8)
    assert len(np.unique(image.reshape(-1, 3), axis=0)) == 2 * 21**3
    ids = segmentation.classify_colors(image)
    assert (ids[0] == 10).all() and (ids[1] == 13).all()


def test_scores_by_hand():
    truth = np.array([[0, 0, 0, 10], [10, 10, 13, 19]])
    found = np.array([[0, 0, 10, 10], [10, 0, 19, 0]])
    # 4 of 7 pixels with a class are right; road 2/3, sky 2/3, car 0/1; IoU road 2/4, sky 2/4, car 0/1. The last pixel
    # has no true class and is not counted.
    assert segmentation.compute_scores(segmentation.count_confusion(found, truth)) == pytest.approx(
        {"pixel_accuracy": 4 / 7, "class_accuracy": 4 / 9, "mean_iou": 1 / 3}
    )
    assert set(segmentation.compute_scores(segmentation.count_confusion(truth, truth)).values()) == {1.0}


def test_label_maps_without_classes_are_an_error():
    with pytest.raises(UserError, match="no pixel of the true label maps has the color of a Cityscapes class"):
        segmentation.compute_scores(segmentation.count_confusion(np.zeros((2, 2), int), np.full((2, 2), 19)))


class Net(tf.Module):
    """Scores at half the size: road for red pixels, sky elsewhere."""

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3), tf.float32, name="images")])
    def __call__(self, images):
        red = images[:, ::2, ::2, :1]
        return {"scores": tf.concat([red, tf.repeat(tf.zeros_like(red) - 2, 18, axis=-1)[..., :9],
                                     -red, tf.repeat(tf.zeros_like(red) - 2, 8, axis=-1)], axis=-1)}


def test_saved_model_segments_photographs(tmp_path):
    net = Net()
    tf.saved_model.save(net, str(tmp_path), signatures={"serving_default": net.__call__})
    photograph = np.zeros((6, 4, 3), np.uint8)
    photograph[:4, :2, 0] = 255
    expected = np.full((6, 4), 10)
    expected[:4, :2] = 0
    np.testing.assert_array_equal(segmentation.Segmenter(str(tmp_path))(photograph), expected)
    with pytest.raises(UserError, match="--segmenter=/no/such is not a SavedModel"):
        segmentation.Segmenter("/no/such")


def test_a_segmenter_of_a_fixed_size_is_one_clear_error(tmp_path):
    class Fixed(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((None, 8, 8, 3), tf.float32, name="images")])
        def __call__(self, images):
            return {"scores": tf.repeat(images[..., :1] + tf.ones((8, 8, 1)), 19, axis=-1)}

    net = Fixed()
    tf.saved_model.save(net, str(tmp_path), signatures={"serving_default": net.__call__})
    segment = segmentation.Segmenter(str(tmp_path))
    assert segment(np.zeros((8, 8, 3), np.uint8)).shape == (8, 8)
    with pytest.raises(UserError, match=r"^--segmenter=.* fails on an image of 4 x 6 pixels \(.*\); give a SavedModel"):
        segment(np.zeros((6, 4, 3), np.uint8))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_segmenter_with_scores_that_are_not_finite_is_an_error(tmp_path, value):
    class Broken(tf.Module):
        """Scores that are not finite for bright pixels, and the highest score for road elsewhere."""

        @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3), tf.float32, name="images")])
        def __call__(self, images):
            return {"scores": tf.where(images[..., :1] > 0, tf.constant(value, tf.float32), tf.one_hot(0, 19))}

    net, photograph = Broken(), np.zeros((6, 4, 3), np.uint8)
    tf.saved_model.save(net, str(tmp_path), signatures={"serving_default": net.__call__})
    segment = segmentation.Segmenter(str(tmp_path))
    np.testing.assert_array_equal(segment(photograph), np.zeros((6, 4)))
    photograph[5, 3] = 255
    message = "^--segmenter=.* returns scores that are not finite; give another SavedModel$"
    with pytest.raises(UserError, match=message):
        segment(photograph)

"""The speed that a run reports."""

from cyclegan_tf.training.progress import Speedometer


def test_speed_is_images_over_seconds_since_the_last_reading():
    times = iter([100.0, 102.0, 106.0, 106.5])
    speedometer = Speedometer(images=40, clock=lambda: next(times))
    # 10 images in 2 s, 12 in 4 s, 1 in half a second.
    assert [speedometer.read(images) for images in (50, 62, 63)] == [5.0, 3.0, 2.0]

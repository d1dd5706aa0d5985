"""Means over an epoch."""

from cyclegan_tf.training.running_means import RunningMeans


def test_running_means_continue_from_stored_sums_and_start_again():
    means = RunningMeans()
    means.add({"loss": 1.0})
    means.add({"loss": 2.0})
    resumed = RunningMeans(means.sums)
    resumed.add({"loss": 6.0})
    assert resumed.take() == {"loss": 3.0}
    resumed.add({"loss": 5.0})
    assert resumed.take() == {"loss": 5.0}

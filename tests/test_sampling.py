"""A sample of an array's values represents all channels and columns."""

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from cyclegan_tf.images import sampling


@given(st.integers(1, 64), st.integers(1, 64), st.integers(1, 13), st.integers(1, 500))
@example(3, 42, 5, 232)
def test_sample_has_the_size_asked_and_distinct_places(height, width, channels, count):
    size = height * width * channels
    found = sampling.sample_evenly(np.arange(size), count)
    assert len(set(found)) == len(found) <= count or len(found) == size
    assert len(found) >= min(size, count / 2)


@given(st.sampled_from([(256, 256, 3), (256, 256, 4), (512, 512, 3), (512, 512, 1), (256, 256, 13)]))
def test_sample_has_every_channel_and_column(shape):
    count = 2 * shape[1] * shape[2]
    _, columns, channels = np.unravel_index(sampling.sample_evenly(np.arange(np.prod(shape)), count), shape)
    assert set(channels) == set(range(shape[2]))
    assert set(columns) == set(range(shape[1]))

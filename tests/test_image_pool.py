"""The image pool against recorded sequences of the authors' pool, and its properties for any sequence."""

import golden
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from cyclegan_tf.models.image_pool import ImagePool, exchange

SEQUENCES = golden.read_json("pool/image_pool.json")


def _images(numbers):
    """Images (N, 1, 2, 3) that hold their own number."""
    return np.array(numbers, np.float32).reshape(-1, 1, 1, 1) * np.ones((1, 1, 2, 3), np.float32)


def _numbers(images):
    images = np.asarray(images)
    assert images.dtype == np.float32
    assert images.shape[1:] == (1, 2, 3)
    np.testing.assert_array_equal(images, images[:, :1, :1, :1] * np.ones((1, 1, 2, 3), np.float32))
    return [int(image[0, 0, 0]) for image in images]


def _stored(pool):
    return [int(image[0, 0, 0, 0]) for image in pool.images]


def query(pool, batch):
    """Exchanges a batch of fakes as a training step does, and stores it."""
    past, sources = pool.draw(batch.shape)
    given_back = exchange(tf.constant(batch), past, sources)
    pool.store(tf.split(batch, len(batch)))
    return given_back.numpy()


def test_golden_set_is_complete():
    assert [(case["pool_size"], case["batch"]) for case in SEQUENCES] == [(3, 1), (3, 2), (0, 1), (1, 1)]


@pytest.mark.parametrize("on_device", [False, True])
@pytest.mark.parametrize("case", SEQUENCES, ids=lambda case: f"size{case['pool_size']}_batch{case['batch']}")
def test_sequence_equals_the_authors(case, on_device):
    pool = ImagePool(case["pool_size"], seed=case["python_random_seed"], on_device=on_device)
    batches = [range(i, i + case["batch"]) for i in range(0, case["images"], case["batch"])]
    assert [_numbers(query(pool, _images(list(batch)))) for batch in batches] == case["returned"]
    assert _stored(pool) == case["pool_content_at_end"]


@given(
    size=st.integers(0, 6), seed=st.integers(0, 2**32 - 1), batches=st.lists(st.integers(1, 4), max_size=12),
)
@settings(deadline=None)
def test_no_image_is_lost_or_invented(size, seed, batches):
    pool = ImagePool(size, seed)
    held, number = [], 0
    for n in batches:
        batch = list(range(number, number + n))
        number += n
        returned = _numbers(query(pool, _images(batch)))
        assert len(returned) == n
        for image, answer in zip(batch, returned, strict=True):
            # Either this image, which was perhaps stored as well while the pool filled, or an older one in exchange.
            if answer != image:
                held[held.index(answer)] = image
            elif len(held) < size:
                held.append(image)
        assert _stored(pool) == held
        assert len(pool.images) == min(size, number)
        assert set(returned) <= set(range(number))


@given(
    size=st.integers(0, 4), seed=st.integers(0, 2**32 - 1), before=st.integers(0, 12), other=st.integers(0, 99),
)
@settings(deadline=None)
def test_restored_pool_continues_identically(size, seed, before, other):
    pool = ImagePool(size, seed)
    for i in range(before):
        query(pool, _images([i]))
    state = {name: np.array(array) for name, array in pool.get_state().items()}
    again = ImagePool(size, other)
    query(again, _images([1000, 1001, 1002]))
    again.set_state(state)
    for i in range(before, before + 12):
        np.testing.assert_array_equal(query(pool, _images([i])), query(again, _images([i])))
    assert _stored(pool) == _stored(again)


def test_state_does_not_change_with_the_pool():
    pool = ImagePool(2, seed=0)
    query(pool, _images([0, 1]))
    state = pool.get_state()
    query(pool, _images(range(2, 12)))
    assert _numbers(state["images"]) == [0, 1]
    assert _stored(pool) != [0, 1]


def test_pool_stores_copies():
    pool = ImagePool(2, seed=0)
    batch = _images([0, 1])
    pool.draw(batch.shape)
    pool.store(np.split(batch, 2))
    batch[...] = -1
    assert _stored(pool) == [0, 1]
    state = pool.get_state()
    pool.set_state(state)
    state["images"][...] = -2
    assert _stored(pool) == [0, 1]


def test_images_are_arrays_or_stay_on_the_device():
    for on_device, kind in ((False, np.ndarray), (True, tf.Tensor)):
        pool = ImagePool(2, seed=0, on_device=on_device)
        query(pool, _images([0, 1]))
        assert all(isinstance(image, kind) for image in pool.images)
        assert pool.get_state()["images"].shape == (2, 1, 2, 3)


def test_images_have_the_type_of_the_pool():
    pool = ImagePool(2, seed=0, dtype=tf.bfloat16)
    for numbers in ([0], [1], [2], [3]):
        fakes = tf.constant(_images(numbers))
        past, sources = pool.draw(fakes.shape)
        assert {tf.as_dtype(image.dtype) for image in past} == {tf.bfloat16}
        assert exchange(fakes, past, sources).dtype == tf.float32
        pool.store([tf.cast(fakes, tf.bfloat16)])
    state = pool.get_state()
    assert _numbers(state["images"]) == _stored(pool)
    again = ImagePool(2, seed=0, dtype=tf.bfloat16)
    # A state of another type, such as an older checkpoint's, is rounded: bfloat16 has 8 significant bits.
    again.set_state({**state, "images": state["images"] + np.float32(2**-7 + 2**-9)})
    assert {tf.as_dtype(image.dtype) for image in again.images} == {tf.bfloat16}
    rounded = [float(image[0, 0, 0, 0]) for image in again.images]
    assert rounded == [number + (2**-7 if number == 1 else 2**-6 if number > 1 else 2**-7 + 2**-9)
                       for number in _stored(pool)]


def test_no_gradient_flows_through_the_pool():
    pool = ImagePool(1, seed=0)
    fakes = tf.Variable(_images([1, 2]))
    past, sources = pool.draw(fakes.shape)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(exchange(fakes, past, sources))
    assert tape.gradient(total, fakes) is None


def test_half_of_the_images_are_exchanged():
    pool = ImagePool(50, seed=1)
    query(pool, _images(range(50)))
    returned = _numbers(query(pool, _images(range(50, 2050))))
    exchanged = sum(number != image for number, image in zip(returned, range(50, 2050), strict=True))
    # Five standard deviations of 2000 fair coins.
    assert abs(exchanged - 1000) < 5 * np.sqrt(2000 / 4)


def test_pool_of_size_0_gives_back_the_batch():
    pool = ImagePool(0)
    assert _numbers(query(pool, _images([1, 2]))) == [1, 2]
    assert pool.images == []

"""PatchNCE, the contrastive loss of CUT (Park et al. 2020, equation 3)."""

import tensorflow as tf


def patch_nce_loss(queries: tf.Tensor, keys: tf.Tensor, n_images: int | tf.Tensor, temperature: float) -> tf.Tensor:
    """Returns the cross-entropy of choosing the key of the same patch among all keys of the same image.

    The loss of query i is -log(exp(q_i k_i / T) / sum_j exp(q_i k_j / T)), where j runs over the patches of the image
    that holds patch i. No gradient flows into the keys.

    Args:
      queries, keys: (n_images * P, C) rows of norm 1, ordered image by image.
      temperature: T.

    Returns:
      The loss of each query, (n_images * P,).
    """
    channels = queries.shape[-1]
    queries = tf.reshape(queries, (n_images, -1, channels))
    keys = tf.reshape(tf.stop_gradient(keys), (n_images, -1, channels))
    logits = tf.matmul(queries, keys, transpose_b=True) / temperature  # (N, P, P)
    same_patch = tf.broadcast_to(tf.range(tf.shape(logits)[1]), tf.shape(logits)[:2])
    loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=same_patch, logits=logits)
    return tf.reshape(loss, (-1,))


def draw_positions(seed: tf.Tensor, size: int | tf.Tensor, count: int) -> tf.Tensor:
    """Draws min(count, size) different positions out of 0 .. size - 1: int32, a pure function of `seed`, int64 (2,)."""
    # The indices of the largest of independent random numbers are a random sample in random order.
    return tf.math.top_k(tf.random.stateless_uniform((size,), seed), tf.minimum(count, size)).indices


def draw_flip(seed: tf.Tensor) -> tf.Tensor:
    """Draws whether a step mirrors its images: a bool scalar, true with probability 1/2."""
    return tf.random.stateless_uniform((), seed) < 0.5

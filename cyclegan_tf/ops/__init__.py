"""Tensor functions that compute what TensorFlow's own compute, only faster."""

"""Tensor functions that compute the same numbers as TensorFlow's, only faster, and facts about the hardware."""

"""Functions of tensors that compute what TensorFlow's do, only faster."""

"""TensorFlow on this machine: its start, its GPUs and memory, and functions that compute the same numbers faster."""

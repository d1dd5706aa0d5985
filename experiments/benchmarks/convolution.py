"""Measures one convolution and its gradients with each kernel that `cyclegan_tf/ops/convolution.py` can use.

  python experiments/benchmarks/convolution.py [--shapes 66,256,256,3,1 ...] [--batches 1 2] [--repeats=12]
      [--type=float32]

A shape is the side of the padded input, its channels, the filters, the side of the kernel, and the stride. Each row has
the median in milliseconds with the GFLOP/s of the direct convolution's work, and the largest error against float64,
relative to the largest value.
"""

import argparse
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # As cyclegan_tf's command lines do.

import numpy as np
import tensorflow as tf

from cyclegan_tf.ops import convolution, kernel_gradients, winograd


def library(x, kernel, stride):
    return tf.nn.conv2d(x, kernel, stride, "VALID")


def library_input(x, kernel, dy, stride):
    return tf.nn.conv2d_transpose(dy, kernel, x.shape, stride, "VALID")


def library_kernel(x, kernel, dy, stride):
    return tf.raw_ops.Conv2DBackpropFilter(
        input=x, filter_sizes=kernel.shape, out_backprop=dy, strides=(1, stride, stride, 1), padding="VALID"
    )


def ways(size, stride, filters):
    """(result, kernel, function of x, kernel, dy) of everything to compare."""
    yield "forward", "Conv2D", lambda x, kernel, dy: library(x, kernel, stride)
    yield "forward", "Conv3D for one image", lambda x, kernel, dy: convolution.convolve_directly(x, kernel, stride)
    yield "input's gradient", "library", lambda x, kernel, dy: library_input(x, kernel, dy, stride)
    yield "kernel's gradient", "library", lambda x, kernel, dy: library_kernel(x, kernel, dy, stride)
    if filters < 32 and stride == 1:
        yield "kernel's gradient", "rows", lambda x, kernel, dy: kernel_gradients.multiply_shifted_gradients(
            x, dy, size
        )
    if size <= 4:
        yield "kernel's gradient", "products", lambda x, kernel, dy: kernel_gradients.multiply_shifted_inputs(
            x, dy, size, stride
        )
    if (size, stride) == (3, 1):
        yield "forward", "Winograd", lambda x, kernel, dy: winograd.convolve(x, kernel)
        yield "both gradients", "Winograd", winograd.gradients


def exact(what, x, kernel, dy, stride):
    """The results of the library in float64."""
    x, kernel, dy = (tf.cast(value, tf.float64) for value in (x, kernel, dy))
    if what == "forward":
        return [library(x, kernel, stride)]
    both = [library_input(x, kernel, dy, stride), library_kernel(x, kernel, dy, stride)]
    return {"input's gradient": both[:1], "kernel's gradient": both[1:]}.get(what, both)


def measure(shape, batch, repeats, dtype):
    """Prints the rows of a Markdown table."""
    side, channels, filters, size, stride = shape
    output = (side - size) // stride + 1
    draw = [((batch, side, side, channels), 1), ((size, size, channels, filters), 0.02),
            ((batch, output, output, filters), 1)]
    values = [tf.random.stateless_normal(shape, (1, index), stddev=sd) for index, (shape, sd) in enumerate(draw)]
    values = [tf.cast(value, dtype) for value in values]
    work = 2 * size * size * channels * filters * batch * output * output
    for what, way, function in ways(size, stride, filters):
        compiled = tf.function(function, autograph=False)
        found = tf.nest.flatten(compiled(*values))
        errors = [
            np.abs(tf.cast(one, tf.float64) - other).max() / np.abs(other).max()
            for one, other in zip(found, (value.numpy() for value in exact(what, *values, stride)), strict=True)
        ]
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            tf.nest.map_structure(lambda result: result.numpy(), compiled(*values))
            times.append(time.perf_counter() - start)
        seconds = statistics.median(times)
        speed = len(found) * work / seconds / 1e9
        print(f"| {','.join(map(str, shape))} | {batch} | {what} | {way} | {1e3 * seconds:.1f} ({speed:.0f}) | "
              f"{', '.join(f'{error:.1e}' for error in errors)} |", flush=True)


def main():
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", default=[
        "66,256,256,3,1", "257,64,128,3,2", "129,128,256,3,2", "262,64,3,7,1", "33,512,1,4,1",
    ])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--repeats", type=int, default=12)
    parser.add_argument("--type", default="float32")
    given = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    print(f"TensorFlow {tf.__version__}, {cores} cores, {given.type}, medians of {given.repeats}\n")
    print("| shape | batch | | | ms (GFLOP/s) | largest error |")
    print("|---|---|---|---|---|---|")
    for shape in given.shapes:
        for batch in given.batches:
            measure(tuple(map(int, shape.split(","))), batch, given.repeats, given.type)


if __name__ == "__main__":
    main()

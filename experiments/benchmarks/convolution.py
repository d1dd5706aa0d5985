"""Time and error of one convolution and its gradients, by each algorithm in `cyclegan_tf/ops/convolution.py`.

  python experiments/benchmarks/convolution.py [--shapes 66,256,256,3,1 ...] [--batches 1 2] [--repeats=12]
      [--type=float32]

A shape is the side of the padded input, input channels, filters, side of the kernel, stride. The table has median
milliseconds, GFLOP/s relative to the operations of the direct convolution, and the largest error against float64 as a
share of the largest value.
"""

import statistics
import time
from collections.abc import Callable, Iterator

import harness
import numpy as np
import tensorflow as tf

from cyclegan_tf.ops import convolution, kernel_gradients, winograd


def convolve(x: tf.Tensor, kernel: tf.Tensor, stride: int) -> tf.Tensor:
    """Convolves with TensorFlow's own operation."""
    return tf.nn.conv2d(x, kernel, stride, "VALID")


def differentiate_input(x: tf.Tensor, kernel: tf.Tensor, dy: tf.Tensor, stride: int) -> tf.Tensor:
    """Computes the input's gradient with TensorFlow's own operation."""
    return tf.nn.conv2d_transpose(dy, kernel, x.shape, stride, "VALID")


def differentiate_kernel(x: tf.Tensor, kernel: tf.Tensor, dy: tf.Tensor, stride: int) -> tf.Tensor:
    """Computes the kernel's gradient with TensorFlow's own operation."""
    return tf.raw_ops.Conv2DBackpropFilter(
        input=x, filter_sizes=kernel.shape, out_backprop=dy, strides=(1, stride, stride, 1), padding="VALID"
    )


def list_algorithms(size: int, stride: int, filters: int) -> Iterator[tuple[str, str, Callable]]:
    """Yields (result, algorithm, function of x, kernel and dy) for each algorithm that supports this kernel."""
    yield "forward", "Conv2D", lambda x, kernel, dy: convolve(x, kernel, stride)
    yield "forward", "Conv3D for one image", lambda x, kernel, dy: convolution.convolve_directly(x, kernel, stride)
    yield "input gradient", "TensorFlow", lambda x, kernel, dy: differentiate_input(x, kernel, dy, stride)
    yield "kernel gradient", "TensorFlow", lambda x, kernel, dy: differentiate_kernel(x, kernel, dy, stride)
    if filters < 32 and stride == 1:
        yield "kernel gradient", "rows", lambda x, kernel, dy: kernel_gradients.multiply_shifted_gradients(
            x, dy, size
        )
    if size <= 4:
        yield "kernel gradient", "matrix products", lambda x, kernel, dy: kernel_gradients.multiply_shifted_inputs(
            x, dy, size, stride
        )
    if (size, stride) == (3, 1):
        yield "forward", "Winograd", lambda x, kernel, dy: winograd.convolve(x, kernel)
        yield "both gradients", "Winograd", winograd.compute_gradients


def compute_in_float64(result: str, stride: int, x: tf.Tensor, kernel: tf.Tensor, dy: tf.Tensor) -> list[tf.Tensor]:
    """Computes a result of `list_algorithms` in float64 with TensorFlow's own operations."""
    x, kernel, dy = (tf.cast(value, tf.float64) for value in (x, kernel, dy))
    if result == "forward":
        return [convolve(x, kernel, stride)]
    both = [differentiate_input(x, kernel, dy, stride), differentiate_kernel(x, kernel, dy, stride)]
    return {"input gradient": both[:1], "kernel gradient": both[1:]}.get(result, both)


def measure(shape: tuple[int, ...], batch: int, repeats: int, dtype: str) -> None:
    """Prints the rows of one shape and batch size."""
    side, channels, filters, size, stride = shape
    output = (side - size) // stride + 1
    draws = [((batch, side, side, channels), 1), ((size, size, channels, filters), 0.02),
             ((batch, output, output, filters), 1)]
    values = [tf.random.stateless_normal(shape, (1, index), stddev=sd) for index, (shape, sd) in enumerate(draws)]
    values = [tf.cast(value, dtype) for value in values]
    work = 2 * size * size * channels * filters * batch * output * output
    for result, algorithm, function in list_algorithms(size, stride, filters):
        compiled = tf.function(function, autograph=False)
        computed = tf.nest.flatten(compiled(*values))
        exact = [value.numpy() for value in compute_in_float64(result, stride, *values)]
        errors = [
            np.abs(tf.cast(one, tf.float64) - other).max() / np.abs(other).max()
            for one, other in zip(computed, exact, strict=True)
        ]
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            tf.nest.map_structure(lambda tensor: tensor.numpy(), compiled(*values))
            times.append(time.perf_counter() - start)
        seconds = statistics.median(times)
        speed = len(computed) * work / seconds / 1e9
        print(f"| {','.join(map(str, shape))} | {batch} | {result} | {algorithm} | {1e3 * seconds:.1f} ({speed:.0f}) | "
              f"{', '.join(f'{error:.1e}' for error in errors)} |", flush=True)


def main() -> None:
    """Prints a Markdown table."""
    parser = harness.make_parser(__doc__)
    parser.add_argument("--shapes", nargs="+", metavar="SIDE,CHANNELS,FILTERS,KERNEL,STRIDE", default=[
        "66,256,256,3,1", "257,64,128,3,2", "129,128,256,3,2", "262,64,3,7,1", "33,512,1,4,1",
    ])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 2], help="images in a batch")
    parser.add_argument("--repeats", type=int, default=12, help="measurements of each row")
    parser.add_argument("--type", default="float32", help="dtype, such as bfloat16")
    args = parser.parse_args()
    print(f"TensorFlow {tf.__version__}, {harness.count_cores()} cores, {args.type}, medians of {args.repeats}\n")
    print("| shape | batch | result | algorithm | ms (GFLOP/s) | largest error |")
    print("|---|---|---|---|---|---|")
    for shape in args.shapes:
        for batch in args.batches:
            measure(tuple(map(int, shape.split(","))), batch, args.repeats, args.type)


if __name__ == "__main__":
    main()

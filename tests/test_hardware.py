"""Which kernels run on a GPU, tested with a faked list of devices."""

import contextlib

import numpy as np
import pytest
import tensorflow as tf

from cyclegan_tf.config import Config
from cyclegan_tf.errors import UserError
from cyclegan_tf.models import compilation
from cyclegan_tf.networks import layers
from cyclegan_tf.ops import convolution, hardware, instance_norm

# Ops of the kernels that are faster only on a CPU.
CPU_ONLY = {"Conv3D", "MatMul", "BatchMatMulV2", "GatherV2"}


@pytest.fixture
def gpu(monkeypatch):
    devices = tf.config.list_logical_devices
    monkeypatch.setattr(
        tf.config, "list_logical_devices", lambda kind=None: ["a GPU"] if kind == "GPU" else devices(kind)
    )


def operations(function, *arguments):
    """Types of the ops of `function` and of its gradients with respect to its arguments."""

    @tf.function(autograph=False)
    def traced(*arguments):
        with tf.GradientTape() as tape:
            tape.watch(arguments)
            result = function(*arguments)
        return result, tape.gradient(result, arguments)

    graph = traced.get_concrete_function(*(tf.TensorSpec(shape) for shape in arguments)).graph
    graphs = [graph, *(inner.graph for inner in graph._functions.values() if hasattr(inner, "graph"))]
    return {operation.type for each in graphs for operation in each.get_operations()}


@pytest.mark.parametrize("channels", [3, 64])
def test_gpu_avoids_cpu_kernels(gpu, channels):
    # 64 channels are enough for Winograd's algorithm and for kernel gradients by matrix products.
    found = operations(lambda x, k: convolution.convolve(x, k, 1), (1, 66, 66, channels), (3, 3, channels, 64))
    found |= operations(layers.ReflectionPadding2D(1), (1, 8, 8, 4))
    found |= operations(lambda x: instance_norm.normalize(x, 1e-5), (1, 8, 8, 4))
    assert {"Conv2D", "Conv2DBackpropFilter", "MirrorPad", "FusedBatchNormV3"} <= found
    assert not found & CPU_ONLY


@pytest.mark.usefixtures("cpu_kernels")
def test_cpu_uses_cpu_kernels():
    found = operations(lambda x, k: convolution.convolve(x, k, 1), (1, 66, 66, 64), (3, 3, 64, 64))
    assert found & CPU_ONLY


def test_batch_norm_of_single_images_matches_instance_norm(monkeypatch):
    x, dy = (np.random.default_rng(seed).normal(2, 3, (3, 8, 6, 4)).astype(np.float32) for seed in range(2))
    results = []
    for has_gpu in False, True:
        monkeypatch.setattr(hardware, "has_gpu", lambda has_gpu=has_gpu: has_gpu)
        with tf.GradientTape() as tape:
            images = tf.constant(x)
            tape.watch(images)
            y = instance_norm.normalize(images, 1e-5)
        results.append((y, tape.gradient(y, images, output_gradients=dy)))
    for plain, fused in zip(*results, strict=True):
        np.testing.assert_allclose(fused, plain, rtol=0, atol=1e-5)


def test_compiled_sums_of_a_gpu_keep_the_variance_of_maps_far_from_zero(gpu):
    x, dy = (np.random.default_rng(seed).normal(0, 2, (2, 12, 20, 3)).astype(np.float32) for seed in range(2))
    x[..., 1:] += 3000  # E[x^2] - E[x]^2 of float32 numbers would be off by about 1.
    x[:, :, :, 2] = 3000  # A map without variance.

    @tf.function(autograph=False)
    def normalize(x, dy):
        with hardware.force_portable_ops():
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = instance_norm.normalize(x, 1e-5)
            return y, tape.gradient(y, x, dy)

    graph = normalize.get_concrete_function(*(tf.TensorSpec(x.shape),) * 2).graph
    # Each mean is one over the rows, then one over the columns: two for the map, two for its gradient.
    axes = [tf.get_static_value(o.inputs[1]).item() for o in graph.get_operations() if o.type == "Mean"]
    assert sorted(axes) == [1] * 4 + [2] * 4
    y, gradient = normalize(x, dy)
    # Ioffe and Szegedy 2015, section 3, in float64.
    x, dy = x.astype(np.float64), dy.astype(np.float64)
    scale = 1 / np.sqrt(x.var((1, 2), keepdims=True) + 1e-5)
    exact = (x - x.mean((1, 2), keepdims=True)) * scale
    np.testing.assert_allclose(y, exact, rtol=0, atol=1e-3)
    mean = dy.mean((1, 2), keepdims=True) + exact * (dy * exact).mean((1, 2), keepdims=True)
    expected = scale * (dy - mean)
    peak = np.abs(expected).max((0, 1, 2))  # The map without variance has a gradient 300 times as large.
    np.testing.assert_allclose(gradient / peak, expected / peak, rtol=0, atol=1e-3)


@pytest.mark.parametrize(("has_gpu", "option", "crops", "compiles"), [
    (False, "auto", True, False), (True, "auto", True, True), (True, "auto", False, False), (True, "off", True, False),
    (False, "on", True, True),
])
def test_jit_compile_auto_needs_a_gpu_and_fixed_image_size(monkeypatch, has_gpu, option, crops, compiles):
    monkeypatch.setattr(hardware, "has_gpu", lambda: has_gpu)
    config = Config(jit_compile=option, **({} if crops else {"preprocess": "none", "pool_size": 0}))

    def step():
        return 1

    assert (compilation.compile_part(config, step) is not step) == compiles


def test_tensorflow_2_15_does_not_compile_nearest_upsampling(monkeypatch):
    def upsample(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.keras.layers.UpSampling2D(2, interpolation="nearest")(x) ** 2
        return tape.gradient(y, x)

    def step():
        return 1

    is_old = tf.__version__.startswith("2.15.")
    monkeypatch.setattr(hardware, "has_gpu", lambda: True)
    # If TensorFlow 2.15 compiles the gradient, `compile_part` needs no special case.
    with pytest.raises(tf.errors.InvalidArgumentError) if is_old else contextlib.nullcontext():
        tf.function(upsample, jit_compile=True, autograph=False)(tf.ones((1, 2, 2, 1)))
    for options in {"upsample": "resize_conv"}, {"generator": "unet_book"}:
        assert (compilation.compile_part(Config(**options), step) is step) == is_old
        with pytest.raises(UserError, match=r"TensorFlow 2\.15 cannot compile") if is_old else contextlib.nullcontext():
            compilation.compile_part(Config(jit_compile="on", **options), step)


@pytest.mark.parametrize(("capability", "text"), [((9, 0), "TF32"), ((7, 0), "full precision")])
def test_log_names_the_gpu_and_its_precision(monkeypatch, capability, text):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["a GPU"])
    details = {"device_name": "NVIDIA H100 80GB HBM3", "compute_capability": capability}
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda gpu: details)
    assert hardware.describe_gpus() == f"training on NVIDIA H100 80GB HBM3; float32 matrix products use {text}"


def test_exact_float32_ends_with_its_body():
    is_enabled = tf.config.experimental.tensor_float_32_execution_enabled
    assert is_enabled(), "nothing to switch off"
    with hardware.use_exact_float32():
        assert not is_enabled()
    assert is_enabled()
    with pytest.raises(ValueError, match="stop"), hardware.use_exact_float32():
        raise ValueError("stop")
    assert is_enabled()


def test_log_names_no_gpu_without_one(monkeypatch):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    assert hardware.describe_gpus() == ""

"""Recomputed and compiled networks give the results of plain networks; also the number of threads of an operation."""

import os

import numpy as np
import pytest
import tensorflow as tf

from cyclegan_tf.config import Config
from cyclegan_tf.errors import UserError
from cyclegan_tf.models import compilation, replicas
from cyclegan_tf.models.cyclegan import CycleGAN
from cyclegan_tf.models.registry import build_model
from cyclegan_tf.networks import registry, segments
from cyclegan_tf.networks.layers import Conv2D
from cyclegan_tf.networks.weights import name_weights

keras = tf.keras
IMAGES = np.random.default_rng(0).uniform(-1, 1, (2, 16, 16, 3)).astype(np.float32)
TARGET = np.random.default_rng(1).uniform(-1, 1, (2, 16, 16, 3)).astype(np.float32)


class Network:
    """A generator and the gradients of a loss on its outputs."""

    def __init__(self, **options):
        keras.utils.set_random_seed(0)
        self.options = {"crop_size": 16, "load_size": 16, "ngf": 2, **options}
        self.model = registry.build_generator(Config.preset("tiny", **self.options), "gen_ab")

    def trace_gradients(self, recompute):
        """Makes a graph: images -> (output, gradients with respect to the images and to every weight)."""
        call = compilation.make_training_call(self.model, recompute)

        @tf.function(autograph=False)
        def gradients(images):
            with tf.GradientTape() as tape:
                tape.watch(images)
                output = call(images)
                # The second call makes the loss depend on the network twice.
                loss = tf.reduce_mean(tf.abs(call(output) - TARGET)) + tf.reduce_mean(tf.abs(output - TARGET))
            return output, tape.gradient(loss, [images, *self.model.trainable_variables])

        return gradients.get_concrete_function(tf.TensorSpec(IMAGES.shape))

    def assert_equal(self, expected, found):
        """Asserts that two results are equal except for rounding."""
        np.testing.assert_allclose(found[0], expected[0], rtol=0, atol=1e-5)
        names = ["images", *name_weights(self.model)]
        assert_equal_gradients(*(dict(zip(names, result[1], strict=True)) for result in (expected, found)))


def assert_equal_gradients(expected, found):
    """Asserts that {name: gradient} are equal except for rounding."""
    assert expected.keys() == found.keys()
    for name, gradient in expected.items():
        # The gradient of a bias before a norm is 0, which rounding hides.
        scale = 1 if name.endswith("bias") else np.abs(gradient).max()
        np.testing.assert_allclose(found[name], gradient, rtol=0, atol=2e-5 * scale, err_msg=name)
        assert scale > 0, name


def count_operations(function, kind):
    graphs = [function.graph, *(f.graph for f in function.graph._functions.values() if hasattr(f, "graph"))]
    return sum(operation.type == kind for graph in graphs for operation in graph.get_operations())


def test_recomputation_keeps_the_gradients():
    network = Network(n_blocks=2)
    names = [layer.name for layer in network.model.layers]
    plain, recomputed = network.trace_gradients(recompute=False), network.trace_gradients(recompute=True)
    network.assert_equal(plain(tf.constant(IMAGES)), recomputed(tf.constant(IMAGES)))
    # Each of the two backward passes computes every convolution once more.
    convolutions = sum(isinstance(layer, Conv2D) for layer in network.model.layers)
    assert count_operations(recomputed, "Conv2D") - count_operations(plain, "Conv2D") == 2 * convolutions
    # The network remains as it was, for checkpoints and for tools that walk through its layers.
    assert [layer.name for layer in network.model.layers] == names
    assert all(layer.output is not None for layer in network.model.layers)


@pytest.mark.parametrize("options", [
    {"pool_size": 1, "ema_decay": 0.9}, {"model": "pix2pix"},
], ids=["cyclegan", "pix2pix"])
def test_compiled_steps_compute_what_plain_steps_compute(options):
    results, gradients, weights = [], [], []
    for jit_compile in "off", "on":
        keras.utils.set_random_seed(0)
        config = Config.preset("tiny", **{
            "crop_size": 16, "load_size": 16, "pool_size": 0, "discriminator": "pixel", "jit_compile": jit_compile,
            **options,
        })
        model = build_model(config)
        results.append([model.train_step(IMAGES[:1], TARGET[:1])])
        gradients.append(read_gradients(model))
        weights.append(read_weights(model))
        results[-1].append(model.train_step(IMAGES[1:], TARGET[1:]))
        (past,) = model.draw_past((1, 16, 16, 3), (1, 16, 16, 3))
        graph = model.compiled_step.get_concrete_function(IMAGES[:1], TARGET[:1], past).graph
        programs = [o for o in graph.get_operations() if "Call" in o.type and o.get_attr("_XlaMustCompile")]
        assert len(programs) == {"off": 0, "on": 1}[jit_compile]
    for plain, compiled in zip(*results, strict=True):
        assert plain.keys() == compiled.keys()
        for name, value in plain.items():
            np.testing.assert_allclose(compiled[name], value, rtol=1e-4, atol=1e-5, err_msg=name)

    assert_equal_gradients(*gradients)
    assert_equal_weights(*weights)


@pytest.mark.parametrize("name", ["pix2pix", "cut"])
def test_a_program_cannot_exchange_gradients(monkeypatch, name):
    model = build_model(Config.preset("tiny", model=name, pool_size=0, jit_compile="on"))
    monkeypatch.setattr(replicas, "get_count", lambda: 2)
    with pytest.raises(UserError, match=f"--jit_compile=on does not work with --model={name} on several devices"):
        model.step(IMAGES, TARGET, {})


@pytest.mark.parametrize(("options", "channels"), [
    ({"n_blocks": 2}, [8, 8, 3]),
    ({"generator": "tf_blog", "n_blocks": 2}, [16, 24, 3]),  # Each block concatenates 4 ngf channels.
    ({"generator": "unet_book"}, [3]),
], ids=["resnet", "tf_blog", "unet"])
def test_segments_end_behind_residual_blocks(options, channels):
    found = segments.split_into_segments(Network(**options).model)
    assert [segment.output.shape[-1] for segment in found] == channels


def test_segment_that_a_skip_connection_crosses_is_an_error():
    inputs = keras.Input((8, 8, 3))
    first = keras.layers.Conv2D(3, 1, name="first")(inputs)
    second = segments.mark_segment_end(keras.layers.Conv2D(3, 1, name="second"))(first)
    network = keras.Model(inputs, keras.layers.Add()([first, second]), name="skipping")
    with pytest.raises(UserError, match=r"network skipping cannot be cut .*\(second\), because a later layer reads"):
        segments.split_into_segments(network)


def read_weights(model):
    """Returns {network/weight: array} without biases, because only rounding errors move a bias before a norm."""
    networks = model.networks | {f"average/{name}": network for name, network in model.averages.items()}
    return {
        f"{name}/{key}": weight.numpy()
        for name, network in networks.items()
        for key, weight in name_weights(network).items()
        if "bias" not in key
    }


def assert_equal_weights(expected, found):
    """Asserts that {name: weight} are equal after one step, except for rounding."""
    assert expected.keys() == found.keys()
    for name, weight in expected.items():
        # Adam's first step moves every weight by the learning rate, 2e-4.
        np.testing.assert_allclose(found[name], weight, rtol=0, atol=2e-6, err_msg=name)


def read_gradients(model):
    """Computes {network/weight: gradient} of the first step of `model`; all weights must be trainable."""
    gradients = {}
    for name, network in model.networks.items():
        names = name_weights(network)
        # After one step, Adam's first moment is (1 - beta_1) times the gradient. Each weight has two moments.
        moments = model.optimizers[name].variables[-2 * len(names) :: 2]
        for key, moment in zip(names, moments, strict=True):
            gradients[f"{name}/{key}"] = moment.numpy() / (1 - model.config.beta_1)
    return gradients


def test_recomputation_keeps_the_updated_weights():
    results = []
    for extra in ({}, {"recompute": True}):
        keras.utils.set_random_seed(0)
        model = CycleGAN(Config.preset("tiny", crop_size=16, load_size=16, pool_size=0, **extra))
        model.compiled_step = model.step
        model.train_step(IMAGES[:1], TARGET[:1])
        results.append(read_weights(model))
    assert_equal_weights(*results)


def test_only_generators_are_recomputed(monkeypatch):
    recomputed = []
    monkeypatch.setattr(tf, "recompute_grad", lambda segment: recomputed.append(segment) or segment)
    CycleGAN(Config.preset("tiny", recompute=True))
    assert len(recomputed) == 2 * 2  # Two generators, each with one block and the layers behind it.


@pytest.mark.parametrize(
    ("cores", "model", "own", "expected"),
    [(2, "cyclegan", None, "1"), (2, "cyclegan", "2", "2"), (2, "pix2pix", None, None), (8, "cyclegan", None, None)],
)
def test_two_cores_get_one_thread_per_operation(monkeypatch, cores, model, own, expected):
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    monkeypatch.setattr(os, "environ", {"TF_NUM_INTRAOP_THREADS": own} if own else {})
    compilation.set_threads(Config.preset("tiny", model=model))
    assert os.environ.get("TF_NUM_INTRAOP_THREADS") == expected

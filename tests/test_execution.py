"""Recomputed and compiled networks against the plain ones; threads."""

import os

import numpy as np
import pytest
import tensorflow as tf

from cyclegan_tf.config import Config
from cyclegan_tf.models import compilation
from cyclegan_tf.models.cyclegan import CycleGAN
from cyclegan_tf.networks import registry
from cyclegan_tf.networks.layers import Conv2D
from cyclegan_tf.networks.weights import named_weights
from cyclegan_tf.training import trainer

keras = tf.keras
IMAGES = np.random.default_rng(0).uniform(-1, 1, (2, 16, 16, 3)).astype(np.float32)
TARGET = np.random.default_rng(1).uniform(-1, 1, (2, 16, 16, 3)).astype(np.float32)


class Network:
    """A generator, and the gradients of a loss of it by compiled functions."""

    def __init__(self, **options):
        keras.utils.set_random_seed(0)
        self.options = {"crop_size": 16, "load_size": 16, "ngf": 2, **options}
        self.model = registry.build_generator(Config.preset("tiny", **self.options), "gen_ab")

    def function(self, **options):
        """tf.function of images: (output, gradients of the images and of every weight)."""
        config = Config.preset("tiny", **self.options, **options)
        call = compilation.training_calls(config, {"gen_ab": self.model})["gen_ab"]

        @tf.function(autograph=False)
        def gradients(images):
            with tf.GradientTape() as tape:
                tape.watch(images)
                output = call(images)
                # Of the image that comes back, so that the network is run twice.
                loss = tf.reduce_mean(tf.abs(call(output) - TARGET)) + tf.reduce_mean(tf.abs(output - TARGET))
            return output, tape.gradient(loss, [images, *self.model.trainable_variables])

        return gradients.get_concrete_function(tf.TensorSpec(IMAGES.shape))

    def assert_equal(self, expected, found):
        """Equal but for the order of sums."""
        np.testing.assert_allclose(found[0], expected[0], rtol=0, atol=1e-5)
        names = ["images", *named_weights(self.model)]
        for name, one, other in zip(names, expected[1], found[1], strict=True):
            # A norm cancels the bias in front of it: rounding is all that its gradient has.
            scale = 1 if name.endswith("bias") else np.abs(one).max()
            np.testing.assert_allclose(other, one, rtol=0, atol=2e-5 * scale, err_msg=name)
            assert scale > 0, name


def operations(function, kind):
    graphs = [function.graph, *(f.graph for f in function.graph._functions.values() if hasattr(f, "graph"))]
    return sum(operation.type == kind for graph in graphs for operation in graph.get_operations())


def test_a_recomputed_network_has_the_gradients_of_the_plain_one():
    network = Network(n_blocks=2)
    names = [layer.name for layer in network.model.layers]
    plain, recomputed = network.function(), network.function(recompute=True)
    assert len(compilation._parts(network.model)) == 3
    network.assert_equal(plain(tf.constant(IMAGES)), recomputed(tf.constant(IMAGES)))
    # Every convolution is there once more in each of the two backward passes.
    convolutions = sum(isinstance(layer, Conv2D) for layer in network.model.layers)
    assert operations(recomputed, "Conv2D") - operations(plain, "Conv2D") == 2 * convolutions
    # Names, and so checkpoints, stay; and tools that look at the graph of layers find one.
    assert [layer.name for layer in network.model.layers] == names
    assert all(layer.output is not None for layer in network.model.layers)


@pytest.mark.parametrize("options", [
    {"pool_size": 1, "ema_decay": 0.9}, {"model": "pix2pix"},
], ids=["cyclegan", "pix2pix"])
def test_compiled_steps_have_the_scalars_of_plain_steps(options):
    results = []
    for jit_compile in "off", "on":
        keras.utils.set_random_seed(0)
        config = Config.preset("tiny", **{
            "crop_size": 16, "load_size": 16, "pool_size": 0, "discriminator": "pixel", "jit_compile": jit_compile,
            **options,
        })
        model = trainer.MODELS[config.model](config)
        # The second step's losses are those of the updated weights.
        results.append([model.train_step(IMAGES[i : i + 1], TARGET[i : i + 1]) for i in range(2)])
        (past,) = model.lend_past((1, 16, 16, 3), (1, 16, 16, 3))
        graph = model.compiled_step.get_concrete_function(IMAGES[:1], TARGET[:1], past).graph
        programs = [o for o in graph.get_operations() if "Call" in o.type and o.get_attr("_XlaMustCompile")]
        assert len(programs) == {"off": 0, "on": 1 if config.model == "pix2pix" else 2}[jit_compile]
    for plain, compiled in zip(*results, strict=True):
        assert plain.keys() == compiled.keys()
        for name, value in plain.items():
            np.testing.assert_allclose(compiled[name], value, rtol=1e-4, atol=1e-5, err_msg=name)


def test_a_network_is_cut_behind_each_block_that_concatenates_too_and_a_u_net_is_not():
    parts = compilation._parts(Network(generator="tf_blog", n_blocks=2).model)
    assert [part.output.shape[-1] for part in parts] == [2 * 8, 3 * 8, 3]  # Each block adds 4 ngf channels.
    assert len(compilation._parts(Network(generator="unet_book").model)) == 1


def weights(model):
    """{network/weight: array}, but for biases in front of norms, whose gradients are rounding."""
    return {
        f"{name}/{key}": weight.numpy()
        for name, network in model.networks.items()
        for key, weight in named_weights(network).items()
        if "bias" not in key
    }


def test_a_recomputed_step_comes_to_the_same_weights():
    results = []
    for extra in ({}, {"recompute": True}):
        keras.utils.set_random_seed(0)
        model = CycleGAN(Config.preset("tiny", crop_size=16, load_size=16, pool_size=0, **extra))
        model.compiled_step = model.step
        model.train_step(IMAGES[:1], TARGET[:1])
        results.append(weights(model))
    for name, weight in results[0].items():
        # Adam's first step is the learning rate, 2e-4, in the direction of the gradient.
        np.testing.assert_allclose(results[1][name], weight, rtol=0, atol=2e-6, err_msg=name)


def test_generators_are_recomputed_and_discriminators_are_not(monkeypatch):
    config, recomputed = Config.preset("tiny", recompute=True), []
    monkeypatch.setattr(tf, "recompute_grad", lambda part: recomputed.append(part) or part)
    compilation.training_calls(config, {"disc_a": registry.build_discriminator(config, "disc_a")})
    assert recomputed == []
    compilation.training_calls(config, {"gen_ab": registry.build_generator(config, "gen_ab")})
    assert len(recomputed) == 2  # Up to the end of its one block, and behind it.


@pytest.mark.parametrize(
    ("cores", "model", "own", "expected"),
    [(2, "cyclegan", None, "1"), (2, "cyclegan", "2", "2"), (2, "pix2pix", None, None), (8, "cyclegan", None, None)],
)
def test_two_cores_share_the_halves_of_a_step(monkeypatch, cores, model, own, expected):
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    monkeypatch.setattr(os, "environ", {"TF_NUM_INTRAOP_THREADS": own} if own else {})
    compilation.set_threads(Config.preset("tiny", model=model))
    assert os.environ.get("TF_NUM_INTRAOP_THREADS") == expected

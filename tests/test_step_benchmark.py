"""The benchmark of the training step: its count of operations against the layers of the networks."""

import sys

import pytest
from conftest import ROOT

from cyclegan_tf.config import Config
from cyclegan_tf.networks import layers, registry


def count_products(network, pixels):
    """Multiplications of the convolutions of `network` on one image."""
    total, shapes = 0, {}
    for layer in network.layers:
        if hasattr(layer, "compute_output_shape") and layer is not network.layers[0]:
            before = layer.input if isinstance(layer.input, list) else [layer.input]
            given = [shapes[id(tensor)] for tensor in before]
            shape = layer.compute_output_shape(given if len(given) > 1 else given[0])
            if isinstance(layer, (layers.Conv2D, layers.Conv2DTranspose)):
                # A transposed convolution applies its kernel at each pixel of its input.
                at = given[0] if isinstance(layer, layers.Conv2DTranspose) else shape
                rows, columns, inputs, outputs = layer.kernel.shape
                total += at[1] * at[2] * rows * columns * inputs * outputs
        else:
            shape = (1, pixels, pixels, 3)
        shapes[id(layer.output)] = tuple(shape)
    return total


@pytest.mark.parametrize(("pixels", "n_blocks", "filters"), [(64, 2, 8), (32, 1, 4)])
def test_step_operations_match_the_networks(monkeypatch, pixels, n_blocks, filters):
    monkeypatch.syspath_prepend(str(ROOT / "experiments" / "benchmarks"))
    monkeypatch.delitem(sys.modules, "step", raising=False)
    import step

    config = Config(crop_size=pixels, load_size=pixels, n_blocks=n_blocks, ngf=filters, ndf=filters)
    generator = count_products(registry.build_generator(config, "gen_ab"), pixels)
    discriminator = count_products(registry.build_discriminator(config, "disc_a"), pixels)
    # A translation, a cycle and an identity run each generator three times. The gradients of inputs and of weights take
    # as many products each as the forward pass. A discriminator runs once for a generator, with the gradient of its
    # input, and twice for its own loss, with both gradients. Each product is followed by an addition.
    expected = 2 * (2 * 3 * 3 * generator + 2 * 2 * discriminator + 2 * 2 * 3 * discriminator)
    assert step.count_operations(pixels, n_blocks, filters) == expected

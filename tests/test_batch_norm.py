"""CycleGAN with batch norm against the authors' training step: losses and running statistics of three steps."""

import os

import golden
import numpy as np
import pytest

from cyclegan_tf.config import Config
from cyclegan_tf.models.cyclegan import CycleGAN
from cyclegan_tf.networks import weights as weights_lib
from cyclegan_tf.networks.weights import name_weights
from cyclegan_tf.pytorch import weights as pytorch_weights

DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data", "batch_norm", "cyclegan.npz")
# The authors name a discriminator after the generator that it judges: their D_A sees B.
NETS = {"G_A": "gen_ab", "G_B": "gen_ba", "D_A": "disc_b", "D_B": "disc_a"}
LOSSES = {**NETS, "cycle_A": "cycle_a", "cycle_B": "cycle_b", "idt_A": "identity_b", "idt_B": "identity_a"}


def group(arrays, prefix):
    return {key.removeprefix(prefix): array for key, array in arrays.items() if key.startswith(prefix)}


def describe(config, net):
    kind = "generator" if net.startswith("G") else "discriminator"
    return {**vars(config), "kind": kind, "input_channels": 3, "output_channels": 3}


@pytest.fixture(scope="module")
def run():
    """Repeats the recorded steps: (losses of each step, final weights as {NET: {PyTorch key: array}}, arrays)."""
    with np.load(DATA) as file:
        arrays = dict(file)
    config = Config.preset(
        "tiny", norm="batch", ngf=2, ndf=2, crop_size=16, pool_size=0, batch_size=2, lambda_a=8.0, lambda_b=12.0
    )
    model = CycleGAN(config)
    for net, name in NETS.items():
        weights = pytorch_weights.to_keras(group(arrays, f"init/{net}/"), describe(config, net))
        weights_lib.load(model.networks[name], weights, net)
    losses = [
        model.train_step(*map(golden.nhwc, images))
        for images in zip(arrays["real_A"], arrays["real_B"], strict=True)
    ]
    after = {
        net: pytorch_weights.to_pytorch(
            {key: weight.numpy() for key, weight in name_weights(model.networks[name]).items()}, describe(config, net)
        )
        for net, name in NETS.items()
    }
    return losses, after, arrays


def test_losses_match_the_authors(run):
    losses, _, arrays = run
    expected = group(arrays, "losses/")
    assert set(expected) == set(LOSSES)
    for name, values in expected.items():
        ours = [float(scalars[f"loss/{LOSSES[name]}"]) for scalars in losses]
        np.testing.assert_allclose(ours, values, rtol=1e-3, err_msg=name)


@pytest.mark.parametrize("net", NETS)
def test_running_statistics_match_the_authors(run, net):
    _, weights, arrays = run
    expected = group(arrays, f"after/{net}/")
    assert len(expected) == {"G": 2 * 7, "D": 2 * 2}[net[0]]
    for key, values in expected.items():
        # The manifest's tolerance for running statistics.
        np.testing.assert_allclose(weights[net][key], values, rtol=1e-3, atol=1e-4, err_msg=key)

"""The training step against the recorded runs of the authors' code: losses, gradients, weights."""

import functools
from unittest import mock

import golden
import numpy as np
import pytest
import tensorflow as tf

from cyclegan_tf.config import Config
from cyclegan_tf.models.cyclegan import CycleGAN
from cyclegan_tf.models.optimizers import Adam
from cyclegan_tf.networks import weights as weights_lib
from cyclegan_tf.networks.weights import name_weights
from cyclegan_tf.ops import convolution
from cyclegan_tf.pytorch import weights as pytorch_weights

RUNS = [name for name in golden.names("train") if name.startswith("train/cyclegan_")]
UNEQUAL = "train/cyclegan_nlayers2_unequal_lambdas.npz"
# This run is repeated with Winograd's algorithm, which otherwise skips convolutions as small as the run's.
WINOGRAD = f"{UNEQUAL} by Winograd"
# The authors name a discriminator after the generator that it judges: their D_A sees B.
NETS = {"G_A": "gen_ab", "G_B": "gen_ba", "D_A": "disc_b", "D_B": "disc_a"}
# The authors' idt_A is the identity loss of G_A, which makes images of B.
LOSSES = {
    **NETS, "cycle_A": "cycle_a", "cycle_B": "cycle_b", "idt_A": "identity_b", "idt_B": "identity_a", "G": "generators",
}


@functools.cache
def open_case(name):
    return golden.Golden(UNEQUAL if name == WINOGRAD else name)


def recorded(kind, nets=("",)):
    """The runs, or (run, net), that hold arrays KIND/... or KIND/NET/...: not every run holds all kinds."""
    return [(name, net) if net else name for name in [*RUNS, WINOGRAD] for net in nets
            if open_case(name).group(f"{kind}/{net}" if net else kind)]


class RecordingOptimizer:
    """Applies gradients by another optimizer, and records them in variables, because the step is compiled."""

    def __init__(self, optimizer, variables):
        self._optimizer = optimizer
        self.gradients = [tf.Variable(tf.zeros(variable.shape)) for variable in variables]

    def apply_gradients(self, gradients):
        for kept, gradient in zip(self.gradients, gradients, strict=True):
            kept.assign(gradient)
        self._optimizer.apply_gradients(gradients)


class Rerun:
    """The steps of a recorded run, done by `CycleGAN.train_step`.

    Attributes:
      case: the recorded run.
      scalars: what each step returned.
      gradients: of each step, {NET: {PyTorch key: array}}.
      weights: {NET: {PyTorch key: array}} after the last step.
      model: the model after the last step.
    """

    def __init__(self, name):
        self.case = open_case(name)
        self.model = start(self.case)
        self.model.optimizers = {
            net: RecordingOptimizer(optimizer, self.model.networks[net].trainable_variables)
            for net, optimizer in self.model.optimizers.items()
        }
        self.scalars, self.gradients = [], []
        for real_a, real_b in zip(self.case["real_A"], self.case["real_B"], strict=True):
            scalars = self.model.train_step(golden.nhwc(real_a), golden.nhwc(real_b))
            self.scalars.append({key: float(value) for key, value in scalars.items()})
            self.gradients.append({net: self._gradients(net) for net in NETS})
        self.weights = {net: self._as_pytorch(net, self._named(net).values()) for net in NETS}

    def _named(self, net):
        return name_weights(self.model.networks[NETS[net]])

    def _gradients(self, net):
        # Instance norm has no weights of its own, so all weights are trainable.
        return self._as_pytorch(net, self.model.optimizers[NETS[net]].gradients)

    def _as_pytorch(self, net, values):
        arrays = dict(zip(self._named(net), map(np.array, values), strict=True))
        return pytorch_weights.to_pytorch(arrays, golden.training_options(self.case.info["config"], net))

    def compared_keys(self, net):
        """Separates the weights with an effect from the biases before an instance norm, whose true gradient is zero."""
        info = self.case.info["nets"]
        info = info[info[net].get("same_as", net)]
        without_effect = info["zero_gradient_keys"]
        return [key for key in self.weights[net] if key not in without_effect], without_effect


def start(case):
    """A CycleGAN with the options and the initial weights of a recorded run."""
    theirs = case.info["config"]
    config = Config(
        ngf=theirs["ngf"], ndf=theirs["ndf"], n_blocks=golden.training_options(theirs, "G_A")["n_blocks"],
        n_layers=theirs["n_layers_D"], norm=theirs["norm"], gan_mode=theirs["gan_mode"], lambda_a=theirs["lambda_A"],
        lambda_b=theirs["lambda_B"], lambda_identity=theirs["lambda_identity"], pool_size=theirs["pool_size"],
        learning_rate=theirs["lr"], batch_size=theirs["batch"], preprocess="crop", crop_size=32,
    )
    model = CycleGAN(config)
    for net, name in NETS.items():
        arrays = pytorch_weights.to_keras(case.group(f"init/{net}"), golden.training_options(theirs, net))
        weights_lib.load(model.networks[name], arrays, net)
    return model


@functools.cache
def rerun_of(name):
    if name == WINOGRAD:
        everywhere = convolution.Thresholds(winograd_work=0, winograd_channels=0)
        with mock.patch.object(convolution, "THRESHOLDS", everywhere):
            return Rerun(UNEQUAL)
    return Rerun(name)


@pytest.fixture(params=[*RUNS, WINOGRAD])
def rerun(request):
    return rerun_of(request.param)


def tolerances(rerun):
    return rerun.case.info["tolerances"]["if_yours_runs_in_float32"]


def test_golden_set_is_complete():
    assert {UNEQUAL, "train/cyclegan_lsgan_idt.npz", "train/cyclegan_vanilla_noidt.npz"} <= set(RUNS)
    # All nets of one run at least, and images of some.
    for kind in ("grad1", "step3"):
        assert {(UNEQUAL, net) for net in NETS} <= set(recorded(kind, NETS))
    assert recorded("step1_images")
    assert recorded("after_last")


def test_losses_match_the_authors(rerun):
    names = [str(name) for name in rerun.case["loss_names"]]
    assert set(names) == set(LOSSES)
    for step, tolerance in enumerate(tolerances(rerun)["losses_max_abs_by_step"]):
        for name, expected in zip(names, rerun.case["losses"][step], strict=True):
            # Without an identity loss the authors record 0, and this package records nothing.
            loss = rerun.scalars[step].get(f"loss/{LOSSES[name]}", 0.0 if name.startswith("idt") else None)
            np.testing.assert_allclose(loss, expected, rtol=0, atol=tolerance, err_msg=f"{name} in step {step + 1}")
    identity = rerun.case.info["config"]["lambda_identity"]
    assert all(("loss/identity_a" in scalars) == (identity > 0) for scalars in rerun.scalars)


@pytest.mark.parametrize("rerun", recorded("step1_images"), indirect=True)
def test_first_images_match_the_authors(rerun):
    networks = start(rerun.case).networks
    real_a, real_b = (golden.nhwc(rerun.case[key][0]) for key in ("real_A", "real_B"))
    fake_b, fake_a = networks["gen_ab"](real_a), networks["gen_ba"](real_b)
    images = {
        "fake_B": fake_b, "fake_A": fake_a, "rec_A": networks["gen_ba"](fake_b), "rec_B": networks["gen_ab"](fake_a),
        "idt_A": networks["gen_ab"](real_b), "idt_B": networks["gen_ba"](real_a),
    }
    for key in rerun.case.group("step1_images"):
        rerun.case.assert_close(golden.nchw(images[key]), f"step1_images/{key}")


@pytest.mark.parametrize("net", NETS)
def test_biases_before_norms_have_no_gradient(rerun, net):
    for key in rerun.compared_keys(net)[1]:
        gradient = rerun.gradients[0][net][key]
        assert np.abs(gradient).max() <= tolerances(rerun)["grad1_zero_gradient_keys_max_abs"], key


@pytest.mark.parametrize(("rerun", "net"), recorded("grad1", NETS), indirect=["rerun"])
def test_first_gradients_match_the_authors(rerun, net):
    gradients, expected = rerun.gradients[0][net], rerun.case.group(f"grad1/{net}")
    compared, _ = rerun.compared_keys(net)
    assert compared
    for key in compared:
        tolerance = tolerances(rerun)["grad1_max_abs_relative_to_max_of_tensor"] * np.abs(expected[key]).max()
        np.testing.assert_allclose(gradients[key], expected[key], rtol=0, atol=tolerance, err_msg=key)


@pytest.mark.parametrize(("rerun", "net"), recorded("step3", NETS), indirect=["rerun"])
def test_final_weights_match_the_authors(rerun, net):
    # All weights of a network, taken together, by the manifest's rule.
    rule, expected = tolerances(rerun)["step3"], rerun.case.group(f"step3/{net}")
    compared, without_effect = rerun.compared_keys(net)
    differences = np.concatenate([
        np.abs(rerun.weights[net][key] - expected[key]).ravel() for key in compared
    ])
    over = np.count_nonzero(differences > rule["element_threshold"])
    limit = max(rule["or_this_number_of_elements"], rule["share_of_elements_over_threshold"] * differences.size)
    assert over <= limit
    assert differences.mean() <= rule["mean_abs"]
    assert differences.max() <= rule["max_abs"]
    # Adam moves these weights by noise, at most 1.05 times the learning rate in a step of either code.
    most = 2.1 * rerun.case.info["config"]["lr"] * len(rerun.scalars)
    for key in without_effect:
        assert np.abs(rerun.weights[net][key] - expected[key]).max() <= most, key


@pytest.mark.parametrize("rerun", recorded("after_last"), indirect=True)
def test_final_networks_match_the_authors(rerun):
    networks = rerun.model.networks
    real_a, real_b = (golden.nhwc(rerun.case[key][0]) for key in ("real_A", "real_B"))
    images = {
        "fake_B": networks["gen_ab"](real_a), "fake_A": networks["gen_ba"](real_b),
        "pred_D_A": networks["disc_b"](real_b), "pred_D_B": networks["disc_a"](real_a),
    }
    for key in rerun.case.group("after_last"):
        rerun.case.assert_close(golden.nchw(images[key]), f"after_last/{key}")


def test_adam_matches_the_authors():
    case = golden.Golden("layers/adam.npz")
    parameters = tf.Variable(case["p0"])
    optimizer = Adam([parameters], learning_rate=1.0, beta_1=0.5)
    for step, (gradient, rate) in enumerate(zip(case["grads"], case["lr"], strict=True)):
        optimizer.learning_rate.assign(rate)
        optimizer.apply_gradients([tf.constant(gradient)])
        tolerance = case.info["arrays"]["params"]["max_abs_tolerance"]
        np.testing.assert_allclose(parameters.numpy(), case["params"][step], rtol=0, atol=tolerance)

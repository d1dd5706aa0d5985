"""CUT and FastCUT: the training step against recorded runs of the authors' code, defaults, and options."""

import dataclasses
import functools
from unittest import mock

import golden
import numpy as np
import pytest
import tensorflow as tf

from cyclegan_tf.config import Config
from cyclegan_tf.config.direction import Direction
from cyclegan_tf.errors import UserError
from cyclegan_tf.models import patch_nce
from cyclegan_tf.models.cut import Cut
from cyclegan_tf.networks.weights import name_weights
from cyclegan_tf.pytorch import weights as pytorch_weights
from cyclegan_tf.training import schedules

keras = tf.keras

RUNS = ["train/cut.npz", "train/fastcut.npz"]
NETS = {"G": "gen_ab", "D": "disc_b", "F": "features"}
LAYERS = {0: "stem_pad", 4: "down1_conv", 8: "down2_conv", 12: "block1_add"}
TINY = Config.preset("tiny", model="cut", nce_features=8, nce_patches=16)


class RecordingOptimizer:
    """Keeps the gradients of the last step."""

    def __init__(self, optimizer):
        self._optimizer = optimizer

    @property
    def iterations(self):
        return self._optimizer.iterations

    def apply_gradients(self, gradients):
        self.gradients = [gradient.numpy() for gradient in gradients]
        self._optimizer.apply_gradients(gradients)


class Rerun:
    """Repeats the steps of a recorded run eagerly, so that each step reads its own recorded positions and flip."""

    def __init__(self, name):
        self.case = golden.Golden(f"cut/{name}")
        self.model = start(self.case)
        self.model.compiled_step = self.model.step
        self.model.optimizers = {net: RecordingOptimizer(o) for net, o in self.model.optimizers.items()}
        self.scalars, self.gradients = [], []
        for step, (real_a, real_b) in enumerate(zip(self.case["real_A"], self.case["real_B"], strict=True)):
            with drawn(self.case, step):
                scalars = self.model.train_step(golden.nhwc(real_a), golden.nhwc(real_b))
            self.scalars.append({key: float(value) for key, value in scalars.items()})
            self.gradients.append({net: self._gradients(net) for net in NETS})

    def weights(self, net):
        return as_pytorch(self.case, net, name_weights(self.model.networks[NETS[net]]))

    def _gradients(self, net):
        names = name_weights(self.model.networks[NETS[net]])
        gradients = self.model.optimizers[NETS[net]].gradients
        return as_pytorch(self.case, net, dict(zip(names, gradients, strict=True)))


def drawn(case, step):
    """Makes the step use the recorded positions, in the order of the layers and terms, and the recorded flip."""
    terms = ["NCE", *(["NCE_Y"] if "patch_ids/NCE_Y/0" in case else [])]
    layers = range(len(case.info["config"]["nce_layers"]))
    positions = [tf.constant(case[f"patch_ids/{term}/{i}"][step]) for term in terms for i in layers]
    flipped = bool(case["flipped"][step]) if "flipped" in case else False
    return mock.patch.multiple(
        patch_nce, draw_positions=mock.Mock(side_effect=positions), draw_flip=lambda seed: tf.constant(flipped)
    )


def start(case):
    """A model with the options and the initial weights of a recorded run."""
    theirs = case.info["config"]
    config = Config(
        model=theirs["CUT_mode"].lower(), ngf=theirs["ngf"], ndf=theirs["ndf"], n_blocks=1,
        n_layers=theirs["n_layers_D"], norm=theirs["norm"], gan_mode=theirs["gan_mode"], batch_size=theirs["batch"],
        nce_layers=",".join(LAYERS[number] for number in theirs["nce_layers"]), nce_features=theirs["netF_nc"],
        nce_patches=theirs["num_patches"], preprocess="crop", crop_size=32,
    )
    assert config.lambda_nce == theirs["lambda_NCE"]
    assert config.nce_identity == theirs["nce_idt"]
    assert config.flip_equivariance == theirs["flip_equivariance"]
    assert config.nce_temperature == theirs["nce_T"]
    model = Cut(config)
    for net, name in NETS.items():
        weights = from_pytorch(case, net, case.group(f"init/{net}"))
        variables = name_weights(model.networks[name])
        assert set(weights) == set(variables)
        for key, array in weights.items():
            variables[key].assign(array)
    return model


def feature_key(key):
    """mlp_1.2.weight -> mlp1_output/kernel."""
    mlp, number, kind = key.split(".")
    layer = {"0": "hidden", "2": "output"}[number]
    return f"{mlp.replace('_', '')}_{layer}/{ {'weight': 'kernel', 'bias': 'bias'}[kind] }"


def from_pytorch(case, net, state_dict):
    if net == "F":
        return {feature_key(key): array.T for key, array in state_dict.items()}
    return pytorch_weights.to_keras(state_dict, golden.training_options(case.info["config"], net))


def as_pytorch(case, net, variables):
    arrays = {name: np.array(value) for name, value in variables.items()}
    if net == "F":
        return {key: arrays[feature_key(key)].T for key in case.group("init/F")}
    options = golden.training_options(case.info["config"], net)
    weights = pytorch_weights.to_pytorch(arrays, options)
    return {key: array for key, array in weights.items() if not key.endswith(".filt")}


@functools.lru_cache(maxsize=2)
def rerun_of(name):
    return Rerun(name)


@pytest.fixture(params=RUNS)
def rerun(request):
    return rerun_of(request.param)


def tolerances(rerun):
    return rerun.case.info["tolerances"]["if_yours_runs_in_float32"]


def test_losses_of_each_step(rerun):
    names = [str(name) for name in rerun.case["loss_names"]]
    shares = 2.0 if "NCE_Y" in names else 1.0  # The recorded terms are not halved.
    for step, scalars in enumerate(rerun.scalars):
        found = {
            "G_GAN": scalars["loss/gen_ab"], "D": scalars["loss/disc_b"], "NCE": shares * scalars["loss/nce"],
            "NCE_Y": shares * scalars.get("loss/nce_identity", 0.0), "G": scalars["loss/generators"],
        }
        for name, expected, tolerance in zip(
            names, rerun.case["losses"][step], tolerances(rerun)["losses_max_abs_by_step_and_loss"][step], strict=True
        ):
            if name in found:
                assert abs(found[name] - expected) <= tolerance, (step, name)
    assert ("loss/nce_identity" in rerun.scalars[0]) == ("NCE_Y" in names)


@pytest.mark.parametrize("net", NETS)
def test_gradients_of_the_first_step(rerun, net):
    expected, gradients = rerun.case.group(f"grad1/{net}"), rerun.gradients[0][net]
    without_effect = rerun.case.info["nets"][net].get("zero_gradient_keys", ())
    assert set(gradients) == set(expected)
    for key, gradient in gradients.items():
        if key in without_effect:
            assert np.abs(gradient).max() <= tolerances(rerun)["grad1_zero_gradient_keys_max_abs"], key
        else:
            tolerance = tolerances(rerun)["grad1_max_abs_relative_to_max_of_tensor"] * np.abs(expected[key]).max()
            np.testing.assert_allclose(gradient, expected[key], rtol=0, atol=tolerance, err_msg=key)


@pytest.mark.parametrize("net", NETS)
def test_weights_after_the_last_step(rerun, net):
    rule, expected, weights = tolerances(rerun)["step3"], rerun.case.group(f"step3/{net}"), rerun.weights(net)
    without_effect = rerun.case.info["nets"][net].get("zero_gradient_keys", ())
    compared = [key for key in weights if key not in without_effect]
    differences = np.concatenate([np.abs(weights[key] - expected[key]).ravel() for key in compared])
    over = np.count_nonzero(differences > rule["element_threshold"])
    assert over <= max(rule["or_this_number_of_elements"], rule["share_of_elements_over_threshold"] * differences.size)
    assert differences.mean() <= rule["mean_abs"]
    assert differences.max() <= rule["max_abs"]
    for key in without_effect:
        assert np.abs(weights[key] - expected[key]).max() <= 2.1 * rerun.case.info["config"]["lr"] * 3, key


def test_networks_after_the_last_step(rerun):
    networks = rerun.model.networks
    fake = networks["gen_ab"](golden.nhwc(rerun.case["real_A"][0]))
    rerun.case.assert_close(golden.nchw(fake), "after_last/fake_B")
    score = networks["disc_b"](golden.nhwc(rerun.case["real_B"][0]))
    rerun.case.assert_close(golden.nchw(score), "after_last/pred_D")


@pytest.mark.parametrize("mode", ["CUT", "FastCUT"])
def test_defaults_and_learning_rates_are_the_authors(mode):
    recorded = golden.read_json("cut/defaults.json")
    theirs, config = recorded["options"][mode], Config(model=mode.lower())
    ours = {
        "batch_size": config.batch_size, "beta1": config.beta_1, "beta2": config.beta_2, "crop_size": config.crop_size,
        "load_size": config.load_size, "preprocess": config.preprocess, "no_flip": not config.flip,
        "flip_equivariance": config.flip_equivariance, "gan_mode": config.gan_mode, "init_type": config.initialization,
        "lambda_NCE": config.lambda_nce, "nce_idt": config.nce_identity, "nce_T": config.nce_temperature,
        "netF_nc": config.nce_features, "num_patches": config.nce_patches, "lr": config.learning_rate,
        "lr_policy": config.lr_policy, "n_epochs": config.n_epochs, "n_epochs_decay": config.n_epochs_decay,
        "n_layers_D": config.n_layers, "ndf": config.ndf, "ngf": config.ngf, "normG": config.norm,
        "no_antialias": config.antialias != "both", "no_antialias_up": config.antialias != "both",
        "no_dropout": not config.dropout, "pool_size": config.pool_size,
    }
    assert ours == {name: theirs[name] for name in ours}
    assert (theirs["netG"], theirs["netD"], config.n_blocks) == ("resnet_9blocks", "basic", 9)
    for epoch, rate in recorded["learning_rate_of_epochs"][mode].items():
        assert schedules.compute_learning_rate(config, 0, int(epoch) - 1) == pytest.approx(rate, abs=1e-12)


def test_options_and_presets_override_the_defaults_of_a_model():
    config = Config(model="fastcut", n_epochs=7, lambda_nce=2.0)
    assert (config.n_epochs, config.n_epochs_decay, config.lambda_nce, config.nce_identity) == (7, 50, 2.0, False)
    assert Config.preset("tiny", model="cut").pool_size == 4
    assert Config.from_json(config.to_json()) == config == dataclasses.replace(config)
    assert Config().n_epochs == 100


@pytest.mark.parametrize(("options", "message"), [
    ({"norm": "batch"}, "^--model=cut does not support --norm=batch; remove it$"),
    ({"gan_mode": "wgangp"}, "^--model=cut does not support --gan_mode=wgangp; remove it$"),
    ({"input_channels": 1}, "--input_channels=1"), ({"cycle_loss": "l2"}, "and no cycle; remove --cycle_loss=l2$"),
    ({"recompute": True}, "--recompute"),
    ({"generator": "unet"}, "^--model=cut does not know which layers of --generator=unet to compare; name them with"),
    ({"upsample": "resize_conv"}, r"^--antialias=both \(the default of --model=cut\) replaces .* --antialias=down or"),
    ({"discriminator": "pixel"}, r"^--antialias=both \(the default of --model=cut\) has no effect on --discriminator"),
])
def test_options_that_cut_does_not_support_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        Config(model="cut", **options)


def test_a_preset_with_a_unet_needs_the_layers_to_compare_first():
    with pytest.raises(UserError, match=r"--generator=unet_full to compare; name them with --nce_layers$"):
        Config.preset("fast_cpu", model="cut")
    assert Config.preset("fast_cpu", model="cut", nce_layers="down1_conv", antialias="none").generator == "unet_full"


def test_cut_learns_one_direction():
    assert Config(model="cut").directions == Config(model="fastcut").directions == (Direction.A2B,)
    assert list(Cut(TINY).generators) == ["gen_ab"]


def test_layers_that_the_generator_lacks_are_refused():
    with pytest.raises(UserError, match="no layer block9_add"):
        Cut(dataclasses.replace(TINY, nce_layers="stem_pad,block9_add"))


def batch(seed, n_images=1, size=(32, 32)):
    return tf.constant(np.random.default_rng(seed).uniform(-1, 1, (n_images, *size, 3)).astype(np.float32))


def run(config, n_steps=2, model=None):
    keras.utils.set_random_seed(0)
    model = model or Cut(config)
    scalars = [model.train_step(batch(2 * i), batch(2 * i + 1)) for i in range(n_steps)]
    return model, [{name: float(value) for name, value in step.items()} for step in scalars]


@pytest.mark.parametrize("options", [
    {"model": "fastcut", "nce_identity": True, "ema_decay": 0.9}, {"mixed_precision": "bfloat16"},
    {"mixed_precision": "float16"},
], ids=str)
def test_compiled_steps_are_finite_and_move_all_networks(options):
    config = Config.preset("tiny", **{"model": "cut", "nce_features": 8, "nce_patches": 16, **options})
    keras.utils.set_random_seed(0)
    model = Cut(config)
    before = {name: network.get_weights() for name, network in model.networks.items()}
    # The first gradients are too large for float16, until the loss scale has been halved often enough.
    _, scalars = run(config, n_steps=12 if config.mixed_precision == "float16" else 2, model=model)
    assert all(np.isfinite(value) for step in scalars for value in step.values())
    for name, network in model.networks.items():
        assert any(not np.array_equal(old, new) for old, new in zip(before[name], network.get_weights(), strict=True))
    model.refresh()
    fake = model.generators["gen_ab"](batch(9))
    assert fake.dtype == tf.float32
    assert (list(model.averages) == ["gen_ab"]) == ("ema_decay" in options)


def test_xla_and_eager_steps_agree_with_the_compiled_step():
    # XLA draws positions in another order, so the loss is averaged over all positions: no map has 10 000 pixels.
    config = dataclasses.replace(TINY, nce_patches=10_000)
    _, expected = run(config, n_steps=1)
    _, compiled = run(dataclasses.replace(config, jit_compile="on"), n_steps=1)
    keras.utils.set_random_seed(0)
    model = Cut(config)
    model.compiled_step = model.step
    _, eager = run(config, n_steps=1, model=model)
    for other in (compiled, eager):
        for name, value in expected[0].items():
            assert other[0][name] == pytest.approx(value, rel=1e-4, abs=1e-5), name


def test_flip_equivariance_mirrors_the_images_of_both_terms():
    # No map has 10 000 pixels, so both terms of the contrastive loss use all positions; only their images differ.
    config = dataclasses.replace(TINY, flip_equivariance=True, nce_patches=10_000)
    with mock.patch.object(patch_nce, "draw_flip", lambda seed: tf.constant(True)):
        scalars = Cut(config).train_step(batch(0), batch(0))
    assert float(scalars["loss/nce"]) == pytest.approx(float(scalars["loss/nce_identity"]), rel=1e-5)


def test_images_of_different_sizes():
    def step(config, image_a, image_b):
        keras.utils.set_random_seed(0)
        model = Cut(config)
        model.compiled_step = model.step
        return {name: float(value) for name, value in model.train_step(image_a, image_b).items()}

    wide, small = batch(0, size=(32, 40)), batch(1, size=(24, 32))
    scalars = step(dataclasses.replace(TINY, preprocess="none", pool_size=0), wide, small)
    assert all(np.isfinite(value) for value in scalars.values())
    # The contrastive loss depends on A only, and its identity term on B only.
    assert scalars["loss/nce"] == pytest.approx(step(TINY, wide, wide)["loss/nce"], rel=1e-4)
    assert scalars["loss/nce_identity"] == pytest.approx(step(TINY, small, small)["loss/nce_identity"], rel=1e-4)

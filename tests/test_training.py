"""The training step against the authors' runs, against sums done by hand, and what it must remember or forget."""

import functools

import golden
import numpy as np
import pytest
import tensorflow as tf

from cyclegan_tf import checkpoints, losses, models, pytorch_weights
from cyclegan_tf.config import Config
from cyclegan_tf.training import CycleGAN, adam

RUNS = [name for name in golden.names("train") if name.startswith("train/cyclegan_")]
UNEQUAL = "train/cyclegan_nlayers2_unequal_lambdas.npz"
# The authors name a discriminator after the generator that it judges: their D_A sees B.
NETS = {"G_A": "gen_ab", "G_B": "gen_ba", "D_A": "disc_b", "D_B": "disc_a"}
# Their idt_A is what G_A, which makes B, changes in B.
LOSSES = {
    **NETS, "cycle_A": "cycle_a", "cycle_B": "cycle_b", "idt_A": "identity_b", "idt_B": "identity_a", "G": "generators",
}
EPSILON = 1e-8


class RecordingOptimizer:
    """Keeps the gradients that it passes on, in variables: the step is compiled.

    With `authors_epsilon` Adam's epsilon is where PyTorch has it. PyTorch divides by sqrt(v_hat) + epsilon, Keras by
    sqrt(v) + epsilon, which is sqrt(v_hat) + epsilon / sqrt(1 - beta_2^t): 3.2e-7 instead of 1e-8 in the first step.
    Where a gradient is as small as that the update is another one; then a ReLU changes sides, and after three steps of
    the vanilla run one weight in six of a generator is off by more than 3e-5.
    """

    def __init__(self, optimizer, variables, authors_epsilon):
        self._optimizer = optimizer
        self._authors_epsilon = authors_epsilon
        self.gradients = [tf.Variable(tf.zeros(variable.shape)) for variable in variables]

    def apply_gradients(self, pairs):
        pairs = list(pairs)
        for kept, (gradient, _) in zip(self.gradients, pairs, strict=True):
            kept.assign(gradient)
        if self._authors_epsilon:
            step = tf.cast(self._optimizer.iterations + 1, tf.float32)
            self._optimizer.epsilon = EPSILON * tf.sqrt(1.0 - self._optimizer.beta_2**step)
        self._optimizer.apply_gradients(pairs)


class Rerun:
    """The steps of a recorded run, done by `CycleGAN.train_step`.

    Attributes:
      case: the recorded run.
      scalars: what each step returned.
      gradients: of each step, {NET: {PyTorch key: array}}.
      weights: {NET: {PyTorch key: array}} after the last step.
      model: the model after the last step.
    """

    def __init__(self, name, authors_epsilon):
        self.case = golden.Golden(name)
        self.model = start(self.case)
        self.model.optimizers = {
            net: RecordingOptimizer(optimizer, self.model.networks[net].trainable_variables, authors_epsilon)
            for net, optimizer in self.model.optimizers.items()
        }
        self.scalars, self.gradients = [], []
        for real_a, real_b in zip(self.case["real_A"], self.case["real_B"], strict=True):
            scalars = self.model.train_step(golden.nhwc(real_a), golden.nhwc(real_b))
            self.scalars.append({key: float(value) for key, value in scalars.items()})
            self.gradients.append({net: self._gradients(net) for net in NETS})
        self.weights = {net: self._as_pytorch(net, self._named(net).values()) for net in NETS}

    def _named(self, net):
        return models.named_weights(self.model.networks[NETS[net]])

    def _gradients(self, net):
        # Instance norm has no weights of its own, so all weights are trainable.
        return self._as_pytorch(net, self.model.optimizers[NETS[net]].gradients)

    def _as_pytorch(self, net, values):
        arrays = dict(zip(self._named(net), map(np.array, values), strict=True))
        return pytorch_weights.to_pytorch(arrays, golden.training_options(self.case.info["config"], net))

    def compared_keys(self, net):
        """The weights that have an effect, and the biases before an instance norm, whose true gradient is zero."""
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
        checkpoints.assign(models.named_weights(model.networks[name]), arrays, net)
    return model


@pytest.fixture(scope="module", params=RUNS)
def rerun(request):
    return Rerun(request.param, authors_epsilon=True)


@pytest.fixture(scope="module")
def keras_rerun():
    return Rerun(UNEQUAL, authors_epsilon=False)


def tolerances(rerun):
    return rerun.case.info["tolerances"]["if_yours_runs_in_float32"]


def test_the_golden_set_is_there():
    assert {UNEQUAL, "train/cyclegan_lsgan_idt.npz", "train/cyclegan_vanilla_noidt.npz"} <= set(RUNS)
    keys = {key.split("/")[0] for name in RUNS for key in golden.Golden(name)._arrays if "/" in key}
    assert {"init", "grad1", "step3", "step1_images", "after_last"} <= keys


def check_losses(rerun):
    names = [str(name) for name in rerun.case["loss_names"]]
    assert set(names) == set(LOSSES)
    for step, tolerance in enumerate(tolerances(rerun)["losses_max_abs_by_step"]):
        for name, expected in zip(names, rerun.case["losses"][step], strict=True):
            # Without an identity loss they list 0, we nothing.
            loss = rerun.scalars[step].get(f"loss/{LOSSES[name]}", 0.0 if name.startswith("idt") else None)
            np.testing.assert_allclose(loss, expected, rtol=0, atol=tolerance, err_msg=f"{name} in step {step + 1}")


def test_every_loss_of_every_step_is_the_authors(rerun):
    check_losses(rerun)
    identity = rerun.case.info["config"]["lambda_identity"]
    assert all(("loss/identity_a" in scalars) == (identity > 0) for scalars in rerun.scalars)


def test_the_images_of_the_first_step_are_the_authors(rerun):
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
def test_the_gradients_of_the_first_step_are_the_authors(rerun, net):
    gradients, expected = rerun.gradients[0][net], rerun.case.group(f"grad1/{net}")
    compared, without_effect = rerun.compared_keys(net)
    for key in without_effect:
        assert np.abs(gradients[key]).max() <= tolerances(rerun)["grad1_zero_gradient_keys_max_abs"], key
    for key in compared if expected else ():
        tolerance = tolerances(rerun)["grad1_max_abs_relative_to_max_of_tensor"] * np.abs(expected[key]).max()
        np.testing.assert_allclose(gradients[key], expected[key], rtol=0, atol=tolerance, err_msg=key)


def check_weights(rerun, net, step, allowed):
    """Compares all weights of a network, taken together, by the manifest's rule; `allowed` is taken off beforehand."""
    rule, expected = tolerances(rerun)[step], rerun.case.group(f"{step}/{net}")
    compared, without_effect = rerun.compared_keys(net)
    differences = np.concatenate([
        np.maximum(np.abs(rerun.weights[net][key] - expected[key]) - allowed[key], 0).ravel() for key in compared
    ])
    over = np.count_nonzero(differences > rule["element_threshold"])
    limit = max(rule["or_this_number_of_elements"], rule["share_of_elements_over_threshold"] * differences.size)
    assert over <= limit
    assert differences.mean() <= rule["mean_abs"]
    assert differences.max() <= rule["max_abs"]
    # Adam moves these by noise, at most 1.05 times the rate a step here and there.
    most = 2.1 * rerun.case.info["config"]["lr"] * len(rerun.scalars)
    for key in without_effect:
        assert np.abs(rerun.weights[net][key] - expected[key]).max() <= most, key


@pytest.mark.parametrize("net", NETS)
def test_the_weights_after_the_last_step_are_the_authors(rerun, net):
    if f"step3/{net}/model.1.bias" in rerun.case or f"step3/{net}/model.0.bias" in rerun.case:
        check_weights(rerun, net, "step3", dict.fromkeys(rerun.weights[net], 0.0))


def test_the_networks_after_the_last_step_are_the_authors(rerun):
    networks = rerun.model.networks
    real_a, real_b = (golden.nhwc(rerun.case[key][0]) for key in ("real_A", "real_B"))
    images = {
        "fake_B": networks["gen_ab"](real_a), "fake_A": networks["gen_ba"](real_b),
        "pred_D_A": networks["disc_b"](real_b), "pred_D_B": networks["disc_a"](real_a),
    }
    for key in rerun.case.group("after_last"):
        rerun.case.assert_close(golden.nchw(images[key]), f"after_last/{key}")


def epsilon_bound(gradients, rates, beta_1=0.5, beta_2=0.999):
    """How far Keras's epsilon takes a weight from PyTorch's Adam, if the gradients are the same: an array like them.

    A step of either is lr m_hat / (sqrt(v_hat) + e), with e = 1e-8 in PyTorch and e' = 1e-8 / sqrt(1 - beta_2^t) in
    Keras. They differ by lr |m_hat| (e' - e) / ((sqrt(v_hat) + e) (sqrt(v_hat) + e')); the steps' differences add up.
    """
    mean = square = total = np.zeros(np.shape(gradients[0]))
    gradients = [np.asarray(gradient, np.float64) for gradient in gradients]
    for t, (gradient, rate) in enumerate(zip(gradients, rates, strict=True), start=1):
        mean = beta_1 * mean + (1 - beta_1) * gradient
        square = beta_2 * square + (1 - beta_2) * gradient**2
        root = np.sqrt(square / (1 - beta_2**t))
        keras_epsilon = EPSILON / np.sqrt(1 - beta_2**t)
        difference = (keras_epsilon - EPSILON) / ((root + EPSILON) * (root + keras_epsilon))
        total = total + rate * np.abs(mean) / (1 - beta_1**t) * difference
    return total


def test_adam_is_the_authors_but_for_the_place_of_epsilon():
    case = golden.Golden("layers/adam.npz")
    optimizer, parameters = adam(Config()), tf.Variable(case["p0"])
    optimizer.build([parameters])
    for step, (gradient, rate) in enumerate(zip(case["grads"], case["lr"], strict=True)):
        optimizer.learning_rate.assign(rate)
        optimizer.apply_gradients([(tf.constant(gradient), parameters)])
        bound = epsilon_bound(case["grads"][: step + 1], case["lr"][: step + 1])
        tolerance = case.info["arrays"]["params"]["max_abs_tolerance"]
        assert np.all(np.abs(parameters.numpy() - case["params"][step]) <= bound + tolerance)
    # Of gradients from 1e-4 on no more than the tolerance is left of the bound: they are the authors' numbers.
    assert np.all(bound[np.abs(case["grads"][0]) > 1e-4] < 1e-6)


def test_the_step_with_its_own_optimizers_is_the_authors_but_for_the_place_of_epsilon(keras_rerun):
    check_losses(keras_rerun)
    rates = [keras_rerun.case.info["config"]["lr"]] * 3
    for net in NETS:
        allowed = {
            key: epsilon_bound([gradients[net][key] for gradients in keras_rerun.gradients], rates)
            for key in keras_rerun.weights[net]
        }
        check_weights(keras_rerun, net, "step3", allowed)


def batch(seed):
    return np.random.default_rng(seed).uniform(-1, 1, (1, 32, 32, 3)).astype(np.float32)


def snapshot(networks):
    return {
        name: {key: weight.numpy() for key, weight in models.named_weights(network).items()}
        for name, network in networks.items()
    }


class Trained:
    """Six compiled steps with a pool of two and moving averages, and a record of each.

    Attributes:
      steps: dicts of the batch (real_a, real_b), the scalars, what went into each pool and came out of it (fake_a,
        fake_b), and weights and averages before the step.
      weights, averages: {network: {name: array}} after the last step.
    """

    config = Config.preset("tiny", pool_size=2, ema_decay=0.28)

    def __init__(self):
        self.model = model = CycleGAN(self.config)
        pooled = {}
        for name, pool in model.pools.items():
            pool.query = self._recording(pool.query, pooled, name)
        self.steps = []
        for step in range(6):
            before = {"weights": snapshot(model.networks), "averages": snapshot(model.averages)}
            model.set_learning_rate(1e-3 / (step + 1))
            real_a, real_b = batch(step), batch(100 + step)
            scalars = {name: float(value) for name, value in model.train_step(real_a, real_b).items()}
            self.steps.append({**before, **pooled, "real_a": real_a, "real_b": real_b, "scalars": scalars})
        self.weights, self.averages = snapshot(model.networks), snapshot(model.averages)
        self._other = CycleGAN(self.config).networks

    @staticmethod
    def _recording(query, pooled, name):
        def recording_query(fake):
            given_back = query(fake)
            pooled[name] = (np.array(fake), np.array(given_back))
            return given_back

        return recording_query

    def output(self, network, step, images):
        """The output of a network with its weights from before a step."""
        checkpoints.assign(models.named_weights(self._other[network]), self.steps[step]["weights"][network], network)
        return self._other[network](images).numpy()


@pytest.fixture(scope="module")
def trained():
    return Trained()


def test_the_pool_takes_fakes_made_before_the_update(trained):
    for name, generator, real in (("fake_b", "gen_ab", "real_a"), ("fake_a", "gen_ba", "real_b")):
        for index in (0, 1):
            step = trained.steps[index]
            fake, given_back = step[name]
            np.testing.assert_allclose(fake, trained.output(generator, index, step[real]), rtol=0, atol=1e-5)
            assert np.abs(fake - trained.output(generator, index + 1, step[real])).max() > 1e-3
            # The pool fills.
            np.testing.assert_array_equal(fake, given_back)
        pool, fakes = trained.model.pools[name], [step[name][0][0] for step in trained.steps]
        assert len(pool.images) == 2
        assert all(any(np.array_equal(image, fake) for fake in fakes) for image in pool.images)


@pytest.mark.parametrize(("domain", "generator"), [("a", "gen_ba"), ("b", "gen_ab")])
def test_the_discriminators_see_what_the_pool_gives_back(trained, domain, generator):
    # The first step in which the pool exchanged the fake for an older one.
    index = next(i for i, step in enumerate(trained.steps) if np.any(np.diff(step[f"fake_{domain}"], axis=0)))
    step = trained.steps[index]
    on_fresh, on_pooled, on_real = (
        trained.output(f"disc_{domain}", index, images) for images in (*step[f"fake_{domain}"], step[f"real_{domain}"])
    )
    loss = 0.5 * (np.mean((on_real - 1) ** 2) + np.mean(on_pooled**2))
    np.testing.assert_allclose(step["scalars"][f"loss/disc_{domain}"], loss, rtol=1e-5)
    np.testing.assert_allclose(step["scalars"][f"score/real_{domain}"], on_real.mean(), rtol=0, atol=1e-6)
    np.testing.assert_allclose(step["scalars"][f"score/fake_{domain}"], on_pooled.mean(), rtol=0, atol=1e-6)
    # The generator is judged by its fresh fakes.
    np.testing.assert_allclose(step["scalars"][f"loss/{generator}"], np.mean((on_fresh - 1) ** 2), rtol=1e-5)
    assert abs(np.mean(on_fresh**2) - np.mean(on_pooled**2)) > 1e-4
    assert abs(np.mean((on_fresh - 1) ** 2) - np.mean((on_pooled - 1) ** 2)) > 1e-4


def test_the_step_is_traced_once(trained):
    assert len(trained.steps) == 6
    assert trained.model.train_step.experimental_get_tracing_count() == 1


def test_averages_follow_the_weights(trained):
    # (1 + t) / (10 + t) for t = 1, 2; from t = 3 on that is more than 0.28.
    decays = [2 / 11, 3 / 12, 0.28, 0.28, 0.28, 0.28]
    weights = [step["weights"] for step in trained.steps] + [trained.weights]
    averages = [step["averages"] for step in trained.steps] + [trained.averages]
    assert set(trained.averages) == {"gen_ab", "gen_ba"}
    for name in trained.averages:
        for key, initial in averages[0][name].items():
            np.testing.assert_array_equal(initial, weights[0][name][key])
            for t, decay in enumerate(decays, start=1):
                expected = decay * averages[t - 1][name][key] + (1 - decay) * weights[t][name][key]
                np.testing.assert_allclose(averages[t][name][key], expected, rtol=1e-5, atol=1e-8)
    assert trained.model.generators is trained.model.averages


def test_without_averages_the_generators_are_the_networks():
    model = CycleGAN(Config.preset("tiny"))
    assert model.averages == {}
    assert model.generators == {name: model.networks[name] for name in ("gen_ab", "gen_ba")}


def losses_by_hand(config, networks, real_a, real_b):
    """Every loss of a first step, one network call at a time; the same formulas for both domains."""
    real = {"a": real_a, "b": real_b}
    generators = {"a": networks["gen_ba"], "b": networks["gen_ab"]}  # By the domain that they make.
    fake = {domain: generators[domain](real[other], training=True) for domain, other in ("ab", "ba")}
    expected = {}
    for index, (domain, other) in enumerate(("ab", "ba")):
        discriminator = networks[f"disc_{domain}"]
        weight = getattr(config, f"lambda_{domain}")
        on_real, on_fake = (discriminator(x, training=True) for x in (real[domain], fake[domain]))
        cycled = generators[domain](fake[other], training=True)
        same = generators[domain](real[domain], training=True)
        expected |= {
            f"loss/gen_{other}{domain}": losses.generator_loss(config.gan_mode, on_fake),
            f"loss/cycle_{domain}": weight * np.mean(np.abs(cycled - real[domain])),
            f"loss/identity_{domain}": config.lambda_identity * weight * np.mean(np.abs(same - real[domain])),
        }
        loss = losses.discriminator_real_loss(config.gan_mode, on_real)
        loss = (loss + losses.discriminator_fake_loss(config.gan_mode, on_fake)) / 2
        if config.gan_mode == "wgangp":
            alpha = tf.random.stateless_uniform((len(real_a),), [2 * config.seed + index, 0])
            critic = functools.partial(discriminator, training=True)
            penalty = losses.gradient_penalty(critic, real[domain], fake[domain], alpha)
            assert penalty > 1
            loss += penalty
        expected[f"loss/disc_{domain}"] = loss
    expected["loss/generators"] = sum(value for name, value in expected.items() if "disc" not in name)
    return {name: float(value) for name, value in expected.items()}


@pytest.mark.parametrize("options", [
    {"gan_mode": "wgangp", "seed": 3}, {"gan_mode": "hinge"}, {"gan_mode": "vanilla"},
    {"norm": "batch"},
    {"generator": "unet", "n_downs": 5, "discriminator": "pixel"},
], ids=str)
def test_other_objectives_and_networks_train_on_the_sums_done_by_hand(options):
    config = Config.preset("tiny", pool_size=0, batch_size=2, lambda_a=7.0, lambda_b=11.0, **options)
    model = CycleGAN(config)
    real_a, real_b = (np.concatenate([batch(seed), batch(seed + 1)]) for seed in (0, 10))
    before = snapshot(model.networks)
    expected = losses_by_hand(config, model.networks, real_a, real_b)
    for name, network in model.networks.items():  # Running statistics have followed meanwhile.
        checkpoints.assign(models.named_weights(network), before[name], name)
    # Not through tf.function: nothing here is called twice.
    scalars = {name: float(value) for name, value in model._train_step(real_a, real_b).items()}
    assert {name for name in scalars if name.startswith("loss/")} == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(scalars[name], value, rtol=1e-4, err_msg=name)
    assert np.all(np.isfinite(list(scalars.values())))
    for name, network in model.networks.items():
        for key, weight in models.named_weights(network).items():
            assert np.all(np.isfinite(weight.numpy())), key
            if config.gan_mode == "wgangp" and name.startswith("disc") and key == "head_conv/bias":
                continue  # It adds the same to the scores of real and fake.
            assert np.any(weight.numpy() != before[name][key]), f"{name}/{key} has not moved"


def test_images_that_keep_their_sizes_train():
    model = CycleGAN(Config.preset("tiny", preprocess="none", pool_size=0))
    rng = np.random.default_rng(0)
    for size_a, size_b in (((24, 36), (32, 28)), ((40, 20), (24, 24))):
        real_a, real_b = (rng.uniform(-1, 1, (1, *size, 3)).astype(np.float32) for size in (size_a, size_b))
        scalars = model.train_step(real_a, real_b)
        assert np.isfinite(float(scalars["loss/generators"]))

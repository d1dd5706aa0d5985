"""The training step against losses computed by hand; its image pools, averages and tracing."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from cyclegan_tf.config import Config
from cyclegan_tf.models import losses
from cyclegan_tf.models.cyclegan import CycleGAN
from cyclegan_tf.models.image_pool import exchange
from cyclegan_tf.models.pix2pix import Pix2Pix
from cyclegan_tf.networks import weights as weights_lib
from cyclegan_tf.networks.weights import name_weights
from cyclegan_tf.runs import model_state


def batch(seed):
    return np.random.default_rng(seed).uniform(-1, 1, (1, 32, 32, 3)).astype(np.float32)


def snapshot(networks):
    return {
        name: {key: weight.numpy() for key, weight in name_weights(network).items()}
        for name, network in networks.items()
    }


class Trained:
    """Six compiled steps with a pool of two and moving averages, and a record of each.

    Attributes:
      steps: dicts of the batch (real_a, real_b), the scalars, each pool's input and output (fake_a, fake_b), and the
        weights and averages before the step.
      weights, averages: {network: {name: array}} after the last step.
    """

    config = Config.preset("tiny", pool_size=2, ema_decay=0.28)

    def __init__(self):
        self.model = model = CycleGAN(self.config)
        pooled = {}
        for name, pool in model.pools.items():
            pool.draw, pool.store = self._recording(pool, pooled, name)
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
    def _recording(pool, pooled, name):
        draw, store, drawn = pool.draw, pool.store, []

        def recording_draw(shape):
            drawn[:] = draw(shape)
            return tuple(drawn)

        def recording_store(fakes):
            fake = np.concatenate(fakes)
            pooled[name] = (fake, exchange(fake, *drawn).numpy())
            store(fakes)

        return recording_draw, recording_store

    def output(self, network, step, images):
        """Computes the output of a network with its weights from before a step."""
        weights_lib.load(self._other[network], self.steps[step]["weights"][network], network)
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
        pool, fakes = trained.model.pools[name], [step[name][0] for step in trained.steps]
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
    assert trained.model.compiled_step.experimental_get_tracing_count() == 1


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


def test_each_pool_of_each_replica_draws_for_itself():
    states = [
        pool.get_state()["random"].tobytes()
        for seed in (0, 1) for pools in CycleGAN(Config.preset("tiny", seed=seed), range(2)).replica_pools
        for pool in pools.values()
    ]
    # Two seeds, two replicas and two pools.
    assert len(set(states)) == len(states) == 8


def losses_by_hand(config, networks, real_a, real_b):
    """Computes every loss of a first step, one network call at a time, with the same formulas for both domains."""
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
            f"loss/gen_{other}{domain}": losses.build_loss(config).generator(on_fake),
            f"loss/cycle_{domain}": weight * np.mean(np.abs(cycled - real[domain])),
            f"loss/identity_{domain}": config.lambda_identity * weight * np.mean(np.abs(same - real[domain])),
        }
        loss = losses.build_loss(config).real(on_real)
        loss = (loss + losses.build_loss(config).fake(on_fake)) / 2
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
        weights_lib.load(network, before[name], name)
    model.compiled_step = model.step  # Tracing would take longer than the step.
    scalars = {name: float(value) for name, value in model.train_step(real_a, real_b).items()}
    assert {name for name in scalars if name.startswith("loss/")} == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(scalars[name], value, rtol=1e-4, err_msg=name)
    assert np.all(np.isfinite(list(scalars.values())))
    for name, network in model.networks.items():
        for key, weight in name_weights(network).items():
            assert np.all(np.isfinite(weight.numpy())), key
            if config.gan_mode == "wgangp" and name.startswith("disc") and key == "head_conv/bias":
                continue  # It adds the same to the scores of real and fake.
            assert np.any(weight.numpy() != before[name][key]), f"{name}/{key} has not moved"


def test_images_that_keep_their_sizes_train():
    model = CycleGAN(Config.preset("tiny", preprocess="none", pool_size=0, lambda_identity=0.0, n_layers=1))
    rng = np.random.default_rng(0)
    real_a, real_b = (rng.uniform(-1, 1, (1, *size, 3)).astype(np.float32) for size in ((24, 36), (32, 28)))
    # Sizes of every later step are unknown to the trace, too.
    spec = tf.TensorSpec((1, None, None, 3), tf.float32)
    step = model.compiled_step.get_concrete_function(spec, spec, {})
    scalars, _ = step(tf.constant(real_a), tf.constant(real_b))
    assert np.isfinite(float(scalars["loss/generators"]))


def test_a_step_on_another_size_has_equal_bits_after_a_resume():
    config = Config.preset("tiny", model="pix2pix", preprocess="none")
    model, resumed = Pix2Pix(config), Pix2Pix(config)
    rng = np.random.default_rng(0)
    first, second = (
        [rng.uniform(-1, 1, (1, *size, 3)).astype(np.float32) for _ in "ab"] for size in ((48, 40), (52, 56))
    )
    model.train_step(*first)
    model_state.restore(resumed, model_state.collect_state(model, model_state.Progress(step=1)), "checkpoint")
    for each in (model, resumed):
        each.train_step(*second)
    expected = snapshot(model.networks)
    for name, arrays in snapshot(resumed.networks).items():
        for key, array in arrays.items():
            np.testing.assert_array_equal(array, expected[name][key], err_msg=f"{name}/{key}")

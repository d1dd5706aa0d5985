"""Training in half precision: which values are rounded, and the loss scale against hand-made gradients."""

import numpy as np
import pytest
import tensorflow as tf

from cyclegan_tf.config import Config
from cyclegan_tf.models import precision
from cyclegan_tf.models.cyclegan import CycleGAN
from cyclegan_tf.models.pix2pix import Pix2Pix
from cyclegan_tf.networks import blocks, layers
from cyclegan_tf.runs import model_state
from cyclegan_tf.runs.model_state import Progress

keras = tf.keras
# A graph that is traced sooner.
SMALL = {"crop_size": 16, "load_size": 16, "discriminator": "pixel", "lambda_identity": 0.0, "pool_size": 2}
# Largest relative error of one rounding: bfloat16 has 8 significant bits, float16 has 11.
ROUNDING = {"bfloat16": 2.0**-8, "float16": 2.0**-11}
HALVES = sorted(ROUNDING)


def built(name, kind=CycleGAN, **options):
    keras.utils.set_random_seed(0)
    return kind(Config.preset("tiny", mixed_precision=name, **{**SMALL, **options}))


def batch(seed):
    return np.random.default_rng(seed).uniform(-1, 1, (1, 16, 16, 3)).astype(np.float32)


def gradients(model):
    """Returns (losses, {network: its gradient as one vector}) of a step without an update."""
    found = {}
    model.scaling.update = lambda new, apply: found.update(new) or {}
    # The L1 loss of pix2pix has a kink at real_b; these values are outside of the generator's range.
    real_b = 2 * np.sign(batch(2)) if isinstance(model, Pix2Pix) else batch(2)
    model.compiled_step = model.step  # To see the gradients' values.
    scalars = model.train_step(batch(1), real_b)
    vectors = {name: np.concatenate([np.ravel(tensor) for tensor in tensors]) for name, tensors in found.items()}
    return {name: float(value) for name, value in scalars.items() if name.startswith("loss/")}, vectors


def smooth(name, kind):
    """Networks with well-conditioned gradients, so that rounding errors stay small.

    The networks have no norms, because a norm divides by a deviation that may be far below the mean. They have ELUs and
    an L2 cycle loss, because rounding can switch the gradient of a ReLU or an L1 loss. The weights have He's standard
    deviations, so that the feature maps do not vanish without norms.
    """
    with pytest.MonkeyPatch.context() as patch:
        for activation in ("relu", "leaky_relu"):
            patch.setattr(blocks, activation, lambda x, name: keras.layers.Activation("elu", name=f"{name}_elu")(x))
        options = {"cycle_loss": "l2"} if kind is CycleGAN else {}
        model = built(name, kind, model=kind.__name__.lower(), norm="none", **options)
    if name == "float16":
        model.scaling = precision.LossScale(2.0**8)  # The first scale of a run is one that overflows.
    for network in model.networks.values():
        for weight in network.weights:
            if len(weight.shape) == 4:
                weight.assign(weight * np.sqrt(2 / np.prod(weight.shape[:3])) / blocks.INIT_STDDEV)
    return model


@pytest.fixture(scope="module")
def single():
    return {kind: gradients(smooth("none", kind)) for kind in (CycleGAN, Pix2Pix)}


@pytest.mark.parametrize("kind", [CycleGAN, Pix2Pix])
@pytest.mark.parametrize("name", HALVES)
def test_losses_and_gradients_match_single_precision(name, kind, single):
    # A generator rounds three times for each of its 8 convolutions: weights, sum and activation. A cycle passes two
    # generators, and the gradient passes them once more: 96 roundings. Their errors are independent, so the total has
    # sqrt(96) times the deviation of one; the bound is three deviations.
    bound = 3 * np.sqrt(96) * ROUNDING[name]
    losses, vectors = gradients(smooth(name, kind))
    for loss, expected in single[kind][0].items():
        assert losses[loss] == pytest.approx(expected, rel=bound), loss
    for network, expected in single[kind][1].items():
        error = np.linalg.norm(vectors[network] - expected) / np.linalg.norm(expected)
        assert ROUNDING[name] / 100 < error < bound, network


@pytest.fixture(scope="module", params=HALVES)
def trained(request):
    """(model, its scalars) after 200 steps."""
    model = built(request.param)
    scalars = [{k: float(v) for k, v in model.train_step(batch(i), batch(1000 + i)).items()} for i in range(200)]
    return model, scalars


def test_200_steps_stay_finite_and_learn(trained):
    model, scalars = trained
    assert all(np.isfinite(value) for step in scalars for value in step.values())
    for name, network in model.networks.items():
        assert all(np.all(np.isfinite(weight)) for weight in network.get_weights()), name
    first, last = (np.mean([step["loss/generators"] for step in part]) for part in (scalars[:20], scalars[-20:]))
    assert last < first


def test_only_feature_maps_and_pools_are_in_half_precision(trained):
    model, _ = trained
    name = model.config.mixed_precision
    for network in model.networks.values():
        assert {tf.as_dtype(weight.dtype) for weight in network.weights} == {tf.float32}
        *inner, last = (layer for layer in network.layers if not isinstance(layer, keras.layers.InputLayer))
        assert {layer.compute_dtype for layer in inner} == {name}
        assert last.compute_dtype == "float32"
        assert network(np.zeros((1, 16, 16, 3), np.float32)).dtype == tf.float32
    for optimizer in model.optimizers.values():
        assert {tf.as_dtype(v.dtype) for v in optimizer.variables if tf.as_dtype(v.dtype).is_floating} == {tf.float32}
    assert {tf.as_dtype(image.dtype).name for pool in model.pools.values() for image in pool.images} == {name}
    assert {pool.get_state()["images"].dtype for pool in model.pools.values()} == {np.dtype(np.float32)}
    assert {v.dtype for k, v in model_state.collect_state(model, Progress()).items() if k.startswith("network/")} == {
        np.dtype(np.float32)
    }
    assert keras.mixed_precision.global_policy().name == "float32"


@pytest.mark.parametrize("name", HALVES)
def test_pools_in_half_precision_change_no_bit(name, monkeypatch):
    def train(pool_dtype):
        monkeypatch.setattr(precision, "get_dtype", lambda name: pool_dtype)
        model = built(name)
        for step in range(8):
            model.train_step(batch(step), batch(100 + step))
        assert model.compiled_step.experimental_get_tracing_count() == 1
        return model_state.collect_state(model, Progress())

    rounded, exact = train(tf.as_dtype(name)), train(tf.float32)
    for key, array in exact.items():
        if key.startswith(("network/", "optimizer/")):
            np.testing.assert_array_equal(rounded[key], array, err_msg=key)
    for pool in CycleGAN.pool_names:
        # Images of a pool are rounded, so they are compared after rounding.
        images = tf.cast(exact[f"pool/{pool}/images"], name)
        assert not np.array_equal(tf.cast(images, tf.float32), exact[f"pool/{pool}/images"])
        np.testing.assert_array_equal(rounded[f"pool/{pool}/images"], tf.cast(images, tf.float32))


class Unrounded(CycleGAN):
    """A model that returns its fakes in float32, as models of users do."""

    def step(self, real_a, real_b, past):
        scalars, fakes = super().step(real_a, real_b, past)
        return scalars, {name: [tf.cast(image, tf.float32) for image in images] for name, images in fakes.items()}


def test_pools_round_fakes_in_float32():
    model = built("bfloat16", Unrounded, batch_size=2)
    for step in range(3):
        model.train_step(*(np.concatenate([batch(4 * step + i), batch(4 * step + i + 1)]) for i in (0, 2)))
    assert model.compiled_step.experimental_get_tracing_count() == 1
    assert {tf.as_dtype(image.dtype) for image in model.pools["fake_a"].images} == {tf.bfloat16}


def test_generators_are_float32_copies_of_the_newest_weights(trained):
    model, _ = trained
    model.refresh()
    for name, generator in model.generators.items():
        assert {layer.compute_dtype for layer in generator.layers} == {"float32"}
        for weight, trained_weight in zip(generator.get_weights(), model.networks[name].get_weights(), strict=True):
            np.testing.assert_array_equal(weight, trained_weight)


def test_a_restored_run_continues_with_the_same_bits(trained):
    model, _ = trained
    stored = model_state.collect_state(model, Progress(200))

    def after_two_steps():
        for seed in (1, 2):
            model.train_step(batch(seed), batch(seed + 10))
        return model_state.collect_state(model, Progress(202))

    wanted = after_two_steps()
    for variable in model.scaling.variables.values():
        variable.assign(tf.cast(7, variable.dtype))
    model_state.restore(model, stored, "stored")
    found = after_two_steps()
    assert ("scaling/scale" in found) == (model.config.mixed_precision == "float16")
    assert set(found) == set(wanted)
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def test_an_overflow_halves_the_scale_and_skips_the_update(trained):
    model, scalars = trained
    if model.config.mixed_precision != "float16":
        assert "precision/loss_scale" not in scalars[0]
        return
    huge = 2.0**60
    model.scaling.scale.assign(huge)
    model.scaling.good_steps.assign(5)
    before = model_state.collect_state(model, Progress())
    step = {name: float(value) for name, value in model.train_step(batch(3), batch(4)).items()}
    after = model_state.collect_state(model, Progress())
    assert step["precision/loss_scale"] == huge / 2
    assert (after["scaling/scale"], after["scaling/good_steps"]) == (huge / 2, 0)
    for name, array in before.items():
        if name.startswith(("network/", "optimizer/")):
            np.testing.assert_array_equal(after[name], array, err_msg=name)
    # The scalars are finite, so the overflow does not stop the run.
    assert np.all(np.isfinite(list(step.values())))
    assert {name: value for name, value in step.items() if name.startswith("grad_norm/")} == {
        f"grad_norm/{name}": 0 for name in model.networks
    }


def scale_after(scaling, *gradients_):
    """The scale after updates by these gradients, and how many of them were made."""
    made = []
    for gradient in gradients_:
        scalars = scaling.update({"net": [tf.constant([1.0, gradient])]}, lambda: made.append(1))
    return float(scaling.scale), len(made), float(scalars["grad_norm/net"])


def test_the_scale_doubles_after_good_steps_and_halves_after_a_bad_one():
    inf, nan = np.inf, np.nan
    scale = precision.LossScale(8.0, growth_steps=3)
    assert scale_after(scale, 1, 1) == (8, 2, pytest.approx(2**0.5))
    assert scale_after(scale, 1)[0] == 16
    assert scale_after(scale, 1, 1, inf) == (8, 2, 0)  # The good ones before are forgotten:
    assert scale_after(scale, 1, 1)[0] == 8
    assert scale_after(scale, 1)[0] == 16
    assert scale_after(scale, nan, -inf, nan, nan)[:2] == (1, 0)
    # At 1 the scale is no excuse, and the norm says so.
    assert scale_after(scale, inf) == (1, 0, inf)


def test_the_loss_scale_keeps_gradients_that_float16_would_lose():
    x = tf.Variable(3.0)
    with tf.GradientTape(persistent=True) as tape:
        loss = tf.cast(tf.cast(x, tf.float16) * 1e-4, tf.float32) * 1e-4  # 1e-8 is 0 in float16.
    assert float(tape.gradient(loss, [x])[0]) != pytest.approx(1e-8, rel=0.01)
    found, = precision.LossScale().gradient(tape, loss, [x])
    assert float(found) == pytest.approx(1e-8, rel=2 * 2**-11)


def test_the_policy_is_restored_after_an_error():
    with pytest.raises(ZeroDivisionError), precision.use_policy("bfloat16"):
        assert keras.layers.Activation("relu").compute_dtype == "bfloat16"
        raise ZeroDivisionError
    assert keras.layers.Activation("relu").compute_dtype == "float32"


@pytest.mark.parametrize("second_derivative", [False, True])
@pytest.mark.parametrize("name", HALVES)
def test_instance_norm_rounds_its_result_only(name, second_derivative):
    # Of mean 20 and deviation 1: statistics in half precision would be off by 20 roundings.
    x = tf.cast(tf.random.stateless_normal((1, 16, 16, 3), (1, 2), mean=20.0), name)
    dy = tf.cast(tf.random.stateless_normal((1, 16, 16, 3), (3, 4)), name)
    with precision.use_policy(name):
        layer = layers.instance_normalization("t", second_derivative)
    with tf.GradientTape() as tape:
        tape.watch(x)
        # The layers of Keras would not pass `training` on to one that does not take it.
        y = layer(x) if second_derivative else layer(x, training=True)
    dx = tape.gradient(y, x, output_gradients=dy)
    assert y.dtype == dx.dtype == tf.as_dtype(name)
    x, y, dx, dy = (tensor.numpy().astype(np.float64) for tensor in (x, y, dx, dy))

    def mean(map_):
        return map_.mean((1, 2), keepdims=True)

    scale = 1 / np.sqrt(mean(x**2) - mean(x) ** 2 + 1e-5)
    wanted = (x - mean(x)) * scale
    rounding = ROUNDING[name]
    assert np.all(np.abs(y - wanted) <= rounding * np.abs(wanted) + 1e-5)
    # In the derivative y, the scale, both sums, two products and two differences are rounded.
    terms = dy, mean(dy), wanted * mean(dy * wanted)
    largest = sum(np.abs(term) for term in terms)
    assert np.all(np.abs(dx - scale * (terms[0] - terms[1] - terms[2])) <= 8 * rounding * scale * largest + 1e-5)

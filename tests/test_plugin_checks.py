"""Networks, losses and models of other packages are checked when they are built."""

import numpy as np
import pytest
import tensorflow as tf
from conftest import PLUGIN_MODULES

import cyclegan_tf
from cyclegan_tf.config import Config
from cyclegan_tf.errors import UserError
from cyclegan_tf.models import losses
from cyclegan_tf.models.base import Model
from cyclegan_tf.models.cyclegan import CycleGAN
from cyclegan_tf.models.registry import build_model
from cyclegan_tf.networks import registry
from cyclegan_tf.networks.weights import name_weights

keras = tf.keras

pytestmark = pytest.mark.usefixtures("plugins")


def conv(x, filters, name="conv", **options):
    return keras.layers.Conv2D(filters, 3, padding="same", name=name, **options)(x)


def generator(size=(None, None), channels=3, out=3, name="gen_ab", layer="conv", **options):
    inputs = keras.Input((*size, channels))
    options = {"activation": "tanh", "dtype": "float32", **options}
    return keras.Model(inputs, conv(inputs, out, layer, **options), name=name)


def upscaled():
    inputs = keras.Input((None, None, 3))
    x = keras.layers.UpSampling2D(2, name="up")(inputs)
    return keras.Model(inputs, conv(x, 3, activation="tanh"), name="gen_ab")


def two_outputs():
    inputs = keras.Input((None, None, 3))
    return keras.Model(inputs, [conv(inputs, 3), conv(inputs, 3, "other")], name="gen_ab")


def divided():
    """A skip connection after halving, which fails on odd sizes of the small map."""
    inputs = keras.Input((None, None, 3))
    half = keras.layers.AveragePooling2D(2, name="half")(inputs)
    return keras.Model(inputs, keras.layers.Add(name="add")([half, conv(inputs, 3)]), name="gen_ab")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: None, "is a NoneType; return a keras.Model"),
        (two_outputs, "must be a functional keras.Model of one input and one output"),
        (lambda: generator(name="mine"), "is called mine; pass name='gen_ab' on"),
        (lambda: generator(channels=1), r"takes \(None, None, None, 1\); expected images \(N, H, W, 3\)"),
        (lambda: generator(size=(16, 16)), r"takes images of 16 x 16 pixels only; build it on keras.Input"),
        (lambda: generator(out=1), r"returns \(None, None, None, 1\); expected images \(N, H, W, 3\)"),
        (lambda: generator(dtype="float16"), 'returns float16; give the last layer dtype="float32"'),
        (lambda: generator(layer=None), r"has a layer conv2d\w* whose name Keras has chosen"),
        (lambda: generator(activation=None, kernel_initializer="ones"), "returns values up to .* in magnitude; end it"),
        (lambda: generator(bias_initializer=keras.initializers.Constant(np.nan)), "returns values that are not finite"),
        (upscaled, "makes images of 16 x 32 pixels from 8 x 16 pixels; keep the size, or register a size_multiple"),
        (divided, "fails on images of 8 x 16 pixels: "),
    ],
)
def test_generator_that_breaks_the_contract_is_one_clear_error(build, message):
    cyclegan_tf.register_generator("mine", size_multiple=1)(
        lambda config, input_channels, output_channels, name: build()
    )
    prefix = "^--generator=mine: the network of the registered function "
    with pytest.raises(UserError, match=prefix + message) as raised:
        registry.build_generator(Config(generator="mine"), "gen_ab")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["conv2d", "conv_2d", "conv2d_7"])
def test_layer_may_be_called_like_its_class(name):
    cyclegan_tf.register_generator("mine", size_multiple=1)(lambda *args, **kwargs: generator(layer=name))
    assert registry.build_generator(Config(generator="mine"), "gen_ab").get_layer(name).weights


def discriminator(**options):
    inputs = keras.Input((None, None, 3))
    x = conv(inputs, 1, **options)
    return keras.Model(inputs, x, name="disc_a")


def flat_scores():
    inputs = keras.Input((None, None, 3))
    return keras.Model(inputs, keras.layers.Lambda(tf.reduce_mean, output_shape=(), name="all")(inputs), name="disc_a")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: "no", "is a str; return a keras.Model"),
        (lambda: discriminator(dtype="float16"), "returns float16"),
        (lambda: discriminator(strides=100, bias_initializer=keras.initializers.Constant(np.inf)), "not finite"),
        (flat_scores, r"returns scores \(\) for 2 images; expected the images along the first axis"),
    ],
)
def test_discriminator_that_breaks_the_contract_is_one_clear_error(build, message):
    cyclegan_tf.register_discriminator("mine")(lambda config, input_channels, name: build())
    with pytest.raises(UserError, match=f"^--discriminator=mine: the network of the registered function .*{message}"):
        registry.build_discriminator(Config(discriminator="mine", crop_size=16), "disc_a")


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda x: x, "the registered function returns a function; return a cyclegan_tf.AdversarialLoss"),
        (cyclegan_tf.AdversarialLoss(tf.reduce_mean, lambda x: x, tf.reduce_mean),
         r"its function 'fake' returns a float32 tensor \(1, 2, 1, 1\) for scores \(1, 2, 1, 1\); return a float32 "),
        (cyclegan_tf.AdversarialLoss(lambda x, target: x, tf.reduce_mean, tf.reduce_mean),
         r"its function 'real' fails for scores \(1, 2, 1, 1\): .*missing 1 required positional argument: 'target'; "),
        (cyclegan_tf.AdversarialLoss(tf.reduce_mean, tf.reduce_mean, lambda x: 1.0),
         "its function 'generator' returns 1.0 for scores"),
    ],
)
def test_loss_that_breaks_the_contract_is_one_clear_error(loss, message):
    cyclegan_tf.register_loss("mine")(lambda config: loss)
    with pytest.raises(UserError, match=f"^--gan_mode=mine: {message}"):
        losses.build_loss(Config(gan_mode="mine"))


def test_model_without_a_required_method_is_one_clear_error():
    @cyclegan_tf.register_model("mine")
    class Half(Model):
        pass

    message = r"^--model=mine: the registered class does not define step; add the missing methods$"
    with pytest.raises(UserError, match=message):
        build_model(Config(model="mine"))


def test_model_that_breaks_the_contract_is_one_clear_error():
    cyclegan_tf.register_model("mine")(lambda config, replicas: "no")
    with pytest.raises(UserError, match="--model=mine: the registered function returns a str; return an instance"):
        build_model(Config(model="mine"))
    import toy_package.networks
    import toy_package.objectives

    for directions in (["b2a"], ["a2b", "a2b"], ["b2a", "a2b"], []):
        message = f"--model=wrong for directions {', '.join(directions)}: give a2b, or a2b and b2a"
        with pytest.raises(UserError, match=message):
            cyclegan_tf.register_model("wrong", directions=directions)
    cyclegan_tf.register_model("both")(toy_package.objectives.ToyModel)
    with pytest.raises(UserError, match="--model=both is registered for direction b2a, but has no generator gen_ba"):
        build_model(Config.preset("tiny", model="both", generator="toy", discriminator="toy"))
    cyclegan_tf.register_model("poolless", has_pools=False)(CycleGAN)
    with pytest.raises(UserError, match="--model=poolless has image pools, but is registered with has_pools=False"):
        build_model(Config.preset("tiny", model="poolless", generator="toy", discriminator="toy"))

    class Shapeless(CycleGAN):
        get_pool_shapes = Model.get_pool_shapes

    cyclegan_tf.register_model("shapeless")(Shapeless)
    with pytest.raises(UserError, match="--model=shapeless has image pools, but no method get_pool_shapes; implement"):
        build_model(Config.preset("tiny", model="shapeless", generator="toy", discriminator="toy"))


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (keras.layers.BatchNormalization, "has weights that are not trainable"),
        (lambda name: keras.layers.Dropout(0.5, name=name), "(different values for the same images|not trainable)"),
    ],
    ids=["statistics", "random"],
)
def test_recompute_refuses_networks_that_do_not_repeat(layer, message):
    @cyclegan_tf.register_generator("mine", size_multiple=1)
    def build(config, input_channels, output_channels, name):
        inputs = keras.Input((None, None, input_channels))
        x = layer(name="odd")(conv(inputs, 4))
        return keras.Model(inputs, conv(x, output_channels, "out", activation="tanh"), name=name)

    registry.build_generator(Config(generator="mine"), "gen_ab")
    with pytest.raises(UserError, match=f"--generator=mine: .*{message}.*; --recompute runs layers twice"):
        registry.build_generator(Config(generator="mine", recompute=True), "gen_ab")


def test_each_call_of_a_foreign_network_with_batch_norm_has_statistics_of_its_own():
    @cyclegan_tf.register_generator("mine", size_multiple=1)
    def build(config, input_channels, output_channels, name):
        inputs = keras.Input((None, None, input_channels))
        x = keras.layers.BatchNormalization(momentum=0.0, name="norm")(inputs)
        return keras.Model(inputs, conv(x, output_channels, activation="tanh"), name=name)

    model = build_model(Config.preset("tiny", generator="mine"))
    real_a, real_b = np.random.default_rng(0).uniform(-1, 1, (2, 1, 32, 32, 3)).astype(np.float32)
    model.train_step(real_a, real_b)
    # In its last call, for the identity loss, each generator gets only images of its output domain.
    for name, images in ("gen_ab", real_b), ("gen_ba", real_a):
        mean = name_weights(model.networks[name])["norm/moving_mean"]
        np.testing.assert_allclose(mean, images.mean(axis=(0, 1, 2)), atol=1e-5)


def test_weights_of_one_name_in_a_nested_layer_are_told_apart():
    inputs = keras.Input((None, None, 3))
    parts = [keras.layers.Conv2D(2, 1, name="one"), keras.layers.Conv2D(3, 1, name="two")]
    inner = keras.Sequential(parts, name="both")
    network = keras.Model(inputs, conv(inner(inputs), 3, "out"))
    assert {name: tuple(weight.shape) for name, weight in name_weights(network).items()} == {
        "both/kernel": (1, 1, 3, 2), "both/bias": (2,), "both/kernel_1": (1, 1, 2, 3), "both/bias_1": (3,),
        "out/kernel": (3, 3, 3, 3), "out/bias": (3,),
    }


def test_weights_that_would_get_one_name_are_an_error():
    class Kernels(keras.layers.Layer):
        def build(self, input_shape):
            self.kernels = [self.add_weight(name=name, shape=()) for name in ("kernel_1", "kernel", "kernel")]

        def call(self, inputs):
            return inputs * tf.add_n([tf.convert_to_tensor(kernel) for kernel in self.kernels])

    inputs = keras.Input((None, None, 3))
    network = keras.Model(inputs, Kernels(name="scale")(inputs), name="toy")
    with pytest.raises(UserError, match="toy has two weights called scale/kernel_1; give its weights other names"):
        name_weights(network)


def test_cut_asks_which_layers_of_a_foreign_generator_to_compare():
    options = {
        "plugins": PLUGIN_MODULES, "generator": "toy", "discriminator": "toy", "model": "cut", "antialias": "none"
    }
    with pytest.raises(UserError, match="--model=cut does not know which layers of --generator=toy to compare; name"):
        build_model(Config.preset("tiny", **options))
    build_model(Config.preset("tiny", nce_layers="down", nce_features=4, **options))


def with_batch_norm(config, input_channels, output_channels=1, name=""):
    inputs = keras.Input((None, None, input_channels))
    inner = keras.Sequential([keras.layers.BatchNormalization(name="norm")], name="inner")
    return keras.Model(inputs, conv(inner(conv(inputs, 4, "first")), output_channels, activation="tanh"), name=name)


@pytest.mark.parametrize(("options", "network"), [
    ({"gan_mode": "wgangp", "discriminator": "mine"}, "--discriminator=mine"),
    ({"model": "cut", "antialias": "none", "discriminator": "mine"}, "--discriminator=mine"),
    ({"model": "cut", "antialias": "none", "generator": "mine", "nce_layers": "first"}, "--generator=mine"),
], ids=["wgangp", "cut, discriminator", "cut, generator"])
def test_batch_norm_of_a_foreign_network_is_refused(options, network):
    cyclegan_tf.register_generator("mine", size_multiple=1)(with_batch_norm)
    cyclegan_tf.register_discriminator("mine")(with_batch_norm)
    user = "--gan_mode=wgangp" if "gan_mode" in options else "--model=cut"
    with pytest.raises(UserError, match=f"^{user} does not work .* network of {network} has the batch norm norm; use"):
        build_model(Config.preset("tiny", nce_features=4, **options))


def test_options_that_a_foreign_network_ignores_are_refused():
    import toy_package.networks  # noqa: F401

    with pytest.raises(UserError, match="--antialias=both has no effect on --generator=toy; use --antialias=none, or"):
        Config(generator="toy", antialias="both")
    cyclegan_tf.register_loss("mine")(lambda config: None)
    with pytest.raises(UserError, match="--gan_mode=mine has no labels to smooth"):
        Config(gan_mode="mine", label_smoothing=0.1)


def test_small_crops_are_refused_before_a_run_and_build_elsewhere():
    from cyclegan_tf.config import architectures

    config = Config(crop_size=16, load_size=16, ndf=2)  # Three layers of stride 2, and two that lose a row: 24 px.
    registry.build_discriminator(config, "disc_a")
    with pytest.raises(UserError, match="--crop_size=16 must be at least 24"):
        architectures.require_crop_size(config)

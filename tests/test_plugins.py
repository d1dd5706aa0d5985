"""Networks, losses and models of other packages are registered, checked, trained, and found again by the commands."""

import functools
import json
import runpy

import numpy as np
import pytest
import tensorflow as tf
from conftest import PLUGINS, ROOT, run_python, run_train

import cyclegan_tf
from cyclegan_tf.config import Config, registries
from cyclegan_tf.config import flags as config_flags
from cyclegan_tf.errors import UserError
from cyclegan_tf.models import losses
from cyclegan_tf.models.base import Model
from cyclegan_tf.models.registry import build_model
from cyclegan_tf.networks import registry
from cyclegan_tf.networks.weights import named_weights

keras = tf.keras

MODULES = "toy_package.networks,toy_package.objectives"
TOY = (
    f"--plugins={MODULES}", "--generator=toy", "--discriminator=toy", "--gan_mode=toy_loss", "--model=toy_model",
    "--preset=tiny", "--max_dataset_size=2",
)
pytestmark = pytest.mark.usefixtures("plugins")


def test_commands_train_and_find_the_plugins_again(tmp_path, run_command, make_images):
    run = tmp_path / "run"
    # In a process of its own, in whose current folder the package is.
    child = run_train(*TOY, "--max_steps=2", f"--workdir={run}", cwd=PLUGINS, PYTHONPATH=str(ROOT))
    assert child.returncode == 0, child.stderr
    saved = json.loads((run / "config.json").read_text())
    assert (saved["plugins"], saved["generator"], saved["lambda_l1"]) == (MODULES, "toy", 5.0)

    child = run_command("cyclegan_tf.train", *TOY, "--max_steps=3", f"--workdir={run}")
    assert "training steps 3 to 3" in child.stderr
    make_images(tmp_path / "photos", 1, size=(13, 21))
    for command, *arguments in (
        ("translate", f"--input={tmp_path}/photos", f"--output={tmp_path}/translated"),
        ("evaluate", "--metrics=l1", "--dataset=demo_pairs"),
        ("export", "--format=saved_model", f"--output={tmp_path}/exported"),
        ("gallery",),
    ):
        child = run_command(f"cyclegan_tf.{command}", f"--model={run}", *arguments)
        assert child.returncode == 0, child.stderr
    image = np.random.default_rng(0).integers(0, 256, (13, 21, 3), np.uint8)
    by_run = cyclegan_tf.load(str(run)).translate(image)
    exported = cyclegan_tf.load(str(tmp_path / "exported" / "a2b")).translate(image)
    np.testing.assert_allclose(by_run.astype(int), exported, rtol=0, atol=1)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--helpfull", f"--plugins={MODULES}"], ["--ngf", "8", "--helpfull", "--plugins", MODULES],
        ["--helpfull", "--flagfile=FILE"],
    ],
    ids=["after", "two words", "flagfile"],
)
def test_full_help_lists_the_names_of_plugins(arguments, tmp_path, run_command):
    (tmp_path / "toy.flags").write_text(f"--plugins={MODULES}\n")
    arguments = [argument.replace("FILE", f"{tmp_path}/toy.flags") for argument in arguments]
    text = " ".join(run_command("cyclegan_tf.train", *arguments).stdout.split())
    assert "--generator: <resnet|unet|torchgan|tf_blog|unet_book|toy>:" in text
    assert "--gan_mode: <lsgan|vanilla|wgangp|hinge|toy_loss>:" in text
    assert "toy_model: --pool_size=0, --lambda_l1=5.0" in text


def test_console_scripts_import_from_the_current_folder():
    # As in a console script, Python itself does not add the current folder.
    script = "import sys; sys.path.remove(''); from cyclegan_tf import cli; cli.train()"
    arguments = ("-c", script, "--helpfull", "--plugins=toy_package.networks")
    child = run_python(*arguments, cwd=PLUGINS, PYTHONPATH=str(ROOT))
    assert "unet_book|toy>" in child.stdout, child.stderr


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("no_such_package.networks", "there is no module no_such_package in the current folder"),
        ("toy_package.missing", "there is no module toy_package.missing in the current folder"),
        ("stranger", r"stranger imports no_such_library, which is not installed"),
        ("toy/package.py", "'toy/package.py' is not the name of a module"),
        ("toy_package,", "'' is not the name of a module"),
    ],
)
def test_plugin_that_cannot_be_imported_is_one_line(names, message, tmp_path, monkeypatch, run_command):
    (tmp_path / "stranger.py").write_text("import no_such_library\n")
    monkeypatch.syspath_prepend(tmp_path)
    child = run_command("cyclegan_tf.train", f"--plugins={names}", f"--workdir={tmp_path}/run")
    assert child.returncode == 2
    assert child.stderr.startswith(f"error: --plugins={names}: ") and message in child.stderr
    assert len(child.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero (stranger.py, line 3)"),
        ("raise ValueError('two\\nlines')", "ValueError: two lines (stranger.py, line 3)"),
        ("1 +", "SyntaxError: invalid syntax (stranger.py, line 3)"),
    ],
    ids=["exception", "two lines", "syntax"],
)
def test_error_in_a_plugin_tells_its_line(line, message, tmp_path, monkeypatch):
    (tmp_path / "stranger.py").write_text(f"import cyclegan_tf\n\n{line}\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError) as raised:
        Config(plugins="stranger")
    assert str(raised.value) == f"--plugins=stranger: importing stranger fails: {message}"


def test_commands_name_the_run_whose_plugin_is_missing(tmp_path, run_command):
    values = {**json.loads(Config.preset("tiny").to_json()), "plugins": "no_such_package"}
    (tmp_path / "config.json").write_text(json.dumps(values))
    translate = f"translate --input={ROOT}/docs/demo_maps.png --output=y"
    for command in (translate, "evaluate", "export --format=keras --output=x", "gallery"):
        name, *arguments = command.split()
        child = run_command(f"cyclegan_tf.{name}", f"--model={tmp_path}", *arguments)
        assert child.returncode == 2
        assert f"error: {tmp_path}/config.json: --plugins=no_such_package: there is no module" in child.stderr


def test_unknown_name_asks_for_the_plugin():
    with pytest.raises(UserError, match=r"--generator=toy: expected one of resnet, .* that a plugin registers"):
        Config(generator="toy")


def test_defaults_of_a_model_stand_below_presets_and_options():
    assert Config(plugins=MODULES, model="toy_model").lambda_l1 == 5.0
    assert Config(plugins=MODULES, model="toy_model", lambda_l1=100.0).lambda_l1 == 100.0
    assert Config.preset("tiny", plugins=MODULES, model="toy_model").pool_size == 4
    assert config_flags.from_arguments([f"--plugins={MODULES}", "--model=toy_model"]).lambda_l1 == 5.0
    assert Config().lambda_l1 == 100.0
    defaults = {"lamda_l1": 5.0}
    cyclegan_tf.register_model("typo", defaults=defaults)(Model)
    defaults.clear()  # Without effect.
    with pytest.raises(UserError, match="--model=typo is registered with defaults of unknown options: lamda_l1"):
        Config(model="typo")


def test_taken_names_are_refused_but_a_function_may_be_registered_again():
    @cyclegan_tf.register_generator("mine", size_multiple=4)
    def build(config):
        return 1

    def build_other(config):
        return 2

    with pytest.raises(UserError, match=r"cannot register .*build_other as --generator=mine: .*build has that name"):
        cyclegan_tf.register_generator("mine", size_multiple=4)(build_other)
    with pytest.raises(UserError, match=r"--generator=resnet: .*has that name already"):
        cyclegan_tf.register_generator("resnet", size_multiple=4)(build)
    with pytest.raises(UserError, match="as --generator=partial: register a function or a class"):
        cyclegan_tf.register_generator("partial", size_multiple=4)(functools.partial(build_other))
    # Functions of other modules may have the same qualified name, also in modules without a file.
    build_other.__qualname__ = build.__qualname__
    for own, other in ((build.__module__, "json"), ("notebook", "other_notebook")):
        build.__module__, build_other.__module__ = own, other
        with pytest.raises(UserError, match=f"cannot register {other}.* as --generator=mine: {own}.*has that name"):
            cyclegan_tf.register_generator("mine", size_multiple=4)(build_other)
    # A notebook cell that runs again defines another function with the same module and qualified name.
    build_other.__module__ = build.__module__
    cyclegan_tf.register_generator("mine", size_multiple=8)(build_other)
    assert registries.GENERATORS["mine"].build is build_other
    assert registries.GENERATORS["mine"].size_multiple == 8


def test_script_may_be_its_own_plugin(tmp_path, monkeypatch):
    script = tmp_path / "stranger.py"
    script.write_text(
        "import cyclegan_tf\n"
        "@cyclegan_tf.register_generator('mine', size_multiple=4)\n"
        "def build(config): pass\n"
        "if __name__ == '__main__':\n"
        "    config = cyclegan_tf.Config(plugins='stranger', generator='mine')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert runpy.run_path(script.name, run_name="__main__")["config"].generator == "mine"


def test_size_multiple_may_depend_on_the_config():
    build = registries.GENERATORS["unet_book"].build
    cyclegan_tf.register_generator("mine", size_multiple=lambda config: 2**config.n_downs)(lambda **_: build)
    from cyclegan_tf.config import architectures

    assert architectures.size_multiple(Config(generator="mine", n_downs=6)) == 64


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
        (lambda: generator(layer="conv2d_7"), "has a layer conv2d_7 whose name Keras has chosen"),
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
        (lambda x: x, "a function; return a cyclegan_tf.AdversarialLoss"),
        (cyclegan_tf.AdversarialLoss(tf.reduce_mean, lambda x: x, tf.reduce_mean), "a loss whose part 'fake' is"),
        (cyclegan_tf.AdversarialLoss(tf.reduce_mean, tf.reduce_mean, lambda x: 1.0), "a loss .* 'generator' is"),
    ],
)
def test_loss_that_breaks_the_contract_is_one_clear_error(loss, message):
    cyclegan_tf.register_loss("mine")(lambda config: loss)
    with pytest.raises(UserError, match=f"--gan_mode=mine: the registered function returns {message}"):
        losses.build_loss(Config(gan_mode="mine"))


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


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (keras.layers.BatchNormalization, "has weights that are not trainable"),
        (lambda name: keras.layers.Dropout(0.5, name=name), "(other values for the same images|not trainable)"),
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
    # The last call of each generator is that of the identity loss, of its output domain's images alone.
    for name, images in ("gen_ab", real_b), ("gen_ba", real_a):
        mean = named_weights(model.networks[name])["norm/moving_mean"]
        np.testing.assert_allclose(mean, images.mean(axis=(0, 1, 2)), atol=1e-5)


def test_weights_of_one_name_in_a_nested_layer_are_told_apart():
    inputs = keras.Input((None, None, 3))
    parts = [keras.layers.Conv2D(2, 1, name="one"), keras.layers.Conv2D(3, 1, name="two")]
    inner = keras.Sequential(parts, name="both")
    network = keras.Model(inputs, conv(inner(inputs), 3, "out"))
    assert {name: tuple(weight.shape) for name, weight in named_weights(network).items()} == {
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
        named_weights(network)


def test_cut_asks_which_layers_of_a_foreign_generator_to_compare():
    options = {"plugins": MODULES, "generator": "toy", "discriminator": "toy", "model": "cut", "antialias": "none"}
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


def test_public_names_exist():
    for name in cyclegan_tf.__all__:
        assert getattr(cyclegan_tf, name).__doc__, name


def test_small_crops_are_refused_before_a_run_and_build_elsewhere():
    from cyclegan_tf.config import architectures

    config = Config(crop_size=16, load_size=16, ndf=2)  # Three layers of stride 2, and two that lose a row: 24 px.
    registry.build_discriminator(config, "disc_a")
    with pytest.raises(UserError, match="--crop_size=16 must be at least 24"):
        architectures.require_crop_size(config)

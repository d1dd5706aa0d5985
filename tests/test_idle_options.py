"""A run names the options that are set, but that its model and its networks do not read."""

import functools

import numpy as np
import pytest

import cyclegan_tf
from cyclegan_tf.config import Config
from cyclegan_tf.config.idle_options import find_idle_options
from cyclegan_tf.config.registries import DISCRIMINATORS, GENERATORS, MODELS
from cyclegan_tf.config.run_options import FIELDS
from cyclegan_tf.errors import UserError
from cyclegan_tf.models.registry import build_model
from cyclegan_tf.networks import registry

SMALL = {"ngf": 1, "ndf": 1, "n_blocks": 1, "n_downs": 5, "crop_size": 32, "nce_features": 4}
# Values that differ from all defaults and contradict no other option.
SET = {
    "ngf": 8, "ndf": 8, "n_blocks": 2, "n_downs": 6, "n_layers": 2, "norm": "none", "padding": "zero", "dropout": True,
    "lambda_a": 1.0, "lambda_b": 1.0, "lambda_identity": 1.0, "lambda_nce": 2.0, "nce_layers": "stem_pad",
    "nce_patches": 8, "nce_features": 8, "nce_temperature": 0.1, "lambda_l1": 1.0, "pool_size": 7,
    # All models and networks read these options.
    "seed": 3, "learning_rate": 1e-3, "diff_augment": "color", "initialization": "normal", "crop_size": 128,
}
CYCLE = {"lambda_a", "lambda_b", "lambda_identity", "pool_size"}
CONTRAST = {"lambda_nce", "nce_layers", "nce_patches", "nce_features", "nce_temperature"}


class Recorder(Config):
    """Adds the name of each option that is read to the set `read`."""

    read = set()

    def __getattribute__(self, name):
        if name in FIELDS:
            Recorder.read.add(name)
        return super().__getattribute__(name)


def record_reads(run, **options):
    """Calls `run` with a Config of `options`; returns the names of the options that it reads."""
    config = Recorder(**SMALL, **options)
    Recorder.read.clear()
    run(config)
    return set(Recorder.read)


@pytest.mark.parametrize("name", GENERATORS)
def test_generators_read_the_options_that_they_declare(name):
    entry = GENERATORS[name]
    read = record_reads(lambda config: entry.build(config, 3, 3, "gen_ab"), generator=name)
    assert read == set(entry.options)


@pytest.mark.parametrize("name", DISCRIMINATORS)
def test_discriminators_read_the_options_that_they_declare(name):
    entry = DISCRIMINATORS[name]
    read = record_reads(lambda config: entry.build(config, 3, "disc_a"), discriminator=name)
    assert read - {"gan_mode"} == set(entry.options)  # --gan_mode is an option of all discriminators.


@functools.cache
def record_training(name):
    """The options that model `name` reads while it is built and trains a step."""

    def train(config):
        model = build_model(config)
        model.compiled_step = model.seeded_step  # Eager, because tracing takes longer than a step.
        model.train_step(*np.zeros((2, 1, 32, 32, 3), np.float32))

    return record_reads(train, model=name)


@pytest.mark.parametrize("name", MODELS)
def test_models_read_the_options_that_they_declare(name):
    # A run reads --seed outside of the model too.
    common = {"seed"}.union(set.intersection(*map(record_training, MODELS)))
    assert record_training(name) - common == set(MODELS[name].options)


def find_names(**options):
    return {warning.partition("=")[0].removeprefix("--") for warning in find_idle_options(Config(**options))}


@pytest.mark.parametrize(
    ("choice", "idle"),
    [
        ({}, {"n_downs", "lambda_l1"} | CONTRAST),
        ({"generator": "torchgan", "discriminator": "pixel"}, {"n_downs", "n_layers", "lambda_l1"} | CONTRAST),
        ({"generator": "unet", "discriminator": "patch_mean"}, {"n_blocks", "padding", "lambda_l1"} | CONTRAST),
        ({"generator": "unet_book", "discriminator": "torchgan", "upsample": "resize_conv"},
         {"n_blocks", "n_downs", "padding", "upsample", "n_layers", "lambda_l1"} | CONTRAST),
        ({"generator": "tf_blog", "discriminator": "tf_blog"},
         {"n_downs", "padding", "n_layers", "lambda_l1"} | CONTRAST),
        ({"model": "pix2pix", "nce_identity": False, "flip_equivariance": True},
         {"n_downs", "nce_identity", "flip_equivariance"} | CYCLE | CONTRAST),
        ({"model": "cut", "nce_identity": False, "flip_equivariance": True}, {"n_downs", "lambda_l1"} | CYCLE),
        ({"model": "fastcut"}, {"n_downs", "lambda_l1"} | CYCLE),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_options_that_nothing_reads_are_named(choice, idle):
    assert find_names(**{**SET, **choice}) == idle


@pytest.mark.parametrize(("options", "idle"), [
    ({"lr_policy": "step"}, set()),
    ({"lr_policy": "cosine"}, {"lr_decay_every"}),
    ({"lr_policy": "step", "preprocess": "scale_width"}, set()),
    ({"lr_policy": "step", "preprocess": "scale_shortside"}, set()),
    ({"lr_policy": "step", "preprocess": "crop"}, {"load_size"}),
    ({"lr_policy": "step", "preprocess": "none"}, {"load_size"}),
    ({"lr_policy": "step", "lambda_a": 0.0}, set()),
    ({"lr_policy": "step", "lambda_a": 0.0, "lambda_b": 0.0}, {"lambda_identity", "cycle_loss"}),
], ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else "")
def test_options_that_another_option_disables_are_named(options, idle):
    common = {"lr_decay_every": 10, "load_size": 150, "crop_size": 128, "pool_size": 0, "lambda_identity": 5.0,
              "cycle_loss": "l2"}
    assert find_names(**common, **options) == idle


def test_options_of_contrastive_losses_need_their_weight():
    options = {"model": "cut", "nce_patches": 7, "nce_features": 8, "nce_temperature": 0.5}
    assert find_names(**options) == set()
    assert find_names(lambda_nce=0.0, **options) == {"nce_patches", "nce_features", "nce_temperature"}


@pytest.mark.parametrize("preset", ["demo", "fast_cpu", "paper", "small_data", "tiny"])
def test_presets_set_no_idle_options(preset):
    assert not list(find_idle_options(Config.preset(preset)))


def test_defaults_of_a_model_are_not_set_by_the_user():
    assert not find_names(model="cut")  # Its default of --pool_size is 0.
    assert find_names(model="cut", pool_size=50) == {"pool_size"}


def test_a_warning_names_the_option_and_the_network():
    config = Config.preset("demo", generator="resnet")
    assert list(find_idle_options(config)) == ["--n_downs=5 has no effect on --generator=resnet"]


def register(**options):
    def build(*arguments, **more):
        """Stands for a network or a model; no test calls this function."""

    cyclegan_tf.register_generator("mine", size_multiple=1, **options)(build)
    cyclegan_tf.register_discriminator("mine", **options)(build)
    cyclegan_tf.register_model("mine", **options)(build)


@pytest.mark.usefixtures("plugins")
def test_models_of_plugins_may_use_the_weights_of_losses_otherwise():
    register()
    assert not find_names(model="mine", lambda_a=0.0, lambda_b=0.0, lambda_identity=5.0)


@pytest.mark.usefixtures("plugins")
def test_plugins_may_declare_what_they_read():
    mine = {"generator": "mine", "discriminator": "mine", "model": "mine"}
    register()
    assert not find_names(**SET, **mine)
    register(options=["ngf", "ndf", "n_blocks", "lambda_l1", "seed"])
    everything = {"n_downs", "n_layers", "norm", "padding", "dropout"} | CYCLE | CONTRAST
    assert find_names(**SET, **mine) == everything
    assert not find_names(seed=3)
    register(options=())
    assert find_names(**SET, **mine) == everything | {"ngf", "ndf", "n_blocks", "lambda_l1"}
    assert list(find_idle_options(Config(norm="none", **mine))) == [
        "--norm=none has no effect on --generator=mine and --discriminator=mine"
    ]
    assert find_names(norm="none", generator="mine") == set()  # The discriminator reads --norm.
    register(options=["nfg", "antialias"])
    assert Config(antialias="both", **mine)
    with pytest.raises(UserError, match="--model=mine is registered with unknown options: nfg; correct their names"):
        find_names(**mine)


@pytest.mark.usefixtures("plugins")
@pytest.mark.parametrize("options", ["ngf", 5])
def test_options_must_be_a_list_of_names(options):
    with pytest.raises(UserError, match=f"^cannot register --generator=mine with options {options!r}: give a list"):
        cyclegan_tf.register_generator("mine", size_multiple=1, options=options)


@pytest.mark.parametrize("generator", ["unet", "unet_reflect", "unet_full"])
@pytest.mark.parametrize("n_downs", [5, 6])
def test_dropout_without_effect_is_named(generator, n_downs):
    config = Config(generator=generator, n_downs=n_downs, dropout=True, ngf=1, norm="none")
    has_dropout = any("dropout" in layer.name for layer in registry.build_generator(config, "gen_ab").layers)
    assert has_dropout == (n_downs == 6)
    warnings = list(find_idle_options(config))
    if has_dropout:
        assert not warnings
    else:
        assert len(warnings) == 1
        assert warnings[0].startswith(f"--dropout has no effect on --generator={generator} with --n_downs=5, because")


@pytest.mark.usefixtures("plugins")
def test_a_model_without_a_module_does_not_disturb_other_runs():
    exec('@register("mine")\ndef build(config, replicas): pass', {"register": cyclegan_tf.register_model})
    assert list(find_idle_options(Config())) == []

import dataclasses
import json

import pytest
from absl import flags

from cyclegan_tf.config import Config
from cyclegan_tf.config import config as config_lib
from cyclegan_tf.config import flags as config_flags
from cyclegan_tf.errors import UserError


def parse(*arguments):
    return config_flags.from_arguments(arguments)


def test_the_defaults_are_the_papers():
    config = Config()
    assert (config.load_size, config.crop_size, config.batch_size, config.pool_size) == (286, 256, 1, 50)
    assert (config.lambda_a, config.lambda_b, config.lambda_identity) == (10.0, 10.0, 0.5)
    assert (config.learning_rate, config.beta_1, config.beta_2) == (2e-4, 0.5, 0.999)
    assert (config.n_epochs, config.n_epochs_decay, config.n_blocks, config.gan_mode) == (100, 100, 9, "lsgan")


def test_flags_override_a_preset_which_overrides_the_defaults():
    config = parse("--preset=tiny", "--ngf=6", "--noflip")
    assert (config.ngf, config.crop_size, config.flip, config.beta_1) == (6, 32, False, 0.5)


@pytest.mark.parametrize("flag", ["--noflip", "--no_flip", "--flip=false"])
def test_flipping_is_turned_off_by_the_authors_name_too(flag):
    assert parse().flip
    assert not parse(flag).flip


def test_json_round_trip():
    config = Config(dataset="x", ngf=3, flip=False, learning_rate=1e-3)
    assert Config.from_json(config.to_json()) == config


def test_an_older_config_json_takes_defaults_and_an_unknown_option_is_an_error():
    assert Config.from_json('{"ngf": 5}') == Config(ngf=5)
    with pytest.raises(UserError, match="options this version does not know: nfg"):
        Config.from_json('{"nfg": 5}')
    with pytest.raises(UserError, match="not valid JSON"):
        Config.from_json('{"ngf": ')


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"load_size": 30, "crop_size": 32}, "--load_size=30 is smaller than --crop_size=32"),
        ({"gan_mode": "lsgna"}, "--gan_mode=lsgna is none of: lsgan, vanilla, wgangp, hinge"),
        ({"ngf": 0}, "--ngf=0 must be at least 1"),
        ({"learning_rate": float("nan")}, "--learning_rate=nan must be at least 0"),
        ({"ngf": 1.5}, "--ngf=1.5 must be of type int"),
        ({"preprocess": "none", "batch_size": 2}, "needs --batch_size=1 --pool_size=0"),
        ({"preprocess": "none"}, "needs --batch_size=1 --pool_size=0"),
        ({"preprocess": "scale_width"}, "--preprocess=scale_width gives images of different sizes"),
        ({"input_channels": 1}, "--input_channels=1 and --output_channels=3 differ: .*--lambda_identity=0"),
        ({"gan_mode": "wgangp", "norm": "batch"}, "use another norm"),
        ({"n_epochs": 0, "n_epochs_decay": 0}, "nothing to train"),
        ({"ema_decay": 1.0}, "must be below 1"),
        ({"preprocess": "none", "pool_size": 0, "crop": "center"}, "--crop=center: --preprocess=none does not crop"),
        ({"gan_mode": "wgangp", "mixed_precision": "float16"}, "--mixed_precision=float16 does not scale"),
        ({"recompute": True, "dropout": True}, "--recompute runs layers twice"),
        ({"recompute": True, "norm": "batch"}, "--recompute runs layers twice"),
        ({"preprocess": "none", "pool_size": 0, "jit_compile": "on"}, "--jit_compile=on compiles anew"),
        ({"norm": "batch", "norm_affine": True}, "--norm_affine is for --norm=instance"),
        ({"label_smoothing": 0.1, "gan_mode": "hinge"}, "--gan_mode=hinge has no labels to smooth"),
        ({"label_smoothing": 1.0}, "--label_smoothing=1.0 must be below 1"),
        ({"disc_learning_rate": 1e-4, "learning_rate": 0.0}, "--learning_rate, which must not be 0"),
        ({"identity_mode": "cross", "lambda_identity": 0.0}, "which --lambda_identity=0 turns off"),
        ({"model": "pix2pix", "identity_mode": "cross"}, "pix2pix has one generator and no cycle"),
        ({"model": "pix2pix", "generator_loss": "separate"}, "pix2pix has one generator and no cycle"),
        ({"model": "pix2pix", "cycle_loss": "l2"}, "pix2pix has one generator and no cycle"),
    ],
)
def test_impossible_options_are_named(values, message):
    with pytest.raises(UserError, match=message):
        Config(**values)


def test_every_option_has_a_flag_with_its_default_and_help():
    config_flags.define_flags()
    for field in dataclasses.fields(Config):
        flag = flags.FLAGS[field.name]
        assert flag.default == field.default, field.name
        assert flag.help, field.name


def test_difference_names_what_decides_the_numbers_only():
    old = Config(ngf=8, log_every=1)
    assert config_lib.difference(old, dataclasses.replace(old, ngf=9, log_every=5)) == ["ngf: 8 -> 9"]


def test_a_resumed_run_may_change_what_does_not_decide_its_numbers():
    may_differ = {field.name for field in dataclasses.fields(Config) if field.metadata["may_differ"]}
    # A new option must be put on one side or the other, by someone who has thought about it.
    assert may_differ == {
        "data_dir", "cache", "on_bad_image", "n_epochs", "n_epochs_decay", "max_steps", "log_every", "sample_every",
        "checkpoint_every", "sample_epochs", "checkpoint_epochs", "keep_checkpoints", "n_samples", "on_nonfinite",
        "eval_every", "eval_metrics", "patience", "strategy", "worker_timeout",
    }


def test_config_json_is_readable():
    assert json.loads(Config().to_json())["crop_size"] == 256

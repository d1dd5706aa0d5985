import contextlib
import dataclasses
import json

import pytest
from absl import flags
from hypothesis import given, settings
from hypothesis import strategies as st

import cyclegan_tf
from cyclegan_tf.config import Config, architectures, options
from cyclegan_tf.config import config as config_lib
from cyclegan_tf.config import flags as config_flags
from cyclegan_tf.errors import UserError


def parse(*arguments):
    return config_flags.from_arguments(arguments)


def test_defaults_match_the_paper():
    config = Config()
    assert (config.load_size, config.crop_size, config.batch_size, config.pool_size) == (286, 256, 1, 50)
    assert (config.lambda_a, config.lambda_b, config.lambda_identity) == (10.0, 10.0, 0.5)
    assert (config.learning_rate, config.beta_1, config.beta_2) == (2e-4, 0.5, 0.999)
    assert (config.n_epochs, config.n_epochs_decay, config.n_blocks, config.gan_mode) == (100, 100, 9, "lsgan")


def test_flags_override_the_preset():
    config = parse("--preset=tiny", "--ngf=6", "--noflip")
    assert (config.ngf, config.crop_size, config.flip, config.beta_1) == (6, 32, False, 0.5)


@pytest.mark.parametrize("arguments", [
    ["--preset=demo", "--max_steps=4"], ["--max_steps=4", "--preset=demo"],
], ids=["after", "before"])
def test_flags_override_the_preset_wherever_they_stand(arguments):
    config = parse(*arguments)
    assert (config.max_steps, config.dataset, config.generator) == (4, "demo", "unet_full")
    # The run records the values, so that it does not depend on the preset.
    assert json.loads(config.to_json())["diff_augment"] == "translation,cutout"
    assert config == Config.preset("demo", max_steps=4)


def test_a_flagfile_overrides_the_preset(tmp_path):
    (tmp_path / "mine.flags").write_text("--ngf=6\n--preset=tiny\n")
    config = parse(f"--flagfile={tmp_path}/mine.flags", "--ndf=5")
    assert (config.ngf, config.ndf, config.crop_size) == (6, 5, 32)


@pytest.mark.parametrize(("arguments", "flags"), [
    (["--preset=tiny", "--n_epochs=9"], "--n_epochs"),
    (["--preset=tiny", "--n_epochs=9", "--n_epochs_decay=0"], "--n_epochs with --n_epochs_decay"),
    (["--preset=tiny", "--n_epochs=9", "--max_steps=0"], ""), (["--preset=tiny", "--n_epochs=9", "--max_steps=7"], ""),
    (["--preset=tiny"], ""), (["--preset=small_data", "--n_epochs=9"], ""), (["--n_epochs=9", "--max_steps=7"], ""),
])
def test_epochs_that_a_preset_in_steps_ignores_are_a_warning(caplog, arguments, flags):
    parse(*arguments)
    assert [record.levelname for record in caplog.records] == (["WARNING"] if flags else [])
    expected = f"--preset=tiny sets --max_steps=4, so {flags} changes the learning rate, not the length of the run"
    assert not flags or expected in caplog.text


def test_the_preset_paper_is_the_defaults():
    assert Config.preset("paper") == Config()


def test_an_unknown_preset_is_an_error():
    with pytest.raises(UserError, match=r"--preset=dmeo: expected one of demo, fast_cpu, paper, small_data, tiny"):
        Config.preset("dmeo")
    with pytest.raises(flags.IllegalFlagValueError, match=r"<demo\|fast_cpu\|paper\|small_data\|tiny>"):
        parse("--preset=dmeo")


@pytest.mark.parametrize("flag", ["--noflip", "--flip=false"])
def test_flags_turn_a_boolean_option_off(flag):
    assert parse().flip
    assert not parse(flag).flip


def test_invalid_flag_values_are_rejected():
    with pytest.raises(flags.IllegalFlagValueError, match=r"should be one of <lsgan\|vanilla\|wgangp\|hinge>"):
        parse("--gan_mode=lsgna")
    with pytest.raises(flags.UnrecognizedFlagError, match="no_flip"):
        parse("--no_flip")


@pytest.mark.parametrize(("text", "dataset"), [
    ('{"dataset": "demo"}', "demo_maps"),
    ("{}", "demo_maps"),
    ('{"dataset": "demo_pairs"}', "demo_pairs"),
    ('{"config_version": 2, "dataset": "demo"}', "demo"),
    ('{"config_version": 2}', "demo"),
])
def test_demo_in_an_old_config_json_is_demo_maps(text, dataset):
    assert Config.from_json(text).dataset == dataset


@pytest.mark.parametrize("option", ["eval_metrics", "nce_layers"])
def test_empty_names_in_an_old_config_json_are_dropped(option):
    config = Config.from_json(json.dumps({"config_version": 2, option: "l1,, fid,"}))
    assert getattr(config, option) == "l1, fid"


def test_json_round_trip():
    config = Config(dataset="demo", ngf=3, flip=False, learning_rate=1e-3)
    assert Config.from_json(config.to_json()) == config


def test_from_json_fills_in_defaults_and_rejects_unknown_options():
    assert Config.from_json('{"config_version": 2, "ngf": 5}') == Config(ngf=5)
    with pytest.raises(UserError, match=r"config\.json has unknown options: nfg"):
        Config.from_json('{"nfg": 5}')
    with pytest.raises(UserError, match="not valid JSON"):
        Config.from_json('{"ngf": ')
    with pytest.raises(UserError, match=r"config\.json has config_version 3, expected at most 2"):
        Config.from_json('{"config_version": 3}')
    with pytest.raises(UserError, match=r"config\.json has config_version True, expected at most 2"):
        Config.from_json('{"config_version": true}')
    with pytest.raises(UserError, match="not a JSON object"):
        Config.from_json("[]")


@pytest.mark.parametrize(("contents", "message"), [
    (b"", "is not valid JSON"),
    (b"\xff\xfe{\0}\0", "is not valid UTF-8"),
    ("{}".encode("utf-16"), "is not valid UTF-8"),
    (b"[" * 100_000, "is not valid JSON"),
    (b'{"ngf": ' * 1000 + b"5" + b"}" * 1000, "is not "),  # The depth that Python can read depends on its version.
    (b"5", "is not a JSON object of options"),
    (b'{"ngf": {"ngf": 5}}', "is not a JSON object of options"),
    (b'{"ngf": [5]}', "is not a JSON object of options"),
    (b'{"ngf": 1' + b"0" * 5000 + b"}", "is not valid JSON"),
    (b'{"ngf": null}', "--ngf=None must be of type int"),
], ids=lambda value: value[:20].decode(errors="replace") if isinstance(value, bytes) else "")
def test_damaged_file_is_a_one_line_error_that_names_it(tmp_path, contents, message):
    (tmp_path / "config.json").write_bytes(contents)
    with pytest.raises(UserError, match=message) as caught:
        Config.load(str(tmp_path))
    assert str(caught.value).startswith(f"{tmp_path}/config.json")
    assert "\n" not in str(caught.value)


def test_file_that_cannot_be_read_is_an_error(tmp_path):
    (tmp_path / "config.json").mkdir()
    with pytest.raises(UserError, match=r"^cannot read .*/config\.json: Is a directory$"):
        Config.load(str(tmp_path))


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(
    st.sampled_from(["config_version", *(field.name for field in dataclasses.fields(Config)), "x"]),
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.lists(st.text(max_size=1)),
    min_size=1, max_size=3,
))
def test_any_values_are_a_config_or_a_user_error(values):
    with contextlib.suppress(UserError):
        config = Config.from_json(json.dumps(values))
        assert Config.from_json(config.to_json()) == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"load_size": 30, "crop_size": 32}, "--load_size=30 is smaller than --crop_size=32"),
        ({"gan_mode": "lsgna"}, "--gan_mode=lsgna: expected one of lsgan, vanilla, wgangp, hinge"),
        ({"ngf": 0}, "--ngf=0 must be at least 1"),
        ({"learning_rate": float("nan")}, "--learning_rate=nan must be a finite number"),
        ({"learning_rate": float("inf")}, "--learning_rate=inf must be a finite number"),
        ({"lambda_a": 10**400}, "--lambda_a=1000*0 must be a finite number"),
        ({"lambda_a": True}, "--lambda_a=True must be of type float"),
        ({"learning_rate": -1e-4}, "--learning_rate=-0.0001 must be at least 0"),
        ({"beta_1": 2.0}, "--beta_1=2.0 must be below 1"),
        ({"beta_2": 1.0}, "--beta_2=1.0 must be below 1"),
        ({"beta_2": 0.99999999}, "--beta_2=0.99999999 becomes 1 when TensorFlow rounds the number to 32 bits"),
        ({"seed": 2**32}, "--seed=4294967296 must be at most 4294967295"),
        ({"max_steps": 10**30}, "--max_steps=10*0 must be at most 2147483647"),
        ({"ngf": 10**9}, "--ngf=1000000000 must be at most 1024"),
        ({"ngf": 1.5}, "--ngf=1.5 must be of type int"),
        ({"norm": None}, "--norm=None must be of type str"),
        ({"preprocess": "none", "batch_size": 2, "pool_size": 0}, "use --batch_size=1 --pool_size=0"),
        ({"preprocess": "none"}, "use --batch_size=1 --pool_size=0"),
        ({"preprocess": "scale_width"}, "--preprocess=scale_width makes images of different sizes"),
        ({"input_channels": 1}, "--input_channels=1 and --output_channels=3 differ, .*--lambda_identity=0"),
        ({"gan_mode": "wgangp", "norm": "batch"}, "--gan_mode=wgangp penalizes .* use --norm=instance"),
        ({"n_epochs": 0, "n_epochs_decay": 0}, "there is nothing to train"),
        ({"ema_decay": 1.0}, "must be below 1"),
        ({"preprocess": "none", "pool_size": 0, "crop": "center"}, "--preprocess=none does not crop"),
        ({"gan_mode": "wgangp", "mixed_precision": "float16"}, "--mixed_precision=float16 cannot scale"),
        ({"recompute": True, "dropout": True}, "--recompute runs layers twice"),
        ({"recompute": True, "norm": "batch"}, "--recompute runs layers twice"),
        ({"preprocess": "none", "pool_size": 0, "jit_compile": "on"}, "--jit_compile=on compiles again"),
        ({"norm": "batch", "norm_affine": True}, "--norm_affine has no effect on --norm=batch"),
        ({"label_smoothing": 0.1, "gan_mode": "hinge"}, "--gan_mode=hinge has no labels to smooth"),
        ({"label_smoothing": 1.0}, "--label_smoothing=1.0 must be below 1"),
        ({"disc_learning_rate": 1e-4, "learning_rate": 0.0}, "--learning_rate, which must not be 0"),
        ({"identity_mode": "cross", "lambda_identity": 0.0}, "--lambda_identity=0 turns off the identity loss"),
        ({"antialias": "up", "upsample": "resize_conv"}, "^--antialias=up replaces .*; use --antialias=none or"),
        ({"identity_mode": "cross", "lambda_a": 0, "lambda_b": 0}, "--lambda_a=0 and --lambda_b=0 turn off"),
        ({"model": "pix2pix", "identity_mode": "cross"}, "and no cycle; remove --identity_mode=cross$"),
        ({"model": "pix2pix", "generator_loss": "separate"}, "and no cycle; remove --generator_loss=separate$"),
        ({"model": "pix2pix", "cycle_loss": "l2"}, "^--model=pix2pix has one .* and no cycle; remove --cycle_loss=l2$"),
        ({"model": "pix2pix", "paired": "no"}, "--model=pix2pix trains on pairs, which --paired=no rules out"),
        ({"identity_mode": "cross", "paired": "no"}, "--identity_mode=cross trains on pairs, which --paired=no"),
        ({"model": "pix2pix", "gan_mode": "wgangp"}, "^--model=pix2pix does not support --gan_mode=wgangp; remove it$"),
    ],
)
def test_impossible_options_are_rejected(values, message):
    with pytest.raises(UserError, match=message):
        Config(**values)


@pytest.mark.parametrize("name", [
    field.name for field in dataclasses.fields(Config) if options.get_value_type(field) in (int, float)
])
def test_every_number_has_a_smallest_and_a_largest_value(name):
    for value in (-1, 10**400):
        with pytest.raises(UserError, match=rf"--{name}=.* must be (at least|at most|a finite number)"):
            Config(**{name: value})


def test_largest_values_are_valid():
    Config(seed=2**32 - 1, max_steps=2**31 - 1, beta_1=0.0, beta_2=0.9999999)


def test_integers_for_floats_become_floats():
    # An integer as beta_1 would be an int32 tensor in Adam, and workers compare checksums.
    config = Config(beta_1=0, lambda_a=5)
    assert (type(config.beta_1), type(config.lambda_a)) == (float, float)
    assert config.compute_checksums() == Config(beta_1=0.0, lambda_a=5.0).compute_checksums()


def test_models_without_pools_take_images_of_different_sizes():
    assert Config(model="pix2pix", preprocess="none").pool_size == 50
    with pytest.raises(UserError, match=r"cannot share a batch; use --batch_size=1$"):
        Config(model="pix2pix", preprocess="none", batch_size=2)


def test_every_option_has_a_flag_with_default_help_and_choices():
    defined = flags.FlagValues()
    config_flags.define_flags([], defined)
    for field in dataclasses.fields(Config):
        flag = defined[field.name]
        assert flag.default == getattr(Config(), field.name), field.name
        assert flag.help, field.name
        assert tuple(getattr(flag.parser, "enum_values", ())) == options.get_choices(field), field.name


def test_differences_ignore_options_that_a_resumed_run_may_change():
    old = Config(ngf=8, log_every=1)
    assert config_lib.list_differences(old, dataclasses.replace(old, ngf=9, log_every=5)) == ["ngf: 8 -> 9"]


@pytest.mark.parametrize(("option", "old", "new", "differ"), [
    ("dataset", "photos", "photos/", False), ("dataset", "photos", "photos2", True), ("dataset", "/", "photos", True),
    ("init_from", "gs://bucket/run//", "gs://bucket/run", False),
    ("diff_augment", "color,cutout", " color, cutout", False), ("diff_augment", "color,cutout", "cutout,color", True),
    ("nce_layers", "stem_pad,block1_add", "stem_pad , block1_add", False), ("nce_layers", "", "stem_pad", True),
    ("range_a", "-1024,3071", "-1024, 3071", False), ("range_b", "percentile:1,99=0,5", "percentile:1,99.0=0,5", False),
    ("range_a", "", "0,255", True), ("range_a", "percentile:1,99=0,5", "percentile:1,99=0,6", True),
])
def test_differences_ignore_the_spelling_of_a_value(option, old, new, differ):
    found = config_lib.list_differences(Config(**{option: old}), Config(**{option: new}))
    assert found == ([f"{option}: {old} -> {new}"] if differ else [])


def test_options_that_a_resumed_run_may_change():
    may_differ = {field.name for field in dataclasses.fields(Config) if field.metadata["may_differ"]}
    # Fails for a new option, so that its author decides on purpose.
    assert may_differ == {
        "data_dir", "cache", "on_bad_image", "n_epochs", "n_epochs_decay", "max_steps", "log_every", "sample_every",
        "checkpoint_every", "sample_epochs", "checkpoint_epochs", "keep_checkpoints", "n_samples", "on_nonfinite",
        "eval_every", "eval_metrics", "patience", "strategy", "worker_timeout", "allow_changed_data", "paired",
        "plugins", "name_a", "name_b", "window",
    }


def test_integers_are_valid_for_float_options():
    assert Config(lambda_a=5).lambda_a == 5


def test_eval_metrics_may_have_spaces():
    assert Config(eval_metrics="l1, fid").extra_metrics == ["l1", "fid"]


@pytest.mark.parametrize(("option", "value"), [
    ("eval_metrics", "l1,,fid"), ("eval_metrics", ",l1"), ("eval_metrics", "l1, "), ("eval_metrics", ","),
    ("diff_augment", "color,,cutout"), ("nce_layers", "stem_pad,,block1_add"), ("plugins", "json,"),
])
def test_an_empty_name_in_a_list_is_an_error(option, value):
    with pytest.raises(UserError, match=f"--{option}={value}: a name is empty; remove the comma beside it"):
        Config(**{option: value})


def test_workers_may_differ_only_in_options_of_their_machine():
    one, other = Config().compute_checksums(), Config(data_dir="x", cache="off", n_epochs=7).compute_checksums()
    assert [name for name in one if one[name] != other[name]] == ["--n_epochs"]


def test_pix2pix_and_cross_identity_need_pairs():
    assert Config(model="pix2pix").trains_on_pairs
    assert Config(identity_mode="cross").trains_on_pairs
    assert not Config().trains_on_pairs


@pytest.mark.usefixtures("plugins")
@pytest.mark.parametrize(("read", "needs_pairs"), [(None, True), (["identity_mode"], True), ([], False)], ids=str)
def test_cross_identity_needs_pairs_only_for_models_that_read_the_option(read, needs_pairs):
    cyclegan_tf.register_model("mine", options=read)(lambda config, replicas: None)
    assert Config(model="mine", identity_mode="cross").trains_on_pairs == needs_pairs


def test_models_have_their_own_defaults():
    assert [Config(model=model).get_default("pool_size") for model in ("cyclegan", "cut")] == [50, 0]
    assert Config(model="cut", pool_size=3).get_default("n_epochs") == 200


@pytest.mark.parametrize(("value", "problem"), [("color,blur", "unknown blur"), ("cutout,cutout", "repeated cutout")])
def test_a_wrong_name_in_a_list_is_named(value, problem):
    with pytest.raises(UserError, match=f"^--diff_augment={value}: {problem}; expected any of color, .*, each once at"):
        Config(diff_augment=value)


def test_config_json_is_readable():
    assert json.loads(Config().to_json())["crop_size"] == 256


@pytest.mark.parametrize(("values", "message"), [
    ({"generator": "unet", "crop_size": 64},
     "--crop_size=64 must be a multiple of 256 for --generator=unet; use --crop_size=256 or --n_downs=6"),
    ({"generator": "unet", "crop_size": 96},
     "--crop_size=96 must be a multiple of 256 for --generator=unet; use --crop_size=256 or --n_downs=5"),
    ({"generator": "unet", "crop_size": 100},
     "--crop_size=100 must be a multiple of 256 for --generator=unet; use --crop_size=256"),
    ({"generator": "unet", "crop_size": 100, "load_size": 143},
     "--crop_size=100 must be a multiple of 256 for --generator=unet; use --crop_size=256 with --load_size=256"),
    ({"generator": "unet", "crop_size": 100, "preprocess": "crop", "load_size": 143},
     "--crop_size=100 must be a multiple of 256 for --generator=unet; use --crop_size=256"),
    ({"crop_size": 64, "load_size": 70, "n_layers": 6},
     "--crop_size=64 must be at least 192 for --generator=resnet and --discriminator=patch; use --crop_size=192 with "
     "--load_size=192 or --n_layers=4"),
    ({"crop_size": 130}, "--crop_size=130 must be a multiple of 4 for --generator=resnet; use --crop_size=128"),
    ({"crop_size": 286}, "--crop_size=286 must be a multiple of 4 for --generator=resnet; use --crop_size=284"),
    ({"crop_size": 286, "preprocess": "crop"},
     "--crop_size=286 must be a multiple of 4 for --generator=resnet; use --crop_size=288"),
    ({"crop_size": 10}, "--crop_size=10 must be a multiple of 4 for --generator=resnet; use --crop_size=24"),
    ({"crop_size": 20}, "--crop_size=20 must be at least 24 for --generator=resnet and --discriminator=patch; use "
     "--crop_size=24 or --n_layers=2"),
    ({"crop_size": 4, "discriminator": "pixel"},
     "--crop_size=4 must be at least 8 for --generator=resnet and --discriminator=pixel; use --crop_size=8"),
    ({"crop_size": 12, "discriminator": "tf_blog"},
     "--crop_size=12 must be at least 16 for --generator=resnet and --discriminator=tf_blog; use --crop_size=16"),
])
def test_crops_that_the_networks_do_not_accept_are_errors(values, message):
    with pytest.raises(UserError) as raised:
        architectures.require_crop_size(Config(**values))
    assert str(raised.value) == message


@pytest.mark.parametrize("values", [
    {}, {"crop_size": 24}, {"crop_size": 8, "discriminator": "pixel"},
    {"generator": "unet", "n_downs": 6, "crop_size": 64}, {"crop_size": 10, "preprocess": "none", "pool_size": 0},
], ids=str)
def test_crops_that_the_networks_accept(values):
    architectures.require_crop_size(Config(**values))


@pytest.mark.parametrize(("text", "low", "high"), [
    ("-1024,3071", -1024, 3071), (" 0 , 1.5 ", 0, 1.5), ("-1e3,+.5", -1000, 0.5),
    ("percentile:1,99=-7,3.25", -7, 3.25), ("percentile:1,99", None, None), ("", None, None),
])
def test_range_of_a_domain(text, low, high):
    config = Config(range_b=text)
    found = config.get_range("b")
    assert (found and (found.low, found.high)) == (None if low is None else (low, high))
    assert config.get_range("a") is None
    assert (config.has_units("a"), config.has_units("b")) == (False, bool(text))


@pytest.mark.parametrize(("option", "text", "message"), [
    ("range_a", "3071,-1024", "--range_a=3071,-1024: 3071 is not below -1024; give the lower bound first"),
    ("range_a", "5,5", "--range_a=5,5: both bounds are 5; give two different ones"),
    ("range_b", "5", "--range_b=5: expected LOW,HIGH, as in --range_b=-1024,3071, or percentile:LOW,HIGH"),
    ("range_b", "1,2,3", "expected LOW,HIGH"), ("range_b", "nan,1", "expected LOW,HIGH"),
    ("range_b", "0,1e999", "expected LOW,HIGH"), ("range_a", "percentile:99,1", "99 is not below 1"),
    ("range_a", "percentile:1,101", "in 0 .. 100, as in --range_a=percentile:1,99"),
    ("range_a", "percentile:1", "expected LOW,HIGH"),
    ("range_a", "percentile:1,99=", "--range_a=percentile:1,99=: expected LOW,HIGH"),
    ("range_a", "percentile:1,99=4,3", "4 is not below 3"),
    ("window", "40", "--window=40: expected CENTER,WIDTH"),
    ("window", "40,0", "--window=40,0: the width 0 is not above 0; give CENTER,WIDTH"),
    ("window", "40,400/3", "expected CENTER,WIDTH"),
])
def test_invalid_range_is_named(option, text, message):
    values = {"range_a": "0,1"} | {option: text}
    with pytest.raises(UserError) as caught:
        Config(**values)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("text", "of_a", "of_b"), [
    ("40,400", (-160, 240), (-160, 240)), ("40,400/1,2", (-160, 240), (0, 2)), ("40,400/", (-160, 240), None),
    ("/1,2", None, (0, 2)), ("", None, None),
])
def test_window_of_both_domains(text, of_a, of_b):
    config = Config(range_a="-1024,3071", window=text)
    assert [found and (found.low, found.high) for found in map(config.get_window, "ab")] == [of_a, of_b]


def test_window_needs_a_range():
    with pytest.raises(UserError, match=r"^--window=40,400 needs the unit of --range_a or --range_b; set one of "):
        Config(window="40,400")

"""The commands find the networks, losses and models that other packages register, and train them."""

import functools
import json
import runpy

import numpy as np
import pytest
import tensorflow as tf
from conftest import PLUGIN_MODULES, PLUGINS, ROOT, run_python, run_train

import cyclegan_tf
from cyclegan_tf.config import Config, registries
from cyclegan_tf.config import flags as config_flags
from cyclegan_tf.errors import UserError
from cyclegan_tf.models.base import Model

keras = tf.keras

TOY = (
    f"--plugins={PLUGIN_MODULES}", "--generator=toy", "--discriminator=toy", "--gan_mode=toy_loss", "--model=toy_model",
    "--preset=tiny", "--max_dataset_size=2",
)
pytestmark = pytest.mark.usefixtures("plugins")


def make(*arguments, **keywords):
    """Stands for a network or a model; no test calls this function."""


def test_commands_train_and_find_the_plugins_again(tmp_path, run_command, make_images):
    run = tmp_path / "run"
    # The current folder of the child process holds the package.
    child = run_train(*TOY, "--max_steps=2", f"--workdir={run}", cwd=PLUGINS, PYTHONPATH=str(ROOT))
    assert child.returncode == 0, child.stderr
    saved = json.loads((run / "config.json").read_text())
    assert (saved["plugins"], saved["generator"], saved["lambda_l1"]) == (PLUGIN_MODULES, "toy", 5.0)

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
        ["--helpfull", f"--plugins={PLUGIN_MODULES}"], ["--ngf", "8", "--helpfull", "--plugins", PLUGIN_MODULES],
        ["--helpfull", "--flagfile=FILE"],
    ],
    ids=["after", "two words", "flagfile"],
)
def test_full_help_lists_the_names_of_plugins(arguments, tmp_path, run_command):
    (tmp_path / "toy.flags").write_text(f"--plugins={PLUGIN_MODULES}\n")
    arguments = [argument.replace("FILE", f"{tmp_path}/toy.flags") for argument in arguments]
    text = " ".join(run_command("cyclegan_tf.train", *arguments).stdout.split())
    assert "--generator: <resnet|unet|unet_reflect|unet_full|torchgan|tf_blog|unet_book|toy>:" in text
    assert "--gan_mode: <lsgan|vanilla|wgangp|hinge|toy_loss>:" in text
    assert "toy_model: --pool_size=0, --lambda_l1=5.0" in text


def test_console_scripts_import_from_the_current_folder():
    # As in a console script, Python itself does not add the current folder.
    script = "import sys; sys.path.remove(''); from cyclegan_tf import cli; cli.train()"
    arguments = ("-c", script, "--helpfull", "--plugins=toy_package.networks")
    child = run_python(*arguments, cwd=PLUGINS, PYTHONPATH=str(ROOT))
    assert "unet_book|toy>" in child.stdout, child.stderr


def test_a_script_in_another_folder_imports_from_the_current_folder(tmp_path):
    (tmp_path / "script.py").write_text(
        "import cyclegan_tf\n"
        "print(cyclegan_tf.Config(plugins='toy_package.networks', generator='toy').generator)\n"
    )
    child = run_python(str(tmp_path / "script.py"), cwd=PLUGINS, PYTHONPATH=str(ROOT))
    assert child.stdout == "toy\n", child.stderr


@pytest.mark.parametrize("register", [
    cyclegan_tf.register_discriminator, cyclegan_tf.register_loss, cyclegan_tf.register_model,
], ids=lambda function: function.__name__)
def test_a_decorator_without_parentheses_is_an_error(register):
    with pytest.raises(UserError, match=r"cannot register .*build for --\w+, because the decorator has no \(\.\.\.\);"):
        @register
        def build(config):
            raise NotImplementedError


def test_a_function_in_place_of_the_name_of_a_generator_is_an_error():
    def build(config):
        raise NotImplementedError

    with pytest.raises(UserError, match=r"cannot register .*build for --generator, because the decorator has no \("):
        cyclegan_tf.register_generator(build, size_multiple=4)


def test_defaults_that_are_not_a_dictionary_are_an_error():
    with pytest.raises(UserError, match=r"--model=mine with defaults \['ngf'\]: give a dictionary of options"):
        cyclegan_tf.register_model("mine", defaults=["ngf"])


@pytest.mark.parametrize(("register", "function", "message"), [
    (cyclegan_tf.register_generator("mine", size_multiple=4), lambda config, n_in, n_out, name: None,
     "--generator=mine: missing a required argument: 'n_in'; the function must take the arguments (config, "
     "input_channels, output_channels, name)"),
    (cyclegan_tf.register_discriminator("mine"), lambda config, name: None,
     "--discriminator=mine: got an unexpected keyword argument 'input_channels'; the function must take the arguments "
     "(config, input_channels, name)"),
    (cyclegan_tf.register_loss("mine"), lambda: None,
     "--gan_mode=mine: too many positional arguments; the function must take the arguments (config)"),
    (cyclegan_tf.register_model("mine"), lambda config: None,
     "--model=mine: too many positional arguments; the function must take the arguments (config, replicas)"),
], ids=["generator", "discriminator", "loss", "model"])
def test_a_function_of_other_arguments_is_an_error(register, function, message):
    function.__qualname__ = "build"
    with pytest.raises(UserError) as raised:
        register(function)
    assert str(raised.value) == f"cannot register {__name__}.build as {message}"


def test_the_names_of_positional_arguments_are_free():
    cyclegan_tf.register_model("mine")(lambda options, numbers, more=None: None)
    cyclegan_tf.register_discriminator("mine")(lambda options, **keywords: None)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("no_such_package.networks", "there is no module no_such_package in the current folder"),
        ("toy_package.py", "the installed packages; give toy_package, as in an import statement"),
        ("toy_package.missing", "there is no module toy_package.missing in the current folder"),
        ("stranger", r"stranger imports no_such_library, which is not installed"),
        ("toy/package.py", "'toy/package.py' is not the name of a module"),
        ("toy_package,", "a name is empty; remove the comma beside it"),
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
        ("raise SystemExit(0)", "SystemExit: 0 (stranger.py, line 3)"),
    ],
    ids=["exception", "two lines", "syntax", "exit"],
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
    assert Config(plugins=PLUGIN_MODULES, model="toy_model").lambda_l1 == 5.0
    assert Config(plugins=PLUGIN_MODULES, model="toy_model", lambda_l1=100.0).lambda_l1 == 100.0
    assert Config.preset("tiny", plugins=PLUGIN_MODULES, model="toy_model").pool_size == 4
    assert config_flags.from_arguments([f"--plugins={PLUGIN_MODULES}", "--model=toy_model"]).lambda_l1 == 5.0
    assert Config().lambda_l1 == 100.0
    defaults = {"lamda_l1": 5.0}
    cyclegan_tf.register_model("typo", defaults=defaults)(Model)
    defaults.clear()  # Without effect.
    with pytest.raises(UserError, match="--model=typo is registered with defaults of unknown options: lamda_l1"):
        Config(model="typo")


def test_taken_names_are_refused_but_a_function_may_be_registered_again():
    @cyclegan_tf.register_generator("mine", size_multiple=4)
    def build(config, input_channels, output_channels, name):
        return 1

    def build_other(config, input_channels, output_channels, name):
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
        "def build(config, input_channels, output_channels, name): pass\n"
        "if __name__ == '__main__':\n"
        "    config = cyclegan_tf.Config(plugins='stranger', generator='mine')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert runpy.run_path(script.name, run_name="__main__")["config"].generator == "mine"


def test_size_multiple_may_depend_on_the_config():
    cyclegan_tf.register_generator("mine", size_multiple=lambda config: 2**config.n_downs)(make)
    from cyclegan_tf.config import architectures

    assert architectures.get_size_multiple(Config(generator="mine", n_downs=6)) == 64


@pytest.mark.parametrize(
    "value", [0, -4, 4.5, "4", None, lambda config: None],
    ids=["zero", "negative", "fraction", "text", "none", "function"],
)
def test_a_registered_size_must_be_a_number_of_pixels(value):
    from cyclegan_tf.config import architectures

    cyclegan_tf.register_generator("mine", size_multiple=value)(make)
    cyclegan_tf.register_discriminator("mine", smallest_size=value)(make)
    with pytest.raises(UserError, match=r"^--generator=mine is registered with size_multiple .*; expected a whole num"):
        architectures.get_size_multiple(Config(generator="mine"))
    with pytest.raises(UserError, match=r"^--discriminator=mine is registered with smallest_size .*; expected a whol"):
        architectures.get_smallest_size(Config(discriminator="mine"))


@pytest.mark.parametrize("found", [None, "--ngf must be even"], ids=repr)
def test_conflicts_of_a_model_must_be_a_list(found):
    cyclegan_tf.register_model("mine", find_conflicts=lambda config: found)(make)
    with pytest.raises(UserError, match=r"find_conflicts of --model=mine returns .*; expected a list of messages"):
        Config(model="mine")


def test_a_function_that_a_registration_takes_must_be_a_function():
    for argument in ("channels", "find_conflicts"):
        with pytest.raises(UserError, match=f"^cannot register --model=mine with {argument} 5: give a function of the"):
            cyclegan_tf.register_model("mine", **{argument: 5})
    with pytest.raises(UserError, match=r"^cannot register --generator=mine with nce_layers 'down1': give a func"):
        cyclegan_tf.register_generator("mine", size_multiple=1, nce_layers="down1")


def test_directions_must_be_a_list():
    with pytest.raises(UserError, match="cannot register --model=mine for directions 'a2b': give a list"):
        cyclegan_tf.register_model("mine", directions="a2b")


def test_a_network_without_channels_is_an_error():
    from cyclegan_tf.config import architectures

    cyclegan_tf.register_model("mine", channels=lambda config: {})(make)
    with pytest.raises(UserError, match="--model=mine has a network disc_c, whose channels are unknown"):
        architectures.get_network_channels(Config(model="mine"), "disc_c")


def test_a_name_must_be_text():
    with pytest.raises(UserError, match="cannot register 5 for --generator: a name consists of"):
        cyclegan_tf.register_generator(5, size_multiple=1)(make)


def test_public_names_exist():
    for name in cyclegan_tf.__all__:
        assert getattr(cyclegan_tf, name).__doc__, name

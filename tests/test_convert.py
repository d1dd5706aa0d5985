"""Conversion of the authors' .pth files to run directories and back."""

import dataclasses
import os

import golden
import numpy as np
import pytest
from conftest import run_python, write_run

from cyclegan_tf import convert
from cyclegan_tf.config import Config, architectures, run_options
from cyclegan_tf.data import sources
from cyclegan_tf.errors import UserError
from cyclegan_tf.exporters import formats, pytorch_run, saved_model, web_page
from cyclegan_tf.inference import loading
from cyclegan_tf.inference import translator as translator_lib
from cyclegan_tf.models.cut import Cut
from cyclegan_tf.models.cyclegan import CycleGAN
from cyclegan_tf.models.pix2pix import Pix2Pix
from cyclegan_tf.networks import registry
from cyclegan_tf.networks import weights as weights_lib
from cyclegan_tf.networks.weights import name_weights
from cyclegan_tf.pytorch import files as torch_files
from cyclegan_tf.pytorch import weights as pytorch_weights
from cyclegan_tf.runs import checkpoints, model_state
from cyclegan_tf.runs import directory as run_directory
from cyclegan_tf.training import warm_start

EXPERIMENT = ("G_A", "G_B", "D_A")
DATASET = run_options.CONVERTED_DATASET
NETWORKS = {"G_A": "gen_ab", "G_B": "gen_ba", "D_A": "disc_b", "D_B": "disc_a"}


def run_convert(*arguments):
    return run_python("-m", "cyclegan_tf.convert", *arguments)


@pytest.fixture(scope="module")
def experiment(torch, tmp_path_factory):
    """A folder with the .pth files of the authors' experiment, and the run that it becomes."""
    folder, workdir = tmp_path_factory.mktemp("experiment"), tmp_path_factory.mktemp("runs") / "experiment"
    for net in EXPERIMENT:
        path = golden.checkpoint(f"checkpoints/experiment/latest_net_{net}.pth", folder)
        if os.path.dirname(path) != str(folder):
            os.symlink(path, folder / os.path.basename(path))
    with pytest.MonkeyPatch.context() as patch:
        # SavedModels take most of the time of a conversion; test_the_command_line_both_ways has one.
        patch.setattr(saved_model, "export", lambda translators, folder: [])
        pytorch_run.convert_from_pytorch([str(folder)], str(workdir))
    return folder, workdir


@pytest.fixture
def no_export(monkeypatch):
    """Skips the SavedModels, which take most of the time of a conversion."""
    monkeypatch.setattr(saved_model, "export", lambda translators, folder: [])


def newest(workdir):
    return checkpoints.read(checkpoints.list_files(str(workdir / "checkpoints"))[0][1])


def weights(arrays, name, kind="network"):
    prefix = f"{kind}/{name}/"
    return {key.removeprefix(prefix): array for key, array in arrays.items() if key.startswith(prefix)}


def assert_same(arrays, expected):
    assert list(arrays) == list(expected)
    for key, array in expected.items():
        assert arrays[key].dtype == array.dtype, key
        np.testing.assert_array_equal(arrays[key], array, key)


def assert_translates(workdir, direction, case, prefix=""):
    translator = translator_lib.load_run(str(workdir)).translators[direction]
    keys = [i for i in range(2) if f"{prefix}x{i}" in case]
    assert keys
    for i in keys:
        images = translator.translate_floats(case.images(f"{prefix}x{i}"))["images"]
        case.assert_close(golden.nchw(images.numpy()), f"{prefix}y{i}")


def test_an_experiment_becomes_a_run_that_translates_alike(experiment):
    _, workdir = experiment
    assert Config.load(str(workdir)) == Config(dataset=DATASET, ngf=10, ndf=8)
    case = golden.Golden("checkpoints/experiment/inputs_outputs.npz")
    assert_translates(workdir, "a2b", case, "G_A/")
    assert_translates(workdir, "b2a", case, "G_B/")
    # The authors' D_A judges B.
    discriminator = registry.build_discriminator(Config.load(str(workdir)), "disc_b")
    weights_lib.load(discriminator, weights(newest(workdir), "disc_b"), "disc_b")
    case.assert_close(golden.nchw(discriminator(case.images("D_A/x0")).numpy()), "D_A/y0")


def test_from_pytorch_to_a_run_and_back_is_exact(experiment, no_export, tmp_path):
    folder, workdir = experiment
    back, again = tmp_path / "back", tmp_path / "again"
    pytorch_run.convert_to_pytorch(str(workdir), str(back))
    assert sorted(path.name for path in back.iterdir()) == [f"latest_net_{net}.pth" for net in sorted(EXPERIMENT)]
    for net in EXPERIMENT:
        name = f"latest_net_{net}.pth"
        assert_same(torch_files.read(back / name), torch_files.read(folder / name))
    pytorch_run.convert_from_pytorch([str(back / f"latest_net_{net}.pth") for net in EXPERIMENT], str(again))
    assert_same(newest(again), newest(workdir))
    assert (again / "config.json").read_text() == (workdir / "config.json").read_text()


def test_pytorch_is_needed_for_the_files_only(no_export, monkeypatch, tmp_path):
    files = {"G_A.pth": golden.state_dict(), "D_A.pth": golden.state_dict("discriminators/nlayer_n2_instance.npz")}
    monkeypatch.setattr(torch_files, "require_torch_for_writing", lambda: None)
    monkeypatch.setattr(torch_files, "read", files.get)
    monkeypatch.setattr(torch_files, "write", lambda path, arrays: files.update({os.path.basename(path): arrays}))
    pytorch_run.convert_from_pytorch(["G_A.pth", "D_A.pth"], str(tmp_path / "run"))
    assert Config.load(str(tmp_path / "run")) == Config(dataset=DATASET, ngf=8, n_blocks=2, ndf=8, n_layers=2)
    assert_translates(tmp_path / "run", "a2b", golden.Golden("generators/resnet_n2_instance_reflect.npz"))
    pytorch_run.convert_to_pytorch(str(tmp_path / "run"), str(tmp_path / "back"))
    for net in ("G_A", "D_A"):
        assert_same(files[f"latest_net_{net}.pth"], files[f"{net}.pth"])
    assert len(files) == 4, "only the given networks are written"


def test_written_files_load_as_the_authors_code_loads_them(experiment, torch, tmp_path):
    pytorch_run.convert_to_pytorch(str(experiment[1]), str(tmp_path))
    loaded = torch.load(tmp_path / "latest_net_G_A.pth", weights_only=True)
    assert type(loaded).__name__ == "OrderedDict"
    assert all(type(tensor) is torch.Tensor and tensor.dtype == torch.float32 for tensor in loaded.values())


@pytest.mark.parametrize(("name", "architecture"), [
    ("old_pre04", {"ngf": 8, "n_blocks": 3}), ("old_04", {"ngf": 6, "n_blocks": 2}),
])
def test_files_of_old_versions_translate_alike(torch, no_export, tmp_path, name, architecture):
    path = golden.checkpoint(f"checkpoints/{name}/latest_net_G_A.pth", tmp_path)
    workdir = tmp_path / "run"
    pytorch_run.convert_from_pytorch([path], str(workdir))
    assert Config.load(str(workdir)) == Config(dataset=DATASET, **architecture)
    assert_translates(workdir, "a2b", golden.Golden(f"checkpoints/{name}/inputs_outputs.npz"))


def test_networks_of_other_channels_keep_their_domains(torch, no_export, tmp_path):
    name = "generators/resnet_n1_1to2channels.npz"
    torch_files.write(tmp_path / "latest_net_G_B.pth", golden.state_dict(name))
    pytorch_run.convert_from_pytorch([str(tmp_path / "latest_net_G_B.pth")], str(tmp_path / "run"))
    config = Config.load(str(tmp_path / "run"))
    assert (config.input_channels, config.output_channels, config.lambda_identity) == (2, 1, 0)
    assert_translates(tmp_path / "run", "b2a", golden.Golden(name))


def test_the_command_line_both_ways(torch, tmp_path, run_command):
    name = "generators/resnet_n2_instance_replicate.npz"
    zebra, workdir, back = tmp_path / "zebra.pth", tmp_path / "run", tmp_path / "back"
    torch_files.write(zebra, golden.state_dict(name))
    child = run_convert(f"--from_pytorch={zebra}", "--network=gen_ba", "--padding=replicate", f"--output={workdir}")
    assert child.returncode == 0, child.stderr
    assert child.stderr.strip().splitlines()[-1] == f"wrote {workdir}: gen_ba"
    # The flag gives the padding, which the weights do not tell.
    assert Config.load(str(workdir)) == Config(dataset=DATASET, ngf=8, n_blocks=2, padding="replicate")
    assert_translates(workdir, "b2a", golden.Golden(name))
    # Only the given direction has a SavedModel.
    assert os.listdir(workdir / "export") == ["b2a"]
    child = run_command("cyclegan_tf.convert", f"--to_pytorch={back}", f"--model={workdir}")
    assert child.returncode == 0, child.stderr
    assert_same(torch_files.read(back / "latest_net_G_B.pth"), golden.state_dict(name))


def test_batch_norm_u_nets_are_converted_with_their_statistics(torch, no_export, tmp_path):
    name = "generators/unet_downs6_batch.npz"
    path, workdir = tmp_path / "latest_net_G.pth", tmp_path / "run"
    torch_files.write(path, golden.state_dict(name))
    pytorch_run.convert_from_pytorch([str(tmp_path)], str(workdir), dropout=True)
    config = Config.load(str(workdir))
    assert (config.generator, config.n_downs, config.norm, config.dropout) == ("unet", 6, "batch", True)
    network = golden.options(golden.manifest()[name]["config"])
    assert_same(weights(newest(workdir), "gen_ab"), pytorch_weights.to_keras(golden.state_dict(name), network))
    pytorch_run.convert_to_pytorch(str(workdir), str(tmp_path / "back"))
    back = torch_files.read(tmp_path / "back" / "latest_net_G_A.pth")
    counters = {key: np.int64(0) for key in back if key.endswith("num_batches_tracked")}
    assert_same(back, golden.state_dict(name) | counters)


@pytest.fixture
def one_direction(torch, no_export, tmp_path):
    """A run that was converted from a single generator, G_A."""
    path = golden.checkpoint("checkpoints/old_04/latest_net_G_A.pth", tmp_path)
    pytorch_run.convert_from_pytorch([path], str(tmp_path / "run"))
    return tmp_path / "run"


def test_another_run_starts_from_a_converted_run(one_direction, caplog):
    model = CycleGAN(Config.load(str(one_direction)))
    warm_start.initialize(model, str(one_direction))
    arrays = {key: weight.numpy() for key, weight in name_weights(model.networks["gen_ab"]).items()}
    assert_same(arrays, weights(newest(one_direction), "gen_ab"))
    assert "; fresh: disc_a, disc_b, gen_ba" in caplog.text


def test_a_converted_run_cannot_be_resumed(one_direction):
    config = Config.load(str(one_direction))
    with pytest.raises(UserError, match=r"was converted from \.pth files and cannot be resumed: .* --init_from="):
        run_directory.require_same_options(config, str(one_direction))


@pytest.mark.parametrize(("name", "direction"), [("G_A", "a2b"), ("G_B", "b2a")])
def test_the_only_direction_of_a_run_is_the_default(name, direction, torch, no_export, tmp_path, monkeypatch):
    path, workdir = tmp_path / f"latest_net_{name}.pth", str(tmp_path / "run")
    torch_files.write(path, golden.state_dict("generators/resnet_n2_instance_replicate.npz"))
    pytorch_run.convert_from_pytorch([str(path)], workdir)
    image = np.zeros((8, 8, 3), np.float32)
    expected = loading.load(workdir, direction).translate(image)
    np.testing.assert_array_equal(loading.load(workdir).translate(image), expected)
    found = []

    def write_page(generators, *_, **options):
        found.extend(generator.direction for generator in generators)
        return []

    monkeypatch.setattr(formats, "_require_packages", lambda name: None)
    monkeypatch.setattr(saved_model, "write", lambda generator, folder: write_page([generator]))
    monkeypatch.setattr(web_page, "write", write_page)
    for export_format in ("saved_model", "web"):
        formats.export(workdir, export_format, str(tmp_path / "out"))
    assert found == [direction, direction]


def test_a_direction_without_a_generator_is_not_translated(one_direction):
    assert list(loading.load_directions(one_direction)) == ["a2b"]
    for load in (loading.load, loading.load_directions):
        with pytest.raises(UserError, match=r"translates a2b only and holds no generator of b2a; set the direct"):
            load(one_direction, "b2a")


def test_a_run_of_a_discriminator_does_not_translate(torch, no_export, tmp_path):
    torch_files.write(tmp_path / "D_A.pth", golden.state_dict("discriminators/nlayer_n2_instance.npz"))
    pytorch_run.convert_from_pytorch([str(tmp_path / "D_A.pth")], str(tmp_path / "run"))
    for load in (loading.load, loading.load_directions):
        with pytest.raises(UserError, match=r"step-00000000\.npz holds no generator; give another run$"):
            load(tmp_path / "run")


def test_the_data_set_of_a_converted_run_is_unknown(one_direction):
    with pytest.raises(UserError, match=r"data set of this run is unknown, .* give --dataset=FOLDER$"):
        sources.open_dataset(Config.load(str(one_direction)))


@pytest.mark.parametrize("antialias", ["down", "both"])
def test_antialiased_networks_are_converted_there_and_back(torch, no_export, tmp_path, antialias):
    write_run(tmp_path / "run", CycleGAN(Config.preset("tiny", antialias=antialias)))
    pytorch_run.convert_to_pytorch(str(tmp_path / "run"), str(tmp_path / "back"))
    pytorch_run.convert_from_pytorch([str(tmp_path / "back")], str(tmp_path / "again"))
    assert Config.load(str(tmp_path / "again")).antialias == antialias


def test_averaged_generators_are_written(torch, tmp_path):
    model = CycleGAN(Config.preset("tiny", ema_decay=0.9))
    for average in model.averages.values():
        average.set_weights([array + 1 for array in average.get_weights()])
    write_run(tmp_path, model)
    pytorch_run.convert_to_pytorch(str(tmp_path), str(tmp_path / "pth"))
    for net, name in NETWORKS.items():
        written = torch_files.read(tmp_path / "pth" / f"latest_net_{net}.pth")
        network = pytorch_weights.infer_architecture(written)
        kind = "average" if net.startswith("G") else "network"
        assert_same(pytorch_weights.to_keras(written, network), weights(newest(tmp_path), name, kind))


def test_a_checkpoint_file_is_written(torch, tmp_path):
    best, newest = CycleGAN(Config.preset("tiny")), CycleGAN(Config.preset("tiny"))
    write_run(tmp_path, newest)
    arrays = model_state.collect_state(best, model_state.Progress(3))
    path = checkpoints.write(str(tmp_path / "checkpoints"), arrays, keep=1, file_name=checkpoints.BEST)
    pytorch_run.convert_to_pytorch(path, str(tmp_path / "pth"))
    written = torch_files.read(tmp_path / "pth" / "latest_net_G_A.pth")
    network = pytorch_weights.infer_architecture(written)
    assert_same(pytorch_weights.to_keras(written, network), weights(arrays, "gen_ab"))


def test_a_pix2pix_run_gives_one_generator_and_a_discriminator_of_pairs(torch, tmp_path):
    write_run(tmp_path, Pix2Pix(Config.preset("tiny", model="pix2pix")))
    pytorch_run.convert_to_pytorch(str(tmp_path), str(tmp_path / "pth"))
    assert sorted(os.listdir(tmp_path / "pth")) == ["latest_net_D.pth", "latest_net_G.pth"]
    written = torch_files.read(tmp_path / "pth" / "latest_net_D.pth")
    network = pytorch_weights.infer_architecture(written)
    assert network["input_channels"] == 6
    assert_same(pytorch_weights.to_keras(written, network), weights(newest(tmp_path), "disc_b"))


def test_the_files_of_a_pix2pix_run_become_a_pix2pix_run(torch, no_export, tmp_path):
    write_run(tmp_path, Pix2Pix(Config.preset("tiny", model="pix2pix")))
    pytorch_run.convert_to_pytorch(str(tmp_path), str(tmp_path / "pth"))
    pytorch_run.convert_from_pytorch([str(tmp_path / "pth")], str(tmp_path / "again"))
    assert Config.load(str(tmp_path / "again")).model == "pix2pix"
    for name in ("gen_ab", "disc_b"):
        assert_same(weights(newest(tmp_path / "again"), name), weights(newest(tmp_path), name))


@pytest.mark.parametrize("output_channels", [3, 1])
def test_a_generator_and_a_discriminator_of_its_translations_become_a_cyclegan_run(
    torch, no_export, tmp_path, output_channels
):
    config = Config.preset("tiny", output_channels=output_channels, lambda_identity=0.0)
    write_run(tmp_path, CycleGAN(config))
    pytorch_run.convert_to_pytorch(str(tmp_path), str(tmp_path / "pth"))
    for net in "GD":
        (tmp_path / "pth" / f"latest_net_{net}_A.pth").rename(tmp_path / f"latest_net_{net}.pth")
    pytorch_run.convert_from_pytorch([str(tmp_path)], str(tmp_path / "again"))
    converted = Config.load(str(tmp_path / "again"))
    assert (converted.model, converted.output_channels) == ("cyclegan", output_channels)


def test_a_network_that_the_authors_cyclegan_lacks_is_named(torch, tmp_path, caplog):
    write_run(tmp_path, Cut(Config.preset("tiny", model="cut", nce_features=4)))
    pytorch_run.convert_to_pytorch(str(tmp_path), str(tmp_path / "pth"))
    assert sorted(os.listdir(tmp_path / "pth")) == ["latest_net_D.pth", "latest_net_G.pth"]
    assert "left out features, because the authors' code of CycleGAN has no such network" in caplog.messages


def test_help_shows_the_flags_and_starts_nothing_heavy():
    child = run_convert("--help")
    assert "cyclegan convert --from_pytorch=checkpoints/horse2zebra_cyclegan" in child.stdout
    for flag in ("from_pytorch", "output", "network", "padding", "[no]dropout", "to_pytorch", "model"):
        assert f"--{flag}:" in child.stdout, flag
    code = "import sys, cyclegan_tf.convert; sys.exit(bool({'tensorflow', 'torch'} & set(sys.modules)))"
    assert run_python("-c", code).returncode == 0


@pytest.mark.parametrize(("arguments", "message"), [
    ([], "error: give --from_pytorch=FILES and --output=DIR, or --to_pytorch=DIR and --model=RUN"),
    (["--from_pytorch=a", "--to_pytorch=b"], "error: give --from_pytorch=FILES and --output=DIR, or"),
    (["--from_pytorch=a"], "error: --output is missing; give --output=DIR, the run directory that --from_py"),
    (["--to_pytorch=a"], "error: --model is missing; give --model=RUN, the run directory that --to_pytorch converts"),
    (["--to_pytorch=a", "--model=b", "--padding=zero"],
     "error: --padding works only with --from_pytorch; leave --padding out"),
    (["--to_pytorch=a", "--model=b", "--nodropout"],
     "error: --dropout works only with --from_pytorch; leave --dropout out"),
    (["--from_pytorch=a", "--output=b", "--model=c"], "error: --model works only with --to_pytorch; leave --model out"),
    ([f"--from_pytorch={__file__}", "--output=/no/such/folder"], f"error: {__file__}: the name does not say which"),
    (["--from_pytorch=x.pth", "--output=/no/such/folder"], "error: x.pth does not exist; give .pth files, or one"),
    (["--from_pytorch=checkpoints/x", "--output=/no/such/folder"], "error: checkpoints/x does not exist; give .pth"),
])
def test_mistakes_on_the_command_line_are_one_line_and_status_2(run_command, arguments, message):
    child = run_command("cyclegan_tf.convert", *arguments)
    assert child.returncode == 2
    assert child.stderr.strip().splitlines()[-1].startswith(message)
    assert "Traceback" not in child.stderr


def test_overridable_options_are_options():
    described = {*architectures.list_options("gen_ab"), *architectures.list_options("disc_a")}
    assert {*convert._OVERRIDABLE, *architectures.SHAPE_OPTIONS} <= described
    assert described <= {field.name for field in dataclasses.fields(Config)}

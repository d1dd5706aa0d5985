"""pix2pix against the numbers of the authors' code, and its pairs of images."""

import golden
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from cyclegan_tf.config import Config
from cyclegan_tf.data import pipeline, sources
from cyclegan_tf.errors import UserError
from cyclegan_tf.models.pix2pix import Pix2Pix
from cyclegan_tf.networks import weights as weights_lib
from cyclegan_tf.networks.weights import name_weights
from cyclegan_tf.pytorch import weights as pytorch_weights
from cyclegan_tf.runs.metrics_log import FINAL, FINAL_OF_TRAINING, read_records
from cyclegan_tf.training import trainer

CASE = "train/pix2pix_vanilla.npz"
NETS = {"G": "gen_ab", "D": "disc_b"}
CONFIG = Config(
    model="pix2pix", generator="unet", n_downs=5, ngf=3, ndf=4, norm="batch", gan_mode="vanilla", preprocess="crop",
    crop_size=32, pool_size=0,
)


class RecordingOptimizer:
    """Applies gradients by another optimizer, and records them."""

    def __init__(self, optimizer):
        self._optimizer = optimizer
        self.gradients = None

    def apply_gradients(self, gradients):
        self.gradients = gradients
        self._optimizer.apply_gradients(gradients)


@pytest.fixture(scope="module")
def case():
    return golden.Golden(CASE)


@pytest.fixture(scope="module")
def run(case):
    """The model after the two recorded steps, its scalars at each, and the gradients of the first."""
    model = Pix2Pix(CONFIG)
    for net, name in NETS.items():
        arrays = pytorch_weights.to_keras(case.group(f"init/{net}"), golden.training_options(case.info["config"], net))
        weights_lib.load(model.networks[name], arrays, net)
    model.optimizers = {name: RecordingOptimizer(optimizer) for name, optimizer in model.optimizers.items()}
    model.compiled_step = model.step  # So that the gradients are arrays.
    scalars, gradients = [], None
    for step in range(2):
        batch = (golden.nhwc(case[domain][step]) for domain in ("real_A", "real_B"))
        scalars.append({name: float(value) for name, value in model.train_step(*batch).items()})
        if gradients is None:
            gradients = {
                name: dict(zip(trainable_names(model.networks[name]), optimizer.gradients, strict=True))
                for name, optimizer in model.optimizers.items()
            }
    return model, scalars, gradients


def trainable_names(network):
    """The names of the trainable weights in the order of `trainable_variables`."""
    names = {id(variable): name for name, variable in name_weights(network).items()}
    return [names[id(variable)] for variable in network.trainable_variables]


def expected(case, group, net):
    return pytorch_weights.to_keras(
        {**case.group(f"init/{net}"), **case.group(f"{group}/{net}")}, golden.training_options(case.info["config"], net)
    )


def test_losses_match_the_authors(case, run):
    _, scalars, _ = run
    columns = {name: index for index, name in enumerate(case["loss_names"])}
    tolerances = case.info["tolerances"]["if_yours_runs_in_float32"]["losses_max_abs_by_step"]
    for step, tolerance in enumerate(tolerances):
        for theirs, ours in (("G_GAN", "gen_ab"), ("G_L1", "l1"), ("G", "generators"), ("D", "disc_b")):
            assert abs(scalars[step][f"loss/{ours}"] - case["losses"][step][columns[theirs]]) <= tolerance, (step, ours)


def test_first_gradients_match_the_authors(case, run):
    relative = case.info["tolerances"]["if_yours_runs_in_float32"]["grad1_max_abs_relative_to_max_of_tensor"]
    for net, name in NETS.items():
        wanted = expected(case, "grad1", net)
        for weight, gradient in run[2][name].items():
            bound = relative * np.abs(wanted[weight]).max()
            np.testing.assert_allclose(gradient, wanted[weight], rtol=0, atol=bound, err_msg=f"{name} {weight}")


def test_scores_are_the_discriminators_means_before_its_update():
    model = Pix2Pix(Config.preset("tiny", model="pix2pix", pool_size=0, discriminator="pixel"))
    random = np.random.default_rng(2)
    for network in model.networks.values():  # Small random weights would often score both images alike.
        network.set_weights([random.normal(0, 0.3, weight.shape) for weight in network.get_weights()])
    real_a, real_b = (np.random.default_rng(seed).uniform(-1, 1, (1, 32, 32, 3)).astype(np.float32) for seed in (0, 1))
    fake_b = model.networks["gen_ab"](real_a, training=True)
    real, fake = (
        np.mean(model.networks["disc_b"](np.concatenate([real_a, image], axis=-1), training=True))
        for image in (real_b, fake_b)
    )
    assert abs(real - fake) > 1e-4
    model.compiled_step = model.step
    scalars = model.train_step(real_a, real_b)
    np.testing.assert_allclose([scalars["score/real_b"], scalars["score/fake_b"]], [real, fake], rtol=0, atol=1e-6)


@pytest.mark.parametrize("net", sorted(NETS))
def test_weights_match_the_authors_after_both_steps(case, run, net):
    rule = case.info["tolerances"]["if_yours_runs_in_float32"]["step2"]
    wanted, network = expected(case, "step2", net), run[0].networks[NETS[net]]
    trainable = set(trainable_names(network))
    off = []
    for name, weight in name_weights(network).items():
        difference = np.abs(np.asarray(weight) - wanted[name])
        if name in trainable:
            off.append(difference.ravel())
        else:
            # Running statistics, with the tolerance that the manifest gives for them.
            assert (difference <= 1e-4 + 1e-3 * np.abs(wanted[name])).all(), name
    off = np.concatenate(off)
    allowed = max(rule["share_of_elements_over_threshold"] * off.size, rule["or_this_number_of_elements"])
    assert (off > rule["element_threshold"]).sum() <= allowed
    assert off.mean() <= rule["mean_abs"]
    assert off.max() <= rule["max_abs"]


def test_translation_matches_the_authors_after_both_steps(case, run):
    image = golden.nhwc(case["real_A"][0])
    case.assert_close(golden.nchw(run[0].networks["gen_ab"](image, training=False)), "after_last/fake_B_eval")


def write_pairs(folder, count, size=32):
    folder.mkdir(parents=True)
    for index in range(count):
        pixels = np.random.default_rng(index).integers(0, 256, (size, 2 * size, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")


def test_the_generator_has_a_moving_average():
    model = Pix2Pix(Config.preset("tiny", model="pix2pix", dataset="demo_pairs", ema_decay=0.9, norm="batch"))
    before = model.networks["gen_ab"].get_weights()
    images = np.random.default_rng(0).uniform(-1, 1, (2, 1, 32, 32, 3)).astype(np.float32)
    model.train_step(*map(tf.constant, images))
    after = model.networks["gen_ab"].get_weights()
    for average, old, new in zip(model.averages["gen_ab"].get_weights(), before, after, strict=True):
        # The decay of the first step is (1 + 1) / (10 + 1).
        np.testing.assert_allclose(average, (2 * old + 9 * new) / 11, rtol=1e-5, atol=1e-7)
    assert any((old != new).any() for old, new in zip(before, after, strict=True))


def test_images_side_by_side_train_to_an_export(tmp_path):
    write_pairs(tmp_path / "set" / "train", 3)
    write_pairs(tmp_path / "set" / "val", 2)
    config = Config.preset("tiny", model="pix2pix", dataset=str(tmp_path / "set"), preprocess="crop", max_steps=2)
    measures = trainer.train(config, str(tmp_path / "run"))
    assert set(measures) == {"psnr_ab", "ssim_ab"}
    assert {"loss/l1", "loss/gen_ab", "loss/disc_b"} <= read_records(tmp_path / "run")[0].keys()
    assert [path.name for path in (tmp_path / "run" / "export").iterdir()] == ["a2b"]


def test_training_pairs_replace_missing_held_out_pairs(tmp_path):
    write_pairs(tmp_path / "set" / "train", 3)
    config = Config.preset("tiny", model="pix2pix", dataset=str(tmp_path / "set"), preprocess="crop", max_steps=2)
    measures = trainer.train(config, str(tmp_path / "run"))
    assert set(measures) == {"psnr_ab", "ssim_ab"}
    kinds = {record["kind"] for record in read_records(tmp_path / "run")}
    assert FINAL_OF_TRAINING in kinds and FINAL not in kinds


def test_halves_of_a_file_stay_together(tmp_path):
    folder = tmp_path / "train"
    folder.mkdir()
    for index in range(5):
        left = np.random.default_rng(index).integers(0, 120, (20, 24, 3), np.uint8)
        Image.fromarray(np.concatenate([left, left + 100], axis=1)).save(folder / f"{index}.png")
    config = Config(model="pix2pix", preprocess="crop", crop_size=16)
    stream, _ = pipeline.make_batches(sources.open_folder(tmp_path), config, 0, 20)
    for a, b in stream.as_numpy_iterator():
        # The same image, crop and flip: B is A plus 100 levels everywhere.
        np.testing.assert_allclose(b - a, 100 / 127.5, atol=1e-6)


def test_folders_with_unequal_names_are_refused(tmp_path, make_images):
    make_images(tmp_path / "trainA", 2)
    make_images(tmp_path / "trainB", 3)
    message = r"--model=pix2pix trains on pairs, but .*trainB/002\.png has no counterpart .*trainA"
    with pytest.raises(UserError, match=message):
        trainer.train(Config.preset("tiny", model="pix2pix", dataset=str(tmp_path)), str(tmp_path / "run"))


def test_bad_image_excludes_its_pair(tmp_path):
    for split, offset in (("trainA", 0), ("trainB", 100)):
        (tmp_path / split).mkdir()
        for index in range(4):
            Image.fromarray(np.full((16, 16, 3), offset + index, np.uint8)).save(tmp_path / split / f"{index}.png")
    (tmp_path / "trainA" / "1.png").write_bytes(b"")
    Image.new("RGB", (16, 20)).save(tmp_path / "trainB" / "3.png")
    dataset = sources.open_folder(tmp_path)
    config = Config(model="pix2pix", preprocess="crop", crop_size=16)
    stream, _ = pipeline.make_batches(dataset, config, 0, 8)
    drawn = [tuple(np.rint((image[0, 0, 0, 0] + 1) * 127.5) for image in pair) for pair in stream.as_numpy_iterator()]
    assert set(drawn) == {(0, 100), (2, 102)}
    assert "1.png" in next(iter(dataset.train_a.bad.reasons))
    assert list(dataset.train_b.bad.reasons.values()) == [
        "not a pair: 16 x 20 pixels, 16 x 16 in the other domain"
    ]

"""Tiny runs from start to end: outputs, cadences, non-finite losses, rollbacks and resuming."""

import dataclasses
import itertools
import re
import shutil

import numpy as np
import pytest
import tensorflow as tf
from conftest import skip_outputs
from PIL import Image

from cyclegan_tf.config import Config
from cyclegan_tf.data import pipeline, sources
from cyclegan_tf.errors import UserError
from cyclegan_tf.exporters import saved_model
from cyclegan_tf.models.cyclegan import CycleGAN
from cyclegan_tf.ops import hardware
from cyclegan_tf.runs import checkpoints, model_state
from cyclegan_tf.runs.metrics_log import read_records
from cyclegan_tf.training import evaluator, loop, outputs, progress, trainer, workers
from cyclegan_tf.training.progress import Pace

# A small graph, which is traced faster.
SMALL = {"discriminator": "pixel", "lambda_identity": 0.0, "generator_loss": "separate"}


def newest(workdir):
    return checkpoints.read(checkpoints.list_files(str(workdir / "checkpoints"))[0][1])


def test_a_run_writes_its_outputs(tiny_run):
    assert Config.load(str(tiny_run)) == Config.preset("tiny")
    assert [path.name for path in sorted((tiny_run / "samples").iterdir())] == [
        "step-000000.png", "step-000002.png", "step-000004.png",
    ]
    assert [step for step, _ in checkpoints.list_files(str(tiny_run / "checkpoints"))] == [4, 2]
    assert (tiny_run / "export" / "a2b" / "saved_model.pb").exists()
    assert (tiny_run / "export" / "b2a" / "saved_model.pb").exists()
    assert "held-out images: psnr_ab" in (tiny_run / "log.txt").read_text()
    # 2 rows; A and B, each real, translated and cycled: 6 columns of 32 px shown four times as large, in 2 groups.
    assert Image.open(tiny_run / "samples" / "step-000004.png").size == (6 * 132 + 20, 26 + 20 + 22 + 2 * 132)


def test_metrics_have_the_losses_of_each_step_and_the_measures(tiny_run):
    *steps, counts, baselines, last = read_records(tiny_run)
    assert [(record["step"], record["kind"]) for record in steps] == [(step, "train") for step in (1, 2, 3, 4)]
    losses = {"gen_ab", "gen_ba", "cycle_a", "cycle_b", "identity_a", "identity_b", "generators", "disc_a", "disc_b"}
    assert {name.removeprefix("loss/") for name in steps[0] if name.startswith("loss/")} == losses
    assert {"grad_norm/gen_ab", "score/real_a", "learning_rate"} <= steps[0].keys()
    # max_steps=4 in the default proportion 100:100 means 2 steps at the full rate, then 1 - 1/3 and 1 - 2/3 of it.
    rates = [record["learning_rate"] for record in steps]
    np.testing.assert_allclose(rates, [2e-4, 2e-4, 2e-4 * 2 / 3, 2e-4 / 3])
    assert (baselines["kind"], last["kind"]) == ("baselines", "test")
    assert {"psnr_ab", "ssim_ab", "psnr_ba", "ssim_ba"} <= last.keys()
    assert counts == {"step": 4, "kind": "final_counts"} | dict.fromkeys(last.keys() - {"step", "kind"}, 51)


def test_a_step_builds_no_config(tmp_path, monkeypatch):
    # Validating a Config takes some tenths of a millisecond. The advice for exhausted memory validates two.
    skip_outputs(monkeypatch)
    built = []
    validate = Config.__post_init__

    def count(config):
        built.append(config)
        validate(config)

    monkeypatch.setattr(Config, "__post_init__", count)
    counts = {}
    config = Config.preset("tiny", max_steps=5, **SMALL)
    trainer.train(config, str(tmp_path), callbacks=[lambda step, scalars: counts.setdefault(step, len(built))])
    assert counts[1] > 0
    assert counts[5] == counts[1]


def check_epoch_means(records):
    """Asserts that each epoch record has the means over the steps of its epoch; returns the epoch records."""
    epochs, sums = [], []
    for record in records:
        if record["kind"] == "train":
            sums.append(record["grad_norm/disc_b"])
        elif record["kind"] == "epoch":
            np.testing.assert_allclose(record["grad_norm/disc_b"], np.mean(sums), rtol=1e-6)
            epochs, sums = [*epochs, record], []
    return epochs


def test_epochs_set_means_outputs_and_learning_rate(tmp_path, make_images, monkeypatch):
    monkeypatch.setattr(saved_model, "export", lambda *arguments: [])  # It takes longer than the steps.
    make_images(tmp_path / "set" / "trainA", 2, size=(32, 32))
    make_images(tmp_path / "set" / "trainB", 3, size=(32, 32))
    config = Config.preset(
        "tiny", dataset=str(tmp_path / "set"), max_steps=0, n_epochs=1, n_epochs_decay=2, sample_every=0,
        sample_epochs=2, checkpoint_every=0, checkpoint_epochs=1, keep_checkpoints=2, **SMALL,
    )
    measures = trainer.train(config, str(tmp_path / "run"))
    assert set(measures) == {"cycle_a", "cycle_b"}
    # There are no held-out images, and nothing says that there are.
    assert read_records(tmp_path / "run")[-1] == {"step": 9, "kind": "final_training_images", **measures}
    text = (tmp_path / "run" / "log.txt").read_text()
    assert f"no held-out images in {tmp_path}/set/testA and {tmp_path}/set/testB: samples and measures use" in text
    assert "training images: cycle_a" in text
    assert "held-out images:" not in text
    page = (tmp_path / "run" / "index.html").read_text()
    assert "<h2>Training images</h2>" in page
    assert "<h2>Measures on training images, after step 9</h2>" in page
    assert "held-out" not in page.lower()
    # Samples at the beginning, after two epochs and at the end; of the checkpoints of each epoch the last two.
    samples = [path.stem for path in sorted((tmp_path / "run" / "samples").iterdir())]
    assert samples == ["step-000000", "step-000006", "step-000009"]
    assert [step for step, _ in checkpoints.list_files(str(tmp_path / "run" / "checkpoints"))] == [9, 6]
    records = read_records(tmp_path / "run")
    steps = [record for record in records if record["kind"] == "train"]
    # An epoch is a pass over the larger domain: 3 steps. By hand, the factors are 1, 1 - 1/3, 1 - 2/3.
    np.testing.assert_allclose([r["learning_rate"] / 2e-4 for r in steps], [1] * 3 + [2 / 3] * 3 + [1 / 3] * 3)
    assert [(record["step"], record["epoch"]) for record in check_epoch_means(records)] == [(3, 1), (6, 2), (9, 3)]


def test_a_nonfinite_loss_stops_the_run_and_saves_the_batch(tmp_path):
    config = Config.preset("tiny", learning_rate=1e30, max_steps=50, checkpoint_every=1, **SMALL)
    message = r"step \d+: values are not finite \(.*loss/generators.*\); the batch is in .*on_nonfinite=rollback"
    with pytest.raises(UserError, match=message) as caught:
        trainer.train(config, str(tmp_path))
    step = int(str(caught.value).split(":")[0].removeprefix("step "))
    batch = np.load(tmp_path / f"not-finite-step-{step:06d}.npz")
    assert batch["a"].shape == batch["b"].shape == (1, 32, 32, 3)
    assert newest(tmp_path)["step"] == step - 1


@pytest.fixture
def poisoned(monkeypatch):
    """Function that makes the loss NaN in the given calls of the step, from 1; returns a list that gets all batches."""
    skip_outputs(monkeypatch)
    build = CycleGAN.__init__

    def untraced(self, *arguments):
        build(self, *arguments)
        self.compiled_step = self.step

    monkeypatch.setattr(CycleGAN, "__init__", untraced)

    def poison(bad):
        seen, step = [], CycleGAN.step

        def poisoned_step(self, real_a, real_b, past):
            number = tf.numpy_function(lambda a: [seen.append(a), float(len(seen) in bad)][1], [real_a], tf.float64)
            scalars, fakes = step(self, real_a, real_b, past)
            poisoned = scalars["loss/generators"] + tf.where(number > 0, np.nan, 0.0)
            return scalars | {"loss/generators": poisoned}, fakes

        monkeypatch.setattr(CycleGAN, "step", poisoned_step)
        return seen

    return poison


def positions(seen, config):
    """Finds the position of each batch in the data stream."""
    stream, _ = pipeline.make_batches(sources.open_dataset(config), config, 0, 12)
    images = [a.numpy().tobytes() for a, _ in stream]
    assert len(set(images)) == 12
    return [images.index(batch.tobytes()) for batch in seen]


def test_rollback_restores_the_checkpoint_and_skips_the_batch(tmp_path, poisoned):
    config = Config.preset("tiny", max_steps=6, checkpoint_every=2, on_nonfinite="rollback", sample_every=0, **SMALL)
    seen = poisoned({4, 7})
    trainer.train(config, str(tmp_path))
    # By hand: batch 3 fails in step 4, so the run returns to step 2 and resumes with batch 4. The seventh call is step
    # 5 with batch 6; its loss is read when step 6 is queued with batch 7. The run returns to step 4 and resumes with
    # batch 7.
    assert positions(seen, config) == [0, 1, 2, 3, 4, 5, 6, 7, 7, 8]
    records = [record for record in read_records(tmp_path) if record["kind"] == "train"]
    assert [record["step"] for record in records] == [1, 2, 3, 4, 5, 6]
    assert all(np.isfinite(record["loss/generators"]) for record in records)
    last = newest(tmp_path)
    assert (last["step"], last["skipped"]) == (6, 3)
    assert all(np.all(np.isfinite(array)) for array in last.values())
    text = (tmp_path / "log.txt").read_text()
    assert "step 4: values are not finite (loss/generators)" in text
    assert re.search(r"the batch is in \S+; rolled back to step 2, resuming with the data after that batch", text)
    # Resumed with more steps, the run still skips the same data.
    seen.clear()
    trainer.train(dataclasses.replace(config, max_steps=7), str(tmp_path))
    assert positions(seen, config) == [9]


def test_rollback_keeps_the_learning_rate_and_drops_the_losses_of_failed_steps(tmp_path, poisoned, monkeypatch):
    poisoned({4})
    step, rates, compared = CycleGAN.step, [], []
    monkeypatch.setattr(workers.Workers, "require_equal", lambda self, values: compared.append(values))

    def recorded_step(self, *arguments):
        rates.append(float(self.optimizers["gen_ab"].learning_rate))
        return step(self, *arguments)

    monkeypatch.setattr(CycleGAN, "step", recorded_step)
    trainer.train(Config.preset(
        "tiny", max_dataset_size=2, max_steps=0, n_epochs=1, n_epochs_decay=2, checkpoint_every=2,
        on_nonfinite="rollback", sample_every=0, **SMALL,
    ), str(tmp_path))
    # The workers compare the first step, then the step after the rollback.
    assert [values["the step of the newest checkpoint"] for values in compared] == [0, 2]
    # Epochs of 2 steps, with the factors 1, 2/3 and 1/3. Step 4 fails; after the checkpoint of the first epoch, steps 3
    # and 4 are trained again.
    np.testing.assert_allclose(np.array(rates) / 2e-4, [1, 1, 2 / 3, 2 / 3, 2 / 3, 2 / 3, 1 / 3, 1 / 3], rtol=1e-6)
    assert [record["step"] for record in check_epoch_means(read_records(tmp_path))] == [2, 4, 6]


def test_idle_options_are_warnings(tmp_path, caplog):
    config = Config.preset("tiny", generator="unet", n_downs=5, dropout=True, dataset=str(tmp_path / "missing"))
    with pytest.raises(UserError, match="missing"):  # Later than the warning.
        trainer.train(config, str(tmp_path / "run"))
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warnings[0] == "--n_blocks=1 has no effect on --generator=unet"
    assert warnings[1].startswith("--dropout has no effect on --generator=unet with --n_downs=5, because")


def test_rollbacks_are_limited(tmp_path, poisoned):
    config = Config.preset("tiny", max_steps=6, checkpoint_every=2, on_nonfinite="rollback", sample_every=0, **SMALL)
    poisoned(range(3, 100))
    with pytest.raises(UserError, match="5 rollbacks to step 2 did not help; start a new run with a lower --learning_"):
        trainer.train(config, str(tmp_path))
    assert (tmp_path / "log.txt").read_text().count("rolled back to step 2, resuming") == 5
    last = newest(tmp_path)
    # Array 0 of an optimizer counts the updates of the weights. Each rollback skips a batch, also after a restart.
    assert (last["step"], last["optimizer/gen_ab/0"], last["skipped"]) == (2, 2, 5)
    with pytest.raises(UserError, match="there is no checkpoint to roll back to yet; start a new run with a lower"):
        poisoned(range(1, 100))
        trainer.train(config, str(tmp_path / "other"))


def test_rollbacks_to_different_checkpoints_are_not_limited(tmp_path, poisoned, caplog):
    poisoned(range(2, 14, 2))  # Each of the steps 2 to 7 fails once.
    trainer.train(Config.preset(
        "tiny", max_steps=7, checkpoint_every=1, on_nonfinite="rollback", sample_every=0, **SMALL
    ), str(tmp_path))
    assert (newest(tmp_path)["step"], newest(tmp_path)["skipped"]) == (7, 6)
    # An exception among the arguments would keep its traceback, and so the tensors of the failed step.
    assert not [record for record in caplog.records for each in record.args if isinstance(each, Exception)]


@pytest.mark.parametrize(("value", "best"), [(5.0, 9.0), (9.0, 9.0), (10.0, 10.0)])
def test_restart_keeps_the_better_checkpoint(value, best, tmp_path, monkeypatch):
    values = iter([1.0, 2.0, 3.0, 9.0, value])  # Of steps 1 to 4, then again of step 4.
    monkeypatch.setattr(evaluator.Evaluator, "__call__", lambda self, translators: {"psnr_ab": next(values)})
    config = Config.preset("tiny", max_steps=4, checkpoint_every=3, sample_every=0, eval_every=1, keep_best="psnr_ab",
                           **SMALL)
    trainer.train(config, str(tmp_path))
    (tmp_path / "checkpoints" / "step-00000004.npz").unlink()  # As if the run had been killed after step 4.
    trainer.train(config, str(tmp_path))
    assert checkpoints.read(tmp_path / "checkpoints" / "best.npz")["best"] == best
    assert (newest(tmp_path)["best"], newest(tmp_path)["stale"]) == (value, 0)


@pytest.mark.parametrize("first", [[2.0, 1.0, 3.0], [3.0, 2.0, 1.0]], ids=["improving", "stale"])
def test_rollback_repeats_measures_and_keeps_the_best_checkpoint(first, tmp_path, poisoned, monkeypatch):
    # Step 6 fails once: steps 1 to 5, then again 4, 5 and 6. The checkpoint of step 3 has the best value 3 and none or
    # two stale measurements; at the failure, the best value is 9. The stale measurements since then come from the
    # repeated steps 4, 5 and 6.
    values = iter([*first, 9.0, 8.0, 5.0, 6.0, 7.0])
    monkeypatch.setattr(evaluator.Evaluator, "__call__", lambda self, translators: {"psnr_ab": next(values)})
    poisoned({6})
    trainer.train(Config.preset(
        "tiny", max_steps=6, checkpoint_every=3, on_nonfinite="rollback", sample_every=0, eval_every=1,
        keep_best="psnr_ab", **SMALL,
    ), str(tmp_path))
    records = read_records(tmp_path)
    measured = [(record["step"], record["psnr_ab"]) for record in records if record["kind"] in ("eval", "test")]
    assert measured == [*enumerate(first, 1), (4, 5.0), (5, 6.0), (6, 7.0), (6, 7.0)]
    assert (newest(tmp_path)["best"], newest(tmp_path)["stale"]) == (9.0, 3)
    best = checkpoints.read(tmp_path / "checkpoints" / "best.npz")
    assert best["step"] == best["optimizer/gen_ab/0"] == 4


def test_a_loss_that_is_not_finite_stops_the_run_at_its_step(tmp_path):
    images = {domain: np.random.default_rng(index).uniform(-1, 1, (1, 40, 40, 3)).astype(np.float32)
              for index, domain in enumerate("ab")}
    # The first update overflows all weights.
    config = Config.preset("tiny", preprocess="crop", crop_size=40, flip=False, checkpoint_every=1, learning_rate=1e30,
                           **SMALL)
    with pytest.raises(UserError, match=r"^step 2: values are not finite \(loss/gen_ab"):
        trainer.train(config, str(tmp_path), given=(images["a"], images["b"]))
    with np.load(tmp_path / "not-finite-step-000002.npz") as batch:
        for domain, image in images.items():
            np.testing.assert_array_equal(batch[domain], image)
    assert [step for step, _ in checkpoints.list_files(str(tmp_path / "checkpoints"))] == [1]


def test_a_half_precision_run_exports_its_last_weights(tmp_path, monkeypatch):
    skip_outputs(monkeypatch)
    exported = {}

    def export(translators, folder):
        exported.update({name: translator.generator.get_weights() for name, translator in translators.items()})
        return []

    monkeypatch.setattr(saved_model, "export", export)
    trainer.train(Config.preset("tiny", mixed_precision="bfloat16", max_steps=2, **SMALL), str(tmp_path))
    trained = model_state.get_network_weights(newest(tmp_path))
    for direction, name in (("a2b", "gen_ab"), ("b2a", "gen_ba")):
        for ours, theirs in zip(exported[direction], trained[name].values(), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_a_resumed_run_reports_its_own_speed_and_draws_no_first_samples(tmp_path, monkeypatch):
    skip_outputs(monkeypatch)
    ticks, speeds, samples = itertools.count(), [], []
    # The clock advances by a second whenever it is read: at the end of a step, and at both ends of the pause after it.
    monkeypatch.setattr(progress, "Pace", lambda images: Pace(images, lambda: next(ticks)))
    monkeypatch.setattr(outputs.RunOutputs, "record_step", lambda self, step, scalars, rate, speed: speeds.append(
        (step, speed)
    ))
    monkeypatch.setattr(outputs.RunOutputs, "write_samples", lambda self, step: samples.append(step))
    options = {"batch_size": 6, "log_every": 2, "sample_every": 0, "checkpoint_every": 0, **SMALL}
    for max_steps in (3, 6):
        trainer.train(Config.preset("tiny", max_steps=max_steps, **options), str(tmp_path))
    # A step takes 2 s without its pause. The speed of the first step of a process is unknown.
    assert speeds == [(2, 3.0), (3, 3.0), (4, None), (6, 3.0)]
    assert samples == [0, 3, 6]


def test_speed_of_a_short_run(tmp_path, monkeypatch):
    skip_outputs(monkeypatch)
    seconds, speeds, queue_step = [0.0], [], loop.TrainingLoop._queue_step

    def queue(self, step, batches, get_signal):  # A CPU computes a step, which takes a second, while it is queued.
        seconds[0] += 1
        return queue_step(self, step, batches, get_signal)

    monkeypatch.setattr(loop.TrainingLoop, "_queue_step", queue)
    monkeypatch.setattr(progress, "Pace", lambda images: Pace(images, lambda: seconds[0]))
    monkeypatch.setattr(outputs.RunOutputs, "record_step", lambda self, step, scalars, rate, speed: speeds.append(
        (step, speed)
    ))
    options = {"batch_size": 6, "log_every": 3, "sample_every": 0, "checkpoint_every": 0, **SMALL}
    for max_steps in (3, 6):
        trainer.train(Config.preset("tiny", max_steps=max_steps, **options), str(tmp_path))
    assert speeds == [(3, 6.0), (6, 6.0)]


def test_a_gradient_penalty_on_images_of_different_sizes_is_an_error(tmp_path):
    random = np.random.default_rng(0)
    # The sizes of the first three steps, whose graphs are traced: equal within a step.
    sizes = [(32, 32), (36, 32), (40, 32), (32, 40)]
    images = [random.uniform(-1, 1, (*size, 3)).astype(np.float32) for size in sizes]
    others = [*images[:3], images[3].swapaxes(0, 1)]
    pairs = tf.data.Dataset.from_generator(
        lambda: zip(images, others, strict=True), output_signature=(tf.TensorSpec((None, None, 3)),) * 2
    )
    config = Config.preset("tiny", gan_mode="wgangp", preprocess="none", pool_size=0, flip=False)
    with pytest.raises(UserError, match="images of A have 40 x 32 pixels and images of B 32 x 40; use a --preprocess"):
        trainer.train(config, str(tmp_path), given=pairs)


def test_results_of_a_longer_run_keep_their_step(tiny_run, tmp_path):
    workdir = shutil.copytree(tiny_run, tmp_path / "run")
    trainer.train(Config.preset("tiny", max_steps=1), str(workdir))  # Removes the former results.
    assert [(each["kind"], each["step"]) for each in read_records(workdir)[-4:]] == [
        ("train", 4), ("final_counts", 4), ("baselines", 4), ("test", 4),
    ]


def test_the_log_of_a_run_names_the_gpus(tmp_path, monkeypatch):
    skip_outputs(monkeypatch)
    monkeypatch.setattr(hardware, "describe_gpus", lambda: "training on one GPU")
    trainer.train(Config.preset("tiny", max_steps=1, **SMALL), str(tmp_path))
    assert "training on one GPU" in (tmp_path / "log.txt").read_text()

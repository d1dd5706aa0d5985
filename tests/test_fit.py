"""Training from Python gives the same run as the command, on folders, arrays and tf.data; callbacks and interrupts."""

import contextlib
import errno
import importlib
import io
import itertools
import json
import logging
import os
import signal
import sys
import time
import types

import numpy as np
import pytest
import tensorflow as tf
from conftest import skip_outputs
from PIL import Image

import cyclegan_tf
from cyclegan_tf.config import Config
from cyclegan_tf.data import memory, pipeline, sources
from cyclegan_tf.data.dataset import ImageList
from cyclegan_tf.errors import Stopped, UserError
from cyclegan_tf.runs import checkpoints
from cyclegan_tf.runs.metrics_log import read_records
from cyclegan_tf.training import fitting, trainer, workers

pytestmark = pytest.mark.usefixtures("plugins")

TOY = {
    "plugins": "toy_package.networks,toy_package.objectives", "generator": "toy", "discriminator": "toy",
    "gan_mode": "toy_loss", "load_size": 18, "crop_size": 16,
}
RNG = np.random.default_rng(0)
A = RNG.integers(0, 256, (5, 20, 24, 3), np.uint8)
B = RNG.integers(0, 256, (3, 20, 20, 3), np.uint8)


def config(**options):
    return Config.preset("tiny", **{**TOY, **options})


def read_arrays(run):
    """The arrays of the newest checkpoint."""
    path = sorted((run / "checkpoints").glob("step-*.npz"))[-1]
    with np.load(path) as file:
        return dict(file)


def assert_equal_runs(one, other):
    left, right = read_arrays(one), read_arrays(other)
    assert left.keys() == right.keys()
    for name, array in left.items():
        np.testing.assert_array_equal(array, right[name], err_msg=name)


def test_fit_twice_in_one_process_trains_like_the_trainer(tmp_path, monkeypatch):
    skip_outputs(monkeypatch)
    for model in ("toy_model", "cyclegan"):
        options = config(model=model, max_steps=2, max_dataset_size=3)
        result = cyclegan_tf.fit(options, tmp_path / f"fit-{model}")
        assert result.workdir == str(tmp_path / f"fit-{model}")
        trainer.train(options, str(tmp_path / f"train-{model}"))
        assert_equal_runs(tmp_path / f"fit-{model}", tmp_path / f"train-{model}")


def test_result_has_the_final_measures_and_callbacks_get_the_records(tmp_path, monkeypatch):
    skip_outputs(monkeypatch)
    monkeypatch.setattr("cyclegan_tf.training.evaluator.Evaluator.__call__", lambda self, translators: {"psnr_ab": 7.0})
    seen = []
    options = config(max_steps=3, log_every=2, eval_every=2, max_dataset_size=3)
    result = cyclegan_tf.fit(options, tmp_path, callbacks=[lambda step, scalars: seen.append((step, scalars))])
    assert result.measures == {"psnr_ab": 7.0}
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    # Step 2: measures and losses. Step 3, the last: measures and losses, then the final measures.
    assert [(step, "psnr_ab" in scalars) for step, scalars in seen] == [
        (2, True), (2, False), (3, True), (3, False), (3, True)
    ]
    losses = {line["step"]: line for line in lines if "loss/gen_ab" in line and "epoch" not in line}
    for step, scalars in seen:
        if "psnr_ab" not in scalars:
            assert scalars.items() <= losses[step].items()
            assert "learning_rate" in scalars and "grad_norm/gen_ab" in scalars


def test_failed_callback_is_named_in_the_error(tmp_path, monkeypatch):
    skip_outputs(monkeypatch)

    def report(step, scalars):
        raise ConnectionError("no route to the tracker")

    with pytest.raises(UserError, match=r"^a callback failed: ConnectionError: no route to the tracker$") as raised:
        cyclegan_tf.fit(config(max_steps=2, max_dataset_size=2), tmp_path, callbacks=[report])
    assert isinstance(raised.value.__cause__, ConnectionError)


def test_a_checkpoint_that_cannot_be_written_ends_the_run_at_once(tmp_path, monkeypatch):
    skip_outputs(monkeypatch)
    steps = []

    def write(*arguments):
        raise OSError(errno.ENOSPC, "no space", "step.npz")

    monkeypatch.setattr(checkpoints, "write", write)
    options = config(max_steps=8, max_dataset_size=2, sample_every=0, checkpoint_every=4)
    with pytest.raises(UserError, match=r"cannot write step\.npz: the disk is full"):
        cyclegan_tf.fit(options, tmp_path, callbacks=[
            lambda step, scalars: [steps.append(step), time.sleep(0.1 if step == 5 else 0)]
        ])
    assert max(steps) in (4, 5)


def test_ctrl_c_saves_the_run_and_the_same_call_resumes_it(tmp_path, monkeypatch):
    skip_outputs(monkeypatch)
    options = config(max_steps=4, checkpoint_every=0, max_dataset_size=4)
    handlers = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]

    def interrupt(step, scalars):
        if step == 2:
            os.kill(os.getpid(), signal.SIGINT)

    saved, folder = [], tmp_path / "run" / "checkpoints"
    monkeypatch.setattr(workers.Workers, "barrier", lambda _: saved.append(os.listdir(folder)))
    with pytest.raises(KeyboardInterrupt, match=r"stopped by SIGINT after step [23]; start again to resume") as raised:
        cyclegan_tf.fit(options, tmp_path / "run", callbacks=[interrupt])
    assert saved in ([["step-00000002.npz"]], [["step-00000003.npz"]]), "workers wait for the checkpoint"
    assert raised.type is KeyboardInterrupt  # For a subclass, Python would not end the script by SIGINT.
    assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert read_arrays(tmp_path / "run")["step"] in (2, 3)
    cyclegan_tf.fit(options, tmp_path / "run")
    cyclegan_tf.fit(options, tmp_path / "undisturbed")
    assert_equal_runs(tmp_path / "run", tmp_path / "undisturbed")
    # The epoch of four steps ends after the interruption.
    epochs, expected = (
        [record for record in read_records(tmp_path / name) if record["kind"] == "epoch"]
        for name in ("run", "undisturbed")
    )
    assert epochs == expected and len(epochs) == 1


def test_second_ctrl_c_raises_at_once(tmp_path, monkeypatch):
    skip_outputs(monkeypatch)
    after = []

    def interrupt(step, scalars):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        after.append(step)  # Not reached.

    with pytest.raises(KeyboardInterrupt):
        cyclegan_tf.fit(config(max_steps=4, max_dataset_size=3, checkpoint_every=0), tmp_path, callbacks=[interrupt])
    assert not after
    assert not list((tmp_path / "checkpoints").glob("*.npz"))


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_other_signals_raise_stopped_after_the_queued_step(name, tmp_path, monkeypatch):
    skip_outputs(monkeypatch)
    options = config(max_steps=20, max_dataset_size=3, sample_every=0, checkpoint_every=0)
    with pytest.raises(KeyboardInterrupt, match=name) as raised:
        cyclegan_tf.fit(options, tmp_path, callbacks=[
            lambda step, scalars: os.kill(os.getpid(), getattr(signal, name)) if step == 3 else None
        ])
    assert raised.type is Stopped
    assert read_arrays(tmp_path)["step"] == 4


@pytest.mark.parametrize("error", [UserError("a mistake"), KeyError("a bug"), KeyboardInterrupt("a key")], ids=repr)
@pytest.mark.parametrize("place", ["callback", "image"])
def test_no_image_is_loaded_after_an_error(place, error, tmp_path, monkeypatch):
    skip_outputs(monkeypatch)
    loading, numbers, load = set(), itertools.count(), ImageList.load

    def load_slowly(self, *arguments):
        number = next(numbers)
        loading.add(number)
        if place == "image" and number == 10:
            raise error
        time.sleep(0.3 if number > 10 else 0)
        loading.remove(number)
        return load(self, *arguments)

    def fail_while_loading(step, scalars):
        if place == "callback" and loading:
            raise error

    monkeypatch.setattr(ImageList, "load", load_slowly)
    options = config(max_steps=20, sample_every=0, checkpoint_every=0, cache="off")
    with pytest.raises(BaseException) as raised:  # `raised` keeps the frames of the error.
        cyclegan_tf.fit(options, tmp_path, callbacks=[fail_while_loading])
    assert str(error) in str(raised.value)
    assert loading == ({10} if place == "image" else set())


def take(dataset, options, first, last, local=range(1), n_replicas=1):
    batches, loaders = pipeline.make_batches(dataset, options, first, last, local, n_replicas)
    taken = list(pipeline.read_batches(batches, loaders))
    assert len(taken) == (last - first) * len(local)
    return [tuple(np.asarray(x) for x in batch) for batch in taken]


@pytest.mark.parametrize("options", [{}, {"direction": "b2a"}, {"max_dataset_size": 2, "batch_size": 2}], ids=str)
@pytest.mark.parametrize("convert", [lambda x: x, list, lambda x: x / 127.5 - 1], ids=["array", "list", "float64"])
def test_arrays_train_like_the_same_images_in_a_folder(options, convert, tmp_path):
    for domain, images in ("trainA", A), ("trainB", B):
        (tmp_path / domain).mkdir()
        for index, image in enumerate(images):
            Image.fromarray(image).save(tmp_path / domain / f"{index}.png")
    options = config(**options, preprocess="crop")
    given = memory.open_given((convert(A), convert(B)), options)
    from_folder = sources.open_dataset(config(**{**vars(options), "dataset": str(tmp_path)}))
    found, expected = take(given, options, 3, 6), take(from_folder, options, 3, 6)
    for ours, theirs in zip(found, expected, strict=True):
        for image, other in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(image, other, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("photos", r"dataset is a str; give a pair .* A folder is an option: Config\(dataset=...\)"),
        ((A,), "dataset is a tuple; give a pair"),
        (("photos", B), r"the type str holds no images of A; give an array \(N, H, W, C\), or a sequence"),
        ((A, 5), "the type int holds no images of B; give an array"),
        ((A, B[:0]), "there are no images of B"),
        ((A, B[0]), r"an image of B has shape \(20, 3\); expected \(height, width, 3\)"),
        ((A[..., :1], B), r"an image of A has shape \(20, 24, 1\); expected \(height, width, 3\), or other values of"),
        ((A.astype(np.int64), B), "an image of A has dtype int64; expected uint8, uint16, or floats"),
        ((A, B.astype(np.float32)), r"an image of B cannot be used: the values are \d+ to \d+; floats must be in"),
        ((A, np.full((1, 9, 9, 3), np.nan)), "an image of B cannot be used: 243 of 243 values are NaN"),
        (tf.data.Dataset.from_tensor_slices(A), r"dataset yields TensorSpec.*; expected pairs \(A, B\)"),
        (tf.data.Dataset.from_tensor_slices(((A, [0] * 5), (A, [1] * 5))), "expected pairs .* without labels"),
        (tf.data.Dataset.from_tensor_slices((A[:3], B)).batch(2), r"not of batches: call its method unbatch\(\)"),
    ],
)
def test_wrong_data_are_refused_with_a_reason(given, message):
    with pytest.raises(UserError, match=message):
        memory.open_given(given, config())


def test_floats_without_negative_values_are_warned_about(caplog):
    memory.open_given((A / 255, B), config())
    assert "the images of A are floats without negative values" in caplog.text


def stream(images=A, endless=False):
    """Pairs (image, the same image mirrored)."""
    pairs = tf.data.Dataset.from_tensor_slices((images, images[:, :, ::-1]))
    return pairs.repeat() if endless else pairs


READY = {"preprocess": "crop", "flip": False, "crop_size": 16}


def test_stream_is_read_in_its_order_and_repeated():
    dataset = memory.open_given(stream(A[:, :16, :16]), config(**READY))
    assert dataset.count_images_per_epoch(config()) == 5
    for step, (a, b) in enumerate(take(dataset, config(**READY), 0, 7)):
        np.testing.assert_allclose(a[0], A[step % 5, :16, :16] / 127.5 - 1, atol=1e-6)
        np.testing.assert_allclose(b[0], a[0][:, ::-1])
    swapped = config(**READY, direction="b2a")
    (a, b), = take(memory.open_given(stream(A[:, :16, :16]), swapped), swapped, 0, 1)
    np.testing.assert_allclose(b[0], A[0, :16, :16] / 127.5 - 1, atol=1e-6)


@pytest.mark.parametrize(("n_samples", "count"), [(4, 8), (12, 12)])
def test_stream_keeps_images_for_all_rows_of_a_grid(n_samples, count):
    dataset = memory.open_given(stream(endless=True), config(max_steps=1, n_samples=n_samples))
    assert (len(dataset.train_a), len(dataset.train_b)) == (count, count)


@pytest.mark.parametrize("make", [
    stream, lambda: stream(endless=True), lambda: stream().shuffle(5, seed=3),
], ids=["finite", "endless", "another order in each pass"])
def test_stream_resumes_with_the_same_crops_and_flips(make):
    options = config(batch_size=2, max_steps=7)
    # Two data sets, as in two processes: a second pass over one shuffled data set would have a new order.
    whole = take(memory.open_given(make(), options), options, 0, 7)
    np.testing.assert_equal(take(memory.open_given(make(), options), options, 4, 7), whole[4:])


def test_images_that_a_stream_repeats_get_new_crops_and_flips():
    options = config(batch_size=2, max_steps=7)
    images = np.concatenate([a for a, _ in take(memory.open_given(stream(), options), options, 0, 7)])
    # The stream has five images.
    assert not np.array_equal(images[0], images[5]) or not np.array_equal(images[1], images[6])


def test_replicas_share_the_stream():
    dataset = memory.open_given(stream(), config())
    whole = take(dataset, config(batch_size=6), 1, 3)
    parts = [take(dataset, config(batch_size=2), 1, 3, local, 3) for local in (range(1), range(1, 3))]
    for step, (a, _) in enumerate(whole):
        joined = [parts[0][step], *parts[1][2 * step : 2 * step + 2]]
        np.testing.assert_array_equal(np.concatenate([images for images, _ in joined]), a)


def test_pairs_of_a_stream_share_crop_and_flip():
    options = config(model="pix2pix")
    dataset = memory.open_given(tf.data.Dataset.from_tensor_slices((A, A)), options)
    for a, b in take(dataset, options, 0, 4):
        np.testing.assert_array_equal(a, b)
    options = config(model="pix2pix", preprocess="crop")
    sizes = tf.data.Dataset.from_tensors((A[0], B[0]))
    with pytest.raises(UserError, match="not a pair: 20 x 20 pixels, 24 x 20 in the other domain"):
        take(memory.open_given(sizes, options), options, 0, 1)


def test_wrong_image_in_a_stream_is_refused_with_a_reason():
    options = config()
    dataset = memory.open_given(stream(), options)
    bad = tf.data.Dataset.from_tensor_slices((A.astype(np.float32), A))
    object.__setattr__(dataset, "stream", bad)
    with pytest.raises(UserError, match="an image of A cannot be used: the values are 0 to 255"):
        take(dataset, options, 0, 1)


def test_messages_call_the_domains_of_a_stream_as_the_caller_does():
    options = config(direction="b2a", input_channels=1, lambda_identity=0)  # The caller's images of B are the inputs.
    with pytest.raises(UserError, match=r"an image of B has shape \(20, 24, 3\); expected \(height, width, 1\)"):
        memory.open_given(stream(), options)
    dataset = memory.open_given(tf.data.Dataset.from_tensor_slices((A, A[..., :1])), options)
    object.__setattr__(dataset, "stream", stream().map(lambda a, b: (b, a)))
    with pytest.raises(UserError, match=r"an image of B has shape \(20, 24, 3\); expected \(height, width, 1\)"):
        take(dataset, options, 0, 1)


def test_stream_that_cannot_be_read_twice_is_one_clear_error(tmp_path, monkeypatch):
    skip_outputs(monkeypatch)
    images = iter(A)
    pairs = tf.data.Dataset.from_generator(
        lambda: ((image, image) for image in images), output_signature=(tf.TensorSpec((20, 24, 3), tf.uint8),) * 2
    )
    with pytest.raises(UserError, match=r"^the tf\.data\.Dataset has ended before the run; give a data set that"):
        cyclegan_tf.fit(config(max_steps=3), tmp_path, dataset=pairs)


def test_run_on_a_stream_of_unknown_size_is_one_epoch():
    with pytest.raises(UserError, match=r"has an unknown number of elements, .* set max_steps"):
        memory.open_given(stream(endless=True), config(max_steps=0))
    options = config(max_steps=3, batch_size=2)
    dataset = memory.open_given(stream(endless=True), options)
    assert [dataset.count_images_per_epoch(options, n_replicas) for n_replicas in (1, 4)] == [6, 24]


def test_run_on_given_images_resumes_and_says_what_is_not_exact(tmp_path, monkeypatch, caplog, run_command):
    skip_outputs(monkeypatch)
    caplog.set_level(logging.INFO, "cyclegan_tf")
    importlib.import_module("toy_package.networks")
    importlib.import_module("toy_package.objectives")
    cyclegan_tf.fit(config(max_steps=2, plugins=""), tmp_path, dataset=stream())
    assert "skipping" not in caplog.text
    result = cyclegan_tf.fit(config(max_steps=3, plugins=""), tmp_path, dataset=stream())
    assert "skipping the images of 2 steps in the tf.data.Dataset; the run resumes exactly only if" in caplog.text
    assert "training steps 3 to 3, 5 images per epoch" in caplog.text
    # The modules of the functions that the config names are recorded.
    assert Config.load(result.workdir).plugins == "toy_package.networks,toy_package.objectives"
    child = run_command("cyclegan_tf.evaluate", f"--model={tmp_path}", "--metrics=cycle")
    assert child.returncode == 2
    assert child.stderr.startswith("error: the images of this run were given to cyclegan_tf.fit and are not stored")


@pytest.mark.parametrize(("defining", "registering", "added", "warning"), [
    ("cyclegan_tf_extra", "cyclegan_tf_extra", ",cyclegan_tf_extra", ""),
    ("cyclegan_tf.models.builtin", "cyclegan_tf.models.builtin", "", ""),
    ("toy_package.networks", "toy_package.networks", "", ""),
    ("__main__", "__main__", "",
     "make_loss is registered in __main__, so only a process that registers it again can use the run"),
    ("numpy", "cyclegan_tf_extra", ",numpy,cyclegan_tf_extra", ""),
    ("numpy", "__main__", ",numpy", "make_loss is registered in __main__"),
    ("keras.losses", "cyclegan_tf_extra", ",cyclegan_tf_extra", ""),
    ("json", "cyclegan_tf_extra", ",cyclegan_tf_extra", ""),
    ("toy_package.networks", "cyclegan_tf.models.builtin", "", ""),
], ids=["other package", "this package", "plugin", "script", "library", "library in a script", "keras", "python",
        "helper"])
def test_modules_that_register_a_function_become_plugins(defining, registering, added, warning, monkeypatch, caplog):
    def make_loss(config):
        raise NotImplementedError

    make_loss.__module__ = defining
    monkeypatch.setitem(sys.modules, "cyclegan_tf_extra", types.ModuleType("cyclegan_tf_extra"))
    exec('register("own")(make_loss)',
         {"__name__": registering, "register": cyclegan_tf.register_loss, "make_loss": make_loss})
    named = fitting.add_plugins(config(gan_mode="own", plugins="toy_package.objectives,toy_package.networks"))
    assert named.plugins == f"toy_package.objectives,toy_package.networks{added}"
    assert warning in caplog.text and bool(warning) == bool(caplog.messages)


def test_log_is_shown_once_and_no_handler_is_left(tmp_path, monkeypatch):
    skip_outputs(monkeypatch)
    root, log = logging.getLogger(), logging.getLogger("cyclegan_tf")
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(log, "handlers", [])
    monkeypatch.setattr(log, "level", logging.ERROR)
    with contextlib.redirect_stderr(io.StringIO()) as shown:
        # logging.info adds a handler to a root logger that has none, as libraries do.
        cyclegan_tf.fit(config(max_steps=2, log_every=1, max_dataset_size=2), tmp_path, callbacks=[
            lambda step, scalars: [logging.info("from a library"), log.info("one\ntwo.png")]
        ])
    assert "one\\ntwo.png\n" in shown.getvalue()
    assert shown.getvalue().count("step 2/2: ") == 1
    assert "from a library" not in shown.getvalue()
    assert (root.handlers, log.handlers, log.level) == ([], [], logging.ERROR)

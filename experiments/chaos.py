"""Kills a training run again and again, and compares the result with an undisturbed run.

  python experiments/chaos.py --kills=100
  python experiments/chaos.py --kills=100 --model=cut

In each round, a run is started, killed with SIGKILL, started again, and so on until it finishes. Then every array of
its checkpoints (weights, Adam's moments, pools and their random states), metrics.jsonl and the sample grids must equal
their counterparts in the undisturbed run, bit for bit. Rounds continue until there were enough kills. Some kills come
at a random moment; the others are aimed at the worst moments: half of a checkpoint or half of a line of metrics.jsonl
has been written, a file is complete but not renamed, a SavedModel is being replaced. Do not change the CPUs available
to the script while it runs, because a different number of threads rounds differently.
"""

import argparse
import itertools
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO, NoReturn, TextIO

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import numpy as np
from PIL import Image

from cyclegan_tf.config import Config
from cyclegan_tf.runs import checkpoints, metrics_log
from cyclegan_tf.runs.reporter import Reporter

# Importing TensorFlow here saves every child process the time. TensorFlow starts no threads before its first operation,
# so this process can still be forked.
from cyclegan_tf.training import trainer

_COMMON: dict[str, Any] = {
    "ema_decay": 0.9, "max_steps": 8, "checkpoint_every": 3, "sample_every": 4, "keep_checkpoints": 2,
    "max_dataset_size": 5,
}
# Small runs that write everything a checkpoint can hold, with epochs that end between checkpoints. The run of CUT draws
# all random numbers that a model can draw: patches, mirrored images and augmentations.
CONFIGS = {
    "cyclegan": Config.preset("tiny", **_COMMON, discriminator="pixel", lambda_identity=0.0),
    "cut": Config.preset(
        "tiny", **_COMMON, model="cut", flip_equivariance=True, nce_patches=16, nce_features=8,
        diff_augment="color,translation,cutout",
    ),
}

# Which aimed kill, and in which call of its function, counted from 1.
Target = tuple[str, int]


def kill_this_process() -> None:
    """Sends SIGKILL to this process."""
    os.kill(os.getpid(), signal.SIGKILL)


def write_half_an_array(workdir: str, entry: BinaryIO, array: np.ndarray, **options: Any) -> None:
    """Writes the first half of a checkpoint's array, in place of np.lib.format.write_array(entry, array)."""
    del workdir, options
    entry.write(array.tobytes()[: array.nbytes // 2])


def write_half_a_line(workdir: str, reporter: Reporter, step: int, kind: str, values: dict[str, float]) -> None:
    """Writes half of a line to metrics.jsonl, in place of Reporter.record(step, kind, values)."""
    del reporter
    line = metrics_log.format_record({"step": step, "kind": kind, **values})
    with open(os.path.join(workdir, metrics_log.FILE_NAME), "a", encoding="utf-8") as file:
        file.write(line[: len(line) // 2])


# {name of the aimed kill: (owner and name of the function, action just before the kill)}
AIMS: dict[str, tuple[Any, str, Callable | None]] = {
    "checkpoint": (np.lib.format, "write_array", write_half_an_array),
    "line": (Reporter, "record", write_half_a_line),
    "durable": (os, "fsync", None),
    "rename": (os, "replace", None),
    "export": (os, "rename", None),
}
# The kills of --tour's single round.
TOUR: tuple[Target, ...] = (
    ("rename", 2), ("checkpoint", 40), ("line", 5), ("rename", 5), ("export", 1), ("export", 2),
)


def aim_kill(workdir: str, name: str, call: int) -> None:
    """Makes this process kill itself in the given call, counted from 1, of a function in AIMS."""
    owner, attribute, last_action = AIMS[name]
    original, calls = getattr(owner, attribute), itertools.count(1)

    def kill_or_call(*arguments: Any, **options: Any) -> Any:
        if next(calls) == call:
            if last_action:
                last_action(workdir, *arguments, **options)
            kill_this_process()
        return original(*arguments, **options)

    setattr(owner, attribute, kill_or_call)


def count_calls() -> Counter:
    """Returns a counter, by names in AIMS, of all later calls in this process."""
    counts: Counter = Counter()

    def wrap(name: str, original: Callable) -> Callable:
        def count_and_call(*arguments: Any, **options: Any) -> Any:
            counts[name] += 1
            return original(*arguments, **options)

        return count_and_call

    for name, (owner, attribute, _) in AIMS.items():
        setattr(owner, attribute, wrap(name, getattr(owner, attribute)))
    return counts


def start_run(
    config: Config,
    workdir: str,
    log: TextIO,
    target: Target | None = None,
    seconds: float | None = None,
    counts_path: str | None = None,
) -> bool:
    """Starts or resumes the run in a child process; returns False if the child was killed, True if the run finished.

    Args:
      config: the run's options.
      workdir: the run directory.
      log: file for the child's output.
      target: where the child kills itself.
      seconds: time after which the child is killed.
      counts_path: file for the number of calls of each function in AIMS, as JSON.
    """
    child = os.fork()
    if child == 0:
        train_in_child(config, workdir, log, target, counts_path)
    if seconds is not None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if (ended := os.waitpid(child, os.WNOHANG))[0]:
                return has_finished(ended[1], log)
            time.sleep(0.01)
        os.kill(child, signal.SIGKILL)
    return has_finished(os.waitpid(child, 0)[1], log)


def train_in_child(
    config: Config, workdir: str, log: TextIO, target: Target | None, counts_path: str | None
) -> NoReturn:
    """Trains in a child process of `start_run` and ends the process."""
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
    if target:
        aim_kill(workdir, *target)
    counts = count_calls() if counts_path else None
    trainer.train(config, workdir)
    if counts_path:
        with open(counts_path, "w", encoding="utf-8") as file:
            json.dump(counts, file)
    os._exit(0)


def has_finished(status: int, log: TextIO) -> bool:
    """Interprets a child's wait status: True if the run finished, False if it was killed; exits if the run failed."""
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return False
    if status:
        sys.exit(f"the run failed without being killed; see {log.name}")
    return True


def find_differences(one: str, other: str) -> list[str]:
    """Compares two run directories; returns a line for each array, log or sample grid that differs."""
    found = []
    files = [dict(checkpoints.list_files(os.path.join(run, "checkpoints"))) for run in (one, other)]
    if files[0].keys() != files[1].keys():
        found.append(f"checkpoints of steps {sorted(files[0])} and {sorted(files[1])}")
    for step in files[0].keys() & files[1].keys():
        arrays = [checkpoints.read(file[step]) for file in files]
        if arrays[0].keys() != arrays[1].keys():
            found.append(f"names of arrays in checkpoint {step}")
        found += [
            f"{name} in checkpoint {step}"
            for name in arrays[0].keys() & arrays[1].keys()
            if arrays[0][name].tobytes() != arrays[1][name].tobytes()
        ]
    texts = set()
    for run in (one, other):
        with open(os.path.join(run, metrics_log.FILE_NAME), encoding="utf-8") as file:
            texts.add(file.read())
    if len(texts) > 1:
        found.append(metrics_log.FILE_NAME)
    grids = [sorted(os.listdir(os.path.join(run, "samples"))) for run in (one, other)]
    if grids[0] != grids[1]:
        found.append(f"sample grids {grids[0]} and {grids[1]}")
    for name in set(grids[0]) & set(grids[1]):
        if len({np.asarray(Image.open(os.path.join(run, "samples", name))).tobytes() for run in (one, other)}) > 1:
            found.append(f"samples/{name}")
    return found


def run_round(
    config: Config, workdir: str, log: TextIO, targets: Iterable[tuple[Target | None, float | None]]
) -> int:
    """Starts the run, with one (target, seconds) per start, until it finishes; returns the number of kills."""
    kills = 0
    for target, seconds in targets:
        if start_run(config, workdir, log, target, seconds):
            return kills
        kills += 1
    assert start_run(config, workdir, log)
    return kills


def draw_targets(
    rng: random.Random, seconds: float, counts: dict[str, int]
) -> Iterator[tuple[Target | None, float | None]]:
    """Yields random (target, seconds): a moment within `seconds`, or one of the `counts` calls of an aimed function."""
    while True:
        name = rng.choice([None, None, *counts])
        yield (None, rng.uniform(0, seconds)) if name is None else ((name, rng.randint(1, counts[name])), None)


def main() -> None:
    """Trains the undisturbed run, then plays rounds until there were enough kills or bits differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="kills in all rounds together")
    parser.add_argument("--seed", type=int, default=0, help="seed of the kills")
    parser.add_argument("--model", choices=CONFIGS, default="cyclegan", help="the model of the run")
    parser.add_argument("--tour", action="store_true", help="play one round with each kind of aimed kill instead")
    args = parser.parse_args()
    config = CONFIGS[args.model]
    folder = tempfile.mkdtemp(prefix="chaos-")
    undisturbed, killed = (os.path.join(folder, name) for name in ("undisturbed", "killed"))
    rng, kills, rounds, start = random.Random(args.seed), 0, 0, time.monotonic()
    with open(os.path.join(folder, "log.txt"), "w", encoding="utf-8") as log:
        counts_path = os.path.join(folder, "calls.json")
        assert start_run(config, undisturbed, log, counts_path=counts_path)
        with open(counts_path, encoding="utf-8") as file:
            counts = json.load(file)
        seconds = time.monotonic() - start
        while rounds == 0 or (kills < args.kills and not args.tour):
            shutil.rmtree(killed, ignore_errors=True)
            targets = ((target, None) for target in TOUR) if args.tour else draw_targets(rng, seconds, counts)
            kills += run_round(config, killed, log, targets)
            rounds += 1
            if args.tour and kills < len(TOUR):
                sys.exit(f"the run finished after {kills} of {len(TOUR)} kills: a call in TOUR never happened")
            found = find_differences(undisturbed, killed)
            if found:
                first = f"{'; '.join(found[:5])} and {max(len(found) - 5, 0)} more"
                sys.exit(f"round {rounds}, after {kills} kills: {first} differ; compare {undisturbed} and {killed}")
            print(f"round {rounds}: {kills} kills so far, all bits equal", flush=True)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()

"""Kills a training run again and again, and compares the result with an undisturbed run.

  python experiments/chaos.py --kills=100
  python experiments/chaos.py --kills=100 --model=cut

In each round, a run is started, killed, started again, and so on until it finishes. Then every array of its checkpoints
(weights, Adam's moments, pools and their random states), metrics.jsonl and the sample grids must equal their
counterparts in the undisturbed run, bit for bit. Rounds continue until there were enough kills.

Half of the kills are SIGKILL; the others are SIGHUP (a closed terminal), SIGTERM and SIGINT (Ctrl-C), after which the
run saves its state. In half of the starts, stdout and stderr are a pipe that nobody reads. Some kills come at a random
moment; the others are aimed at the worst moments: half of a checkpoint or half of a line of metrics.jsonl has been
written (SIGKILL only), a file is complete but not renamed, a SavedModel is being replaced. Do not change the CPUs
available to the script while it runs, because a different number of threads rounds differently.
"""

import argparse
import dataclasses
import itertools
import json
import math
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, BinaryIO, NoReturn, TextIO

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import numpy as np
from PIL import Image

from cyclegan_tf import console
from cyclegan_tf.config import Config
from cyclegan_tf.errors import Stopped
from cyclegan_tf.runs import checkpoints, metrics_log
from cyclegan_tf.runs.reporter import Reporter
from cyclegan_tf.storage import json_lines

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


@dataclasses.dataclass(frozen=True)
class Kill:
    """A kill of a run: a signal, and a random or an aimed moment.

    Attributes:
      signum: the signal.
      seconds: time after the start, unless the kill is aimed.
      aim: name in `AIMS` of the function in which the run kills itself; empty: the kill is not aimed.
      call: which call of that function, counted from 1.
      dead_pipe: whether the run's stdout and stderr are a pipe that nobody reads.
    """

    signum: int
    seconds: float = math.inf
    aim: str = ""
    call: int = 0
    dead_pipe: bool = False


def write_half_an_array(workdir: str, entry: BinaryIO, array: np.ndarray, **options: Any) -> None:
    """Writes the first half of a checkpoint's array, in place of np.lib.format.write_array(entry, array)."""
    del workdir, options
    entry.write(array.tobytes()[: array.nbytes // 2])


def write_half_a_line(workdir: str, reporter: Reporter, step: int, kind: str, values: dict[str, float]) -> None:
    """Writes half of a line to metrics.jsonl, in place of Reporter.record(step, kind, values)."""
    del reporter
    line = json_lines.format_line({"step": step, "kind": kind, **values})
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
TOUR = (
    *(Kill(signal.SIGKILL, aim=aim, call=call) for aim, call in (("rename", 2), ("checkpoint", 40))),
    Kill(signal.SIGHUP, aim="line", call=2, dead_pipe=True),
    *(Kill(signal.SIGKILL, aim=aim, call=call) for aim, call in (
        ("line", 5), ("rename", 5), ("export", 1), ("export", 2),
    )),
)


def aim_kill(workdir: str, kill: Kill) -> None:
    """Makes this process send itself the signal of an aimed kill."""
    owner, attribute, last_action = AIMS[kill.aim]
    original, calls = getattr(owner, attribute), itertools.count(1)

    def kill_or_call(*arguments: Any, **options: Any) -> Any:
        if next(calls) == kill.call:
            if last_action and kill.signum == signal.SIGKILL:
                last_action(workdir, *arguments, **options)
            os.kill(os.getpid(), kill.signum)
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
    config: Config, workdir: str, log: TextIO, kill: Kill | None = None, counts_path: str | None = None
) -> bool:
    """Starts or resumes the run in a child process; returns False if the child was killed, True if the run finished.

    Args:
      config: the run's options.
      workdir: the run directory.
      log: file for the child's output.
      kill: how the child is killed; None: not at all.
      counts_path: file for the number of calls of each function in AIMS, as JSON.
    """
    child = os.fork()
    if child == 0:
        train_in_child(config, workdir, log, kill, counts_path)
    if kill and not kill.aim:
        deadline = time.monotonic() + kill.seconds
        while time.monotonic() < deadline:
            if (ended := os.waitpid(child, os.WNOHANG))[0]:
                return has_finished(ended[1], log, kill)
            time.sleep(0.01)
        os.kill(child, kill.signum)
    return has_finished(os.waitpid(child, 0)[1], log, kill)


def train_in_child(
    config: Config, workdir: str, log: TextIO, kill: Kill | None, counts_path: str | None
) -> NoReturn:
    """Trains as the command does, in a child process of `start_run`, and ends the process."""
    reader, writer = os.pipe()
    os.close(reader)
    for descriptor in (1, 2):
        os.dup2(writer if kill and kill.dead_pipe else log.fileno(), descriptor)
    console.guard_streams()
    console.log_to_stderr()
    status = 1
    try:
        if kill and kill.aim:
            aim_kill(workdir, kill)
        counts = count_calls() if counts_path else None
        trainer.train(config, workdir, exit_on_second_signal=True)
        if counts_path:
            with open(counts_path, "w", encoding="utf-8") as file:
                json.dump(counts, file)
        status = 0
    except Stopped as stopped:
        status = stopped.status
    except KeyboardInterrupt:  # Before the run directory is open.
        status = 128 + signal.SIGINT
    except BaseException:
        traceback.print_exc(file=log)
        log.flush()
    os._exit(status)


def has_finished(status: int, log: TextIO, kill: Kill | None) -> bool:
    """Interprets a child's wait status: True if the run finished, False if it was killed; exits if the run failed."""
    code = os.waitstatus_to_exitcode(status)
    # SIGKILL, and other signals before the run directory is open, end the process without an exit status.
    if kill and code in (-kill.signum, 128 + kill.signum):
        return False
    if code:
        sys.exit(f"the run failed with status {code}, not by {kill}; see {log.name}")
    return True


def find_differences(one: str, other: str) -> list[str]:
    """Compares two run directories; returns a line for each array, log or sample grid that differs."""
    found = []
    files = [dict(checkpoints.list_files(os.path.join(run, "checkpoints"))) for run in (one, other)]
    # A signal may have left a checkpoint of another step before the newest one.
    if max(files[0], default=None) != max(files[1], default=None):
        found.append(f"newest checkpoints: steps {sorted(files[0])} and {sorted(files[1])}")
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


def run_round(config: Config, workdir: str, log: TextIO, kills: Iterable[Kill]) -> Counter:
    """Starts the run, with one kill per start, until it finishes; returns the number of kills by signal and output."""
    done: Counter = Counter()
    for kill in kills:
        if start_run(config, workdir, log, kill):
            return done
        done[signal.Signals(kill.signum).name + " with a dead pipe" * kill.dead_pipe] += 1
    assert start_run(config, workdir, log)
    return done


def draw_kills(rng: random.Random, seconds: float, counts: Mapping[str, int]) -> Iterator[Kill]:
    """Yields random kills: at a moment within `seconds`, or in one of the `counts` calls of an aimed function."""
    while True:
        signum = rng.choice([signal.SIGKILL] * 3 + [signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
        dead_pipe, aim = rng.random() < 0.5, rng.choice(["", "", *counts])
        if aim:
            yield Kill(signum, aim=aim, call=rng.randint(1, counts[aim]), dead_pipe=dead_pipe)
        else:
            yield Kill(signum, rng.uniform(0, seconds), dead_pipe=dead_pipe)


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
    # Both runs are called "run", because sample grids show the name of their run.
    undisturbed, killed = (os.path.join(folder, name, "run") for name in ("undisturbed", "killed"))
    rng, done, rounds, start = random.Random(args.seed), Counter[str](), 0, time.monotonic()
    with open(os.path.join(folder, "log.txt"), "w", encoding="utf-8") as log:
        counts_path = os.path.join(folder, "calls.json")
        assert start_run(config, undisturbed, log, counts_path=counts_path)
        with open(counts_path, encoding="utf-8") as file:
            counts = json.load(file)
        seconds = time.monotonic() - start
        while rounds == 0 or (done.total() < args.kills and not args.tour):
            shutil.rmtree(killed, ignore_errors=True)
            kills = TOUR if args.tour else draw_kills(rng, seconds, counts)
            done += run_round(config, killed, log, kills)
            rounds += 1
            if args.tour and done.total() < len(TOUR):
                sys.exit(f"the run finished after {done.total()} of {len(TOUR)} kills: a call in TOUR never happened")
            found = find_differences(undisturbed, killed)
            if found:
                first = f"{'; '.join(found[:5])} and {max(len(found) - 5, 0)} more"
                sys.exit(f"round {rounds}, after {done.total()} kills: {first} differ; compare {undisturbed} and "
                         f"{killed}")
            print(f"round {rounds}: {done.total()} kills so far, all bits equal", flush=True)
    print(", ".join(f"{count} {name}" for name, count in sorted(done.items())))
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()

"""Kills a training run again and again, and compares what it leaves with a run that nobody disturbed.

  python experiments/chaos.py --kills=100

A run is started, killed with SIGKILL, started again and so on until it comes to its end; then every array of its
checkpoints (weights, Adam's slots, pools and their random states), metrics.jsonl and the sample grids must equal, bit
for bit, those of a run that was left alone. Such rounds go on until there were enough kills. Most kills come at a
random moment of the run's life; the others are aimed: half a checkpoint or half a line of metrics.jsonl is written,
a file is finished but not renamed, a SavedModel is being exchanged. Leave the script its CPUs meanwhile: another number
of threads rounds differently.
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

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import numpy as np
from PIL import Image

from cyclegan_tf.config import Config
from cyclegan_tf.runs import checkpoints
from cyclegan_tf.runs.reporter import Reporter

# TensorFlow is loaded here once. It starts no threads before its first operation, so lives can be forked off.
from cyclegan_tf.training import trainer

# Everything that a checkpoint holds is in it, and epochs that end between checkpoints; a small graph starts sooner.
CONFIG = Config.preset(
    "tiny", ema_decay=0.9, max_steps=8, checkpoint_every=3, sample_every=4, keep_checkpoints=2, max_dataset_size=5,
    discriminator="pixel", lambda_identity=0.0,
)


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def half_an_array(original, entry, array, **options):
    del original, options
    entry.write(array.tobytes()[: array.nbytes // 2])


def half_a_line(original, reporter, step, kind, values):
    del original, values
    reporter._file.write(json.dumps({"step": step, "kind": kind})[:-4])
    reporter._file.flush()


# Name: (owner and name of a function, what happens just before the end).
AIMS = {
    "checkpoint": (np.lib.format, "write_array", half_an_array),
    "line": (Reporter, "record", half_a_line),
    "durable": (os, "fsync", None),
    "rename": (os, "replace", None),
    "export": (os, "rename", None),
}
# What the one round of --tour meets: (aim, call).
TOUR = (("rename", 2), ("checkpoint", 40), ("line", 5), ("rename", 5), ("export", 1), ("export", 2))


def aim(name, call):
    """Lets this process die in the given call, counted from 1, of a function in AIMS."""
    owner, attribute, last_act = AIMS[name]
    original, calls = getattr(owner, attribute), itertools.count(1)

    def deadly(*arguments, **options):
        if next(calls) == call:
            if last_act:
                last_act(original, *arguments, **options)
            die()
        return original(*arguments, **options)

    setattr(owner, attribute, deadly)


def count_calls():
    """Counter, by names in AIMS, of the calls from now on."""
    counts = Counter()

    def counted(name, original):
        def counting(*arguments, **options):
            counts[name] += 1
            return original(*arguments, **options)

        return counting

    for name, (owner, attribute, _) in AIMS.items():
        setattr(owner, attribute, counted(name, getattr(owner, attribute)))
    return counts


def live(workdir, log, target=None, seconds=None, counts_path=None):
    """One life of the run in a child process; returns whether it came to its end.

    Args:
      target: (aim, call) to die in.
      seconds: after which it is killed.
      counts_path: file that gets the number of calls of each aim, as JSON.
    """
    child = os.fork()
    if child == 0:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        if target:
            aim(*target)
        counts = count_calls() if counts_path else None
        trainer.train(CONFIG, workdir)
        if counts_path:
            with open(counts_path, "w", encoding="utf-8") as file:
                json.dump(counts, file)
        os._exit(0)
    if seconds is not None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if (ended := os.waitpid(child, os.WNOHANG))[0]:
                return verdict(ended[1], log)
            time.sleep(0.01)
        os.kill(child, signal.SIGKILL)
    return verdict(os.waitpid(child, 0)[1], log)


def verdict(status, log):
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return False
    if status:
        sys.exit(f"the run failed by itself, which nothing may make it do: see {log.name}")
    return True


def differences(one, other):
    """Lines that name what differs between two run directories."""
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
    metrics = []
    for run in (one, other):
        with open(os.path.join(run, "metrics.jsonl"), encoding="utf-8") as file:
            metrics.append(file.read())
    if metrics[0] != metrics[1]:
        found.append("metrics.jsonl")
    grids = [sorted(os.listdir(os.path.join(run, "samples"))) for run in (one, other)]
    if grids[0] != grids[1]:
        found.append(f"sample grids {grids[0]} and {grids[1]}")
    for name in set(grids[0]) & set(grids[1]):
        if len({np.asarray(Image.open(os.path.join(run, "samples", name))).tobytes() for run in (one, other)}) > 1:
            found.append(f"samples/{name}")
    return found


def a_round(workdir, log, targets):
    """Lives until the run ends, the first ones with these (target, seconds); returns the number of kills."""
    kills = 0
    for target, seconds in targets:
        if live(workdir, log, target, seconds):
            return kills
        kills += 1
    assert live(workdir, log)
    return kills


def random_targets(rng, seconds, counts):
    while True:
        name = rng.choice([None, None, *counts])
        yield (None, rng.uniform(0, seconds)) if name is None else ((name, rng.randint(1, counts[name])), None)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tour", action="store_true", help="one round that meets every aimed kill, instead")
    arguments = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="chaos-")
    whole, killed = (os.path.join(folder, name) for name in ("whole", "killed"))
    rng, kills, rounds, start = random.Random(arguments.seed), 0, 0, time.monotonic()
    with open(os.path.join(folder, "log.txt"), "w", encoding="utf-8") as log:
        counts_path = os.path.join(folder, "calls.json")
        assert live(whole, log, counts_path=counts_path)
        with open(counts_path, encoding="utf-8") as file:
            counts = json.load(file)
        seconds = time.monotonic() - start
        while rounds == 0 or (kills < arguments.kills and not arguments.tour):
            shutil.rmtree(killed, ignore_errors=True)
            targets = random_targets(rng, seconds, counts)
            if arguments.tour:
                targets = [(target, None) for target in TOUR]
            kills += a_round(killed, log, targets)
            rounds += 1
            if arguments.tour and kills < len(TOUR):
                sys.exit(f"the run ended after {kills} of {len(TOUR)} kills: an aim is off")
            found = differences(whole, killed)
            if found:
                first = f"{'; '.join(found[:5])} and {max(len(found) - 5, 0)} more"
                sys.exit(f"round {rounds}, after {kills} kills in all: {first}: compare {whole}, {killed}")
            print(f"round {rounds}: {kills} kills in all, all bits equal", flush=True)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()

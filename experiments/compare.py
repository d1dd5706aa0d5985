"""Compares trainings on one data set, at equal steps and at equal time: this package's and the authors' in PyTorch.

  python experiments/compare.py --dataset=demo --steps=1500 --minutes=30 --seeds 0 1
  python experiments/compare.py --dataset=demo_maps --sides twin best=experiments/demo.flags --minutes=10
  python experiments/compare.py --dataset=demo_maps --size=64 --steps=600 --minutes=0 --seeds 0 1 2 \
      --sides preset=experiments/demo.flags no_pool='--preset=demo --pool_size=0'

Trains each of `--sides` with each seed, for `--steps` steps each, and, unless `--minutes` is 0, again for `--minutes`:

- paper: this package with the paper's settings, at `--size` pixels (from 286/256 of it), with `--blocks` residual
  blocks and `--filters` filters.
- twin: the authors' networks and training step in PyTorch (benchmarks/train_twin.py) with the same settings, on the
  same batches.
- NAME=FLAGFILE or NAME=OPTIONS: this package with the options in a flagfile, or with options such as
  '--preset=demo --pool_size=0'.

The steps that fit into `--minutes` follow from the time of the run of `--steps` steps of the same side and seed; the
table has the minutes that the steps then took, without start, samples and measures, the seconds of a step, and the
largest memory of the training process, with TensorFlow or PyTorch itself. The learning rate falls to zero over the
second half of each run unless the options say otherwise. Use a quiet machine: other work delays PyTorch by far more
than its share, because its threads wait for each other. The twin needs PyTorch; the measures need the weights that
cyclegan_tf.evaluate --fetch_weights downloads.

All held-out images, at `--size` pixels, are measured with cyclegan_tf.evaluate; the twin's generators are converted to
a run first. Prints a Markdown table for each direction, with the mean and the deviation over seeds, below the measures
of trivial translations, and draws WORKDIR/BUDGET_DIRECTION.jpg, such as time_a2b.jpg, from the runs of the first seed:
every n-th held-out image by name.

Each row of each seed keeps its result in WORKDIR/SIDE-BUDGET-SEED/result.json: an interrupted comparison continues with
the next row, and rows that exist already are not trained again.
"""

import argparse
import dataclasses
import json
import os
import re
import shlex
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
TITLES = {"paper": "this package, the paper's settings", "twin": "PyTorch, the paper's settings"}
BUDGETS = ("steps", "time")
DIRECTIONS = {"a2b": "A to B", "b2a": "B to A"}
MEASURES = ("lpips", "kid", "fid", "judge_top5", "psnr", "ssim", "cycle")
# Trivial translations, by the names of cyclegan_tf.metrics.baselines.
BASELINES = {"input": "the input itself", "mean_color": "the mean color", "color_map": "color map",
             "color_map_unfair": "color map fitted to the truth (unfair)"}
# Only the measures at the end, and nothing else that takes time between the steps.
QUIET = ("--sample_every=0", "--checkpoint_every=0", "--eval_every=0")
_LOG_LINE = re.compile(r"(\d+-\d+-\d+ \d+:\d+:\d+,\d+) INFO (training steps 1 to|step (\d+)/\3:)")

Result = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Row:
    """One training: a side of the comparison, what it has (steps or time), and a seed."""

    side: str
    budget: str
    seed: int

    @property
    def name(self) -> str:
        """The name of the row's folder."""
        return f"{self.side}-{self.budget}-{self.seed}"


class Comparison:
    """The rows of a comparison and their results.

    Args:
      args: the command line.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self._args = args
        self.rows = [Row(*each) for each in list_rows(list(args.sides), args.seeds, args.minutes)]

    def run_row(self, row: Row) -> Result:
        """Returns the row's result; trains and measures unless an earlier call has written it."""
        folder = os.path.join(self._args.workdir, row.name)
        path = os.path.join(folder, "result.json")
        steps = self._args.steps
        if row.budget == "time":
            calibration = self.run_row(dataclasses.replace(row, budget="steps"))
            steps = max(1, round(60 * self._args.minutes * calibration["steps"] / calibration["seconds"]))
        options = [*self._list_options(row.side), f"--seed={row.seed}", f"--max_steps={steps}", *QUIET]
        if os.path.exists(path):
            with open(path) as file:
                result = json.load(file)
            if result["options"] != options:
                raise SystemExit(f"{folder} has a result of other options ({shlex.join(result['options'])}): remove "
                                 "the folder, or use another --workdir")
            return result
        print(f"{row.name}: {steps} steps", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        run = os.path.join(folder, "run")
        seconds, mebibytes = train_twin(options, folder, run) if row.side == "twin" else train(options, run)
        result = {
            "options": options, "steps": steps, "seconds": seconds, "mebibytes": mebibytes, **self._measure(run, row)
        }
        with open(f"{path}.tmp", "w") as file:
            json.dump(result, file, indent=1)
        os.replace(f"{path}.tmp", path)
        return result

    def _list_options(self, side: str) -> list[str]:
        args = self._args
        if options := args.sides[side]:
            return [*options, f"--dataset={args.dataset}"]
        return [f"--dataset={args.dataset}", f"--load_size={round(args.size * 286 / 256)}", f"--crop_size={args.size}",
                f"--n_blocks={args.blocks}", f"--ngf={args.filters}", f"--ndf={args.filters}"]

    def _measure(self, run: str, row: Row) -> Result:
        """Measures a run: {"measures": {direction: {name: value}}}, for the first row also "baselines" alike."""
        args = self._args
        output = os.path.join(os.path.dirname(run), "measures.jsonl")
        first = "" if row == self.rows[0] else "no"
        run_child("-m", "cyclegan_tf.evaluate", f"--model={run}", f"--dataset={args.dataset}", f"--size={args.size}",
             f"--output={output}", f"--{first}baselines", *(
                 f"--judge_classes_{domain}={','.join(map(str, getattr(args, f'judge_classes_{domain}')))}"
                 for domain in "ab" if getattr(args, f"judge_classes_{domain}")
             ))
        with open(output) as file:
            return collect_measures(map(json.loads, file))

    def draw(self) -> list[str]:
        """Draws held-out images and their translations by the first seed's runs; returns the paths of the pictures."""
        from pictures import load_images
        from PIL import Image

        from cyclegan_tf.config.direction import Direction
        from cyclegan_tf.data import sources
        from cyclegan_tf.images import grid
        from cyclegan_tf.inference import loading, measuring

        args, paths = self._args, []
        runs = {row: os.path.join(args.workdir, row.name, "run") for row in self.rows if row.seed == args.seeds[0]}
        translators = {row: loading.load_directions(run) for row, run in runs.items()}
        config = measuring.choose_data_config(next(iter(runs.values())), args.size, dataset=args.dataset)
        dataset = sources.open_dataset(config)
        for direction in Direction:
            inputs, truths = (
                load_images(each.subset(range(dataset.n_pairs)) if dataset.has_pairs else each, config, args.images)
                for each in direction.order(dataset.test_a, dataset.test_b)
            )
            for budget in dict.fromkeys(row.budget for row in runs):
                # A run of one direction has no column in the picture of the other direction.
                columns = {
                    row.side: [own[direction].translate(image) for image in inputs]
                    for row, own in translators.items() if row.budget == budget and direction in own
                }
                columns = {"input": inputs, **columns, **({"truth": truths} if dataset.has_pairs else {})}
                picture = grid.draw(list(map(list, zip(*columns.values(), strict=True))), list(columns),
                                    scale=max(1, 128 // args.size))
                paths.append(os.path.join(args.workdir, f"{budget}_{direction.value}.jpg"))
                Image.fromarray(picture).save(paths[-1], quality=90)
        return paths


def list_rows(sides: Sequence[str], seeds: Iterable[int], minutes: float) -> list[tuple[str, str, int]]:
    """Lists (side, budget, seed) of all rows in the order of their training; without minutes, at equal steps only."""
    budgets = BUDGETS if minutes else BUDGETS[:1]
    return [(side, budget, seed) for seed in seeds for budget in budgets for side in sides]


def format_spread(values: Sequence[float]) -> str:
    """Formats mean ± sample standard deviation, a single value as it is, and no value as "-"."""
    if not values:
        return "-"
    digits = 2 if max(values) > 1.5 else 3
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    return f"{statistics.mean(values):.{digits}f} ± {statistics.stdev(values):.{digits}f}"


def parse_side(text: str) -> tuple[str, list[str]]:
    """Returns (name, options) of a side; paper and twin have no options of their own.

    Raises:
      ValueError: `text` is not paper, twin, NAME=FLAGFILE or NAME=OPTIONS.
    """
    name, _, value = text.partition("=")
    if (name in TITLES) == bool(value) or not re.fullmatch(r"\w+", name):
        raise ValueError(f"{text}: expected {', '.join(TITLES)}, NAME=FLAGFILE or NAME=OPTIONS")
    return name, shlex.split(value if not value or value.startswith("--") else f"--flagfile={shlex.quote(value)}")


def run_child(*arguments: str) -> tuple[str, float]:
    """Runs Python with `arguments`; returns its stdout and the largest memory of the process in MiB.

    Linux counts the memory of the calling process too, as long as the child is its copy. Exits if the child fails.
    """
    with subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout
        output = child.stdout.read()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"python {shlex.join(arguments)} failed")
    return output, usage.ru_maxrss / 1024  # Linux counts in KiB.


def train(options: Sequence[str], run: str) -> tuple[float, float]:
    """Trains with this package in run directory `run`; returns the seconds of all steps, and the memory in MiB."""
    _, mebibytes = run_child("-m", "cyclegan_tf.train", *options, f"--workdir={run}")
    with open(os.path.join(run, "log.txt")) as file:
        return read_seconds(file), mebibytes


def read_seconds(log: Iterable[str]) -> float:
    """Reads the seconds between the start of training and its last step from the lines of log.txt."""
    times = [datetime.strptime(found[1], "%Y-%m-%d %H:%M:%S,%f") for line in log if (found := _LOG_LINE.match(line))]
    if len(times) != 2:
        raise SystemExit(f"log.txt tells {len(times)} times of a run; expected its first and its last step")
    return (times[1] - times[0]).total_seconds()


def train_twin(options: Sequence[str], folder: str, run: str) -> tuple[float, float]:
    """Trains the PyTorch twin, and converts its generators to run directory `run`; returns what `train` returns."""
    output, mebibytes = run_child(str(HERE / "benchmarks" / "train_twin.py"), folder, *options)
    run_child("-m", "cyclegan_tf.convert", f"--from_pytorch={folder}", f"--output={run}")
    return float(output.split("seconds: ")[1]), mebibytes


def collect_measures(records: Iterable[dict[str, Any]]) -> Result:
    """Sorts the records of evaluate by direction; see `Comparison._measure`. Infinity and NaN are strings in them."""
    found: Result = {"measures": {}, "baselines": {}}
    for record in records:
        direction, metric = record["direction"], record["metric"]
        found["measures"].setdefault(direction, {})[metric] = float(record["value"])
        for name, value in record.get("baselines", {}).items():
            found["baselines"].setdefault(name, {}).setdefault(direction, {})[metric] = float(value)
    return found


def format_table(results: Sequence[tuple[Row, Result]], direction: str) -> Iterator[str]:
    """Yields the lines of a Markdown table of one direction: trivial translations, then a line per side and budget."""
    measured = [result["measures"].get(direction, {}) for _, result in results]
    names = [name for name in MEASURES if any(name in each for each in measured)]
    yield f"| {DIRECTIONS[direction]} | seeds | steps | minutes | s/step | MiB | {' | '.join(names)} |"
    yield "|---" * (6 + len(names)) + "|"
    for baseline, title in BASELINES.items():
        values: dict[str, dict[str, float]] = next(
            (each["baselines"][baseline] for _, each in results if baseline in each["baselines"]), {}
        )
        if direction in values:
            cells = [format_spread([values[direction][name]] if name in values[direction] else []) for name in names]
            yield f"| {title} | | | | | | {' | '.join(cells)} |"
    for budget in BUDGETS:
        for side in dict.fromkeys(row.side for row, _ in results):
            rows = [result for row, result in results if (row.side, row.budget) == (side, budget)]
            if not any(direction in row["measures"] for row in rows):
                continue
            steps = " to ".join(map(str, sorted({each(row["steps"] for row in rows) for each in (min, max)})))
            minutes = statistics.mean(row["seconds"] / 60 for row in rows)
            step = statistics.mean(row["seconds"] / row["steps"] for row in rows)
            mebibytes = max(row["mebibytes"] for row in rows)
            cells = [
                format_spread([each[name] for row in rows if name in (each := row["measures"].get(direction, {}))])
                for name in names
            ]
            yield (f"| {TITLES.get(side, side)}, equal {budget} | {len(rows)} | {steps} | {minutes:.1f} | {step:.3f} | "
                   f"{mebibytes:.0f} | {' | '.join(cells)} |")


def main() -> None:
    """Trains and measures the rows that have no result yet, prints the tables and draws the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="demo", help="as for cyclegan_tf.train")
    parser.add_argument("--sides", nargs="+", type=parse_side, metavar="SIDE", help="paper, twin, NAME=FLAGFILE "
                        "or NAME=OPTIONS; default: paper twin best=demo.flags",
                        default=[parse_side(text) for text in (*TITLES, f"best={HERE / 'demo.flags'}")])
    parser.add_argument("--steps", type=int, default=1500, help="steps of the rows at equal steps")
    parser.add_argument("--minutes", type=float, default=30, help="minutes of the rows at equal time; 0: none")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--size", type=int, default=128, help="side of the images in pixels")
    parser.add_argument("--blocks", type=int, default=6, help="residual blocks of the paper's settings")
    parser.add_argument("--filters", type=int, default=32, help="filters of the paper's settings; the paper has 64")
    for domain in "ab":
        parser.add_argument(f"--judge_classes_{domain}", nargs="+", type=int, default=[],
                            help="as for cyclegan_tf.evaluate; on demo 948 for A and 950 for B")
    parser.add_argument("--images", type=int, default=4, help="held-out images of each domain in the picture")
    parser.add_argument("--workdir", default="runs/compare", help="folder of the rows and the picture")
    args = parser.parse_args()
    args.sides = dict(args.sides)
    os.makedirs(args.workdir, exist_ok=True)
    comparison = Comparison(args)
    results = [(row, comparison.run_row(row)) for row in comparison.rows]
    for direction in DIRECTIONS:
        print(*format_table(results, direction), "", sep="\n")
    print(*comparison.draw(), sep="\n")


if __name__ == "__main__":
    main()

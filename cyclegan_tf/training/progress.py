"""Shows the progress of a run: a bar on a terminal or in a notebook, a log line every 30 seconds elsewhere."""

import contextlib
import logging
import re
import statistics
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from tqdm import TqdmWarning

from cyclegan_tf import console

with warnings.catch_warnings():
    # In a notebook without ipywidgets, tqdm warns that the bar is text.
    warnings.simplefilter("ignore", TqdmWarning)
    from tqdm.auto import tqdm
    from tqdm.contrib.logging import logging_redirect_tqdm

log = logging.getLogger("cyclegan_tf")

# Seconds between log lines without a terminal.
_HEARTBEAT = 30.0
# Seconds between the end of the first step and the estimate of the remaining time.
_ESTIMATE_AFTER = 10.0
# The shortest remaining time, in seconds, that is logged.
_SHORTEST_ESTIMATE = 60.0
# The longest acceptable remaining time on a CPU, in seconds, and the preset to use if a run takes longer.
_TOO_LONG = 2 * 86400.0
_FAST_PRESET = "--preset=fast_cpu"
_SMALLEST_BAR = 10  # Characters.
_LONGEST_LINE = 100  # Characters.


class _Mark(NamedTuple):
    """A point in a run: the images done, the time, and the time without pauses, both in seconds."""

    images: int
    time: float
    training_time: float


class Pace:
    """Measures the speed of a run and estimates the time left.

    The first step does not count, because TensorFlow traces and compiles it.

    Args:
      images: number of images of each domain in the whole run.
      clock: returns the time in seconds.
    """

    def __init__(self, images: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._total, self._clock, self._paused = images, clock, 0.0
        # The end of the first step, of the step at the last `read_speed`, and of the newest step.
        self._first = self._read = self._newest = _Mark(0, 0.0, 0.0)
        self._has_begun = False

    def count(self, images: int) -> None:
        """Records that `images` images of the run are done; call this method after each step."""
        now = self._clock()
        self._newest = _Mark(images, now, now - self._paused)
        if not self._has_begun:
            self._first = self._read = self._newest
            self._has_begun = True

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        """Excludes the time of the body from the speed, but not from the time left."""
        start = self._clock()
        try:
            yield
        finally:
            self._paused += self._clock() - start

    @property
    def speed(self) -> float | None:
        """Images per second from the first step to the newest; None before the end of the second step."""
        return _compute_speed(self._first, self._newest)

    def read_speed(self) -> float | None:
        """Images per second since the last call, or since the first step; None if no step has ended since then."""
        speed, self._read = _compute_speed(self._read, self._newest), self._newest
        return speed

    @property
    def seconds(self) -> float:
        """Seconds from the first step to the newest, with pauses."""
        return self._newest.time - self._first.time

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the last step if pauses stay as frequent; None before the end of the second step."""
        images = self._newest.images - self._first.images
        return self.seconds * (self._total - self._newest.images) / images if images else None


def _compute_speed(start: _Mark, end: _Mark) -> float | None:
    """Computes the images per second between two marks, without pauses; None if no image lies between the marks."""
    images, seconds = end.images - start.images, end.training_time - start.training_time
    return images / max(seconds, 1e-9) if images else None


class Display:
    """Shows each step on a bar or in log lines.

    Args:
      bar: the bar; if the bar is disabled, log lines replace it.
      done: steps done.
      n_steps: number of the last step.
      images_per_step: images of each domain in a step.
      on_cpu: whether the run has no GPU.
      pace: measures the speed; default: a `Pace` with the clock of the system.
    """

    def __init__(
        self, bar: tqdm, done: int, n_steps: int, images_per_step: int, on_cpu: bool, pace: Pace | None = None
    ) -> None:
        self._bar, self._n_steps, self._images_per_step, self._on_cpu = bar, n_steps, images_per_step, on_cpu
        self._pace = pace or Pace(n_steps * images_per_step)
        self._first, self._step = done + 1, done
        self._losses: list[str] = []
        self._task = "preparing the first step"
        self._estimated = False

    def complete_step(self, step: int, scalars: Mapping[str, float]) -> None:
        """Shows that `step` is done, with its losses."""
        self._step, self._losses, self._task = step, summarize_losses(scalars), ""
        self._pace.count(step * self._images_per_step)
        if self._bar.disable:
            if step in (self._first, self._n_steps):
                self.log_line()
        else:
            self._bar.set_postfix_str(", ".join(self._fit_fields()), refresh=False)
            self._bar.update(1)
        if not self._estimated and self._pace.seconds >= _ESTIMATE_AFTER:
            self._estimated = True
            self._log_estimate()

    @contextlib.contextmanager
    def pause(self, task: str) -> Iterator[None]:
        """Excludes the time of the body, which does `task`, from the speed."""
        self._task = task
        with self._pace.pause():
            yield
        self._task = ""

    def read_speed(self) -> float | None:
        """Images per second since the last call; see `Pace.read_speed`."""
        return self._pace.read_speed()

    def log_line(self) -> None:
        """Logs the newest step, its losses, the speed and the time left."""
        fields = [*self._losses, *self._describe_pace(), *filter(None, [self._task])]
        log.info("step %d/%d: %s", self._step, self._n_steps, ", ".join(fields))

    def log_epoch(self, epoch: int, means: Mapping[str, float]) -> None:
        """Logs the means over an epoch in one line."""
        line = f"epoch {epoch} done: {', '.join([*summarize_losses(means), *self._describe_pace()])}"
        log.info("%s", line[:_LONGEST_LINE])

    def _describe_pace(self) -> list[str]:
        speed, left = self._pace.speed, self._pace.seconds_left
        if speed is None or left is None:
            return []
        number = f"{speed:.1f}" if speed >= 1 else f"{speed:.2g}"
        return [f"{number} images/s", *([f"{format_time(left)} left"] if left else [])]

    def _fit_fields(self) -> list[str]:
        """Lists the speed, the time left and the losses; drops fields for which the terminal has no room."""
        fields, columns = [*self._describe_pace(), *self._losses], self._bar.format_dict["ncols"]
        if not isinstance(columns, int):
            return fields
        frame = len(f"100%|| {self._n_steps}/{self._n_steps}") + _SMALLEST_BAR
        return [
            field for i, field in enumerate(fields)
            if frame + sum(len(f", {each}") for each in fields[: i + 1]) <= columns
        ]

    def _log_estimate(self) -> None:
        left = self._pace.seconds_left
        if left is not None and left >= _SHORTEST_ESTIMATE:
            log.info("%s", describe_estimate(self._n_steps - self._step, left, self._on_cpu))


@contextlib.contextmanager
def open_display(done: int, n_steps: int, images_per_step: int, on_cpu: bool) -> Iterator[Display]:
    """Shows the steps of a run while the body trains. `Display` explains the arguments."""
    is_visible = console.is_terminal(sys.stderr) or _in_notebook()
    bar = tqdm(
        total=n_steps, initial=done, dynamic_ncols=True, disable=not is_visible,
        bar_format="{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}{postfix}",
    )
    display = Display(bar, done, n_steps, images_per_step, on_cpu)
    loggers = [logger for logger in (log.root, log) if any(map(_is_shown, logger.handlers))]
    with bar, repeat(display.log_line, _HEARTBEAT) if bar.disable else logging_redirect_tqdm(loggers, type(bar)):
        yield display


@contextlib.contextmanager
def repeat(function: Callable[[], None], seconds: float) -> Iterator[None]:
    """Calls `function` in a thread every `seconds` seconds while the body runs."""
    ended = threading.Event()

    def work() -> None:
        while not ended.wait(seconds):
            function()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def describe_estimate(n_steps: int, seconds: float, on_cpu: bool) -> str:
    """Says how long the remaining `n_steps` steps take; suggests a faster setup if a CPU needs more than two days."""
    text = f"the remaining {n_steps:,} steps take about {format_duration(seconds)}"
    if on_cpu and seconds > _TOO_LONG:
        text += f" on this CPU: use a GPU, or {_FAST_PRESET}, which trains small networks at 128 px in an hour"
    return text


def summarize_losses(scalars: Mapping[str, float]) -> list[str]:
    """Formats at most three losses as "NAME VALUE": the generators', the discriminators', and the next one.

    A value is the mean over both domains or directions: gen is the mean of loss/gen_ab and loss/gen_ba.
    """
    found: dict[str, list[float]] = {}
    for name, value in scalars.items():
        if name.startswith("loss/"):
            found.setdefault(re.sub("_(a|b|ab|ba)$", "", name.removeprefix("loss/")), []).append(value)
    order = {"gen": 0, "disc": 1, "generators": 3}  # "generators" is a sum of losses.
    names = sorted(found, key=lambda name: order.get(name, 2))
    return [f"{name} {statistics.fmean(found[name]):.3f}" for name in names[:3]]


def format_time(seconds: float) -> str:
    """Formats a time as 2:30 (minutes) or 3:00:00 (hours), and as a rough duration if it is longer than two days."""
    if seconds > _TOO_LONG:
        return format_duration(seconds)
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def format_duration(seconds: float) -> str:
    """Formats a rough duration, such as 40 seconds, 12 minutes, 3.5 hours, 9 days or 5 weeks."""
    if round(seconds) == 1:
        return "1 second"
    for unit, size, most in (("seconds", 1, 90), ("minutes", 60, 90), ("hours", 3600, 36), ("days", 86400, 21)):
        if seconds / size < most:
            return f"{seconds / size:.{1 if unit == 'hours' else 0}f} {unit}"
    return f"{seconds / (7 * 86400):.0f} weeks"


def _is_shown(handler: logging.Handler) -> bool:
    return isinstance(handler, logging.StreamHandler) and handler.stream in (sys.stdout, sys.stderr)


def _in_notebook() -> bool:
    """True in a Jupyter kernel, which shows tqdm's bars although its stderr is not a terminal."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell is not None and "IPKernelApp" in shell.config

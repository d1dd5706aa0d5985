"""The display of a run: speed, time left, losses, the bar on a terminal, and the log lines without a terminal."""

import contextlib
import fcntl
import io
import os
import re
import struct
import sys
import termios
import threading
import types

import pytest

from cyclegan_tf.training import progress
from cyclegan_tf.training.progress import Display, Pace

LOSSES = {
    "loss/gen_ab": 0.2, "loss/gen_ba": 0.4, "loss/cycle_a": 1.0, "loss/cycle_b": 2.0, "loss/identity_a": 9.0,
    "loss/generators": 99.0, "loss/disc_a": 0.25, "loss/disc_b": 0.75, "score/real_a": 7.0, "grad_norm/gen_ab": 8.0,
}


class Clock:
    """A clock that shows the time in `now`, which a test sets."""

    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_speed_excludes_the_first_step_and_pauses(clock):
    pace = Pace(100, clock)
    clock.now = 60.0  # Tracing.
    pace.count(2)
    assert (pace.speed, pace.read_speed(), pace.seconds_left) == (None, None, None)
    clock.now = 62.0
    pace.count(12)
    assert pace.speed == pace.read_speed() == 5.0  # 10 images in 2 s.
    with pace.pause():
        clock.now = 70.0
    assert pace.speed == 5.0
    clock.now = 72.0
    pace.count(42)
    assert pace.read_speed() == 15.0  # 30 images in the 2 s after the pause.
    assert pace.speed == 10.0  # 40 images in 4 s.
    # With the pause, 40 images took 12 s, so the other 58 take 17.4 s.
    assert pace.seconds_left == pytest.approx(17.4)
    assert pace.read_speed() is None


def test_a_pause_is_counted_also_if_it_ends_with_an_error(clock):
    pace = Pace(4, clock)
    pace.count(1)
    with contextlib.suppress(ValueError), pace.pause():
        clock.now = 10.0
        raise ValueError
    clock.now = 11.0
    pace.count(2)
    assert pace.speed == 1.0


@pytest.mark.parametrize(("scalars", "shown"), [
    pytest.param(LOSSES, ["gen 0.300", "disc 0.500", "cycle 1.500"], id="cyclegan"),
    pytest.param({"loss/gen_ab": 1.0, "loss/nce": 2.0, "loss/nce_identity": 3.0, "loss/generators": 6.0,
                  "loss/disc_b": 0.5}, ["gen 1.000", "disc 0.500", "nce 2.000"], id="cut"),
    pytest.param({"loss/disc_b": 0.5, "loss/gen_ab": 1.0, "loss/l1": 30.0, "loss/generators": 31.0},
                 ["gen 1.000", "disc 0.500", "l1 30.000"], id="pix2pix"),
    pytest.param({"loss/generators": 6.0, "loss/nce": 2.0, "loss/gen_ab": 1.0, "loss/disc_b": 0.5},
                 ["gen 1.000", "disc 0.500", "nce 2.000"], id="sum_first"),
    pytest.param({"loss/generators": 2.0}, ["generators 2.000"], id="one"),
    pytest.param({}, [], id="none"),
])
def test_at_most_three_losses_are_shown(scalars, shown):
    assert progress.summarize_losses(scalars) == shown


@pytest.mark.parametrize(("seconds", "text"), [
    (0.4, "0:00"), (59.6, "1:00"), (150, "2:30"), (3599.7, "1:00:00"), (10_805, "3:00:05"), (9 * 86400, "9 days"),
])
def test_format_time(seconds, text):
    assert progress.format_time(seconds) == text


@pytest.mark.parametrize(("seconds", "text"), [
    (0.4, "0 seconds"), (1, "1 second"), (1.6, "2 seconds"),
    (89, "89 seconds"), (90, "2 minutes"), (45 * 60, "45 minutes"), (2 * 3600, "2.0 hours"),
    (35 * 3600, "35.0 hours"), (2 * 86400, "2 days"), (20 * 86400, "20 days"), (21 * 86400, "3 weeks"),
    (89.6, "90 seconds"), (128_000, "35.6 hours"),
])
def test_format_duration(seconds, text):
    assert progress.format_duration(seconds) == text


def make_display(clock, n_steps=100, images_per_step=2, on_cpu=True):
    bar = types.SimpleNamespace(disable=True)
    return Display(bar, 0, n_steps, images_per_step, on_cpu, Pace(n_steps * images_per_step, clock))


def test_lines_without_a_terminal(clock, caplog):
    caplog.set_level("INFO", "cyclegan_tf")
    display = make_display(clock)
    display.log_line()
    for step in (1, 2, 3):
        display.complete_step(step, LOSSES)
        clock.now += 1.0
    display.log_line()
    with display.pause("measuring"):
        display.log_line()
    display.log_epoch(1, LOSSES)
    display.complete_step(100, LOSSES)
    losses = "gen 0.300, disc 0.500, cycle 1.500"
    assert caplog.messages == [
        "step 0/100: preparing the first step",
        f"step 1/100: {losses}",
        # Steps 2 and 3 took 2 s, so 2 images take 1 s, and 97 steps 97 s.
        f"step 3/100: {losses}, 2.0 images/s, 1:37 left",
        f"step 3/100: {losses}, 2.0 images/s, 1:37 left, measuring",
        f"epoch 1 done: {losses}, 2.0 images/s, 1:37 left",
        f"step 100/100: {losses}, 66.0 images/s",
    ]


def test_a_slow_run_has_a_speed(clock, caplog):
    caplog.set_level("INFO", "cyclegan_tf")
    display = make_display(clock)
    for step in (1, 2, 3):
        display.complete_step(step, LOSSES)
        clock.now += 25.0
    display.log_line()
    assert ", 0.08 images/s, " in caplog.messages[-1]


def test_an_epoch_is_one_line_of_at_most_100_characters(clock, caplog):
    caplog.set_level("INFO", "cyclegan_tf")
    display = make_display(clock, n_steps=2**31 - 1)
    for step in (1, 2):
        display.complete_step(step, LOSSES)
        clock.now += 1e-6
    display.log_epoch(2**31 - 1, {f"loss/{'x' * 30}{i}": -1e9 for i in range(9)})
    assert len(caplog.messages[-1]) <= 100


@pytest.mark.parametrize(("seconds", "on_cpu", "message"), [
    (10.0, True, "the remaining 98 steps take about 16 minutes"),
    # 98 steps of 5 hours.
    (18_000.0, True, "the remaining 98 steps take about 20 days on this CPU: use a GPU, or --preset=fast_cpu, which "
                     "trains small networks at 128 px in an hour"),
    (18_000.0, False, "the remaining 98 steps take about 20 days"),
])
def test_the_length_of_a_run_is_estimated_once(clock, caplog, seconds, on_cpu, message):
    caplog.set_level("INFO", "cyclegan_tf")
    display = make_display(clock, on_cpu=on_cpu)
    for step in (1, 2, 3, 4):
        display.complete_step(step, {})
        clock.now += seconds
    assert [line for line in caplog.messages if "remaining" in line] == [message]


def test_the_end_of_a_run_is_not_estimated(clock, caplog):
    caplog.set_level("INFO", "cyclegan_tf")
    display = make_display(clock, n_steps=4)
    for step in (1, 2, 3, 4):
        display.complete_step(step, {})
        clock.now += 10.0
    assert "remaining" not in caplog.text


def test_a_function_is_repeated_until_the_body_ends():
    called = threading.Semaphore(0)
    with progress.repeat(called.release, 0.001):
        for _ in range(3):
            assert called.acquire(timeout=5)
    alive = [thread for thread in threading.enumerate() if thread.daemon and "work" in thread.name]
    assert alive == []


def record_terminal(columns, monkeypatch, function):
    """Calls `function` with a terminal of some width as stderr; returns everything that the terminal receives."""
    shown, stderr = os.openpty()
    fcntl.ioctl(stderr, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with open(stderr, "w") as stream, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        function()
    text = b""
    with contextlib.suppress(OSError), open(shown, "rb", buffering=0) as file:  # The end of a terminal is an error.
        while data := file.read(4096):
            text += data
    return text.decode()


@pytest.mark.parametrize(("columns", "least", "most"), [(200, 5, 5), (100, 4, 5), (70, 1, 4), (30, 0, 0)])
def test_bar_fits_the_terminal_and_keeps_its_length(monkeypatch, columns, least, most):
    def train():
        with progress.open_display(1000, 5000, 1, on_cpu=True) as display:
            for step in (1001, 1002, 1003):
                display.complete_step(step, LOSSES)

    text = record_terminal(columns, monkeypatch, train)
    last = re.split(r"[\r\n]+", text.strip())[-1].replace("\x1b[A", "")
    assert len(last) <= columns
    bar, *fields = re.match(r" 20%\|(.*)\| 1003/5000(.*)", last).groups()[0], *last.split(", ")[1:]
    assert len(bar) >= 10
    assert least <= len(fields) <= most
    wanted = [r"[\d.]+ images/s", r"\d+:\d\d left", "gen 0.300", "disc 0.500", "cycle 1.500"]
    for pattern, field in zip(wanted, fields, strict=False):
        assert re.fullmatch(pattern, field)


def test_bar_is_shown_in_a_notebook(monkeypatch):
    kernel = types.SimpleNamespace(config={"IPKernelApp": {}})
    for shell, shown in (kernel, True), (types.SimpleNamespace(config={}), False), (None, False):
        monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda shell=shell: shell))
        monkeypatch.setattr(sys, "stderr", io.StringIO())
        with progress.open_display(0, 3, 1, on_cpu=True) as display:
            display.complete_step(1, LOSSES)
        assert ("1/3, gen 0.300" in sys.stderr.getvalue()) is shown

"""Signals that ask a run to stop, and runs that lose their terminal or pipe."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from conftest import run_python, skip_outputs, wait_for_step

from cyclegan_tf.config import Config
from cyclegan_tf.errors import Stopped
from cyclegan_tf.runs import checkpoints
from cyclegan_tf.runs.metrics_log import read_records
from cyclegan_tf.training import distribution, signals, trainer

# Small networks, so that a run starts quickly.
OPTIONS = [
    "--preset=tiny", "--max_steps=100000", "--checkpoint_every=0", "--sample_every=0", "--discriminator=pixel",
    "--lambda_identity=0",
]
COMMAND = [sys.executable, "-m", "cyclegan_tf.train", *OPTIONS]
EACH = pytest.mark.parametrize("signum", signals.SIGNALS, ids=lambda signum: signum.name)


def send(signum):
    os.kill(os.getpid(), signum)


def handlers():
    return [signal.getsignal(signum) for signum in signals.SIGNALS]


@EACH
def test_signal_is_deferred_to_the_end_of_a_step(signum, caplog):
    before = handlers()
    with signals.catch_signals() as requests, pytest.raises(Stopped) as stopped, requests.defer() as get_signal:
        assert get_signal() is None
        send(signum)
        assert get_signal() == signum
        until = time.monotonic() + 10
        while not caplog.records and time.monotonic() < until:
            time.sleep(0.01)
    assert stopped.value.signum == signum
    assert handlers() == before
    line, = caplog.messages
    assert line.startswith(f"received {signum.name}: finishing this step, then saving")


@EACH
def test_signal_outside_of_steps_stops_the_run(signum, caplog):
    with signals.catch_signals(), pytest.raises(Stopped, match=f"^stopped by {signum.name}; start again to resume"):
        send(signum)
    assert not caplog.records


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGHUP, 129), (signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_status_is_the_shells(signum, status):
    stopped = Stopped(signum, 3)
    assert (stopped.signum, stopped.status) == (signum, status)
    assert str(stopped) == f"stopped by {signal.Signals(signum).name} after step 3; start again to resume"


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM], ids=lambda signum: signum.name)
def test_second_interrupt_from_python_raises_keyboard_interrupt(signum):
    with signals.catch_signals() as requests, pytest.raises(KeyboardInterrupt) as raised, requests.defer():
        send(signum)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        send(signal.SIGINT)
    assert raised.type is KeyboardInterrupt


class Exit(BaseException):
    """Raised by os._exit in a test."""


@pytest.fixture
def exits(monkeypatch):
    """Lists the statuses that os._exit receives; in the main thread, os._exit raises Exit."""
    statuses = []

    def exit_(status):
        statuses.append(status)
        if threading.current_thread() is threading.main_thread():
            raise Exit

    monkeypatch.setattr(os, "_exit", exit_)
    return statuses


def test_second_signal_of_a_command_exits_at_once(exits):
    with pytest.raises(Exit), signals.catch_signals(exit_on_second=True) as requests, requests.defer():
        send(signal.SIGTERM)
        send(signal.SIGINT)
    assert set(exits) == {130}


def test_second_signal_exits_while_the_main_thread_computes():
    # Handlers run in the main thread, which is busy in C code here, for minutes.
    code = (
        "import hashlib, os, signal, threading\nfrom cyclegan_tf.training import signals\n"
        "with signals.catch_signals(exit_on_second=True) as requests, requests.defer():\n"
        "    kill = lambda: os.kill(os.getpid(), signal.SIGTERM)\n"
        "    for seconds in (0.2, 0.4): threading.Timer(seconds, kill).start()\n"
        "    hashlib.pbkdf2_hmac('sha256', b'', b'', 2**31 - 1)"
    )
    assert run_python("-c", code, timeout=20).returncode == 143


@pytest.mark.parametrize("exit_on_second", [False, True])
def test_closed_terminal_may_send_several_signals(exit_on_second, exits):
    def receive(*signums):
        with signals.catch_signals(exit_on_second) as requests, pytest.raises(Stopped) as stopped, requests.defer():
            for signum in signums:
                send(signum)
        return stopped.value.signum

    assert receive(signal.SIGHUP, signal.SIGHUP) == signal.SIGHUP
    # As systemd does with SendSIGHUP=yes.
    assert receive(signal.SIGTERM, signal.SIGHUP) == signal.SIGTERM
    assert receive(signal.SIGHUP, signal.SIGTERM) == signal.SIGHUP
    assert not exits


@EACH
def test_ignored_signal_stays_ignored(signum):
    before = signal.signal(signum, signal.SIG_IGN)  # As nohup does with SIGHUP.
    try:
        with signals.catch_signals():
            send(signum)
            assert signal.getsignal(signum) is signal.SIG_IGN
    finally:
        signal.signal(signum, before)


def test_handler_does_not_print(monkeypatch):
    # A handler may interrupt the main thread in the middle of a line, so another thread logs.
    threads, logged = [], threading.Event()

    def log(*arguments):
        threads.append(threading.current_thread().name)
        logged.set()

    monkeypatch.setattr(signals.log, "warning", log)
    with signals.catch_signals() as requests, pytest.raises(Stopped), requests.defer():
        send(signal.SIGTERM)
        assert logged.wait(10)
    assert threads == ["signals"]


def test_other_signals_are_not_requests(exits):
    before = signal.signal(signal.SIGUSR1, lambda signum, frame: None)
    try:
        with signals.catch_signals(exit_on_second=True) as requests, requests.defer() as get_signal:
            send(signal.SIGUSR1)
            send(signal.SIGUSR1)
            assert get_signal() is None
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert not exits


@pytest.mark.filterwarnings("ignore")  # Python warns about forks of processes that have threads.
def test_forks_end_when_they_are_told_to(caplog):
    reader, writer = os.pipe()
    with signals.catch_signals(exit_on_second=True) as requests, requests.defer() as get_signal:
        for _ in range(2):  # As the workers of a multiprocessing.Pool when it is left.
            child = os.fork()
            if child == 0:
                os.write(writer, b"x")
                time.sleep(20)
                os._exit(0)
            os.read(reader, 1)
            os.kill(child, signal.SIGTERM)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
        assert get_signal() is None
    assert not caplog.records


def test_other_threads_cannot_catch_signals():
    results = []

    def catch():
        with signals.catch_signals() as requests, requests.defer() as get_signal:
            results.append(get_signal())

    thread = threading.Thread(target=catch)
    thread.start()
    thread.join()
    assert results == [None]


@pytest.fixture
def signals_at(monkeypatch):
    """Returns signals_at(step, *signums), which sends these signals once to a run in this process before the step."""
    skip_outputs(monkeypatch)
    train_step, planned = distribution.OneReplica.train_step, {}

    def train_step_after_signals(self, model, *arguments):
        for signum in planned.pop(int(model.optimizers["gen_ab"].iterations) + 1, ()):
            send(signum)
        return train_step(self, model, *arguments)

    monkeypatch.setattr(distribution.OneReplica, "train_step", train_step_after_signals)
    return lambda step, *signums: planned.update({step: signums})


def check_saved(workdir, signame):
    """Asserts that a run stopped by a signal has saved its last step, and that log.txt names the signal."""
    step = int(checkpoints.read_newest(str(workdir / "checkpoints"))[1]["step"])
    assert step >= 3
    assert read_records(workdir)[-1]["step"] == step
    log = (workdir / "log.txt").read_text()
    assert f"WARNING received {signame}: finishing this step, then saving" in log
    assert log.splitlines()[-1].endswith(f"ERROR stopped by {signame} after step {step}; start again to resume")
    return step


def test_closed_terminal_saves_the_run(signals_at, run_command, tmp_path):
    signals_at(3, signal.SIGHUP, signal.SIGHUP)
    child = run_command("cyclegan_tf.train", *OPTIONS, f"--workdir={tmp_path}")
    assert child.returncode == 129
    step = check_saved(tmp_path, "SIGHUP")
    assert child.stderr.splitlines()[-1] == f"stopped by SIGHUP after step {step}; start again to resume"


def test_run_interrupted_twice_from_python_can_resume_in_the_same_process(signals_at, tmp_path):
    config = Config.preset("tiny", checkpoint_every=1, discriminator="pixel", lambda_identity=0.0)
    before = handlers()
    signals_at(3, signal.SIGINT, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt) as raised:
        trainer.train(config, str(tmp_path))
    assert raised.type is KeyboardInterrupt
    assert handlers() == before
    assert checkpoints.list_files(str(tmp_path / "checkpoints"))[0][0] == 2
    trainer.train(config, str(tmp_path))
    assert checkpoints.list_files(str(tmp_path / "checkpoints"))[0][0] == config.max_steps


def wait_for(lines, text):
    for line in lines:
        if text in line:
            return
    pytest.fail(f"the run ended before it printed: {text}")


def test_ctrl_c_that_ends_the_reader_first_saves_the_run(tmp_path):
    # As `python -m cyclegan_tf.train 2>&1 | tee log` and Ctrl-C.
    child = subprocess.Popen([*COMMAND, f"--workdir={tmp_path}"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                             text=True)
    wait_for(child.stdout, "step 1/")
    wait_for_step(tmp_path, 3)
    child.stdout.close()
    child.send_signal(signal.SIGINT)
    assert child.wait() == 130
    check_saved(tmp_path, "SIGINT")


def test_second_signal_stops_at_once(tmp_path):
    child = subprocess.Popen([*COMMAND, f"--workdir={tmp_path}"], stderr=subprocess.PIPE, text=True)
    wait_for(child.stderr, "training steps")  # The first step is traced next, which takes seconds.
    child.send_signal(signal.SIGINT)
    wait_for(child.stderr, "a second Ctrl-C or SIGTERM stops at once")
    child.send_signal(signal.SIGINT)
    child.stderr.close()
    assert child.wait(timeout=3) == 130
    assert not checkpoints.list_files(str(tmp_path / "checkpoints"))

"""Signals that ask a run to stop, and runs whose terminal or pipe is gone."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from cyclegan_tf.errors import Stopped
from cyclegan_tf.runs import checkpoints
from cyclegan_tf.runs.metrics_log import read_records
from cyclegan_tf.training import signals

# Small networks, so that a run starts quickly.
TRAIN = [
    sys.executable, "-m", "cyclegan_tf.train", "--preset=tiny", "--max_steps=100000", "--checkpoint_every=0",
    "--sample_every=0", "--discriminator=pixel", "--lambda_identity=0",
]
EACH = pytest.mark.parametrize("signum", signals.SIGNALS, ids=lambda signum: signum.name)


def send(signum):
    os.kill(os.getpid(), signum)


def handlers():
    return [signal.getsignal(signum) for signum in signals.SIGNALS]


@EACH
def test_first_signal_is_a_request(signum, caplog):
    before = handlers()
    with signals.catch_signals() as get_signal:
        assert get_signal() is None
        send(signum)
        assert get_signal() == signum
    assert handlers() == before
    assert f"received {signum.name}: finishing this step, then saving" in caplog.text
    assert len(caplog.records) == 1


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGHUP, 129), (signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_status_is_the_shells(signum, status):
    stopped = Stopped(signum, 3)
    assert (stopped.signum, stopped.status) == (signum, status)
    assert str(stopped) == f"stopped by {signal.Signals(signum).name} after step 3; start again to resume"


@EACH
def test_second_interrupt_from_python_raises_keyboard_interrupt(signum):
    with signals.catch_signals() as get_signal:
        send(signum)
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)
        assert get_signal() == signum
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.fixture
def exits(monkeypatch):
    """The exit statuses that os._exit gets; it does not exit."""
    statuses, called = [], threading.Event()
    monkeypatch.setattr(os, "_exit", lambda status: [statuses.append(status), called.set()])
    statuses_of = lambda: [called.wait(5), statuses][1]  # noqa: E731
    return statuses_of


def test_second_signal_of_a_command_exits(exits):
    with signals.catch_signals(exit_on_second=True):
        send(signal.SIGTERM)
        send(signal.SIGINT)
    assert set(exits()) == {130}


def test_closed_terminal_may_send_more_than_one_signal(exits):
    for exit_on_second in (False, True):
        with signals.catch_signals(exit_on_second) as get_signal:
            send(signal.SIGHUP)
            send(signal.SIGHUP)
            assert get_signal() == signal.SIGHUP
    with signals.catch_signals(exit_on_second=True) as get_signal:
        send(signal.SIGTERM)
        send(signal.SIGHUP)  # As systemd does with SendSIGHUP=yes.
        assert get_signal() == signal.SIGTERM


@EACH
def test_ignored_signal_stays_ignored(signum):
    before = signal.signal(signum, signal.SIG_IGN)  # As nohup does with SIGHUP.
    try:
        with signals.catch_signals() as get_signal:
            send(signum)
            assert get_signal() is None
            assert signal.getsignal(signum) is signal.SIG_IGN
    finally:
        signal.signal(signum, before)


def test_handler_does_not_print(monkeypatch, capfd):
    # A handler may interrupt the main thread in the middle of a line, so another thread must log.
    threads = []
    monkeypatch.setattr(signals.log, "warning", lambda *arguments: threads.append(threading.current_thread()))
    with signals.catch_signals():
        send(signal.SIGTERM)
    assert [thread.name for thread in threads] == ["signals"]
    assert capfd.readouterr() == ("", "")


def test_other_signals_are_not_requests(caplog):
    before = signal.signal(signal.SIGUSR1, lambda signum, frame: None)
    try:
        with signals.catch_signals() as get_signal:
            send(signal.SIGUSR1)
            assert get_signal() is None
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert not caplog.records


def test_other_threads_cannot_catch_signals():
    results = []

    def catch():
        with signals.catch_signals() as get_signal:
            results.append(get_signal())

    thread = threading.Thread(target=catch)
    thread.start()
    thread.join()
    assert results == [None]


def wait_for(lines, text):
    for line in lines:
        if text in line:
            return
    pytest.fail(f"the run ended before it printed: {text}")


def check_saved(workdir, signame):
    """Asserts that a run stopped by a signal has saved its last step, and that log.txt tells the signal."""
    step = int(checkpoints.read_newest(str(workdir / "checkpoints"), report=pytest.fail)[1]["step"])
    assert step >= 3
    assert read_records(workdir)[-1]["step"] == step
    log = (workdir / "log.txt").read_text()
    assert f"WARNING received {signame}: finishing this step, then saving" in log
    assert log.splitlines()[-1].endswith(f"ERROR stopped by {signame} after step {step}; start again to resume")
    return step


def test_closed_terminal_saves_the_run(tmp_path):
    child = subprocess.Popen([*TRAIN, f"--workdir={tmp_path}"], stderr=subprocess.PIPE, text=True)
    wait_for(child.stderr, "step 3/")
    child.send_signal(signal.SIGHUP)
    child.send_signal(signal.SIGHUP)
    rest = child.stderr.read()
    child.stderr.close()
    assert child.wait() == 129
    step = check_saved(tmp_path, "SIGHUP")
    assert rest.splitlines()[-1] == f"stopped by SIGHUP after step {step}; start again to resume"
    assert "Traceback" not in rest


def test_ctrl_c_that_ends_the_reader_first_saves_the_run(tmp_path):
    # As `python -m cyclegan_tf.train 2>&1 | tee log` and Ctrl-C.
    child = subprocess.Popen(
        [*TRAIN, f"--workdir={tmp_path}"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    wait_for(child.stdout, "step 3/")
    child.stdout.close()
    child.send_signal(signal.SIGINT)
    assert child.wait() == 130
    check_saved(tmp_path, "SIGINT")


def test_second_signal_stops_at_once(tmp_path):
    child = subprocess.Popen([*TRAIN, f"--workdir={tmp_path}"], stderr=subprocess.PIPE, text=True)
    wait_for(child.stderr, "training steps")  # The first step is traced next, which takes seconds.
    child.send_signal(signal.SIGINT)
    wait_for(child.stderr, "a second signal stops at once")
    child.send_signal(signal.SIGINT)
    child.stderr.close()
    assert child.wait(timeout=3) == 130
    assert not checkpoints.list_files(str(tmp_path / "checkpoints"))

"""Runs several workers on this machine, each in its own process."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from types import FrameType

from cyclegan_tf.training.signals import SIGNALS


def make_environments(n_workers: int) -> list[dict[str, str]]:
    """Makes the environment of each worker: a copy of this process's, with TF_CONFIG for free loopback ports."""
    sockets = [socket.socket() for _ in range(n_workers)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    cluster = {"worker": [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]}
    for one in sockets:
        one.close()
    return [
        {**os.environ, "TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})}
        for index in range(n_workers)
    ]


def launch(n_workers: int, arguments: Sequence[str], grace_seconds: float = 20.0) -> int:
    """Runs cyclegan_tf.train with `arguments` in `n_workers` processes; returns the exit status.

    Forwards the `SIGNALS` that ask a run to stop to all workers.

    Args:
      grace_seconds: after one worker fails, the other workers have this many seconds to print their errors and exit;
        then `launch` kills them.

    Returns:
      0, or the status of the first worker that failed; 128 plus the signal if a signal killed the worker, or arrived
      before all workers had started.
    """
    command = [sys.executable, "-m", "cyclegan_tf.train", *arguments]
    workers: list[subprocess.Popen] = []
    requests: list[int] = []

    def forward(signum: int, frame: FrameType | None) -> None:
        del frame
        requests.append(signum)
        _signal_all(workers, signum)

    previous = {
        signum: signal.signal(signum, forward)
        for signum in SIGNALS if signal.getsignal(signum) is not signal.SIG_IGN
    }
    printers: list[threading.Thread] = []
    try:
        for index, env in enumerate(make_environments(n_workers)):
            if requests:
                return 128 + requests[0]
            # Each worker has its own session, so Ctrl-C reaches only this process, which forwards the signal once.
            worker = subprocess.Popen(
                command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
            )
            workers.append(worker)
            printers.append(threading.Thread(target=_print_lines, args=(index, worker.stdout)))
            printers[-1].start()
        if requests:  # The signal may have come before the last worker could get it. No worker has trained yet.
            return 128 + requests[0]
        return _wait(workers, grace_seconds)
    finally:
        for worker in workers:
            worker.kill()
        for printer in printers:
            printer.join()
        for signum, handler in previous.items():
            if handler is not None:  # None stands for a handler from outside Python, which Python cannot restore.
                signal.signal(signum, handler)


def _wait(workers: Sequence[subprocess.Popen], grace_seconds: float) -> int:
    """Waits until all workers end or the grace period after the first failure is over; returns the exit status."""
    failed, deadline = 0, float("inf")
    while None in [worker.poll() for worker in workers] and time.monotonic() < deadline:
        statuses = [worker.returncode for worker in workers if worker.returncode]
        if statuses and not failed:
            failed, deadline = statuses[0], time.monotonic() + grace_seconds
        time.sleep(0.1)
    failed = failed or next((worker.returncode for worker in workers if worker.returncode), 0)
    return 128 - failed if failed < 0 else failed


def _signal_all(workers: Sequence[subprocess.Popen], signum: int) -> None:
    for worker in workers:
        if worker.poll() is None:
            worker.send_signal(signum)


def _print_lines(index: int, lines: Iterable[bytes]) -> None:
    """Prints the output of worker `index`, each line with the number of the worker."""
    for line in lines:
        sys.stdout.buffer.write(b"[%d] " % index + line)
        sys.stdout.buffer.flush()

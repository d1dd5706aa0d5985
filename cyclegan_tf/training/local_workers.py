"""Several workers on this machine, each a process of its own."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

_PATIENCE = 20.0  # Seconds that others have to end after one has failed: they say why.


def environments(n_workers):
    """The environment of each worker: this one's, and TF_CONFIG with free ports of the loopback interface."""
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


def launch(n_workers, arguments):
    """Runs cyclegan_tf.train with `arguments` in `n_workers` processes; returns the exit status of all.

    That is 0, or the first one that was not.
    """
    command = [sys.executable, "-m", "cyclegan_tf.train", *arguments]
    workers = [
        # In sessions of their own: Ctrl-C comes here alone, and is passed on once.
        subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
        for env in environments(n_workers)
    ]
    printers = [threading.Thread(target=_print, args=(index, one.stdout)) for index, one in enumerate(workers)]
    for printer in printers:
        printer.start()
    before = {
        signum: signal.signal(signum, lambda signum, frame: _signal(workers, signum))
        for signum in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        return _wait(workers)
    finally:
        _signal(workers, signal.SIGKILL)
        for printer in printers:
            printer.join()
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _wait(workers):
    """Waits for all; once one has failed only for a while."""
    failed, until = 0, float("inf")
    while None in [worker.poll() for worker in workers] and time.monotonic() < until:
        failing = [worker.returncode for worker in workers if worker.returncode]
        if failing and not failed:
            failed, until = failing[0], time.monotonic() + _PATIENCE
        time.sleep(0.1)
    failed = failed or next((worker.returncode for worker in workers if worker.returncode), 0)
    return 128 - failed if failed < 0 else failed


def _signal(workers, signum):
    for worker in workers:
        if worker.poll() is None:
            worker.send_signal(signum)


def _print(index, lines):
    for line in lines:
        sys.stdout.buffer.write(b"[%d] " % index + line)
        sys.stdout.buffer.flush()

"""Treats signals as requests to stop: the training loop finishes its step and saves its state before it stops."""

import contextlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from cyclegan_tf.errors import Stopped

log = logging.getLogger("cyclegan_tf")

# Signals that ask a run to stop. SIGHUP means that a terminal was closed; Windows has no SIGHUP.
SIGNALS = tuple(one for one in signal.Signals if one.name in ("SIGTERM", "SIGINT", "SIGHUP"))
# Returns the signal that asks this process to stop, if one has arrived.
GetSignal = Callable[[], int | None]

_SIGHUP = getattr(signal, "SIGHUP", None)
# The handlers from before `catch_signals`, while its body runs; a fork of this process restores these handlers.
_handlers_of_forks: dict[int, Any] = {}


class Requests:
    """Stores the first of `SIGNALS` that arrives; the signal raises Stopped at once, except in the body of `defer`."""

    def __init__(self) -> None:
        self.received: int | None = None
        self.deferred = False

    @contextlib.contextmanager
    def defer(self) -> Iterator[GetSignal]:
        """Yields a function that returns the received signal or None; raises Stopped after the body if one arrived."""
        self.deferred = True
        try:
            yield lambda: self.received
        finally:
            self.deferred = False
        if self.received:
            raise Stopped(self.received)


@contextlib.contextmanager
def catch_signals(exit_on_second: bool = False) -> Iterator[Requests]:
    """Makes signals in the body requests to stop.

    A signal that this process ignored before, such as SIGHUP under nohup, stays ignored. Outside the main thread Python
    cannot handle signals; then no request arrives.

    Args:
      exit_on_second: what a second SIGINT or SIGTERM does. True: end the process at once with status 128 plus the
        signal, even in the middle of a computation. False: call the handler from before the body, so a second SIGINT
        raises KeyboardInterrupt. SIGHUP does not count, because a closed terminal sends several SIGHUPs, and service
        managers send SIGHUP together with SIGTERM.
    """
    requests = Requests()
    if threading.current_thread() is not threading.main_thread():
        yield requests
        return
    previous: dict[int, Any] = {
        one: handler for one in SIGNALS if (handler := signal.getsignal(one)) is not signal.SIG_IGN
    }

    # Handlers print nothing, because the signal may have interrupted a line that is being printed.
    def request_stop(signum: int, frame: FrameType | None) -> None:
        if signum != _SIGHUP:
            later = {one: exit_now if exit_on_second else handler for one, handler in previous.items()}
            _set_handlers({one: handler for one, handler in later.items() if one != _SIGHUP})
        if requests.received is None:
            requests.received = signum
            if not requests.deferred:
                raise Stopped(signum)

    def exit_now(signum: int, frame: FrameType | None) -> None:
        os._exit(128 + signum)

    with _announce(requests, frozenset(previous), exit_on_second):
        _handlers_of_forks.update(previous)
        _set_handlers(dict.fromkeys(previous, request_stop))
        try:
            yield requests
        finally:
            _set_handlers(previous)
            _handlers_of_forks.clear()


def _set_handlers(handlers: dict[int, Any]) -> None:
    for signum, handler in handlers.items():
        # None stands for a handler from outside Python, which Python cannot restore.
        signal.signal(signum, signal.SIG_DFL if handler is None else handler)


def _restore_in_fork() -> None:
    """Lets a fork, such as a worker of a multiprocessing.Pool in a callback, end when it receives a signal."""
    if _handlers_of_forks:
        signal.set_wakeup_fd(-1)
        _set_handlers(_handlers_of_forks)


if hasattr(os, "register_at_fork"):  # Windows has no forks.
    os.register_at_fork(after_in_child=_restore_in_fork)


@contextlib.contextmanager
def _announce(requests: Requests, signums: frozenset[int], exit_on_second: bool) -> Iterator[None]:
    """Logs the first deferred signal of `signums`, and exits on the second if `exit_on_second`, both in a thread.

    Python runs handlers in the main thread between two operations, so a handler may have to wait for the end of a
    training step. Python's C code sends the number of each signal to the socket at once.
    """
    receiver, sender = socket.socketpair()
    sender.setblocking(False)  # set_wakeup_fd requires this.

    def listen() -> None:
        received: set[int] = set()
        while numbers := receiver.recv(64):
            for signum in filter(signums.__contains__, numbers):
                if exit_on_second and signum != _SIGHUP and received - {_SIGHUP}:
                    os._exit(128 + signum)
                if not received and requests.deferred:
                    log.warning("received %s: finishing this step, then saving; a second Ctrl-C or SIGTERM stops at "
                                "once", signal.Signals(signum).name)
                received.add(signum)

    thread = threading.Thread(target=listen, daemon=True, name="signals")
    thread.start()
    previous = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(previous)
        sender.close()
        thread.join()
        receiver.close()

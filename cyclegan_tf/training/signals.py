"""Signals as requests to stop: the loop finishes its step and saves its state before it stops."""

import contextlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

log = logging.getLogger("cyclegan_tf")

# Signals that ask a run to stop. Windows has no SIGHUP, which tells that a terminal was closed.
SIGNALS = tuple(one for one in signal.Signals if one.name in ("SIGTERM", "SIGINT", "SIGHUP"))
_SIGHUP = getattr(signal, "SIGHUP", None)

@contextlib.contextmanager
def catch_signals(exit_on_second: bool = False) -> Iterator[Callable[[], int | None]]:
    """Yields a function that returns the first of `SIGNALS` received, or None.

    A signal that this process ignored before, such as SIGHUP under nohup, stays ignored. Outside the main thread Python
    cannot handle signals; then the function always returns None.

    Args:
      exit_on_second: what a second SIGINT or SIGTERM does. True: end the process at once with status 128 plus the
        signal, even in the middle of a computation. False: what it did before the body, so a second SIGINT raises
        KeyboardInterrupt. A second SIGHUP has no effect, because a closed terminal sends several.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    previous: dict[int, Any] = {one: signal.getsignal(one) for one in SIGNALS}
    previous = {one: handler for one, handler in previous.items() if handler is not signal.SIG_IGN}
    received: list[int] = []

    def handle(signum: int, frame: FrameType | None) -> None:
        # Does not print: the signal may have interrupted a line that is being printed.
        if exit_on_second and _is_second(signum, received):
            os._exit(128 + signum)
        received.append(signum)
        if not exit_on_second:
            _set_handlers({one: handler for one, handler in previous.items() if one != _SIGHUP})

    with _announce(frozenset(previous), exit_on_second):
        _set_handlers(dict.fromkeys(previous, handle))
        try:
            yield lambda: received[0] if received else None
        finally:
            _set_handlers(previous)


def _is_second(signum: int, received: list[int]) -> bool:
    return bool(received) and signum != _SIGHUP


def _set_handlers(handlers: dict[int, Any]) -> None:
    for signum, handler in handlers.items():
        # None: the handler is not Python's and cannot be set again from Python.
        signal.signal(signum, signal.SIG_DFL if handler is None else handler)


@contextlib.contextmanager
def _announce(signums: frozenset[int], exit_on_second: bool) -> Iterator[None]:
    """Logs the first of `signums` that arrives in the body, in a thread; and exits on the second, if asked to.

    Python runs its handlers in the main thread between two operations, so a handler may have to wait for the end of a
    training step. Python's C code sends each signal's number to the socket at once.
    """
    receiver, sender = socket.socketpair()
    sender.setblocking(False)  # set_wakeup_fd requires this.

    def listen() -> None:
        received: list[int] = []
        while numbers := receiver.recv(64):
            for signum in filter(signums.__contains__, numbers):
                if exit_on_second and _is_second(signum, received):
                    os._exit(128 + signum)
                if not received:
                    log.warning("received %s: finishing this step, then saving; a second signal stops at once",
                                signal.Signals(signum).name)
                received.append(signum)

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

"""Signals that stop or reload the service, and commands that they interrupt."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator, Set
from types import FrameType

STOP_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM}
INTERRUPTS = STOP_SIGNALS - {signal.SIGHUP}  # Those of the service: it reloads on SIGHUP.
INTERRUPT_RETRY = 0.05  # Seconds until a dropped ``KeyboardInterrupt`` is raised again.


def block_signals() -> None:
    """Block the stop signals, so that none is lost between two waits for a signal.

    Run each slow step inside ``interruptible``, which unblocks them.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS | {signal.SIGCHLD})
    for number in STOP_SIGNALS:
        ignored = signal.getsignal(number) == signal.SIG_IGN
        if not (ignored and number == signal.SIGHUP):  # Keep SIGHUP ignored for nohup.
            signal.signal(number, _interrupt)
    sys.unraisablehook = _interrupt_again


@contextlib.contextmanager
def interruptible(signals: Set[signal.Signals] = STOP_SIGNALS) -> Iterator[None]:
    """Unblock ``signals``: one of them raises ``KeyboardInterrupt`` inside the block."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)


def _interrupt(number: int, frame: FrameType | None) -> None:
    # Interrupt only once: a second signal must not interrupt the cleanup.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    raise KeyboardInterrupt


def _interrupt_again(unraisable: "sys.UnraisableHookArgs") -> None:
    # Python drops an exception that is raised in a finalizer or in a hook after a fork, so raise it
    # again a little later. docs/decisions/supervisor.md has the figures.
    if unraisable.exc_type is not KeyboardInterrupt:
        sys.__unraisablehook__(unraisable)
        return
    signal.setitimer(signal.ITIMER_REAL, INTERRUPT_RETRY)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})


def next_signal(awaited: set[signal.Signals], timeout: float) -> int | None:
    """Wait for a blocked signal in ``awaited``. Return ``None`` after ``timeout`` seconds."""
    if sys.platform == "darwin":  # No sigtimedwait on macOS, so no detection of hanging workers.
        return signal.sigwait(awaited)
    received = signal.sigtimedwait(awaited, max(0.0, timeout))
    return received.si_signo if received is not None else None


def has_terminal() -> bool:
    """Return whether this process has a terminal that is not closed."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True

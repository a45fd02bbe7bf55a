"""SIGTERM, which a cluster sends before it takes a machine back: training ends after its step, with a checkpoint."""

import contextlib
import os
import signal
import threading


class Stopped(BaseException):
    """Training was told to end and did, with a checkpoint: no failure, so no Exception, which a queue would survive."""


@contextlib.contextmanager
def on_sigterm():
    """Yields a function that tells whether SIGTERM came; one that nobody heeded ends the process afterwards.

    Whoever handles SIGTERM already goes on doing so, and another thread than the main one cannot: then it tells False.
    """
    free = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    if not free:
        yield lambda: False
        return
    came = []
    signal.signal(signal.SIGTERM, lambda number, frame: came.append(number))
    try:
        yield lambda: bool(came)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if came:
        os.kill(os.getpid(), signal.SIGTERM)

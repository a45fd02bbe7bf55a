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

    An error after it becomes a Stopped, or whoever survives errors would begin with something else.

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
    except Exception as error:
        if came:
            raise Stopped(f"stopped by SIGTERM; before that: {error}") from error
        raise
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if came:
        os.kill(os.getpid(), signal.SIGTERM)

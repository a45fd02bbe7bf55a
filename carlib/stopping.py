"""SIGTERM, which a cluster sends before it takes a machine back, and Ctrl-C: training ends after its step, with a
checkpoint.
"""

import contextlib
import os
import signal
import threading

_SAID = b"\ncarlib: stopping after this step, with a checkpoint (Ctrl-C again: at once, without)\n"


class Stopped(BaseException):
    """Training was told to end and did, with a checkpoint: no failure, so no Exception, which a queue would survive.

    number: the signal.
    """

    def __init__(self, told, number=signal.SIGTERM):
        super().__init__(told)
        self.number = number


class Told:
    """Called, it says whether a signal came; `number` is that signal, of a process that others told SIGTERM."""

    def __init__(self):
        self.came = None

    def __call__(self) -> bool:
        return self.came is not None

    @property
    def number(self):
        return signal.SIGTERM if self.came is None else self.came

    @property
    def by(self) -> str:
        return "Ctrl-C" if self.came == signal.SIGINT else "SIGTERM"


@contextlib.contextmanager
def on_sigterm():
    """Yields a Told, which knows of SIGTERM; one that nobody heeded ends the process afterwards.

    An error after it becomes a Stopped, or whoever survives errors would begin with something else.

    Whoever handles SIGTERM already goes on doing so, and another thread than the main one cannot: then it tells False.
    """
    told = Told()
    if not _free(signal.SIGTERM, signal.SIG_DFL):
        yield told
        return

    def heard(number, frame):
        told.came = number

    signal.signal(signal.SIGTERM, heard)
    try:
        yield told
    except Exception as error:
        if told():
            raise Stopped(f"stopped by {told.by}; before that: {error}", told.number) from error
        raise
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if told():
        os.kill(os.getpid(), told.number)


@contextlib.contextmanager
def on_ctrl_c(told):
    """Within it the first Ctrl-C lets `told` know, and says so on stderr; a second one interrupts as usual.

    Whoever handles SIGINT already, or ignores it, goes on doing so.
    """
    if not _free(signal.SIGINT, signal.default_int_handler):
        yield
        return

    def heard(number, frame):
        signal.signal(signal.SIGINT, signal.default_int_handler)
        told.came = number
        os.write(2, _SAID)

    signal.signal(signal.SIGINT, heard)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _free(number, usual) -> bool:
    return threading.current_thread() is threading.main_thread() and signal.getsignal(number) == usual

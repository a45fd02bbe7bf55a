"""SIGTERM, which a cluster sends before it takes a machine back, SIGHUP of a terminal that closes, and Ctrl-C.

Training ends after its step, with a checkpoint.
"""

import contextlib
import os
import signal
import threading

_SAID = b"\ncarlib: stopping soon, with a checkpoint (Ctrl-C again: at once, without)\n"


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

    def hear(self, number, frame):
        """A signal's handler."""
        self.came = number

    def __call__(self) -> bool:
        return self.came is not None

    @property
    def number(self):
        return signal.SIGTERM if self.came is None else self.came

    @property
    def by(self) -> str:
        return "Ctrl-C" if self.came == signal.SIGINT else signal.Signals(self.number).name


@contextlib.contextmanager
def on_sigterm():
    """Yields a Told, which knows of SIGTERM; one that nobody heeded ends the process afterwards.

    An error after it becomes a Stopped, or whoever survives errors would begin with something else.

    Whoever handles SIGTERM already goes on doing so, and another thread than the main one cannot: then it tells of
    Ctrl-C alone.
    """
    told = Told()
    with _handled(signal.SIGTERM, signal.SIG_DFL, told.hear):
        try:
            yield told
        except Exception as error:
            if told():
                raise Stopped(f"stopped by {told.by}; before that: {error}", told.number) from error
            raise
    if told():
        os.kill(os.getpid(), told.number)


@contextlib.contextmanager
def on_ctrl_c(told, bar=None):
    """Within it the first Ctrl-C lets `told` know, and says so on stderr; a second one interrupts as usual.

    So does SIGHUP, that of a closed terminal or a lost connection, silently.

    Whoever handles these signals already, or ignores them (nohup), goes on doing so.

    Args:
        bar: a progress bar, which then writes no more: who read it may have ended by the same Ctrl-C.
    """

    def heard(number, frame):
        told.hear(number, frame)
        if bar is not None:
            bar.disable = True
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            with contextlib.suppress(OSError):
                os.write(2, _SAID)

    hang_up = getattr(signal, "SIGHUP", signal.SIGTERM)  # which Windows has not
    with _handled(signal.SIGINT, signal.default_int_handler, heard), _handled(hang_up, signal.SIG_DFL, heard):
        yield


@contextlib.contextmanager
def _handled(number, usual, handler):
    """Within it `handler` handles a signal, if it is handled as usual and this is the main thread."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(number) != usual:
        yield
        return
    signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, usual)

"""Who waits for a compiler at a terminal is told so, once, and nobody else."""

import sys

import numba

from carlib.ops import compiled


def compile_one(module):
    def loop(number):
        return number + 1

    loop.__module__ = module
    assert numba.njit(loop)(1) == 2


def told(monkeypatch, capsys, *modules, at_terminal=True) -> list[str]:
    """What stderr gets while loops of these modules are compiled, one after the other."""
    monkeypatch.setattr(compiled.notice, "told", False)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: at_terminal)
    for module in modules:
        compile_one(module)
    return capsys.readouterr().err.splitlines()


def test_the_first_loop_of_a_process_says_what_takes_so_long(monkeypatch, capsys):
    line = "compiling loops for this processor, the first time: up to a minute"
    assert told(monkeypatch, capsys, "carlib.ops.one", "carlib.ops.other") == [line]


def test_loops_of_others_and_logs_are_left_alone(monkeypatch, capsys):
    assert told(monkeypatch, capsys, "numba.of.others", None) == []  # None: of functions that exec made
    assert told(monkeypatch, capsys, "carlib.ops.one", at_terminal=False) == []

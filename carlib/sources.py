"""Code told apart by a digest, so that what was computed with other code is computed anew."""

import ast
import functools
import hashlib
import time
from pathlib import Path

from carlib import models, rescale, runs

_PACKAGE = Path(__file__).parent
_BEGUN = time.time()


def digest_of_run(modules, run: runs.Run) -> str:
    """SHA-256 of the code that decides what a run gives: some modules, its downscaler, networks and operators.

    Comments, docstrings and layout do not count, nor does the version of Python.

    Args:
        modules: paths inside the package; the operators, networks and downscaler parts that they import count, too.
        run:     whose downscaler and networks.
    """
    waiting = [*modules, *(models.file_of(spec["name"]) for spec in run.networks().values())]
    if run.classical is None:
        return _digest(waiting)
    return _digest([*waiting, rescale.file_of(run.classical)], f"{rescale.CLASSICAL[run.classical]}\n")


def digest_of_downscaler(name) -> str:
    """SHA-256 of the code that decides what a classical downscaler gives, and of its options; as `digest_of_run`."""
    return _digest(["rescale.py", rescale.file_of(name)], f"{rescale.CLASSICAL[name]}\n")


def _digest(waiting, options="") -> str:
    """Of modules and of what they import (see _imports)."""
    digest, parsed = hashlib.sha256(options.encode()), {}
    while waiting:
        name = waiting.pop()
        if name not in parsed:
            path = _PACKAGE / name
            imports, parsed[name] = _parsed(path, path.stat().st_mtime_ns)
            waiting += imports
    for name in sorted(parsed, key=Path):
        digest.update(f"{name}\n{parsed[name]}\n".encode())
    return digest.hexdigest()


def digest_of_all() -> str:
    """SHA-256 of every file of the package, comments and all."""
    digest = hashlib.sha256()
    for path in sorted(_PACKAGE.rglob("*.py")):
        digest.update(f"{path.relative_to(_PACKAGE)}\n".encode() + path.read_bytes())
    return digest.hexdigest()


def edited() -> bool:
    """Whether a file of the package changed since this process began, which then runs other code than it digests.

    A notebook's kernel lives for hours.
    """
    return any(path.stat().st_mtime > _BEGUN for path in _PACKAGE.rglob("*.py"))


@functools.lru_cache(maxsize=256)
def _parsed(path, _modified):
    """A module's imports (see _imports) and its code as text; once a process, for runs share most modules."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return _imports(tree), _dump(_without_docstrings(tree))


def _imports(tree):
    """Files of the operators, network and downscaler parts that a module imports, relative to the package."""
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    wanted = ("carlib.ops.", "carlib.models.", "carlib.downscalers.")
    files = [f"{name.removeprefix('carlib.').replace('.', '/')}.py" for name in names if name.startswith(wanted)]
    return [file for file in files if (_PACKAGE / file).is_file()]  # not the names inside a module


def _without_docstrings(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return tree


def _dump(node) -> str:
    """As ast.dump, without empty fields, of which each version of Python has others."""
    if isinstance(node, list):
        return f"[{', '.join(map(_dump, node))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    if isinstance(node, ast.JoinedStr):  # Python 3.12 has empty strings in formats of formats
        node.values = [value for value in node.values if not (isinstance(value, ast.Constant) and value.value == "")]
    fields = [f"{name}={_dump(value)}" for name, value in ast.iter_fields(node) if value is not None and value != []]
    return f"{type(node).__name__}({', '.join(fields)})"

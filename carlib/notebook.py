"""Checks for a notebook's parameters, which papermill injects without looking at them; figures shown as pictures."""

import ast
import io

from carlib import runs

_DPI = 100  # of pictures in a notebook


class ParameterError(ValueError):
    """A parameter is wrong; shown in a notebook as one line, without a traceback."""

    def _render_traceback_(self):
        return [f"ParameterError: {self}"]


def parameters(namespace, **expected):
    """Check the parameters of a notebook against their types, and refuse injected names it does not have.

    From then on the notebook shows a matplotlib Figure as a picture, and the texts of a table whole.

    Args:
        namespace: the notebook's globals().
        expected:  name=type for every name of the parameters cell; a type may be a union such as int | None.
    Returns:
        dict of the parameters, to be shown.
    Raises:
        ParameterError: an unknown name was injected, one is missing, a type is wrong ("1e-4" arrives as text), or
            `profile` is not a profile.
    """
    if "get_ipython" in namespace:
        # By itself IPython draws figures of pyplot only, which carlib does without.
        pictures = namespace["get_ipython"]().display_formatter.formatters["image/png"]
        pictures.for_type_by_name("matplotlib.figure", "Figure", _png)
        import pandas as pd

        pd.set_option("display.max_colwidth", None)  # what the paper claims is shown whole
    unknown = [name for name in _injected(namespace) if name not in expected]
    if unknown:
        raise ParameterError(f"unknown parameter {', '.join(unknown)}: this notebook takes {', '.join(expected)}")
    if missing := [name for name in expected if name not in namespace]:
        raise ParameterError(f"parameter {', '.join(missing)} is not set: run the parameters cell first")
    values = {name: namespace[name] for name in expected}
    try:
        for name, value in values.items():
            runs.check_type(name, value, expected[name])
        if "profile" in values:
            runs.profile(values["profile"])
    except ValueError as error:
        raise ParameterError(str(error)) from None
    return values


def is_live() -> bool:
    """Whether somebody sits before this notebook, whom it could ask: papermill runs it without."""
    from IPython import get_ipython

    return bool(getattr(getattr(get_ipython(), "kernel", None), "_allow_stdin", False))


def _injected(namespace):
    """Names assigned by the last cell that papermill wrote, which begins with "# Parameters"."""
    cells = [cell for cell in namespace.get("In", []) if cell.lstrip().startswith("# Parameters")]
    if not cells:
        return []
    targets = [node.targets for node in ast.parse(cells[-1]).body if isinstance(node, ast.Assign)]
    return [target.id for group in targets for target in group if isinstance(target, ast.Name)]


def _png(figure) -> bytes:
    """The picture of a figure: the file that it was saved as (`artefacts.save_figure`), made smaller, or drawn anew."""
    buffer, saved = io.BytesIO(), getattr(figure, "saved_as", None)
    if saved is None or figure.stale or not saved.is_file():
        figure.savefig(buffer, format="png", dpi=_DPI)
        return buffer.getvalue()
    from PIL import Image

    with Image.open(saved) as picture:
        size = [round(inches * _DPI) for inches in figure.get_size_inches()]
        picture.convert("RGB").resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0).save(buffer, "png")
    return buffer.getvalue()

"""What was tried, and what trainings cost, as Markdown."""

from carlib import overview, runs
from carlib.formats import markdown
from carlib.readme.findings import NAMES


def trials(frame) -> str:
    """One line per trial, a column per set; in the order of the file."""
    keys = ["run", "parameters", "seconds", "validation", "note"]
    lines, measured = [], {f"{NAMES.get(name, name)}, dB": "-" for name in frame.set.unique()}
    for (run, parameters, seconds, validation, note), cells in frame.groupby(keys, sort=False):
        psnr = measured | {
            f"{NAMES.get(c.set, c.set)}, dB": markdown.number(float(c.psnr or "nan")) for c in cells.itertuples()
        }
        line = {"run": run, "changed": parameters or "nothing", "seconds": seconds}
        lines.append({**line, "validation, dB": markdown.number(float(validation or "nan")), **psnr, "why": note})
    return markdown.table(lines)


def costs(profile) -> str:
    """How many runs are shipped (by their present recipe), what the logs say training took, which have none or wait."""
    declared = {name: runs.get(name, profile) for name in overview.declared(profile)}
    weights = {name: overview.shipped_path(run) for name, run in declared.items()}
    there = [name for name, path in weights.items() if path.is_file()]
    shipped = [name for name in there if not overview.other_recipe(weights[name], declared[name])]
    seconds = {name: overview.logged(weights[name].with_suffix(".csv"))[1] for name in shipped}
    logged = {name: value for name, value in seconds.items() if value > 0}
    size = sum(weights[name].stat().st_size for name in shipped) / 1e6
    listed = {
        "Without a log": [name for name in shipped if name not in logged],
        "Not trained": [name for name in weights if name not in shipped],
    }
    told = [f"- {what}: {', '.join(f'`{name}`' for name in names) or 'none'}.\n" for what, names in listed.items()]
    hours = overview.hours_by_device(list(logged.values()), [overview.trained_on(weights[name]) for name in logged])
    return (
        f"- {len(shipped)} of the {len(weights)} runs are shipped ({size:.1f} MB). The logs beside {len(logged)} of "
        f"them (`data/weights/RUN.csv`) add up to {hours}.\n{''.join(told)}"
    )

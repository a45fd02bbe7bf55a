"""cluster.yaml, beside params.yaml: what one cluster wants of a job, a section an executor. Without it, defaults."""

import re

from carlib import results, runs

EXECUTORS = ("slurm", "local")
FILE = "cluster.yaml"
# Names of sbatch; handed on as they are, but setup, lines of shell that come before.
SLURM = (
    "account", "comment", "constraint", "cpus_per_task", "exclude", "gpus", "gpus_per_node", "gres",
    "licenses", "mail_type", "mail_user", "mem", "mem_per_cpu", "mem_per_gpu", "nice", "nodelist", "partition", "qos",
    "reservation", "setup", "time", "tmp", "wckey",
)  # fmt: skip
LOCAL = ("parallel",)  # how many jobs at once, default 1


def read(executor: str) -> dict:
    """The executor's section of cluster.yaml, checked: `time` in minutes, `setup` a list, `parallel` a number.

    Raises:
        ValueError: the executor is unknown, the file is no YAML, or an option is unknown or has no such value.
    """
    import yaml

    if executor not in EXECUTORS:
        raise ValueError(f"executor {executor!r} is unknown: use {' or '.join(EXECUTORS)}")
    path = results.root() / FILE
    try:  # text stays text: YAML would read 4:00:00 as a number to the base of 60
        content = yaml.load(path.read_text(encoding="utf-8"), yaml.BaseLoader) if path.is_file() else {}
    except yaml.YAMLError as error:
        raise ValueError(f"{FILE} is not valid YAML: {str(error).splitlines()[0]}") from error
    content = content or {}
    if not isinstance(content, dict):
        raise ValueError(f"{FILE} has no sections: write slurm: or local:, and options under it")
    for section in content:
        runs.check_known(f"{FILE}: section", section, EXECUTORS)
    given = content.get(executor) or {}
    if not isinstance(given, dict):
        raise ValueError(f"{FILE}: {executor} is {given!r}, not name: value lines")
    given = {str(key).replace("-", "_"): value for key, value in given.items()}
    return {key: _checked(f"{FILE}: {executor}", key, value, executor) for key, value in given.items()}


def _checked(where, key, value, executor):
    runs.check_known(f"{where}: option", key, SLURM if executor == "slurm" else LOCAL)
    if key == "setup":
        lines = value.splitlines() if isinstance(value, str) else value
        if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
            raise ValueError(f"{where}: setup is {value!r}, not a list of lines of shell")
        return lines
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{where}: {key} is {value!r}, not one value")
    if key == "parallel":
        if not value.isdecimal() or int(value) < 1:
            raise ValueError(f"{where}: parallel is {value!r}, not a whole number above 0")
        return int(value)
    return minutes(value) if key == "time" else value


def minutes(text: str) -> int:
    """A time limit as sbatch reads it, in whole minutes (rounded up): 90, 90:00, 1:30:00, 1-12, 1-12:30, 1-12:30:00.

    Raises:
        ValueError: it is none.
    """
    found = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text)
    if not found:
        raise ValueError(f"time {text!r} is no time limit: write minutes, hours:minutes:seconds or days-hours")
    days, *parts = [None if part is None else int(part) for part in found.groups()]
    if days is not None:
        hours, mins, seconds = (part or 0 for part in parts)
    elif parts[2] is not None:
        hours, mins, seconds = parts
    else:
        hours, mins, seconds = 0, parts[0], parts[1] or 0
    if not (total := ((days or 0) * 24 + hours) * 3600 + mins * 60 + seconds):
        raise ValueError(f"time {text!r} is no time at all")
    return -(-total // 60)

"""Answer files of the user study (section 4.4). They come from outside: everything in them is checked before it counts.

A file says for itself what was asked and in which order, so that it can be read without the kit.
"""

import json
import re
from pathlib import Path

from carlib import runs
from carlib.user_study import study_kit

_FORMAT = "carlib-study-answers-1"
_LARGEST = 10_000_000  # bytes of a file; the paper's study takes 40,000
_SIDES = ("a", "b")
# Field -> what it must be: a type, or all its values.
_FILE = {
    "format": (_FORMAT,), "kit": str, "task": study_kit.TASKS, "scale": int, "profile": runs.PROFILES, "repeats": int,
    "participant": str, "seed": int, "trials": list,
}  # fmt: skip
_TRIAL = {
    "image": str, "rival": study_kit.RIVALS, "car": _SIDES, "repeat": bool, "answer": ("a", "equal", "b"),
    "milliseconds": int,
}  # fmt: skip


def read(paths, kits=()) -> list[dict]:
    """The answers of every file, one participant and task each.

    Args:
        paths: JSON files that the page saved.
        kits:  folders of kits, for those tasks that are to be of them; without, the files of a task must be of one kit.
    Returns:
        dicts as in the files: kit (its digest), task, scale, profile, repeats, participant, seed, trials (image, rival,
        car, repeat, answer, milliseconds).
    Raises:
        ValueError: a file is no such JSON, lacks a question or has one too many, is not in the order of its seed, is of
            another kit, or another file is of the same participant and task.
    """
    manifests = {kit["task"]: (folder, kit) for folder, kit in ((folder, study_kit.read(folder)) for folder in kits)}
    first, participants, found = {}, {}, []
    for path in map(Path, paths):
        one = _parsed(path)
        task, asked = one["task"], _questions(path, one)
        if kits and task not in manifests:
            raise ValueError(f"{path} is of task {task}, of which no kit is given")
        if kits and one["kit"] != manifests[task][1]["digest"]:
            raise ValueError(f"{path} is of another kit than {manifests[task][0]}")
        if kits and one["profile"] != manifests[task][1]["profile"]:
            raise ValueError(f"{path} is of profile {one['profile']}, its kit of {manifests[task][1]['profile']}")
        before, kit, questions = first.setdefault(task, (path, one["kit"], asked))
        if one["kit"] != kit:
            raise ValueError(f"{path} is of another kit than {before}: analyse one kit of a task at a time")
        if kits:
            questions = [(line["image"], line["rival"]) for line in manifests[task][1]["questions"]]
        if asked != questions:
            raise ValueError(f"{path} asks {len(asked)} questions, its kit {len(questions)}, or others")
        if (same := participants.setdefault((task, one["participant"]), path)) != path or one in found:
            raise ValueError(f"{path} and {same} are of one participant, {one['participant']}: give one of them")
        found.append(one)
    return found


def choice(trial) -> str:
    """What a trial's answer prefers, whatever side it was on: "car", "equal" or "rival"."""
    return "equal" if trial["answer"] == "equal" else "car" if trial["answer"] == trial["car"] else "rival"


def decisions(one) -> dict:
    """(image, rival) -> choice of a participant; of a question that was asked twice, the first."""
    return {(trial["image"], trial["rival"]): choice(trial) for trial in one["trials"] if not trial["repeat"]}


def consistency(one) -> float:
    """Percent of the repeated questions that a participant answers as the first time; 100 if none was repeated."""
    first = decisions(one)
    alike = [choice(trial) == first[trial["image"], trial["rival"]] for trial in one["trials"] if trial["repeat"]]
    return 100 * sum(alike) / len(alike) if alike else 100.0


def _parsed(path) -> dict:
    try:
        if path.stat().st_size > _LARGEST:
            raise ValueError("it is too large")
        one = json.loads(path.read_bytes())
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no file of answers: {' '.join(str(error).split())}") from error
    _check(f"{path}", one, _FILE)
    if not re.fullmatch(r"[0-9a-f]{64}", one["kit"]) or not re.fullmatch(r"[A-Za-z0-9-]{1,32}", one["participant"]):
        raise ValueError(f"{path}: its kit is no digest, or its participant no code of letters, digits and hyphens")
    if not 0 <= one["seed"] < 2**32:
        raise ValueError(f"{path}: seed {one['seed']} is not within 0 and 2^32 - 1")
    for number, trial in enumerate(one["trials"], start=1):
        _check(f"{path}, trial {number}", trial, _TRIAL)
    return one


def _check(where, record, fields):
    if not isinstance(record, dict):
        raise ValueError(f"{where}: this is no object with {', '.join(fields)}")
    if wrong := sorted(set(fields) ^ set(record)):
        what = "lacks" if wrong[0] in fields else "has an unknown field"
        raise ValueError(f"{where} {what} {wrong[0][:40]}")
    for name, allowed in fields.items():
        value = record[name]
        if type(value) is not allowed if isinstance(allowed, type) else value not in allowed:
            wanted = allowed.__name__ if isinstance(allowed, type) else " or ".join(allowed)
            raise ValueError(f"{where}: {name} is {str(value)[:40]!r}, not {wanted}")
        if isinstance(value, int) and value < 0:
            raise ValueError(f"{where}: {name} is {value}, below 0")


def _questions(path, one) -> list[tuple]:
    """(image, rival) of a file in the order of its kit, once its trials are those that its seed draws."""
    trials = one["trials"]
    asked = [(trial["image"], trial["rival"]) for trial in trials if not trial["repeat"]]
    wanted = [(image, rival) for image in sorted({image for image, _ in asked}) for rival in study_kit.RIVALS]
    if missing := [question for question in wanted if question not in set(asked)]:
        raise ValueError(f"{path} lacks {len(missing)} of {len(wanted)} questions: {' against '.join(missing[0])} ...")
    if len(asked) > len(wanted):
        raise ValueError(f"{path} has {len(asked)} answers to {len(wanted)} questions, beside the repeated ones")
    if not (repeated := len(trials) - len(asked)) == one["repeats"] <= len(wanted) or not wanted:
        told = f"{len(wanted)} questions and {repeated} repeated ones"
        raise ValueError(f"{path} has {told}, which is none that a kit with {one['repeats']} repeats asks")
    drawn = study_kit.order(len(wanted), one["repeats"], one["seed"])
    for number, (trial, due) in enumerate(zip(trials, drawn, strict=True), start=1):
        image, rival = wanted[due["question"]]
        if trial != {**trial, "image": image, "rival": rival, "repeat": due["repeat"], "car": due["car"]}:
            raise ValueError(
                f"{path}, trial {number} is not the one that seed {one['seed']} draws: the file was changed"
            )
    return wanted

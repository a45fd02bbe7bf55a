"""The paper's user study (section 4.4, Fig. 7): which images people prefer, CAR's or those of another downscaler.

Kits are made by `study_kit`, people answer them in a browser, and the files of answers (`study_answers`) become shares
of preference here. Without answers every verdict is "not tested".
"""

import numpy as np

from carlib import artefacts, experiments, intervals, results, runs
from carlib.user_study import study_answers, study_kit

CHOICES = ("car", "equal", "rival")
COLUMNS = [
    "task", "rival", "car_better", "car_low", "car_high", "equal", "equal_low", "equal_high", "rival_better",
    "rival_low", "rival_high", "paper", "verdict", "participants", "left_out", "images", "decisions",
]  # fmt: skip
# (task, rival) -> what section 4.4 says, and by how many percentage points the shares exceed it (below 0: miss it).
_CLAIMS = {
    ("sr", "bicubic"): ("CAR at least 73 %", lambda car, equal, rival: car - 73),
    ("sr", "perceptual"): ("CAR more than 98 %", lambda car, equal, rival: car - 98),
    ("sr", "dpid"): ("CAR about 80 %", lambda car, equal, rival: -abs(car - 80)),
    ("sr", "l0"): ("CAR about 80 %", lambda car, equal, rival: -abs(car - 80)),
    ("downscaling", "bicubic"): ("mostly equal, CAR slightly less", lambda car, equal, rival: equal - max(car, rival)),
    ("downscaling", "perceptual"): ("rival more than 75 %", lambda car, equal, rival: rival - 75),
    ("downscaling", "dpid"): ("CAR less", lambda car, equal, rival: 0 if rival > car else -100),
    ("downscaling", "l0"): ("rival more than 75 %", lambda car, equal, rival: rival - 75),
}


def kits(profile, *, device="auto", progress=True):
    """Make the kits of both tasks in results/<profile>/study/; a DataFrame with a line each."""
    import pandas as pd

    lines = []
    for task in study_kit.TASKS:
        folder = results.folder(profile, "study", task)
        kit = study_kit.make(folder, profile, task=task, device=device, progress=progress)
        page = (folder / "index.html").relative_to(results.root())
        named = {"task": task, "questions": len(kit["questions"]), "repeats": kit["repeats"]}
        lines.append({**named, "page": page.as_posix(), "digest": kit["digest"][:8]})
    return pd.DataFrame(lines)


def answers(profile) -> list[dict]:
    """Those of data/study/<profile>/*.json, read as `study_answers.read`; none is an empty list.

    Raises:
        ValueError: as there, or a file is of another profile's kit.
    """
    found = study_answers.read(sorted((results.root() / "data" / "study" / profile).glob("*.json")))
    if others := [one for one in found if one["profile"] != profile]:
        told = f"participant {others[0]['participant']} answered a kit of profile {others[0]['profile']}"
        raise ValueError(f"data/study/{profile}: {told}")
    return found


def analyse(found, consistency=None):
    """Shares of preference for every task and rival.

    Args:
        found:       of `study_answers.read`; may be empty.
        consistency: percent of the repeated questions that a participant must answer alike to count (the paper's 80,
                     section 4.4); default: params.yaml, study.
    Returns:
        DataFrame COLUMNS, shares in percent: means over valid participants, low and high the 95 % interval over them
        (intervals.paired, cut at 0 and 100); participants: valid; left_out: inconsistent; decisions: of the valid,
        repeats not counted.
    Raises:
        ValueError: consistency is not within 0 and 100.
    """
    import pandas as pd

    consistency = runs.read_params()["study"]["consistency"] if consistency is None else consistency
    if not 0 <= consistency <= 100:
        raise ValueError(f"consistency={consistency}: take 0 to 100 percent")
    lines = []
    for (task, rival), (paper, _) in _CLAIMS.items():
        asked = [one for one in found if one["task"] == task]
        valid = [one for one in asked if study_answers.consistency(one) >= consistency]
        chosen = [
            [told for (_, other), told in study_answers.decisions(one).items() if other == rival] for one in valid
        ]
        counts = {"participants": len(valid), "left_out": len(asked) - len(valid)}
        counts |= {"images": len(chosen[0]) if chosen else 0, "decisions": sum(map(len, chosen))}
        shares = _shares(chosen)
        told = {"paper": paper, "verdict": _verdict(task, rival, shares, _preferred(chosen), asked, len(valid))}
        lines.append({"task": task, "rival": rival, **shares, **told, **counts})
    return pd.DataFrame(lines)[COLUMNS]


def _shares(chosen) -> dict:
    """chosen: a list of choices per participant. Mean share of each choice in percent, with its interval."""
    shares = {}
    for name, column in zip(CHOICES, ("car_better", "equal", "rival_better"), strict=True):
        each = [100 * told.count(name) / len(told) for told in chosen]
        shares[column] = float(np.mean(each)) if each else float("nan")
        shares[f"{name}_low"], shares[f"{name}_high"] = np.clip(intervals.paired(each), 0, 100).tolist()
    return shares


def _preferred(chosen) -> str:
    """Which of the two is preferred, "car" or "rival"; "" where the interval over participants holds a tie."""
    low, high = intervals.paired([100 * (told.count("car") - told.count("rival")) / len(told) for told in chosen])
    return "car" if low > 0 else "rival" if high < 0 else ""


def _verdict(task, rival, shares, preferred, asked, valid):
    """By the tolerance of params.yaml: what the paper says of the share, and which of the two is preferred."""
    tolerance = runs.tolerance()
    if valid < tolerance["study_participants"] or asked[0]["profile"] == "smoke" or asked[0]["scale"] != 4:
        return "not tested"
    car, equal, other = (shares[name] for name in ("car_better", "equal", "rival_better"))
    met = _CLAIMS[task, rival][1](car, equal, other) >= -tolerance["study_share"]
    slightly = (task, rival) == ("downscaling", "bicubic")  # a tie is none against it
    right = preferred == ("car" if task == "sr" else "rival") or (slightly and not preferred)
    return "reproduced" if met and right else "partly" if met or right else "not"


def table(profile, found):
    """`analyse` of the answers, written as tables/user_study."""
    made, params = analyse(found), runs.read_params()
    tolerance = params["tolerance"]
    digests = sorted({f"{one['task']} {one['kit'][:8]}" for one in found})
    asked = f"Kits: {', '.join(digests)}. " if found else "Nobody has been asked yet. "
    artefacts.save_table(
        made.round({name: 1 for name in COLUMNS[2:11]}),
        results.folder(profile, "tables", "user_study"),
        title=f"User study: whose images look better, CAR's or a rival's, profile {profile}",
        caption=f'{asked}Answers to "which one looks better", in percent of a participant\'s decisions, mean over '
        f"participants; low, high: the 95 % interval over participants ({intervals.HOW}; cut at 0 and 100), for these "
        "images. task sr: images restored by the EDSR of each downscaler at x4; downscaling: LR images. Participants "
        f"who answer less than {params['study']['consistency']:g} % of the repeated questions alike are left out. "
        "paper: what section 4.4 says; Fig. 7 prints no numbers. verdict: reproduced where the share misses that by at "
        f"most {tolerance['study_share']:g} points, and CAR is preferred to the rival (sr) or the rival to CAR "
        "(downscaling), with an interval over participants that leaves 0 out (against bicubic: not the other "
        "way round); partly where one of the two holds; not tested with fewer than "
        f"{tolerance['study_participants']} participants, at another scale, and under profile smoke.",
        command=experiments.papermill_command("10_user_study", profile),
    )
    return made


def figure(profile, made):
    """Fig. 7 of a `table`, written as figures/fig7; None, and no such file, where nobody was asked."""
    from carlib import figures

    path = results.folder(profile, "figures", "fig7")
    if not made.participants.any():
        return artefacts.remove_figure(path)
    drawn = figures.preferences(made)
    artefacts.save_figure(
        drawn,
        path,
        title=f"Fig. 7: what people prefer, profile {profile}",
        alt="Bars for each rival: percent of answers that CAR is better, both equal, the rival better; upwards for "
        "restored images, downwards for LR images",
        caption="Means over participants with 95 % intervals over them; see the table of the user study.",
        command=experiments.papermill_command("10_user_study", profile),
    )
    return drawn

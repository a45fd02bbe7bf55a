"""Table 4: CAR among other methods. Networks on bicubic LR, networks behind learned downscalers, and what came later.

Of the networks on bicubic LR, ZSSR trains on each image that is measured; public checkpoints of the others can be
measured beside ours.
"""

from carlib import artefacts, cells, experiments, intervals, results, runs, tables
from carlib.studies import contrasts, public_weights

PAPER = "CAR paper"  # the source of Tables 1 and 4; those of later numbers are in data/paper/later.csv
GROUPS = ("bicubic", "learned", "later")
_METHOD = ["group", "downscaler", "upscaler", "variant", "loss", "source"]
_SHOWN = ["group", "downscaler", "upscaler", "loss", "source"]
_WRONG = ("erratum", "other-protocol")  # flags of printed values that nothing is compared with
# (downscaler, upscaler) -> what CAR with EDSR is to them
CLAIMS = {
    ("bicubic", "edsr"): "CAR with EDSR restores better than EDSR on bicubic LR",
    ("cnn-cr", "cnn-sr"): "CAR with EDSR restores better than CNN-CR with CNN-SR",
    ("tad", "tau"): "CAR with EDSR restores better than TAD with TAU",
}
# (downscaler, upscaler) -> what CAR with the same upscaler is to them, the paper's "fair comparisons"
ALIKE = {
    ("cnn-cr", "cnn-sr"): "CAR with CNN-SR restores better than CNN-CR with CNN-SR",
    ("tad", "tau"): "CAR with TAU restores better than TAD with TAU",
}
IRN = "IRN restores better than CAR with EDSR (its README)"


def study(profile, scale=None, sets=None, checkpoints=None, *, train=True, executor="", device="auto", progress=True):
    """Train what is missing of Table 4's runs, measure them and public checkpoints, and write what `write` says.

    Args:
        scale:       2 or 4; None: both.
        sets:        image sets; None: the profile's that are here.
        checkpoints: see `public_weights.check`.
        train, executor: see `contrasts.make_ready`.
    Returns:
        the table and the claims, see `table` and `claims`.
    Raises:
        ValueError: a parameter does not fit, a run cannot be trained, or no image set is here.
    """
    import pandas as pd

    checkpoints = checkpoints or {}
    check(scale, sets, checkpoints, train, executor)
    chosen = [cell.run for cell in cells.of(4, profile) if scale in (None, cell.scale)]
    names = runs.seeded(chosen, cells.seeds(4, profile))
    options = {"train": train, "executor": executor, "device": device, "progress": progress}
    rows, absent = contrasts.trained_and_measured(names, profile, sets, **options)
    public = public_weights.measure(checkpoints, profile, sets, device=device, progress=progress)
    rows = pd.DataFrame([*rows.to_dict("records"), *public], columns=results.ROW_COLUMNS)
    return write(rows, absent, profile, scale, sets, checkpoints, train=train)


def check(scale=None, sets=None, checkpoints=None, train=True, executor=""):
    """Refuse parameters that the study cannot have.

    Raises:
        ParameterError (a ValueError): scale is neither 2 nor 4, a set is not here, or see `public_weights.check` and
            `contrasts.check_training`.
    """
    from carlib.notebook import ParameterError

    if scale not in (None, 2, 4):
        raise ParameterError(f"scale={scale!r} is not in Table 4: use 2 or 4, or None for both")
    contrasts.check_sets(sets)
    contrasts.check_training(train, executor)
    found = public_weights.check(checkpoints or {})
    if lost := [key for key, (_, other, *_) in found.items() if scale not in (None, other)]:
        raise ParameterError(f"checkpoints has {lost[0]}, of which scale={scale} leaves nothing")


def published():
    """Every published value that Table 4 shows, one a line, as printed: those of the paper and of later pages.

    Returns:
        DataFrame: scale, set, metric, _METHOD, label, printed, flag, note.
    """
    import pandas as pd

    edsr = tables.printed(1).query("downscaler == 'bicubic' and upscaler == 'edsr'")
    paper = pd.concat([tables.printed(4), edsr.assign(group="bicubic")]).assign(source=PAPER)
    frame = pd.concat([paper, tables.later()], ignore_index=True).astype({"scale": int, "value": float})
    frame["label"] = frame[_METHOD].agg("/".join, axis=1)
    columns = [*contrasts.KEYS, *_METHOD, "label", "value", "flag", "note"]
    return frame[columns].rename(columns={"value": "printed"})


def _published(known):
    """`published`, and for public weights beside a run of ours what is printed of their network."""
    import pandas as pd

    frame = published()
    paper = frame[(frame.group == "bicubic") & (frame.source == PAPER)]
    own = known[known.public & ~known.index.isin(frame.label)]
    beside = [paper[paper.upscaler == line.upscaler].assign(label=line.Index) for line in own.itertuples()]
    return pd.concat([frame, *beside])


def methods(profile, checkpoints=None):
    """The methods in the table's order, with the runs that measure them.

    Returns:
        DataFrame: label (index), _METHOD, runs (scale -> run, or key of `checkpoints`), public (whether they are keys).
    """
    frame = published().drop_duplicates("label").set_index("label")[_METHOD]
    labels, made, public = {}, {}, {}
    for label, line in frame.iterrows():  # the first source of a method is the one that a run stands beside
        labels.setdefault((line.downscaler, line.upscaler, line.variant, line.loss), label)
    for cell in cells.of(4, profile):
        made.setdefault(labels[cell.downscaler, cell.upscaler, cell.variant, cell.loss], {})[cell.scale] = cell.run
    for key, (name, scale, *_) in public_weights.check(checkpoints or {}).items():
        shown = public_weights.printed_name(name)
        printed = [label for (*names, _, _), label in labels.items() if names == ["bicubic", shown]]
        label = next((label for label in printed if label not in made), f"bicubic/bicubic/{shown}//")
        if label not in frame.index:
            frame.loc[label] = ["bicubic", "bicubic", shown, "", "", ""]
        public.setdefault(label, {})[scale] = key
    frame["runs"] = [made.get(label, public.get(label, {})) for label in frame.index]
    frame["public"] = frame.index.isin(list(public))
    return frame.sort_values("group", key=lambda column: column.map(GROUPS.index), kind="stable")


def table(rows, absent, profile, scale=None, checkpoints=None):
    """Table 4 in long form: a line per scale, set, method and metric that was measured or printed.

    Args:
        rows:   DataFrame of results.ROW_COLUMNS, perhaps empty: runs of Table 4, and checkpoints.
        absent: run -> why it has no rows.
    Returns:
        DataFrame: scale, set, _SHOWN, metric, contrasts.COLUMNS (difference: to CAR with EDSR, of the loss that the
        profile trains it with), off (ours less printed, of networks of the paper's size), run, profile, weights (whose
        they are, or why there are none), note (that the set was not measured; what is wrong with the printed value).
    """
    known = methods(profile, checkpoints)
    told = _published(known)
    values, paper = _compared(rows, known, told)
    car = _car(known, profile)
    frame = contrasts.table(values, paper, {label: None if known.public[label] else car for label in known.index})
    frame = frame[(frame.ours.notna() | frame.printed.notna()) & frame.scale.isin([scale] if scale else [2, 4])]
    frame = frame.join(known, on="label").assign(profile=profile).reset_index(drop=True)
    frame["run"] = [named.get(one, "") for named, one in zip(frame.runs, frame.scale, strict=True)]
    frame["weights"] = [_weights(line, absent, known) for line in frame.itertuples()]
    doubts = told.set_index([*contrasts.KEYS, "label"])[["flag", "note"]]
    doubts = frame[[*contrasts.KEYS, "label"]].join(doubts, on=[*contrasts.KEYS, "label"]).fillna("")
    why = [
        note if run and note != whose else ""  # weights say it
        for note, run, whose in zip(contrasts.notes(frame, absent), frame.run, frame.weights, strict=True)
    ]
    frame["note"] = ["; ".join(filter(None, both)) for both in zip(why, doubts.note, strict=True)]
    frame["off"] = (frame.ours - frame.printed).where(frame.public | (profile == "paper"))
    wrong = doubts.flag.isin(_WRONG)
    frame.loc[frame.public, "verdict"] = [_as_printed(line) for line in frame[frame.public].itertuples()]
    frame.loc[wrong, ["printed_difference", "off"]] = float("nan")
    frame.loc[wrong, "verdict"] = "not tested"
    columns = ["scale", "set", *_SHOWN, "metric", *contrasts.COLUMNS, "off", "run", "profile", "weights", "note"]
    return frame[columns]


def _weights(line, absent, known):
    """Whose the weights of a line are, with the updates of its upscaler, or why there are none."""
    if not line.run:
        alike = known[(known.downscaler == line.downscaler) & (known.upscaler == line.upscaler)]
        ours = [source for source, made in zip(alike.source, alike.runs, strict=True) if line.scale in made]
        return f"ours: see {ours[0]}" if ours else "not trained here"
    if line.public:
        return absent.get(line.run, "public weights")
    if steps := runs.get(line.run, line.profile).image_steps:
        return f"of each image, {steps} steps"
    return absent.get(line.run, f"of profile {line.profile}, {_updates(line.run, line.profile):,} steps")


def _doubted(made):
    """Whether the printed value of each line of `table` is one that nothing is compared with."""
    keys = ["scale", "set", "metric", *_SHOWN]
    told = published()
    wrong = set(told.loc[told.flag.isin(_WRONG), keys].itertuples(index=False, name=None))
    return [line in wrong for line in made[keys].itertuples(index=False, name=None)]


def _updates(name, profile):
    """Steps in which a run's upscaler was trained, those of what it began with counted; None begins with nothing."""
    if name is None:
        return 0
    run = runs.trained(name, profile)
    return run.steps + _updates(run.warm_start, profile)


def _as_printed(line):
    if line.off != line.off:
        return "not tested"
    return "reproduced" if abs(line.off) <= runs.tolerance()[line.metric] else "not"


def _car(known, profile):
    """The label of CAR with EDSR that others are compared with: of the loss that the profile trains CAR with."""
    own = runs.get("car-edsr-x2", profile).loss
    found = known[(known.downscaler == "car") & (known.upscaler == "edsr") & known.runs.map(bool)]
    return found.index[found.loss.ne(own).argmin()]


def _compared(rows, known, told):
    """What was measured (see contrasts.by_label) and published (contrasts.printed); told: see _published."""
    label_of = {run: label for label, named in known.runs.items() for run in named.values()}
    return contrasts.by_label(rows, label_of), contrasts.printed(told, rows, known.index, unmeasured=True)


def claims(rows, profile, scale=None, checkpoints=None):
    """Whether CAR with EDSR is before each of the others, and before all, CAR with the upscaler of each before it, and
    IRN before CAR: see `contrasts.claims`.

    The lead over all others is that over the next; it is judged where all others of the scale could be.
    """
    import pandas as pd

    known, lines = methods(profile, checkpoints), []
    values, paper = _compared(rows, known, _published(known))
    car = _car(known, profile)
    for one in [scale] if scale else [2, 4]:
        there = [line for line in known.itertuples() if one in line.runs and not line.public]
        label = {(line.downscaler, line.upscaler): line.Index for line in there}
        told = [(car, label[names], text) for names, text in CLAIMS.items() if names in label]
        leads = [contrasts.compare(values, paper, car, other).loc[one] for _, other, _ in told]
        ours, theirs = (
            pd.concat([lead[name].xs("psnr", level="metric") for lead in leads], axis=1).min(axis=1, skipna=False)
            for name in ("difference", "printed_difference")
        )
        found = contrasts.claims(values, paper, told, [one])
        verdict = _of_lead(found.verdict, ours, theirs)
        first = contrasts.claim("CAR with EDSR is first: its lead over the next of these", one, theirs, ours, verdict)
        alike = [(label["car", names[1]], label[names], text) for names, text in ALIKE.items() if names in label]
        others = contrasts.claims(values, paper, [*alike, (label["irn", "irn"], car, IRN)], [one])
        lines += [found, pd.DataFrame([first]), others]
    return pd.concat(lines, ignore_index=True)


def _of_lead(verdicts, ours, theirs):
    """That over all others, from those over each: not where one is before it, more than printed only if that over the
    next is.
    """
    if "not" in set(verdicts):
        return "not"
    verdict = tables.of_all(verdicts)
    most = runs.tolerance()["gain_more"]
    return "reproduced" if verdict == tables.MORE and not (ours.abs() > most * theirs.abs()).any() else verdict


def write(rows, absent, profile, scale=None, sets=None, checkpoints=None, *, train=True):
    """Write metrics/table4, tables/table4, table4_grid and table4_claims; of a choice as table4_<choice>.

    Args:
        train: False if nothing was trained for it, which the command that makes it again then says.
    Returns:
        the table and the claims.
    """
    name = "_".join(["table4", *([f"x{scale}"] if scale else []), *(sets or []), *(["public"] if checkpoints else [])])
    given = {"scale": scale, "sets": sets, "checkpoints": checkpoints or None, "train": train}
    command = experiments.papermill_command("04_benchmark", profile, **given)
    artefacts.save_rows(rows.to_dict("records"), results.folder(profile, "metrics", f"{name}.csv"))
    made, told = table(rows, absent, profile, scale, checkpoints), claims(rows, profile, scale, checkpoints)
    folder = results.folder(profile, "tables")
    artefacts.save_table(
        made,
        folder / name,
        title=f"Table 4: CAR among other methods, profile {profile}",
        caption="group bicubic: networks on bicubic LR; learned: networks behind a downscaler that was trained with "
        "them (CAR's with EDSR also in Tables 1 and 3); later: what was printed since, by the source named. ours: mean "
        "over the n images of the set and over the seeds, standard protocol (PSNR in dB, Y); seed_interval: half of "
        "the 95 % interval of the mean over seeds. difference: to CAR with EDSR, image by "
        f"image; low, high: its 95 % interval over images ({intervals.HOW}). printed: of networks of the "
        "published size; left out where a measured set is not whole or its images are cropped. off: ours less printed, "
        "for networks of that size. "
        f"{contrasts.VERDICT}; of public weights: whether off is within the tolerance.",
        command=command,
    )
    artefacts.save_table(
        tables.grid(made, [*_SHOWN, "weights"], _doubted(made)),
        folder / f"{name}_grid",
        title=f"Table 4 on one page: PSNR (dB), ours (printed), profile {profile}",
        caption="Means over each set, Y, standard protocol; weights: whose ours are, or why there are none; steps: of "
        "training the upscaler, what it began with included. They differ, so that the order says as much of speed of "
        "learning as of networks. Ours are of this profile's size, except those of public weights. *: a printed value "
        "that is an erratum or was measured by another protocol, see the note of its line in the long table.",
        command=command,
    )
    artefacts.save_table(
        told,
        folder / f"{name}_claims",
        title=f"Table 4: the paper's order, and IRN, profile {profile}",
        caption="Mean differences of PSNR between this profile's networks, image by image, over all the sets that are "
        "printed or, without one, over those measured; the verdict is that of "
        "every whole set's PSNR and SSIM if they agree (more than printed where most are that and the others "
        "reproduced), else partly, and says whether the sign is that printed: at x2 on B100 the "
        "paper prints CNN-CR before CAR with EDSR. IRN is later than the paper, which does not compare with it.",
        command=command,
    )
    return made, told

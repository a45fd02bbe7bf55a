"""Table 2: does CAR serve other networks? Each on bicubic LR, trained jointly, and behind the CAR of EDSR, frozen.

The paper's order, for each of its four networks and each image set: joint > frozen > bicubic.
"""

from carlib import artefacts, cells, experiments, intervals, results, runs, tables
from carlib.studies import contrasts

NETWORKS = {"srdensenet": "SRDenseNet", "d-dbpn": "D-DBPN", "rdn": "RDN", "rcan": "RCAN"}  # printed name -> shown
# (downscaler, variant) of data/paper/table2.csv -> shown
LR = {
    ("bicubic", ""): "bicubic",
    ("car", "joint"): "CAR, trained jointly",
    ("car", "edsr-guided"): "CAR, trained with EDSR, frozen",
}
_BICUBIC = LR["bicubic", ""]


def study(profile, networks=None, sets=None, *, train=True, executor="", device="auto", progress=True):
    """Train what is missing of Table 2, measure it, and write what `write` says.

    Args:
        networks: of NETWORKS; None: all.
        sets:     image sets; None: the profile's that are here.
        train, executor: see `contrasts.make_ready`.
    Returns:
        the table and the claims, see `table` and `claims`.
    Raises:
        ValueError: a parameter does not fit, a run cannot be trained, or no image set is here.
    """
    check(networks, sets, train, executor)
    chosen = [cell.run for cell in cells.of(2, profile) if networks is None or cell.upscaler in networks]
    names = runs.seeded(chosen, cells.seeds(2, profile))
    options = {"train": train, "executor": executor, "device": device, "progress": progress}
    rows, absent = contrasts.trained_and_measured(names, profile, sets, **options)
    return write(rows, absent, profile, networks, sets, train=train)


def check(networks=None, sets=None, train=True, executor=""):
    """Refuse parameters that the study cannot have.

    Raises:
        ParameterError (a ValueError): a network is not in Table 2, a set is unknown, or see `contrasts.check_training`.
    """
    from carlib.notebook import ParameterError

    if networks is not None and (not networks or not set(networks) <= NETWORKS.keys()):
        raise ParameterError(f"networks={networks!r} are not in Table 2: use some of {', '.join(NETWORKS)}, or None")
    contrasts.check_sets(sets)
    contrasts.check_training(train, executor)


def table(rows, absent, profile, networks=None):
    """Table 2 in long form: a line per scale, set, network, LR image and metric that was measured or printed.

    Args:
        rows:   DataFrame of results.ROW_COLUMNS, perhaps empty: runs of Table 2, under any seeds.
        absent: run -> why it has no rows.
    Returns:
        DataFrame: scale, set, network, lr, metric, contrasts.COLUMNS (difference: to the same network on bicubic LR),
        run, profile, note (why there is nothing).
    """
    values, paper = _compared(rows)
    base_of = {_label(network, lr): _label(network, _BICUBIC) for network in _shown(networks) for lr in LR.values()}
    frame = contrasts.table(values, paper, base_of)
    frame = frame[frame.ours.notna() | frame.printed.notna()].assign(profile=profile)
    run_of = {label: run for run, label in _label_of().items()}
    frame[["network", "lr"]] = frame.label.str.split(" on ", expand=True)
    frame["run"] = frame.label.map(run_of)
    frame["note"] = contrasts.notes(frame, absent)
    columns = ["scale", "set", "network", "lr", "metric", *contrasts.COLUMNS, "run", "profile", "note"]
    return frame[columns].reset_index(drop=True)


def claims(rows, networks=None):
    """Whether joint > frozen > bicubic, step by step, for each network and set.

    Args:
        rows: as `table`.
    Returns:
        DataFrame: network, step ("joint - frozen" or "frozen - bicubic"), set ("all printed": the mean of the sets that
        were both measured and printed), n, ours (mean PSNR difference in dB), 95 % (its interval over images), paper
        (the printed difference), verdict (of PSNR and SSIM, see `tables.of_all`; "all printed": `tables.summed_up` of
        the sets).
    """
    import pandas as pd

    (values, paper), lines = _compared(rows), []
    for network in _shown(networks):
        bicubic, joint, frozen = (_label(network, lr) for lr in LR.values())
        for step, above, below in (("joint - frozen", joint, frozen), ("frozen - bicubic", frozen, bicubic)):
            named = {"network": network, "step": step}
            found = _sets(contrasts.compare(values, paper, above, below))
            lines += [found.assign(**named), pd.DataFrame([_summed_up(found)]).assign(**named)]
    columns = ["network", "step", "set", "n", "ours", "95 %", "paper", "verdict"]
    return pd.concat(lines, ignore_index=True)[columns].round({"ours": 2, "paper": 2})


def _sets(compared):
    """One step of one network: a line per printed set, and per measured one."""
    import pandas as pd

    lines = []
    for scale, name in compared.index.droplevel("metric").unique():
        psnr = compared.loc[scale, name, "psnr"]
        lines.append({
            "set": name,
            "n": int(psnr.n),
            "ours": psnr.difference,
            "95 %": "" if psnr.low != psnr.low else f"[{psnr.low:+.2f}, {psnr.high:+.2f}]",
            "paper": psnr.printed_difference,
            "verdict": tables.of_all(compared.loc[scale, name].verdict),
        })  # fmt: skip
    return tables.in_order(pd.DataFrame(lines), ["set"])


def _summed_up(found) -> dict:
    ours, paper = found[["ours", "paper"]].dropna().mean()
    count = found.n[found.paper.notna()].sum()  # the demo set is not printed
    line = {"set": "all printed", "n": count, "ours": ours, "95 %": "", "paper": paper}
    return line | {"verdict": tables.summed_up(found.verdict)}


def _shown(networks):
    return [shown for name, shown in NETWORKS.items() if networks is None or name in networks]


def _label(network, lr):
    return f"{network} on {lr}"


def _label_of() -> dict:
    """Run -> its label."""
    return {cell.run: _label(NETWORKS[cell.upscaler], LR[cell.downscaler, cell.variant]) for cell in cells.of(2)}


def _compared(rows):
    """What was measured (see contrasts.by_label) and printed (contrasts.printed)."""
    paper = tables.printed(2)
    paper = paper[paper.flag == ""].astype({"scale": int, "value": float}).rename(columns={"value": "printed"})
    named = zip(paper.upscaler, paper.downscaler, paper.variant, strict=True)
    paper["label"] = [_label(NETWORKS[network], LR[downscaler, variant]) for network, downscaler, variant in named]
    labels = list(dict.fromkeys(_label_of().values()))
    return contrasts.by_label(rows, _label_of()), contrasts.printed(paper, rows, labels, unmeasured=True)


def write(rows, absent, profile, networks=None, sets=None, *, train=True):
    """Write metrics/table2, tables/table2, table2_grid and table2_claims; of a choice as table2_<choice>.

    Args:
        train: False if nothing was trained for it, which the command that makes it again then says.
    Returns:
        the table and the claims.
    """
    name = "_".join(["table2", *(networks or []), *(sets or [])])
    given = {"networks": networks, "sets": sets, "train": train}
    command = experiments.papermill_command("02_sr_networks", profile, **given)
    artefacts.save_rows(rows.to_dict("records"), results.folder(profile, "metrics", f"{name}.csv"))
    made, told = table(rows, absent, profile, networks), claims(rows, networks)
    folder = results.folder(profile, "tables")
    artefacts.save_table(
        made,
        folder / name,
        title=f"Table 2: other networks behind CAR, x4, profile {profile}",
        caption="ours: mean over the n images of the set and over the seeds, standard protocol (PSNR in dB, Y); "
        "seed_interval: half of the 95 % interval of the mean over seeds; difference: to the same network trained on "
        "bicubic LR, image by image; low, high: its 95 % interval over images "
        f"({intervals.HOW}). printed: the paper's value, made with its full-size networks; left out where a measured "
        "set is not whole or its images are cropped. "
        f"{contrasts.VERDICT}. A line without numbers of ours says why in its note.",
        command=command,
    )
    artefacts.save_table(
        tables.grid(made, ["network", "lr"]),
        folder / f"{name}_grid",
        title=f"Table 2 on one page: PSNR (dB), ours (printed), profile {profile}",
        caption="Means over each set, Y, standard protocol. lr: what the network was trained on, and is measured on.",
        command=command,
    )
    artefacts.save_table(
        told,
        folder / f"{name}_claims",
        title=f"Table 2: CAR trained jointly > CAR trained with EDSR and frozen > bicubic? profile {profile}",
        caption="PSNR differences (dB) between networks of one kind, image by image, their 95 % intervals over images, "
        "and the printed differences. step: joint - frozen is what joint training gains over EDSR's resampler left as "
        "it is, frozen - bicubic what that one gains over bicubic LR; n: images that both were measured on; all "
        "printed: means over the sets that were both measured and printed. verdict: whether the step has the printed "
        "sign, for PSNR and SSIM; more than printed where it is many times what was printed (params.yaml, gain_more); "
        "else reproduced, or partly.",
        command=command,
    )
    return made, told

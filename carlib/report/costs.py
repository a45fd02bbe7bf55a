"""What the report says beside results: what the runs and the networks cost, and what it was made with."""

import json

from carlib import network_costs, overview, provenance, results


def sections(profile) -> dict:
    """Heading -> tables, as `report.build` takes them; that of the networks only where it was measured."""
    networks = [_networks()] if network_costs.path().is_file() else []
    return {"Costs": [_runs(profile), *networks], "Environment": [_environment(profile)]}


def _runs(profile) -> dict:
    table = overview.table(profile)
    return {
        "name": "runs",
        "title": f"What each run costs, profile {profile}",
        "caption": f"{overview.sum_up(table)}. tables: those that show the run. steps: of the training that is wanted. "
        "seconds: of training, as its log measured them, perhaps beside other work. device: what it was trained on; "
        "older weights do not tell, all of them are of CPUs. kB: of its weights.",
        "command": f"carlib experiments --profile {profile}",
        "csv": table.round(0).to_csv(index=False, float_format="%.0f"),
    }


def _networks() -> dict:
    return {
        "name": "networks",
        "title": "What each network costs, by size and scale",
        "caption": "parameters: trainable. gigamacs: 1e9 multiply-adds per HR megapixel. seconds: of one forward pass "
        "per HR megapixel, in single precision (IRN's: up; ZSSR's without its training on the image; of CAR's "
        "resampler the network: the operator that uses its kernels comes on top, see `carlib bench operator`); "
        "gigabytes: by "
        "which the process then grew, likewise. "
        "machine: where both were measured. Sizes: those of params.yaml, whatever this page's profile.",
        "command": "carlib models --measure --out results/networks.csv",
        "csv": network_costs.path().read_text(encoding="utf-8"),
    }


def _environment(profile) -> dict:
    import pandas as pd

    told = {"machine": provenance.machine(), "commit": provenance.commit()}
    told |= {name: version or "not installed" for name, version in provenance.versions().items()}
    lines = [*told.items(), *((f"commit of {count} results", name) for name, count in _commits(profile).items())]
    return {
        "name": "environment",
        "title": "What this page was made with",
        "caption": "machine, commit and versions are those of the program that wrote the page. Commits of results are "
        f"those that their records name, results/{profile}/provenance; a record also has parameters, images, weights, "
        "seeds and versions.",
        "command": "",
        "csv": pd.DataFrame(lines, columns=["what", "which"]).to_csv(index=False),
    }


def _commits(profile) -> dict:
    """Commit -> how many tables, pictures and rows of the profile were made by it."""
    counts = {}
    for path in sorted(results.folder(profile, "provenance").glob("[!.]*.json")):  # hidden: half-written
        name = json.loads(path.read_text(encoding="utf-8")).get("commit") or "unknown"
        counts[name] = counts.get(name, 0) + 1
    return counts

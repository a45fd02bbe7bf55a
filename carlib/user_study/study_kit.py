"""A kit for the user study of the paper (section 4.4): a page that shows pairs of images, and what is behind each.

OUT/index.html     the page (carlib.user_study.study_page)
OUT/images/*.png   originals and variants, named by their content: no name tells of a method
OUT/manifest.json  what they are, and what made them; its digest is that of the kit
"""

import contextlib
import hashlib
import json
import random
import re
import tempfile
from pathlib import Path

from carlib import cells, experiments, pixels, results, runs
from carlib.user_study import study_page

TASKS = ("sr", "downscaling")
RIVALS = ("bicubic", "perceptual", "dpid", "l0")  # in the order of Fig. 7
_FORMAT = "carlib-study-kit-1"


def make(out, profile=None, *, task="sr", scale=4, device="auto", progress=True, **own) -> dict:
    """Write a kit: for every image and every rival one question, CAR's variant beside the rival's.

    All variants are those of Table 1: the LR images of each downscaler, or what the EDSR trained on them restores.

    Args:
        out:   folder; one that holds a kit is replaced as a whole, any other is refused.
        task:  "sr" compares restored images, "downscaling" LR images.
        own:   sets (names), images (of each set so many, drawn at random), crop (their middle, pixels), repeats (how
               many questions are asked twice), seed (of the draw); default: params.yaml, study.
    Returns:
        the manifest: task, scale, profile, repeats, seed, runs, weights (their digests), questions, digest.
    Raises:
        ValueError: a name or number is wrong, a set or weights are missing, or the folder cannot be written.
    """
    if task not in TASKS:
        raise ValueError(f"task {task!r} is unknown: there are {' and '.join(TASKS)}")
    check_free(out)
    chosen, named = _settings(profile, own), _runs(profile, scale)
    images = _drawn(chosen)
    count = len(images) * len(RIVALS)
    if own.get("repeats") is None:
        chosen["repeats"] = min(chosen["repeats"], count)
    if not 0 <= chosen["repeats"] <= count:
        raise ValueError(f"repeats={chosen['repeats']} of {count} questions: take 0 to {count}, or more images")
    chains = {method: experiments.chain(run, profile, device=device) for method, run in named.items()}
    with _new_folder(out) as folder:
        (folder / "images").mkdir()
        kit = {
            "format": _FORMAT, "task": task, "scale": scale, "profile": runs.profile(profile)["name"],
            "repeats": chosen["repeats"], "seed": chosen["seed"], "runs": named,
            "weights": {chain.run.name: chain.digest for chain in chains.values()},
            "questions": _questions(folder, images, chains, task, scale, chosen["crop"], progress),
        }  # fmt: skip
        kit["digest"] = _digest(kit)
        results.write_text(folder / "manifest.json", json.dumps(kit, indent=1) + "\n")
        results.write_text(folder / "index.html", study_page.page(kit))
    return kit


def read(folder) -> dict:
    """The manifest of a kit.

    Raises:
        ValueError: the folder holds no kit, or its manifest was changed.
    """
    path = Path(folder) / "manifest.json"
    try:
        kit = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{folder} holds no kit of `carlib study make`: {path.name} is missing or no JSON") from error
    if not isinstance(kit, dict) or kit.get("format") != _FORMAT:
        raise ValueError(f"{folder} holds no kit of `carlib study make`: {path} is another file")
    if kit.get("digest") != _digest(kit):
        raise ValueError(f"{path} was changed: its digest is not the one it names")
    return kit


def check_free(out):
    """Refuse a folder that `make` would have to empty of other things than a kit.

    Raises:
        ValueError: it is a file, holds no kit, or one and further files.
    """
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file: name a folder")
    there = sorted(path.relative_to(out).as_posix() for path in out.rglob("*")) if out.is_dir() else []
    if there:
        try:
            read(out)
        except ValueError as error:
            raise ValueError(f"{out} holds other files, which would be lost: name another folder") from error
    if others := [name for name in there if not re.fullmatch(r"images(/\w+\.png)?|manifest\.json|index\.html", name)]:
        raise ValueError(f"{out} holds {others[0]} beside a kit, it would be lost: name another folder")


def order(questions: int, repeats: int, seed: int) -> list[dict]:
    """The trials of one participant, as the page draws them (study_page.ORDER_JS): every question once, some twice.

    Args:
        questions: how many.  repeats: how many of them are asked twice, anywhere in the order.
        seed:      the participant's, 0 to 2^32 - 1.
    Returns:
        dicts: question (its number), repeat (whether it was asked before), car ("a", on the left, or "b").
    """
    draw = _generator(seed)
    every = list(range(questions))
    repeated = _shuffled(every, draw)[:repeats]
    trials, seen = [], set()
    for question in _shuffled([*every, *repeated], draw):
        trials.append({"question": question, "repeat": question in seen, "car": "a" if draw() < 2**31 else "b"})
        seen.add(question)
    return trials


def _generator(seed):
    """mulberry32 (Tommy Ettinger, public domain): whole numbers below 2^32, which a browser draws alike."""

    def draw():
        nonlocal seed
        seed = (seed + 0x6D2B79F5) % 2**32
        mixed = (seed ^ seed >> 15) * (seed | 1) % 2**32
        mixed ^= (mixed + (mixed ^ mixed >> 7) * (mixed | 61)) % 2**32
        return mixed ^ mixed >> 14

    return draw


def _shuffled(items, draw):
    items = list(items)
    for i in range(len(items) - 1, 0, -1):
        j = draw() * (i + 1) >> 32
        items[i], items[j] = items[j], items[i]
    return items


def _settings(profile, own) -> dict:
    settings = experiments.study_settings("study", profile, own)
    if settings["images"] is not None and settings["images"] < 1:
        raise ValueError(f"images={settings['images']} of each set: take one or more")
    return settings


def _runs(profile, scale) -> dict:
    """Method -> the run of Table 1 that stands for it; CAR's first."""
    found = {
        cell.downscaler: cell.run for cell in cells.of(1, profile) if (cell.upscaler, cell.scale) == ("edsr", scale)
    }
    if not found:
        raise ValueError(f"scale={scale} is none of Table 1: take 2 or 4")
    return {method: found[method] for method in ("car", *RIVALS)}


def _drawn(chosen) -> list:
    """(set, file) of the images, at random as the paper's are, in a fixed order."""
    from carlib import data

    images = []
    for name in dict.fromkeys(map(data.canonical, chosen["sets"])):
        files = data.find(name)
        count = min(chosen["images"] or len(files), len(files))
        images += [(name, file) for file in random.Random(f"{chosen['seed']} {name}").sample(files, count)]
    return sorted(images, key=lambda image: f"{image[0]}/{image[1].stem}")


def _questions(folder, images, chains, task, scale, crop, progress) -> list[dict]:
    """Write every image once; a question names its image and rival, and the three files."""
    from tqdm import tqdm

    from carlib import data

    questions = []
    for set_name, file in tqdm(images, unit="image", desc=f"study, {task}", disable=not progress):
        hr = data.crop_to_multiple(data.centre_crop(data.read_image(file), crop), scale)
        shown = {"original": hr}
        for method, chain in chains.items():
            lr, sr = chain(hr)
            shown[method] = pixels.to_8_bits(sr) if task == "sr" else lr
        names = {method: _written(folder / "images", image) for method, image in shown.items()}
        named = {"image": f"{set_name}/{file.stem}", "original": names["original"], "car": names["car"]}
        questions += [{**named, "rival": rival, "other": names[rival]} for rival in RIVALS]
    return questions


def _written(folder, image) -> str:
    from carlib import data

    name = f"{hashlib.sha256(f'{image.shape}'.encode() + image.tobytes()).hexdigest()[:16]}.png"
    data.write_image(folder / name, image)
    return name


def _digest(kit) -> str:
    """SHA-256 of all of a manifest but the digest; file names stand for the pixels."""
    rest = {name: value for name, value in kit.items() if name != "digest"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


@contextlib.contextmanager
def _new_folder(out):
    """Yield an empty folder that takes the place of `out` on success, and is gone after a failure."""
    out = Path(out).resolve()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as temporary:
            new = Path(temporary) / "new"
            new.mkdir()
            yield new
            old = Path(temporary) / "old"
            if out.exists():
                out.rename(old)
            try:
                new.rename(out)
            except OSError:
                if old.exists():
                    old.rename(out)
                raise
    except OSError as error:
        raise ValueError(f"cannot write {out}: {error.strerror or error}") from error

"""Rows of a measurement that takes minutes, kept image by image, so that one that is stopped goes on where it was.

results/<profile>/partial/<name>.json holds them until the study is done. They count only for what made them: another
setting, other weights, another version of this package or of a library that computes, and measuring begins anew.
"""

import hashlib
import json
from pathlib import Path

from carlib import provenance, results


def rows(profile, name, made_by, images, measure) -> list[dict]:
    """measure(image) of every image, with what an earlier call has kept of them taken from the file.

    Args:
        profile, name: whose file.
        made_by: whatever else decides the rows, as JSON-able values.
        images:  (set, name, uint8 image), many.
        measure: the image -> list of dicts of numbers and strings; "profile", "set" and "image" are added.
    """
    path = _path(profile, name)
    key = _digest(json.dumps([made_by, provenance.versions(), _sources()], sort_keys=True).encode())
    done, found = _read(path, key), []
    for set_name, image_name, image in images:
        label = _digest(repr((set_name, image_name, image.shape)).encode() + image.tobytes())
        if label not in done:
            done[label] = measure(image)
            results.write_text(path, json.dumps({"key": key, "rows": done}))
        named = {"profile": profile, "set": set_name, "image": image_name}
        found += [{**row, **named} for row in done[label]]
    return found


def forget(profile, name):
    """Delete what was kept: the rows are now elsewhere."""
    _path(profile, name).unlink(missing_ok=True)


def _path(profile, name) -> Path:
    return results.folder(profile, "partial", f"{name}.json")


def _read(path, key) -> dict:
    """Image -> its rows; empty where nothing, or something else, was kept."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return kept["rows"] if kept.get("key") == key else {}


def _sources() -> str:
    """Digest of this package's code."""
    package = Path(__file__).parent
    files = sorted(package.rglob("*.py"))
    return _digest(b"".join(str(file.relative_to(package)).encode() + file.read_bytes() for file in files))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()

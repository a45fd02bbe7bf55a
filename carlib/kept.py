"""Rows that take long to measure, kept image by image: what was stopped goes on, and what two notebooks show is shared.

results/<profile>/kept/<name>.json holds them. They count only for what made them: with another setting, other weights,
other code or another version of a library that computes, measuring begins anew.
"""

import hashlib
import json
import sys
import time

from carlib import provenance, results, sources

_WRITTEN = 5.0  # seconds between two writings of the file; a killed process loses them and the image at work


def rows(profile, name, made_by, images, measure, *, how=None) -> list[dict]:
    """measure(image) of every image, with what an earlier call has kept of them taken from the file.

    Where the file cannot be written, a line on stderr says so, and nothing is lost but the time.

    Args:
        profile, name: whose file.
        made_by: whatever decides the rows beside the image and the versions of libraries, as JSON-able values; the
                 code, too (carlib.sources).
        images:  (set, name, uint8 image), many.
        measure: the image -> list of dicts of numbers and strings.
        how:     JSON-able: what may change from call to call (protocol, crop); rows of several are kept.
    Returns:
        all of them, with "profile", "set" and "image" added.
    """
    path = results.folder(profile, "kept", f"{name}.json")
    key = _digest(json.dumps([made_by, provenance.versions()], sort_keys=True).encode())
    done, found = _read(path, key), []
    variant, before, written = json.dumps(how), len(done), time.monotonic()
    try:
        for set_name, image_name, image in images:
            label = _digest(repr((variant, set_name, image_name, image.shape)).encode() + image.tobytes())
            if label not in done:
                done[label] = measure(image)
                if time.monotonic() - written > _WRITTEN:
                    _write(path, key, done)
                    before, written = len(done), time.monotonic()
            found.append((set_name, image_name, done[label]))
    finally:
        if len(done) > before:
            _write(path, key, done)
    return named(profile, found)


def named(profile, found) -> list[dict]:
    """The rows of (set, image, rows) each, in one list, with the names added."""
    return [
        {**row, "profile": profile, "set": set_name, "image": name} for set_name, name, rows in found for row in rows
    ]


def _write(path, key, done):
    if sources.edited():  # the code that ran is not the code that the key names
        return
    try:
        results.write_text(path, json.dumps({"key": key, "rows": done}))
    except ValueError as error:
        print(f"{error}: these rows are not kept for the next call", file=sys.stderr)


def _read(path, key) -> dict:
    """Image -> its rows; empty where nothing, or something else, was kept."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return kept["rows"] if isinstance(kept, dict) and kept.get("key") == key else {}


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()

"""Images and image sets: read, write, find, verify, fetch."""

from carlib.data.fetch import fetch, unpack
from carlib.data.images import (
    LUMA,
    centre_crop,
    check_image,
    check_writable,
    colour_profile,
    crop_to_multiple,
    jpeg_quality,
    note,
    read_image,
    read_of_set,
    to_colour,
    to_grey,
    write_image,
)
from carlib.data.manifest import pixel_sha256, verify
from carlib.data.sets import (
    NAMES,
    available,
    canonical,
    find,
    held,
    inventory,
    label,
    load,
    own_file,
    own_folder,
    shared,
)

__all__ = [
    "LUMA", "NAMES", "available", "canonical", "centre_crop", "check_image", "check_writable", "colour_profile",
    "crop_to_multiple", "fetch", "find", "held", "inventory", "jpeg_quality", "label", "load", "note",
    "own_file", "own_folder", "pixel_sha256", "read_image", "read_of_set", "shared", "to_colour", "to_grey", "unpack",
    "verify", "write_image",
]  # fmt: skip

"""A map of points that stays fast at 200,000: coordinates go out once, as compact files.

The browser fetches packs of typed arrays by an address that holds their content's hash, and keeps
them: another colour sends one byte a point, another selection one bit a point, and coming back to
the page nothing. Gestures send geometry only. What is inside is worked out on the server.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import streamlit as st

from app.components import mount
from app.media import serve

FULL = 65535  # coordinates are sent as steps of the map's extent
Bounds = tuple[float, float, float, float]  # x from, x to, y from, y to


@dataclass(frozen=True)
class Layer:
    """Points as they are drawn, all of one order. Files are packs (see `pack`)."""

    points: bytes  # "xy" uint16 [2N], "rows" uint32 [N]
    rows: np.ndarray  # int64 [N], of the whole set
    ends: tuple[bytes, ...] = ()  # the same points' places in further maps
    shade: bytes = b""  # "codes" uint8 [N]
    sizes: bytes = b""  # "sizes" uint8 [N], 64 for the plain size
    labels: bytes = b""  # asked for at the first hover: see app/projection_labels.py
    sheet: bytes = b""  # a JPEG of all thumbnails that the labels name
    selected: np.ndarray | None = None  # bool [all points]
    matched: np.ndarray | None = None
    window: Bounds | None = None  # of a finer piece: where it is whole
    inside: int | None = None  # how many points the window has


@dataclass(frozen=True)
class Picture:
    """All that a map shows, besides its points."""

    extent: Bounds
    title: str = ""
    legend: Mapping = field(default_factory=lambda: {"kind": "none", "codes": []})
    shapes: Sequence[Mapping] = ()  # the selection's outlines: {"kind", "points"}
    names: Sequence[Mapping] = ()  # words written on the map: {"text", "x", "y"}
    stages: Sequence[str] = ()  # names of the maps between which points move
    arrows: bool = False
    at: float = 0.0  # the stage that is shown first
    group: str = ""  # maps of one group mark each other's hovered point
    height: int = 560
    file: str = "map"  # of saved pictures
    painter: str = "auto"  # "webgl" or "stamps" only to compare them


def show_scatter(
    key: str,
    picture: Picture,
    layer: Layer,
    total: int,
    detail: Layer | None = None,
    on: Mapping[str, Callable] | None = None,
) -> None:
    """Show the map; `total` points are in the whole set.

    `on` has what to call: "enclosed" with {kind, points, how}, "cleared", "picked" with a row,
    "category" with the legend's choice, "asked" when labels are wanted, "window" with bounds
    when a sample is looked at closely. A handler that is absent makes its gesture do nothing.
    """
    on = on or {}
    address = functools.partial(_served, key)
    data = data_of(key, picture, layer, total, detail, address)
    data["refines"] = "window" in on and len(layer.rows) < total
    names = ("enclosed", "cleared", "picked", "category", "asked", "window", "lost")
    mount("scatter", key, data, **{f"on_{n}_change": _handler(key, n, on.get(n)) for n in names})


def data_of(
    key: str,
    picture: Picture,
    layer: Layer,
    total: int,
    detail: Layer | None,
    address: Callable[[str, bytes], str],
) -> dict:
    """What the component is given; `address(name, file)` says where it gets a file from."""
    return {
        "id": key,
        "layer": _layer(layer, address, "whole"),
        "detail": _layer(detail, address, "detail") if detail else None,
        "labels": address("labels", layer.labels),
        "sheet": address("sheet", layer.sheet),
        "view": hashlib.sha256(layer.points).hexdigest()[:16],
        "total": total,
        "refines": False,
        "selected": _count(layer.selected),
        "matched": _count(layer.matched),
        "label": f"{picture.title or 'Map'}: {len(layer.rows):,} points. Arrow keys move a cross, "
        "plus and minus zoom, b draws a box, Enter opens a point, Escape clears the selection.",
        **_plain(picture),
    }


def _served(key: str, name: str, file: bytes) -> str:
    mimetype = "image/jpeg" if name == "sheet" else "application/octet-stream"
    return serve(file, mimetype, f"{key}.{name}") if file else ""


def _handler(key: str, name: str, act: Callable | None) -> Callable[[], None]:
    def handle() -> None:
        value = st.session_state[key].get(name)
        if value is not None and act is not None:
            act(value)

    return handle


def _plain(picture: Picture) -> dict:
    shown = vars(picture) | {"stages": [{"name": name} for name in picture.stages]}
    return shown | {"shapes": list(picture.shapes), "names": list(picture.names)}


def _layer(layer: Layer, address: Callable[[str, bytes], str], place: str) -> dict:
    """A layer as the component reads it: addresses of its files, and its flags as bits."""
    return {
        "points": address(f"{place}.points", layer.points),
        "ends": [address(f"{place}.end-{n}", end) for n, end in enumerate(layer.ends)],
        "shade": address(f"{place}.shade", layer.shade),
        "sizes": address(f"{place}.sizes", layer.sizes),
        "labels": address(f"{place}.labels", layer.labels) if layer.window else "",
        "selected": flags(layer.selected, layer.rows),
        "matched": flags(layer.matched, layer.rows),
        "window": layer.window,
        "inside": layer.inside,
        "sampled": layer.inside is not None and layer.inside > len(layer.rows),
    }


def _count(mask: np.ndarray | None) -> int:
    return -1 if mask is None else int(np.count_nonzero(mask))


# ---- packs ---------------------------------------------------------------------------------


def pack(meta: Mapping, **arrays: np.ndarray) -> bytes:
    """Arrays in one file: the header's length, the header as JSON, the arrays on 8-byte steps.

    The header holds a checksum of the arrays: Streamlit names a file after parts of it only.
    """
    parts = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    digest = hashlib.sha256()
    for part in parts.values():
        digest.update(part.tobytes())
    header = {"meta": dict(meta), "sha256": digest.hexdigest()}
    # Offsets depend on the header's length and stand in the header: room is kept for them.
    room = len(json.dumps(header)) * 2 + 120 * len(parts) + 64
    places, start = {}, 4 + room + (-(4 + room)) % 8
    for name, part in parts.items():
        places[name] = {"type": part.dtype.name, "offset": start, "length": part.size}
        start += part.nbytes + (-part.nbytes) % 8
    text = json.dumps(header | {"arrays": places}, ensure_ascii=False).encode()
    out = bytearray(start)
    first = min((place["offset"] for place in places.values()), default=start)
    if 4 + len(text) > first:
        raise ValueError(f"A pack's header of {len(text)} bytes does not fit its {room}.")
    out[:4] = (first - 4).to_bytes(4, "little")
    out[4:first] = text.ljust(first - 4)  # JSON may end in spaces
    for name, part in parts.items():
        offset = places[name]["offset"]
        out[offset : offset + part.nbytes] = part.tobytes()
    return bytes(out)


def points_pack(coordinates: np.ndarray, rows: np.ndarray, bounds: Bounds) -> bytes:
    """The rows' places, f32 [all, 2], as steps of `bounds`."""
    return pack(
        {"bounds": bounds},
        xy=quantised(coordinates[rows], bounds).reshape(-1),
        rows=np.asarray(rows, np.uint32),
    )


def quantised(coordinates: np.ndarray, bounds: Bounds) -> np.ndarray:
    """uint16 [N, 2]: 0 at the lower bound, 65,535 at the upper."""
    low = np.array([bounds[0], bounds[2]])
    high = np.array([bounds[1], bounds[3]])
    steps = (np.asarray(coordinates, np.float64) - low) / (high - low) * FULL
    return np.clip(np.rint(steps), 0, FULL).astype(np.uint16)


def bounds_of(*maps: np.ndarray) -> Bounds:
    """What all the maps fit in, never of no width."""
    low = np.min([each.min(axis=0) for each in maps], axis=0).astype(float)
    high = np.max([each.max(axis=0) for each in maps], axis=0).astype(float)
    room = np.maximum(high - low, 1e-6)
    low, high = low - 0.01 * room, high + 0.01 * room
    return float(low[0]), float(high[0]), float(low[1]), float(high[1])


def flags(mask: np.ndarray | None, rows: np.ndarray) -> str:
    """A bit for each drawn point, as text; "" where nothing is marked off at all."""
    if mask is None:
        return ""
    return base64.b64encode(np.packbits(mask[rows]).tobytes()).decode()


def with_flags(layer: Layer, selected: np.ndarray | None, matched: np.ndarray | None) -> Layer:
    return replace(layer, selected=selected, matched=matched)

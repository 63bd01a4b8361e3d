"""What travels to the browser: packs, steps of coordinates, bits."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest

from app import scatter


def unpacked(data: bytes) -> dict:
    """The pack read as app/frontend/scatter_points.js reads it."""
    length = int.from_bytes(data[:4], "little")
    header = json.loads(data[4 : 4 + length].decode())
    found = dict(header["meta"])
    for name, part in header["arrays"].items():
        found[name] = np.frombuffer(data, part["type"], part["length"], part["offset"])
    return found


def test_a_pack_gives_back_its_arrays_aligned_and_its_texts():
    arrays = {
        "xy": np.arange(6, dtype=np.uint16),
        "codes": np.array([1, 2, 255], np.uint8),
        "rows": np.array([7, 2**32 - 1], np.uint32),
    }
    data = scatter.pack({"texts": ["Füße", '"q"', "漢"]}, **arrays)
    found = unpacked(data)
    assert found.pop("texts") == ["Füße", '"q"', "漢"]
    for name, array in arrays.items():
        assert (found[name] == array).all() and found[name].dtype == array.dtype
    header = json.loads(data[4 : 4 + int.from_bytes(data[:4], "little")].decode())
    assert all(part["offset"] % 8 == 0 for part in header["arrays"].values())


def test_packs_that_differ_deep_inside_differ_at_the_beginning():
    # Streamlit names a large file after its length, its ends and its middle only.
    one = np.zeros(3_000_000, np.uint8)
    other = one.copy()
    other[700_000] = 1
    first, second = (scatter.pack({}, codes=codes) for codes in (one, other))
    assert len(first) == len(second) and first[:4096] != second[:4096]


def test_coordinates_are_true_to_half_a_step():
    rng = np.random.default_rng(0)
    places = rng.normal(size=(1000, 2)).astype(np.float32) * [3, 80]
    bounds = scatter.bounds_of(places)
    found = unpacked(scatter.points_pack(places, np.arange(1000), bounds))
    steps = found["xy"].reshape(-1, 2) / scatter.FULL
    low, high = np.array([bounds[0], bounds[2]]), np.array([bounds[1], bounds[3]])
    error = np.abs(low + steps * (high - low) - places) / (high - low)
    assert error.max() <= 0.5 / scatter.FULL + 1e-7
    assert found["bounds"] == list(bounds)


def test_a_pack_of_chosen_rows_names_them_in_their_order():
    places = np.arange(20, dtype=np.float32).reshape(10, 2)
    found = unpacked(scatter.points_pack(places, np.array([7, 3]), (0, 20, 0, 20)))
    assert found["rows"].tolist() == [7, 3]
    assert found["xy"].reshape(2, 2)[0, 0] > found["xy"].reshape(2, 2)[1, 0]


def test_bounds_hold_every_map_and_have_a_width():
    same = np.ones((5, 2), np.float32)
    x0, x1, y0, y1 = scatter.bounds_of(same)
    assert x0 < 1 < x1 and y0 < 1 < y1
    x0, x1, y0, y1 = scatter.bounds_of(same, 4 * same)
    assert x0 < 1 and x1 > 4


@pytest.mark.parametrize("count", [1, 8, 9, 1001])
def test_flags_are_bits_in_the_order_of_drawing(count):
    rng = np.random.default_rng(count)
    mask, rows = rng.random(2000) < 0.3, rng.permutation(2000)[:count]
    bits = np.unpackbits(np.frombuffer(base64.b64decode(scatter.flags(mask, rows)), np.uint8))
    assert (bits[:count].astype(bool) == mask[rows]).all()
    assert scatter.flags(None, rows) == ""

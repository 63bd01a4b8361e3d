"""What a map's points say when they are pointed at: a word in its sentence, a clip's picture."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from app.scatter import pack
from core.analysis.point_columns import Column

TILE = (128, 80)  # pixels of one thumbnail on the sheet
TILES_ACROSS = 16
MOST_TILES = 1024  # videos beyond this have no picture: the sheet stays below a few megabytes
MOST_START = 65535


def labels_pack(
    rows: np.ndarray,
    text: Column,
    sentence_ids: np.ndarray | None = None,
    sentences: pa.Array | None = None,
    starts: np.ndarray | None = None,
    ends: np.ndarray | None = None,
    pictures: np.ndarray | None = None,
) -> bytes:
    """Labels of the drawn rows, each distinct text and sentence once.

    `sentence_ids` int [all] are rows of `sentences`, -1 for none; `starts` and `ends` are
    character offsets in the sentence; `pictures` int [all] places on the sheet, -1 for none.
    """
    kept, places = np.unique(text.codes[rows], return_inverse=True)
    texts = [text.values[code] if code >= 0 else "" for code in kept]
    arrays = {"text": places, "context": np.zeros(len(rows))}
    contexts = [""]
    if sentence_ids is not None and sentences is not None and len(sentences):
        kept, arrays["context"] = np.unique(sentence_ids[rows], return_inverse=True)
        found = sentences.take(pa.array(np.maximum(kept, 0))).to_pylist()
        contexts = [sentence if row >= 0 else "" for row, sentence in zip(kept, found)]
    arrays = {name: array.reshape(-1).astype(np.uint32) for name, array in arrays.items()}
    for name, offsets in (("start", starts), ("end", ends)):
        chosen = np.zeros(len(rows)) if offsets is None else offsets[rows]
        arrays[name] = np.clip(chosen, 0, MOST_START).astype(np.uint16)
    meta = {"texts": texts, "contexts": contexts}
    if pictures is not None:
        arrays["picture"] = (pictures[rows] + 1).astype(np.uint32)
        meta["sheet"] = {"columns": TILES_ACROSS, "width": TILE[0], "height": TILE[1]}
    return pack(meta, **arrays)


def thumbnail_sheet(files: Sequence[Path | None]) -> bytes:
    """All pictures on one JPEG, in rows of TILES_ACROSS; a missing file leaves its place grey."""
    from PIL import Image, ImageOps

    files = files[:MOST_TILES]
    if not files:
        return b""
    rows = -(-len(files) // TILES_ACROSS)
    sheet = Image.new("RGB", (TILES_ACROSS * TILE[0], rows * TILE[1]), (120, 120, 120))
    for place, file in enumerate(files):
        if file is None:
            continue
        try:
            with Image.open(file) as picture:
                tile = ImageOps.fit(picture.convert("RGB"), TILE)
        except OSError:
            continue  # no picture of this video: its place stays grey
        sheet.paste(tile, (place % TILES_ACROSS * TILE[0], place // TILES_ACROSS * TILE[1]))
    out = io.BytesIO()
    sheet.save(out, "JPEG", quality=80)
    return out.getvalue()

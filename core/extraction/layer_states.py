"""One vector a text from every layer of an encoder, for linear probes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from core.data.task_rows import PairRows, length_batches
from core.models.task_heads import pooled


def layer_states(
    encoder,
    texts: Sequence[tuple[str, str]],
    pooling: str = "mean",
    max_tokens: int = 256,
    progress=None,
) -> np.ndarray:
    """States f32 [layers + 1, N, H] of texts (with "" or a second text), layer 0 the embeddings.

    `encoder` is what `open_encoder` gives; `pooling` as in `task_heads.pooled`.
    """
    rows = PairRows(texts, encoder.tokenizer, min(max_tokens, encoder.model.max_tokens))
    progress = progress or (lambda *_: None)
    found: np.ndarray | None = None
    done = 0
    for chosen in length_batches(rows.lengths()):
        batch = rows.text(chosen).to(encoder.device)
        with torch.inference_mode():
            states = encoder.model.encode_text(batch, all_states=True).all_states
            vectors = torch.stack([pooled(s, batch, pooling) for s in states]).float().cpu().numpy()
        if found is None:
            found = np.empty((len(vectors), len(texts), vectors.shape[-1]), np.float32)
        found[:, chosen] = vectors
        done += len(chosen)
        progress(done, len(texts), "states")
    if found is None:
        raise ValueError("Wanted at least one text, found none.")
    return found

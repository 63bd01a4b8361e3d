"""Word-level InfoNCE: a word's positives are all clips of the batch in whose caption it stands.

In the paper's token contrast all tokens of a sentence share one positive, their own clip. A
contextual encoder can then give every token of the sentence the same vector, and "the" points
where "duck" points. Here "duck" is drawn to every clip with a duck, so what the clips share is
left to it, and a word of all captions has nothing to tell them apart by. The form is the
supervised contrastive loss L_out of Khosla et al. 2020 (arXiv 2004.11362, eq. 2) with words in
place of class labels; no annotation is used.
"""

from __future__ import annotations

import torch
from torch import Tensor

from core.losses.gather import gather_rows, gather_sentences, global_mean
from core.losses.precision import full_precision


@full_precision
def word_info_nce(
    token_vectors: Tensor,
    clip_vectors: Tensor,
    mask: Tensor,
    *,
    words: Tensor,
    temperature: float = 0.07,
) -> Tensor:
    """Mean over the kept tokens of both directions' surprise, half each.

    token_vectors [B, L, D] unit, clip_vectors [B, D] unit, mask bool [B, L] true for tokens to
    learn from, words int [B, L]: what stands at each place of the caption (before any masking),
    negative where there is no word -> scalar >= 0.

    token -> clips: -mean over the clips c with the word of log softmax_c(s(x, v_c) / τ);
    clip -> tokens: the clip's own token against the tokens of words that its caption lacks.
    """
    tokens = token_vectors.masked_fill(~mask[..., None], 0)
    all_clips, first = gather_rows(clip_vectors)
    all_tokens, _ = gather_sentences(tokens)
    all_mask, _ = gather_sentences(mask)
    # Shifted by one, so that the zeros that fill up shorter ranks mean "no word" too.
    all_words = gather_sentences(words + 1)[0] - 1
    said = _said(words, all_words)  # [B, L, C]: the word stands in clip c's caption
    to_clips = tokens @ all_clips.T / temperature  # [B, L, C]
    own = first + torch.arange(len(clip_vectors), device=mask.device)
    # A token's own clip is a positive whatever its word is.
    said[torch.arange(len(own)), :, own] = True
    log_share = to_clips.log_softmax(dim=2)
    of_clips = -(log_share * said).sum(dim=2) / said.sum(dim=2)  # [B, L]

    strange = _said(all_words, words).logical_not() & all_mask[..., None]  # [C, L', B]
    to_tokens = all_tokens @ clip_vectors.T / temperature  # [C, L', B]
    others = to_tokens.masked_fill(~strange, float("-inf")).flatten(0, 1).logsumexp(dim=0)  # [B]
    positive = (tokens * clip_vectors[:, None]).sum(dim=2) / temperature  # [B, L]
    of_tokens = torch.logaddexp(positive, others[:, None]) - positive

    surprise = ((of_clips + of_tokens) / 2).masked_fill(~mask, 0)
    return global_mean(surprise.sum(), mask.sum())


def _said(words: Tensor, captions: Tensor) -> Tensor:
    """Whether each word [B, L] stands in each caption [C, M], bool [B, L, C]."""
    known, places = torch.cat([words.flatten(), captions.flatten()]).unique(return_inverse=True)
    rows = torch.arange(len(captions), device=words.device)[:, None]
    table = torch.zeros(len(captions), len(known), dtype=torch.bool, device=words.device)
    table[rows, places[words.numel() :].view_as(captions)] = True
    table &= known >= 0
    return table[:, places[: words.numel()].view_as(words)].permute(1, 2, 0).contiguous()

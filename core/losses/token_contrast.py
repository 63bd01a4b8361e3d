"""The teacher's contrastive losses: tokens against clips, both directions.

The paper's L_CT (arXiv 2107.02681, section 3.2) for an aligned pair (x, v) and a strange pair
(x′, v′) is Σ_i [α − s(x_i,v) + s(x_i,v′)]₊ + [α − s(x_i,v) + s(x′_i,v)]₊, where x′_i is the
token at the same place in the strange sentence. Here every term is the same, but

- the strange pairs are all other rows of the batch (`negatives="all"`), or row b + B/2 for row
  b as in the paper's half-batch pairing (`negatives="paired"`);
- each direction is a mean over its terms, not a sum, so neither the batch size nor the padding
  moves the value: paper's sum = value × tokens × negatives for sentences of one length;
- a term of the second direction whose x′_i does not exist, because the strange sentence is
  shorter or has a special token there, is left out.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from core.losses.gather import gather_rows, gather_sentences, global_mean
from core.losses.precision import full_precision


@full_precision
def token_contrast(
    token_vectors: Tensor,
    clip_vectors: Tensor,
    mask: Tensor,
    *,
    margin: float = 1.0,
    negatives: str = "all",
    same_clip: Tensor | None = None,
) -> Tensor:
    """Hinge loss: a token is closer to its clip than to others, by the margin, and vice versa.

    token_vectors [B, L, D] unit, clip_vectors [B, D] unit, mask bool [B, L] true for content
    tokens -> scalar in [0, 2 (margin + 2)]. Negatives come from all ranks. `same_clip` leaves
    out false negatives: bool [B, B], or int [B] with equal numbers for rows that show the same
    clip or caption (which also reaches over the ranks).
    """
    pairs = _Pairs(token_vectors, clip_vectors, mask, same_clip)
    if negatives == "paired":
        pairs.keep_only_partners()
    elif negatives != "all":
        raise ValueError(f"negatives is 'all' or 'paired', found '{negatives}'.")
    positive = pairs.positive  # [B, L]
    to_clips = (margin - positive[:, :, None] + pairs.to_clips).relu()  # [B, L, clips]
    to_tokens = (margin - positive[None] + pairs.to_tokens).relu()  # [sentences, B, L]
    return _masked_mean(to_clips, pairs.clip_mask) + _masked_mean(to_tokens, pairs.token_mask)


@full_precision
def token_info_nce(
    token_vectors: Tensor,
    clip_vectors: Tensor,
    mask: Tensor,
    *,
    temperature: float = 0.07,
    same_clip: Tensor | None = None,
) -> Tensor:
    """InfoNCE over the same pairs as `token_contrast`, the mean of both directions.

    A token picks its clip among the batch's clips; a clip picks its sentence's token among the
    tokens at the same place of the batch's sentences. Shapes as in `token_contrast`.
    """
    pairs = _Pairs(token_vectors, clip_vectors, mask, same_clip)
    positive = pairs.positive / temperature  # [B, L]
    clip_scores = _scores_without(pairs.to_clips / temperature, pairs.clip_mask)
    token_scores = _scores_without(pairs.to_tokens / temperature, pairs.token_mask)
    of_clips = torch.cat([positive[:, :, None], clip_scores], dim=2).logsumexp(dim=2)
    of_tokens = torch.cat([positive[None], token_scores], dim=0).logsumexp(dim=0)
    surprise = (of_clips + of_tokens) / 2 - positive  # [B, L]
    return _masked_mean(surprise, mask)


@full_precision
def sentence_contrast(
    token_vectors: Tensor, clip_vectors: Tensor, mask: Tensor, **settings
) -> Tensor:
    """`token_contrast` of the mean token vector, renormalised: one vector per sentence."""
    return token_contrast(*_as_one_token(token_vectors, clip_vectors, mask), **settings)


@full_precision
def sentence_info_nce(
    token_vectors: Tensor, clip_vectors: Tensor, mask: Tensor, **settings
) -> Tensor:
    """`token_info_nce` of the mean token vector, renormalised."""
    return token_info_nce(*_as_one_token(token_vectors, clip_vectors, mask), **settings)


class _Pairs:
    """Scores of this rank's rows with all ranks' rows, and which of them are negatives.

    With B own rows and C rows on all ranks: positive [B, L] = s(x_bl, v_b);
    to_clips [B, L, C] = s(x_bl, v_c); to_tokens [C, B, L] = s(x_cl, v_b); clip_mask and
    token_mask say which of the latter two are negatives that exist.
    """

    def __init__(self, tokens: Tensor, clips: Tensor, mask: Tensor, same_clip: Tensor | None):
        length = tokens.shape[1]
        # Filled, because scores of padding enter sums as 0 · score, and NaN · 0 is NaN.
        tokens = tokens.masked_fill(~mask[..., None], 0)
        all_clips, first = gather_rows(clips)
        all_tokens, _ = gather_sentences(tokens)
        all_mask, _ = gather_sentences(mask)
        own = torch.arange(first, first + len(clips), device=clips.device)
        self.own, self.num_rows = own, len(all_clips)
        self.positive = (tokens * clips[:, None]).sum(dim=-1)
        self.to_clips = tokens @ all_clips.T
        if all_tokens is tokens:  # one rank: the same scores, read the other way
            self.to_tokens = self.to_clips.permute(0, 2, 1)
        else:
            self.to_tokens = torch.einsum("cld,bd->cbl", all_tokens[:, :length], clips)
        stranger = own[:, None] != torch.arange(self.num_rows, device=own.device)  # [B, C]
        if same_clip is not None:
            stranger &= ~_same_everywhere(same_clip, own, self.num_rows)
        self.clip_mask = mask[:, :, None] & stranger[:, None]
        self.token_mask = mask[None] & all_mask[:, None, :length] & stranger.T[:, :, None]

    def keep_only_partners(self) -> None:
        """Leave row b the row half a batch further as its only negative."""
        partner = (self.own + self.num_rows // 2) % self.num_rows
        chosen = partner[:, None] == torch.arange(self.num_rows, device=partner.device)
        self.clip_mask = self.clip_mask & chosen[:, None]
        self.token_mask = self.token_mask & chosen.T[:, :, None]


def _same_everywhere(same_clip: Tensor, own: Tensor, num_rows: int) -> Tensor:
    """Which of all rows show the same clip as each own row, bool [B, C]."""
    if same_clip.dim() == 1:
        return same_clip[:, None] == gather_rows(same_clip)[0]
    same = torch.zeros(len(own), num_rows, dtype=torch.bool, device=own.device)
    return same.index_copy(1, own, same_clip.to(torch.bool))


def _as_one_token(tokens: Tensor, clips: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    total = tokens.masked_fill(~mask[..., None], 0).sum(dim=1, keepdim=True)
    return F.normalize(total, dim=-1), clips, mask.any(dim=1, keepdim=True)


def _scores_without(scores: Tensor, mask: Tensor) -> Tensor:
    return scores.masked_fill(~mask, float("-inf"))


def _masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the true places on all ranks; what stands elsewhere does not matter."""
    return global_mean(values.masked_fill(~mask, 0).sum(), mask.sum())

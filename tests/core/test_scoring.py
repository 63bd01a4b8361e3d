"""Scores in batches are those of one masked copy at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from core import scoring
from core.config import SettingsError
from core.inference import Encoder
from core.scoring import ScoringError, score_texts

CONTEXTS = ["If you drop the bottle, it", "", "Don't drop the how-to bottle:"]
CHOICES = [
    ("shatters", "will xyzzyplugh at once."),
    ("it shatters", "the bottle"),
    ("it shatters!", "it drops"),
]


@pytest.fixture
def encoder(saved):
    saved.teacher()
    return Encoder.open(saved.student().name)


def one_at_a_time(encoder, context: str, choice: str, method: str) -> list[float]:
    """Log probabilities of the choice's pieces, each from a forward pass of its own."""
    before = f"{context} " if context else ""
    encoded = encoder.tokenizer.encode_batch([before + choice], encoder.model.max_tokens)
    ids, words = encoded.batch.token_ids[0], encoded.word_ids[0]
    found = []
    for place, (start, end) in enumerate(encoded.offsets[0]):
        if end == start or start < len(before):
            continue
        hidden = ids.clone()
        hidden[place] = encoder.tokenizer.mask_id
        if method == "PLL-word-l2r":
            for later in range(place + 1, len(ids)):
                if words[later] == words[place]:
                    hidden[later] = encoder.tokenizer.mask_id
        batch = type(encoded.batch)(
            hidden[None], encoded.batch.mask, encoded.batch.content_mask, ids[None]
        )
        with torch.no_grad():  # every position has a label here: all logits, of which one is read
            logits = encoder.model.encode_text(batch, mlm=True).mlm_logits[place]
        found.append(float(logits.log_softmax(-1)[ids[place]]))
    return found


@pytest.mark.parametrize("method", scoring.METHODS)
@pytest.mark.parametrize("bound", [1, 40, 2048])  # padded tokens: one copy a chunk, few, all
def test_batched_scores_are_those_of_single_copies(encoder, method, bound, monkeypatch):
    monkeypatch.setattr(scoring, "TOKENS_PER_BATCH", bound)
    found = score_texts(encoder, CONTEXTS, CHOICES, method)
    for context, texts, scores in zip(CONTEXTS, CHOICES, found):
        for text, score in zip(texts, scores):
            wanted = one_at_a_time(encoder, context, text, method)
            np.testing.assert_allclose(score.log_probs, wanted, atol=1e-5)
            assert score.score == pytest.approx(sum(wanted), abs=1e-5)


def test_only_the_choice_is_scored_and_its_pieces_are_placed_in_it(encoder):
    ((score, _), *_) = score_texts(encoder, CONTEXTS, CHOICES)
    assert "".join(token.text for token in score.tokens) == "shatters"
    for token in score.tokens:
        assert "shatters"[token.start : token.end] == token.text


def test_norms_divide_the_sum(encoder):
    by_norm = {
        norm: score_texts(encoder, CONTEXTS[:1], CHOICES[:1], norm=norm)[0][1]
        for norm in scoring.NORMS
    }
    total = by_norm["sum"].score
    assert by_norm["token"].score == pytest.approx(total / len(by_norm["sum"].tokens))
    assert by_norm["char"].score == pytest.approx(total / len(CHOICES[0][1]))


def test_plain_pll_finds_a_broken_word_likelier_only_where_pieces_betray_it(encoder):
    """Words of one piece score alike by both methods; a word of several does not."""
    context, choices = ["drop the"], [("bottle", "xyzzyplugh")]
    ((plain_one, plain_many),) = score_texts(encoder, context, choices, "PLL")
    ((word_one, word_many),) = score_texts(encoder, context, choices, "PLL-word-l2r")
    np.testing.assert_allclose(plain_one.log_probs, word_one.log_probs, atol=1e-6)
    assert len(plain_many.log_probs) > 1
    assert not np.allclose(plain_many.log_probs[:-1], word_many.log_probs[:-1], atol=1e-6)
    # Of a word's last piece nothing later is to be hidden.
    assert plain_many.log_probs[-1] == pytest.approx(word_many.log_probs[-1], abs=1e-5)


def test_a_long_context_loses_its_beginning_and_the_choice_is_kept(encoder):
    room = encoder.model.max_tokens - 2
    kept = " ".join(["drop"] * (room - 1))
    ((long,),) = score_texts(encoder, ["bottle bottle " + kept], [("it",)])
    ((short,),) = score_texts(encoder, [kept], [("it",)])
    np.testing.assert_allclose(long.log_probs, short.log_probs, atol=1e-6)


def test_the_lm_head_runs_once_per_scored_piece(encoder, monkeypatch):
    seen = []
    head = encoder.model.text_encoder.mlm_head.forward
    monkeypatch.setattr(
        encoder.model.text_encoder.mlm_head,
        "forward",
        lambda states, embedding: seen.append(len(states)) or head(states, embedding),
    )
    found = score_texts(encoder, CONTEXTS, CHOICES)
    assert sum(seen) == sum(len(s.log_probs) for row in found for s in row)


def test_a_choice_longer_than_the_model_reads_is_scored_in_windows(encoder):
    """Each piece amid the nearest: half a window before it, or as near to that as the ends let."""
    room = encoder.model.max_tokens - 2
    words = (["drop", "the", "bottle", "it", "and"] * room)[: 2 * room + 3]
    ((found,),) = score_texts(encoder, ["how"], [(" ".join(words),)], "PLL")
    assert len(found.log_probs) == len(words)
    for place in (0, 5, room, len(words) - 1):
        start = min(max(place + 1 - room // 2, 0), len(words) + 1 - room)
        window = ["how", *words][start : start + room]
        inside = place + 1 - start
        before, text = " ".join(window[:inside]), " ".join(window[inside:])
        wanted = one_at_a_time(encoder, before, text, "PLL")[0]
        assert found.log_probs[place] == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("logits", [1, 12_000])
def test_the_lm_head_never_makes_more_logits_than_allowed(encoder, logits, monkeypatch):
    wanted = score_texts(encoder, CONTEXTS, CHOICES)
    monkeypatch.setattr(scoring, "LOGITS_PER_BATCH", logits)
    seen = []
    real = encoder.model.asked_logits
    monkeypatch.setattr(
        encoder.model,
        "asked_logits",
        lambda batch: seen.append((batch.labels >= 0).sum().item()) or real(batch),
    )
    found = score_texts(encoder, CONTEXTS, CHOICES)
    assert max(seen) <= max(1, logits // encoder.tokenizer.vocab_size)
    for row, again in zip(wanted, found):
        for one, other in zip(row, again):
            np.testing.assert_allclose(one.log_probs, other.log_probs, atol=1e-5)


def test_what_cannot_be_scored_is_said(encoder):
    with pytest.raises(ScoringError, match="something to score"):
        score_texts(encoder, ["drop"], [("",)])
    with pytest.raises(SettingsError, match="PLL"):
        score_texts(encoder, ["drop"], [("it",)], method="ppl")
    with pytest.raises(SettingsError, match="norm"):
        score_texts(encoder, ["drop"], [("it",)], norm="words")


# ---- against minicons (Misra 2022), which scores one sentence's copies without batching ----------


@pytest.fixture(params=["bert", "roberta"])
def saved_model(request, tmp_path):
    from tests.core import pretrained_models

    return getattr(pretrained_models, f"save_{request.param}")(tmp_path / request.param)


@pytest.mark.parametrize("method", scoring.METHODS)
def test_scores_are_those_of_minicons(saved_model, method):
    from minicons.scorer import MaskedLMScorer
    from transformers import AutoTokenizer

    from core.inference import open_encoder

    metric = {"PLL": "original", "PLL-word-l2r": "within_word_l2r"}[method]
    tokenizer = AutoTokenizer.from_pretrained(saved_model)
    # minicons 0.3.39 calls the tokenizer by the name that transformers 5 took away.
    tokenizer.batch_encode_plus = tokenizer.__call__
    theirs = MaskedLMScorer(str(saved_model), "cpu", tokenizer=tokenizer)
    found = score_texts(open_encoder(saved_model), CONTEXTS, CHOICES, method)
    for context, texts, scores in zip(CONTEXTS, CHOICES, found):
        for text, score in zip(texts, scores):
            wanted = minicons_sum(theirs, context, text, metric)
            assert score.score == pytest.approx(wanted, abs=1e-4)


def minicons_sum(scorer, context: str, text: str, metric: str) -> float:
    total = lambda scores: scores.sum().item()  # noqa: E731
    if not context:
        return scorer.sequence_score([text], reduction=total, PLL_metric=metric)[0]
    return scorer.conditional_score([context], [text], reduction=total, PLL_metric=metric)[0]


def test_a_model_without_lm_head_is_refused(workspace):
    from core.inference import open_encoder
    from core.models.pretrained_folder import PretrainedError

    with pytest.raises(PretrainedError, match="'minilm' has no masked-LM head"):
        score_texts(open_encoder("minilm"), ["drop"], [("it",)])

"""Masked-LM scoring against one masked copy at a time, and its memory for a long sentence.

The loop is what one writes with a masked LM at hand: a forward pass a piece, in which the LM head
tells of every word at every position. Beside it the same with the head on the asked piece alone.
"""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import numpy as np
import torch

from benchmarks.measure import best, measure, print_table
from core.config import TeacherSettings, TextEncoderSettings, preset
from core.models.student import Student
from core.models.tokenizer import Tokenizer, load_tokenizer
from core.records import TextBatch
from core.scoring import score_texts

GOAL = 5
SENTENCES, WORDS = 12, (6, 30)  # as many words as PIQA's solutions have
LONG = 512


def main() -> None:
    tokenizer, demo = load_tokenizer("bert"), preset(TeacherSettings, "demo").text
    rows = []
    for name, settings in {"demo": demo, "small": TextEncoderSettings()}.items():
        encoder = untrained(settings, tokenizer)
        texts = made_texts(tokenizer, settings.max_tokens)
        rows += [compare(f"{name}, {what}", encoder, texts, loop) for what, loop in LOOPS.items()]
    print_table(
        f"Scoring {SENTENCES} sentences by PLL-word-l2r, {torch.get_num_threads()} threads, "
        f"{tokenizer.vocab_size:,} word pieces",
        [
            "model, and the loop's head",
            "loop",
            "here",
            "ratio",
            "goal",
            "loop's peak",
            "peak here",
            "gap",
        ],
        rows,
    )
    print("  gap: largest difference of two log probabilities")
    long_sentence(tokenizer)


def compare(name: str, encoder, texts: list[str], loop) -> list[str]:
    """A row of the table. The two must agree, else their times mean nothing."""
    quick = partial(batched, encoder, texts)
    before = best(quick, 2)
    slow = measure(partial(loop, encoder, texts))
    # The quick one before and after the slow one, so that a lucky moment does not favour it.
    here = max(before, best(quick, 2), key=lambda run: run.seconds)
    gap = max(float(np.abs(a - b).max()) for a, b in zip(here.result, slow.result, strict=True))
    if gap > 1e-4:
        raise AssertionError(f"{name}: the loop's scores differ by {gap:.1e}.")
    return [
        name,
        f"{slow.seconds:.2f} s",
        f"{here.seconds:.2f} s",
        f"{slow.seconds / here.seconds:.1f}x",
        f">= {GOAL}x" if loop is whole_head_loop else "",
        f"{slow.peak_mb:.0f} MB",
        f"{here.peak_mb:.0f} MB",
        f"{gap:.0e}",
    ]


def batched(encoder, texts: list[str]) -> list[np.ndarray]:
    found = score_texts(encoder, [""] * len(texts), [(text,) for text in texts])
    return [score.log_probs for (score,) in found]


def whole_head_loop(encoder, texts: list[str], head_everywhere: bool = True) -> list[np.ndarray]:
    """Log probabilities of the pieces of each text, from a forward pass each."""
    return [
        np.array([ask(encoder, *copy, head_everywhere) for copy in copies(encoder.tokenizer, text)])
        for text in texts
    ]


LOOPS = {
    "everywhere": whole_head_loop,
    "at the piece": partial(whole_head_loop, head_everywhere=False),
}


def copies(tokenizer: Tokenizer, text: str):
    """For each piece the ids with it and its word's later ones hidden, its place, and its id."""
    encoded = tokenizer.encode_batch([text], 10_000)
    ids, words = encoded.batch.token_ids[0], encoded.word_ids[0]
    for place in range(1, len(ids) - 1):
        hidden = ids.clone()
        for later in range(place, len(ids)):
            if words[later] == words[place]:
                hidden[later] = tokenizer.mask_id
        yield hidden, place, int(ids[place])


@torch.inference_mode()
def ask(encoder, hidden: torch.Tensor, place: int, wanted: int, head_everywhere: bool) -> float:
    labels = torch.full_like(hidden, -100)
    labels[0 if head_everywhere else place :] = wanted
    labels[place + 1 :] = wanted if head_everywhere else -100
    mask = torch.ones(1, len(hidden), dtype=torch.bool)
    batch = TextBatch(hidden[None], mask, mask, labels[None])
    logits = encoder.model.encode_text(batch, mlm=True).mlm_logits
    return float(logits[place if head_everywhere else 0].log_softmax(-1)[wanted])


def long_sentence(tokenizer: Tokenizer) -> None:
    """A sentence that fills a model of 512 tokens: as many copies of as many pieces."""
    shape = {"num_layers": 3, "hidden_size": 128, "num_heads": 4, "intermediate_size": 512}
    encoder = untrained(TextEncoderSettings(**shape, max_tokens=LONG), tokenizer)
    text = " ".join(["water"] * (LONG - 2))
    run = measure(partial(batched, encoder, [text]))
    copies_made = len(run.result[0])
    whole = copies_made * LONG * tokenizer.vocab_size * 4 / 2**30
    print(
        f"\n{copies_made} copies of {LONG} tokens: {run.seconds:.1f} s, peak {run.peak_mb:.0f} MB. "
        f"All logits of all copies would be {whole:.0f} GB (computed, not tried)."
    )


def untrained(settings: TextEncoderSettings, tokenizer: Tokenizer) -> SimpleNamespace:
    """What score_texts asks of an encoder, with random weights."""
    torch.manual_seed(0)
    model = Student(settings, tokenizer.vocab_size).eval().requires_grad_(False)
    return SimpleNamespace(name="untrained", model=model, tokenizer=tokenizer, device="cpu")


def made_texts(tokenizer: Tokenizer, max_tokens: int) -> list[str]:
    """Sentences of common English words that fit the model."""
    import wordfreq

    words, generator = wordfreq.top_n_list("en", 3000), np.random.default_rng(0)
    texts = []
    while len(texts) < SENTENCES:
        text = " ".join(generator.choice(words, generator.integers(*WORDS)))
        if len(tokenizer.piece_ids([text])[0]) <= max_tokens - 2:
            texts.append(text)
    return texts


if __name__ == "__main__":
    main()

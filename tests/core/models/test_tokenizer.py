"""Tokenizer: BERT's pieces, whole or pruned, and their places in the text."""

from __future__ import annotations

import pytest

from core.models.tokenizer import TokenizerError, load_tokenizer, prune_vocabulary

TEXTS = ["The rubber ball bounces twice, then it stops.", "Granite sinks; balsa-wood floats!"]


@pytest.fixture(scope="module")
def bert():
    return load_tokenizer("bert")


@pytest.fixture(scope="module")
def pruned():
    return prune_vocabulary(TEXTS, extra_words=["obsidian"])


def pieces_of(tokenizer, text):
    return [tokenizer.pieces[i] for i in tokenizer.piece_ids([text])[0]]


def test_pruned_vocabulary_encodes_its_texts_as_the_whole_one(bert, pruned):
    assert pruned.vocab_size < 0.25 * bert.vocab_size
    for text in [*TEXTS, "obsidian"]:
        assert pieces_of(pruned, text) == pieces_of(bert, text)


def test_pruned_vocabulary_writes_any_latin_word_without_unknowns(pruned):
    pieces = pieces_of(pruned, "Zyxwvutsrq honorificabilitudinitatibus café 1234567")
    assert "[UNK]" not in pieces
    assert pieces_of(pruned, "because people")[:2] == ["because", "people"]  # frequent words stay


def test_offsets_point_at_the_text_and_pieces_of_a_word_share_its_id(bert):
    text = "A honorificabilitudinitatibus ball."
    encoded = bert.encode_batch([text], 64)
    offsets, words = encoded.offsets[0], encoded.word_ids[0]
    assert offsets[0] == (0, 0) and words[0] is None and words[-1] is None
    long_word = [text[a:b] for (a, b), word in zip(offsets, words) if word == 1]
    assert len(long_word) > 3 and "".join(long_word) == "honorificabilitudinitatibus"


def test_batches_are_padded_masked_and_cut(bert):
    encoded = bert.encode_batch(["a ball", "one two three four five six", ""], max_tokens=6)
    batch = encoded.batch
    assert batch.token_ids.shape == (3, 6)
    assert batch.mask.sum(1).tolist() == [4, 6, 2]
    assert batch.content_mask.sum(1).tolist() == [2, 4, 0]
    assert encoded.truncated == [False, True, False]
    assert [len(row) for row in encoded.offsets] == [4, 6, 2]
    assert batch.token_ids[:, 0].tolist() == [bert.cls_id] * 3
    assert batch.token_ids[1, 5] == bert.sep_id  # cut sentences end properly too
    assert not batch.content_mask[~batch.mask].any()


def test_a_typed_mask_is_a_mask_and_no_content(bert):
    batch = bert.encode_batch(["the [MASK] bounces"], 16).batch
    place = (batch.token_ids[0] == bert.mask_id).nonzero().item()
    assert batch.mask[0, place] and not batch.content_mask[0, place]


def test_saving_and_loading_keeps_ids_and_hash(pruned, tmp_path):
    pruned.save(tmp_path)
    again = load_tokenizer(tmp_path)
    assert again.content_hash == pruned.content_hash
    assert again.piece_ids(TEXTS) == pruned.piece_ids(TEXTS)
    assert tuple((tmp_path / "vocab.txt").read_text().splitlines()) == pruned.pieces


def test_pruning_is_reproducible(pruned):
    assert prune_vocabulary(reversed(TEXTS), ["obsidian"]).content_hash == pruned.content_hash


def test_a_missing_tokenizer_says_where_it_looked(tmp_path):
    with pytest.raises(TokenizerError, match="tokenizer.json"):
        load_tokenizer(tmp_path)
    with pytest.raises(TokenizerError, match="no-such-model"):
        load_tokenizer("no-such-model")

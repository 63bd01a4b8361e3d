"""Others' masked LMs answer as transformers' own classes do, special tokens and all."""

from __future__ import annotations

import pytest
import torch

from core.models.pretrained_folder import PretrainedError, PretrainedFolder
from core.records import TextBatch
from tests.core.pretrained_models import SIZES, TEXTS, save_bert, save_roberta


@pytest.fixture(params=[save_bert, save_roberta], ids=["bert", "roberta"])
def saved_folder(request, tmp_path):
    return request.param(tmp_path / "model")


def transformers_model(folder):
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    return AutoModelForMaskedLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(
        folder
    )


@torch.no_grad()
def test_states_and_masked_logits_are_those_of_transformers(saved_folder):
    opened = PretrainedFolder.open(saved_folder)
    model, tokenizer = opened.load_model(), opened.load_tokenizer()
    batch = tokenizer.encode_batch(TEXTS, model.max_tokens).batch
    labels = torch.full_like(batch.token_ids, -100)
    labels[0, 2], labels[2, 1], labels[2, 4] = 7, 8, 0
    found = model.encode_text(
        TextBatch(batch.token_ids, batch.mask, batch.content_mask, labels), True, True
    )
    theirs, their_tokenizer = transformers_model(saved_folder)
    inputs = their_tokenizer(TEXTS, return_tensors="pt", padding=True)
    wanted = theirs(**inputs, output_hidden_states=True)
    assert batch.token_ids.tolist() == inputs["input_ids"].tolist()
    torch.testing.assert_close(found.mlm_logits, wanted.logits[labels >= 0])
    real = batch.mask[..., None]
    for own, other in zip(found.all_states, wanted.hidden_states, strict=True):
        torch.testing.assert_close(own * real, other * real)
    torch.testing.assert_close(found.token_states * real, wanted.hidden_states[-1] * real)


def test_pairs_stand_in_the_models_own_frame(saved_folder):
    tokenizer = PretrainedFolder.open(saved_folder).load_tokenizer()
    firsts, seconds = TEXTS[:2], ["it drops", TEXTS[2]]
    rows = list(zip(tokenizer.piece_ids(firsts), tokenizer.piece_ids(seconds)))
    batch = tokenizer.pair_batch(rows)
    wanted = transformers_model(saved_folder)[1](
        firsts, seconds, return_tensors="pt", padding=True, return_token_type_ids=True
    )
    assert batch.token_ids.tolist() == wanted["input_ids"].tolist()
    assert batch.mask.long().tolist() == wanted["attention_mask"].tolist()
    assert batch.segments.tolist() == wanted["token_type_ids"].tolist()
    assert batch.content_mask.sum().item() == sum(len(a) + len(b) for a, b in rows)


@torch.no_grad()
def test_it_reads_as_many_tokens_as_it_says_and_no_more(saved_folder):
    opened = PretrainedFolder.open(saved_folder)
    model, tokenizer = opened.load_model(), opened.load_tokenizer()
    assert model.max_tokens == {"bert": 40, "roberta": 42}[opened.config["model_type"]]
    assert model.hidden_size == SIZES["hidden_size"]
    long = tokenizer.encode_batch(["drop " * 60], model.max_tokens)
    assert model.encode_text(long.batch).token_states.shape[1] == model.max_tokens
    with pytest.raises(ValueError, match="at most"):
        model.encode_text(tokenizer.encode_batch(["drop " * 60], model.max_tokens + 1).batch)


def test_the_head_learns_with_the_model(tmp_path):
    opened = PretrainedFolder.open(save_bert(tmp_path / "model"))
    model = opened.load_model().train()
    batch = opened.load_tokenizer().encode_batch(TEXTS, model.max_tokens).batch
    labels = batch.token_ids.masked_fill(~batch.content_mask, -100)
    text = TextBatch(batch.token_ids, batch.mask, batch.content_mask, labels)
    model.encode_text(text, mlm=True).mlm_logits.logsumexp(-1).sum().backward()
    head, body = model.model.cls.predictions.transform.dense, model.model.bert.encoder.layer[0]
    assert head.weight.grad.abs().sum() > 0
    assert body.attention.self.query.weight.grad.abs().sum() > 0


def test_a_model_without_lm_head_has_states_but_no_logits(tmp_path):
    opened = PretrainedFolder.open(save_bert(tmp_path / "model", head=False))
    model = opened.load_model()
    batch = opened.load_tokenizer().encode_batch(TEXTS, model.max_tokens).batch
    assert not model.has_mlm_head
    assert model.encode_text(batch).token_states.shape[-1] == model.hidden_size
    with pytest.raises(PretrainedError, match="no masked-LM head"):
        model.encode_text(
            TextBatch(batch.token_ids, batch.mask, batch.content_mask, batch.token_ids), mlm=True
        )


def test_pickled_weights_are_refused(tmp_path):
    folder = save_bert(tmp_path / "model")
    weights = folder / "model.safetensors"
    weights.rename(folder / "pytorch_model.bin")
    with pytest.raises(PretrainedError, match="safetensors"):
        PretrainedFolder.open(folder)


def test_another_models_weights_are_refused(tmp_path):
    folder, other = save_bert(tmp_path / "model"), save_roberta(tmp_path / "other")
    (folder / "model.safetensors").write_bytes((other / "model.safetensors").read_bytes())
    with pytest.raises(PretrainedError, match="lack"):
        PretrainedFolder.open(folder).load_model()


def test_the_hash_follows_the_weights(tmp_path):
    one, same = save_bert(tmp_path / "one"), save_bert(tmp_path / "same")
    other = save_bert(tmp_path / "other", seed=1)
    hashes = [PretrainedFolder.open(folder).hash for folder in (one, same, other)]
    assert hashes[0] == hashes[1] != hashes[2]

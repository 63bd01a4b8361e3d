"""Heads on encoders: shapes, masks, pooling, and a rebuilt model that gives the same scores."""

from __future__ import annotations

import pytest
import torch

from core.config import SettingsError
from core.data.task_rows import ChoiceRows, ClassRows, SpanRows
from core.inference import open_encoder
from core.models.task_heads import (
    TaskModel,
    description,
    in_places,
    pooled,
    rebuilt_model,
    trainable_encoder,
)
from core.records import ProbeItem, SpanItem, TextItem
from tests.core.conftest import small_tokenizer
from tests.core.pretrained_models import save_bert, save_roberta

TEXTS = [
    TextItem("0", "t", "the bottle drops", "it shatters", 0, {}),
    TextItem("1", "t", "drop it", "the how-to bottle: it shatters", 1, {}),
]
CHOICES = [
    ProbeItem("0", "t", "drop it", ("it drops", "it shatters at once", "the bottle"), 0),
    ProbeItem("1", "t", "the bottle drops", ("it", "shatters"), 1),
]
CONTEXT = "The bottle drops. It shatters!"
SPANS = [SpanItem("0", "t", "what drops", CONTEXT, (("bottle", 4),), {})]


@pytest.fixture(params=["teacher", "student", "bert", "roberta"])
def opened(request, saved, tmp_path):
    """An opened encoder of every make."""
    if request.param in ("teacher", "student"):
        return open_encoder(getattr(saved, request.param)().name, "cpu")
    save = {"bert": save_bert, "roberta": save_roberta}[request.param]
    return open_encoder(save(tmp_path / request.param), "cpu")


def new_model(opened, kind: str, **options) -> TaskModel:
    torch.manual_seed(0)
    return TaskModel(trainable_encoder(opened.model), kind, 2, **options).eval()


def rows_of(kind: str, opened):
    make, items = {
        "classification": (ClassRows, TEXTS),
        "choice": (ChoiceRows, CHOICES),
        "span": (SpanRows, SPANS),
    }[kind]
    return make(items, opened.tokenizer, 24)


@pytest.mark.parametrize("kind", ["classification", "choice", "span"])
def test_every_encoder_takes_every_head_and_is_rebuilt_from_its_description(opened, kind):
    rows = rows_of(kind, opened)
    batch = rows.batch(range(len(rows)))
    model = new_model(opened, kind)
    scores = model(batch)
    shape = {
        "classification": (2, 2),
        "choice": (2, 3),
        "span": (len(rows), 2, batch.text.token_ids.shape[1]),
    }[kind]
    assert scores.shape == shape
    again = rebuilt_model(description(model, 2, 0.1))
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.eval()(batch), scores)


def test_all_weights_are_reached_by_the_loss(opened):
    """Otherwise several processes could not train together."""
    model = new_model(opened, "classification")
    rows = rows_of("classification", opened)
    model(rows.batch([0, 1])).sum().backward()
    missing = [n for n, p in model.named_parameters() if p.grad is None]
    assert missing == []


def test_an_item_scores_the_same_alone_and_in_company(opened):
    for kind in ("classification", "choice"):
        model, rows = new_model(opened, kind), rows_of(kind, opened)
        together, alone = model(rows.batch([0, 1])), model(rows.batch([1]))
        torch.testing.assert_close(
            together[1][: alone.shape[1]], alone[0], atol=1e-5, rtol=1e-5, equal_nan=True
        )


def test_a_choice_that_is_not_there_can_never_be_right(saved):
    opened = open_encoder(saved.student().name, "cpu")
    scores = new_model(opened, "choice")(rows_of("choice", opened).batch([0, 1]))
    assert scores[1, 2] == -torch.inf and torch.isfinite(scores[0]).all()
    assert scores.softmax(dim=1)[1, 2] == 0


def test_scores_of_choices_go_to_their_places_with_their_gradient():
    flat = torch.arange(4.0, requires_grad=True)
    places = in_places(flat, torch.tensor([[True, True, True], [True, False, False]]))
    assert places[0].tolist() == [0, 1, 2] and places[1, 0] == 3
    (places[0].sum() + 2 * places[1, 0]).backward()
    assert flat.grad.tolist() == [1, 1, 1, 2]


def test_a_span_may_stand_in_the_context_alone(saved):
    opened = open_encoder(saved.student().name, "cpu")
    rows = rows_of("span", opened)
    scores = new_model(opened, "span")(rows.batch([0]))[0, 0]
    begin = rows.begin(rows.windows[0])
    assert torch.isfinite(scores[0]) and torch.isfinite(scores[begin:-1]).all()
    assert (scores[1:begin] == -torch.inf).all() and scores[-1] == -torch.inf


def test_the_mean_takes_content_and_cls_takes_the_first():
    batch = small_tokenizer().encode_batch(["drop it", "it shatters at once"], 16).batch
    states = torch.randn(2, batch.token_ids.shape[1], 5)
    assert torch.equal(pooled(states, batch, "cls"), states[:, 0])
    torch.testing.assert_close(pooled(states, batch, "mean")[0], states[0, 1:3].mean(dim=0))


def test_the_mean_of_an_empty_text_is_a_number():
    batch = small_tokenizer().text_batch([[], [100]])
    assert torch.isfinite(pooled(torch.randn(2, 3, 4), batch, "mean")).all()


def test_an_unknown_pooling_is_refused(saved):
    encoder = trainable_encoder(open_encoder(saved.student().name, "cpu").model)
    with pytest.raises(SettingsError, match="found 'span' and 'max'"):
        TaskModel(encoder, "span", pooling="max")

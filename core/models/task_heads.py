"""What stands on a text encoder to answer a task: classes, choices or spans.

classification   [CLS] text [SEP]  or  [CLS] one [SEP] two [SEP]  -> one score a class
choice           [CLS] context [SEP] choice [SEP] for each choice -> one score each
span             [CLS] question [SEP] context [SEP] -> scores of first and last piece;
                 the first position stands for "no answer" (Devlin et al. 2019, section 4.3)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from core.config import SettingsError, TextEncoderSettings
from core.models.linear import Linear
from core.models.student import Student
from core.models.teacher import Teacher
from core.models.text_encoder import TextEncoder
from core.models.transformer import Dropout, init_bert_weights
from core.records import TextBatch

KINDS = ("classification", "choice", "span")
POOLINGS = ("cls", "mean")


@dataclass(frozen=True)
class TaskBatch:
    """Texts with what they ask. B items, R rows of text: R is more than B only for choices."""

    text: TextBatch  # [R, L]
    labels: Tensor  # int64 [B], or [B, 2] first and last position of a span
    choices: Tensor | None = None  # bool [B, C]: which places of [B, C] the rows fill, in order
    answerable: Tensor | None = None  # bool [B, L]: where a span may begin or end

    def to(self, device) -> TaskBatch:
        values = (self.text, self.labels, self.choices, self.answerable)
        return TaskBatch(*(None if value is None else value.to(device) for value in values))


class TaskModel(nn.Module):
    """A text encoder with the head of one kind of task.

    `encoder` answers `encode_text`, as a Student or PretrainedText does; `num_labels` counts for
    classification alone.
    """

    def __init__(
        self,
        encoder: nn.Module,
        kind: str,
        num_labels: int = 0,
        pooling: str = "cls",
        dropout: float = 0.1,
    ):
        super().__init__()
        if kind not in KINDS or pooling not in POOLINGS:
            raise SettingsError(
                f"Wanted a kind of {', '.join(KINDS)} and pooling {' or '.join(POOLINGS)}, found "
                f"'{kind}' and '{pooling}'."
            )
        self.encoder, self.kind, self.pooling = encoder, kind, pooling
        if kind == "span":
            self.head = Linear(encoder.hidden_size, 2)
        else:
            outputs = num_labels if kind == "classification" else 1
            self.head = PooledHead(encoder.hidden_size, outputs, dropout)
        init_bert_weights(self.head)

    @property
    def max_tokens(self) -> int:
        return self.encoder.max_tokens

    def forward(self, batch: TaskBatch) -> Tensor:
        """Scores [B, classes], [B, C] (-inf where an item has no such choice) or [B, 2, L]."""
        states = self.encoder.encode_text(batch.text).token_states
        if self.kind == "span":
            scores = self.head(states).float().transpose(1, 2)
            return scores.masked_fill(~batch.answerable[:, None, :], -torch.inf)
        scores = self.head(pooled(states, batch.text, self.pooling)).float()
        return scores if self.kind == "classification" else in_places(scores[:, 0], batch.choices)


class PooledHead(nn.Module):
    """BERT's classifier: dense, tanh, dropout, linear; vectors [R, H] -> scores [R, outputs]."""

    def __init__(self, hidden: int, outputs: int, dropout: float):
        super().__init__()
        self.dense = Linear(hidden, hidden)
        self.dropout = Dropout(dropout)
        self.output = Linear(hidden, outputs)

    def forward(self, vectors: Tensor) -> Tensor:
        return self.output(self.dropout(torch.tanh(self.dense(vectors))))


def pooled(states: Tensor, text: TextBatch, pooling: str) -> Tensor:
    """One vector a row [R, H] of its token states: the first, or the mean of the content's."""
    if pooling == "cls":
        return states[:, 0]
    # A text of special tokens alone has no content: then all its real tokens speak.
    kept = torch.where(text.content_mask.any(dim=1, keepdim=True), text.content_mask, text.mask)
    weights = kept.to(states.dtype)
    return (states * weights[..., None]).sum(dim=1) / weights.sum(dim=1, keepdim=True)


def in_places(flat: Tensor, choices: Tensor) -> Tensor:
    """Scores of rows [R] put where `choices` bool [B, C] is true, in order; -inf elsewhere."""
    places = flat.new_full(choices.shape, -torch.inf)
    return places.masked_scatter(choices, flat)


# ---- the encoder under a head --------------------------------------------------------------------


def trainable_encoder(model: nn.Module) -> nn.Module:
    """The text side of a loaded model, alone and with gradients: Student or PretrainedText.

    The masked-LM head goes: weights that no loss reaches stop several processes from training
    together, and fill the disk.
    """
    if isinstance(model, (Teacher, Student)):
        encoder = student_of(model.text_encoder)
    else:
        from core.models.pretrained_text import PretrainedText

        encoder = PretrainedText(model.model.base_model, model.name, has_mlm_head=False)
        use_fast_linear(encoder)
    return encoder.requires_grad_(True)


def use_fast_linear(model: nn.Module) -> None:
    """Let transformers' linear layers compute as ours do; names, weights and meaning stay."""
    for module in model.modules():
        if type(module) is nn.Linear:
            module.__class__ = Linear


def student_of(text_encoder: TextEncoder) -> Student:
    """A Student around this very text encoder, without its masked-LM head."""
    student = Student(text_encoder.settings, text_encoder.token_embedding.num_embeddings)
    student.text_encoder = text_encoder
    text_encoder.mlm_head = None
    return student


def encoder_description(encoder: nn.Module) -> dict:
    """What `rebuilt_encoder` needs, as plain values for a run's provenance."""
    if isinstance(encoder, Student):
        import dataclasses

        text = encoder.text_encoder
        return {
            "text": dataclasses.asdict(text.settings),
            "vocab_size": text.token_embedding.num_embeddings,
        }
    return {"pretrained": encoder.model.config.to_dict(), "name": encoder.name}


def rebuilt_encoder(description: dict) -> nn.Module:
    """An encoder of this make, with weights still to be loaded."""
    if "text" in description:
        student = Student(TextEncoderSettings(**description["text"]), description["vocab_size"])
        return student_of(student.text_encoder)
    from transformers import AutoConfig, AutoModelForMaskedLM

    from core.models.pretrained_text import PretrainedText

    values = dict(description["pretrained"])
    config = AutoConfig.for_model(values.pop("model_type"), **values)
    # The body as the masked-LM class makes it: without the pooler that AutoModel would add.
    body = AutoModelForMaskedLM.from_config(config).base_model
    use_fast_linear(body)
    return PretrainedText(body, description["name"], has_mlm_head=False)


def description(model: TaskModel, num_labels: int, dropout: float) -> dict:
    """What `rebuilt_model` needs, as plain values for a run's provenance."""
    return {
        "encoder": encoder_description(model.encoder),
        "kind": model.kind,
        "num_labels": num_labels,
        "pooling": model.pooling,
        "dropout": dropout,
    }


def rebuilt_model(values: dict) -> TaskModel:
    """A TaskModel of this make, with weights still to be loaded."""
    encoder = rebuilt_encoder(values["encoder"])
    return TaskModel(encoder, **{key: v for key, v in values.items() if key != "encoder"})

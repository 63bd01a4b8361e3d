"""A masked language model of transformers by the interface of our own text encoders.

The model's own LM head is run on the masked positions alone, as ours is.
"""

from __future__ import annotations

import copy

from torch import Tensor, nn

from core.models.pretrained_folder import PretrainedError
from core.records import EncoderOutput, TextBatch

UNKNOWN_LENGTH = 512  # for models that neither count positions nor name a limit


class PretrainedText(nn.Module):
    """A transformers masked LM that answers TextBatches as a Student does."""

    kind = "pretrained"

    def __init__(self, model: nn.Module, name: str, has_mlm_head: bool):
        super().__init__()
        self.model = model
        self.name, self.has_mlm_head = name, has_mlm_head
        self.max_tokens = _max_tokens(model)

    @property
    def hidden_size(self) -> int:
        return self.model.config.hidden_size

    @property
    def num_layers(self) -> int:
        return self.model.config.num_hidden_layers

    def encode_text(
        self, text: TextBatch, mlm: bool = False, all_states: bool = False
    ) -> EncoderOutput:
        """Token states [B, L, H]; `mlm` adds logits [M, V] of the masked positions.

        Raises PretrainedError for `mlm` where the model came without an LM head, ValueError for
        rows longer than it reads.
        """
        if text.token_ids.shape[1] > self.max_tokens:
            raise ValueError(
                f"Wanted at most {self.max_tokens} tokens, found {text.token_ids.shape[1]}. "
                "Encode with the model's max_tokens."
            )
        output = self.model.base_model(**self._inputs(text), output_hidden_states=all_states)
        states = output.last_hidden_state
        return EncoderOutput(
            token_states=states,
            token_vectors=None,
            mlm_logits=self.mlm_logits(states, text) if mlm else None,
            all_states=tuple(output.hidden_states) if all_states else None,
        )

    def mlm_logits(self, states: Tensor, text: TextBatch) -> Tensor:
        """Logits [M, V] at the positions whose label is not -100, in reading order."""
        if not self.has_mlm_head:
            raise no_mlm_head(self.name)
        if text.labels is None:
            raise ValueError("Wanted labels that mark the masked positions, found none.")
        return self._head(inputs_embeds=states[text.labels >= 0][None]).logits[0]

    def asked_logits(self, text: TextBatch) -> Tensor:
        """Logits [B, V] of rows with one label each: all that scoring asks for."""
        return self.encode_text(text, mlm=True).mlm_logits

    @property
    def _head(self) -> nn.Module:
        """The whole model with a body that hands on the states it is given.

        Heads have another name and make in every family; this runs each as its family does.
        """
        head = copy.copy(self.model)
        head._modules = {**self.model._modules, self.model.base_model_prefix: _Given(self.model)}
        return head

    def _inputs(self, text: TextBatch) -> dict[str, Tensor]:
        inputs = {"input_ids": text.token_ids, "attention_mask": text.mask.long()}
        if text.segments is not None and getattr(self.model.config, "type_vocab_size", 0) > 1:
            inputs["token_type_ids"] = text.segments
        return inputs


class _Given(nn.Module):
    """Stands for a model's body: its states are already there."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self._body = [model.base_model]  # in a list: its weights are not this module's

    def forward(self, *_, inputs_embeds: Tensor, **__):
        from transformers.modeling_outputs import BaseModelOutput

        return BaseModelOutput(last_hidden_state=inputs_embeds)

    def __getattr__(self, name: str):
        """Some heads look for the word embeddings in the body."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.__dict__["_body"][0], name)


def no_mlm_head(name: str) -> PretrainedError:
    return PretrainedError(
        f"'{name}' has no masked-LM head, so it cannot say how likely a word is. Score with a run "
        "or a masked language model (bert-base-uncased, roberta-base, …); fine-tuning and layer "
        "probes need no head."
    )


def _max_tokens(model: nn.Module) -> int:
    """How many tokens a row may have, special ones among them."""
    for name, module in model.base_model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            # RoBERTa and its kin number positions from the one after the padding's.
            lost = 0 if module.padding_idx is None else module.padding_idx + 1
            return module.num_embeddings - lost
    return getattr(model.config, "max_position_embeddings", None) or UNKNOWN_LENGTH

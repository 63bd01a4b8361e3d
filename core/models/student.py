"""The student: a language model and nothing else."""

from __future__ import annotations

from torch import Tensor, nn

from core.config import TextEncoderSettings
from core.models.text_encoder import TextEncoder
from core.records import EncoderOutput, TextBatch


class Student(nn.Module):
    """A TextEncoder by the teacher's interface; it has no joint space of its own."""

    kind = "student"

    def __init__(self, text: TextEncoderSettings, vocab_size: int):
        super().__init__()
        self.text_encoder = TextEncoder(text, vocab_size)

    @property
    def hidden_size(self) -> int:
        return self.text_encoder.settings.hidden_size

    @property
    def max_tokens(self) -> int:
        return self.text_encoder.settings.max_tokens

    def encode_text(
        self, text: TextBatch, mlm: bool = False, all_states: bool = False
    ) -> EncoderOutput:
        """Token states [B, L, H]; `mlm` adds logits [M, V] of the masked positions."""
        return self.text_encoder(text, mlm=mlm, all_states=all_states)

    def asked_logits(self, text: TextBatch) -> Tensor:
        """Logits [B, V] of rows with one label each: all that scoring asks for."""
        return self.text_encoder.asked_logits(text)

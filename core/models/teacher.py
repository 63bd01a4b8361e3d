"""The teacher: a language and a video encoder that meet in one joint space."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor, nn

from core.config import TeacherSettings
from core.models.heads import ProjectionHead
from core.models.text_encoder import TextEncoder
from core.models.transformer import init_bert_weights
from core.models.video_encoder import VideoEncoder
from core.records import EncoderOutput, TextBatch, VideoBatch, VideoOutput


class Teacher(nn.Module):
    """Text and video encoders. `feature_size` is the width of the streams side by side."""

    kind = "teacher"

    def __init__(self, settings: TeacherSettings, vocab_size: int, feature_size: int):
        super().__init__()
        self.settings = settings
        self.text_encoder = TextEncoder(settings.text, vocab_size)
        self.text_projection = ProjectionHead(settings.text.hidden_size, settings.joint_size)
        init_bert_weights(self.text_projection)
        self.video_encoder = VideoEncoder(
            feature_size,
            settings.video_hidden,
            settings.video_layers,
            settings.video_heads,
            settings.joint_size,
            # An image-only teacher has only ever seen single seconds: it must be asked so.
            1 if settings.image_only else settings.window_sec,
            settings.pooling,
            settings.text.dropout,
            settings.feature_dropout,
        )

    @property
    def hidden_size(self) -> int:
        return self.settings.text.hidden_size

    @property
    def max_tokens(self) -> int:
        return self.settings.text.max_tokens

    def encode_text(
        self, text: TextBatch, mlm: bool = False, all_states: bool = False, joint: bool = True
    ) -> EncoderOutput:
        """Token states [B, L, H] and unit token vectors [B, L, D]; `mlm` adds logits [M, V].

        Without `joint` no token vectors: most distillation objectives read the states alone.
        """
        output = self.text_encoder(text, mlm=mlm, all_states=all_states)
        if not joint:
            return output
        return replace(output, token_vectors=self.text_projection(output.token_states))

    def asked_logits(self, text: TextBatch) -> Tensor:
        """Logits [B, V] of rows with one label each: all that scoring asks for."""
        return self.text_encoder.asked_logits(text)

    def encode_video(self, video: VideoBatch) -> VideoOutput:
        """Unit vectors of every step [B, T, D] and of the marked clip [B, D]."""
        return self.video_encoder(video)

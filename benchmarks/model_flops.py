"""Floating-point operations that a training step cannot do without, counted from its shapes.

Only matrix products are counted, 2 operations per multiply-add, as model FLOPs utilisation is
usually defined (PaLM, arXiv 2204.02311, appendix B); norms, softmax, dropout and the optimizer
are not. With B rows of L tokens, T = B L, width H, inner width I, vocabulary V, M masked and N
content tokens, the forward pass of

    a layer          2 T (4 H² + 2 H I)   the weights
                     4 B L² H             scores QKᵀ, and the weighted sum of V
    the LM head      2 M (H² + H V)       on the masked positions only
    a two-layer head 2 T (H² + H D)       distillation and projection heads

Backward costs twice the forward: one product for the input's gradient, one for the weight's;
where the input wants none (features, frozen teacher states) only the latter. The embeddings are
look-ups and cost nothing. The teacher of a distillation step goes forward only, without LM head.
"""

from __future__ import annotations

from core.config import DistillSettings, TeacherSettings, TextEncoderSettings
from core.losses.catalog import get_loss
from core.records import TextBatch
from core.training.batches import ContrastBatch

LEARNT = 3  # forward, and the two products of backward
INPUT_IS_FIXED = 2  # forward, and the weight's gradient


def distillation_flops(
    student: DistillSettings, teacher: TeacherSettings, vocab_size: int, text: TextBatch
) -> dict[str, int]:
    """A step with the objectives "nst" and "crd" and their heads, part by part.

    NST is counted through its L × L Grams, which it takes while L is no more than H.
    """
    rows, length = text.token_ids.shape
    tokens, own, theirs = rows * length, student.text.hidden_size, teacher.text.hidden_size
    pairs = linear(rows * length, own, length)  # of one Gram of the student's channels
    kept, size = int(text.content_mask.sum()), get_loss("crd").head_size
    return {
        "student": LEARNT * encoder(student.text, rows, length),
        "student's LM head": LEARNT * lm_head(student.text, vocab_size, text),
        "teacher, forward": encoder(teacher.text, rows, length),
        "NST's head": LEARNT * two_layers(tokens, own, own),
        # Forward both Grams, backward one product with their difference.
        "NST": 2 * pairs + linear(tokens, theirs, length),
        "CRD's heads": LEARNT * two_layers(tokens, own, size)
        + INPUT_IS_FIXED * linear(tokens, theirs, theirs)
        + LEARNT * linear(tokens, theirs, size),
        # Scores of every token with every other, and both sides' gradients.
        "CRD": LEARNT * linear(kept, size, kept),
    }


def teacher_flops(
    settings: TeacherSettings, vocab_size: int, feature_size: int, batch: ContrastBatch
) -> dict[str, int]:
    """A step of token contrast and masked words over text and video, part by part."""
    text, video = batch.rows.text, batch.rows.video
    rows, length = text.token_ids.shape
    steps, wide, joint = video.features.shape[1], settings.video_hidden, settings.joint_size
    one_layer = layer(rows, steps, wide, 4 * wide)
    return {
        "text encoder": LEARNT * encoder(settings.text, rows, length),
        "LM head": LEARNT * lm_head(settings.text, vocab_size, text),
        "text projection": LEARNT * two_layers(rows * length, settings.text.hidden_size, joint),
        "video input": INPUT_IS_FIXED * linear(rows * steps, feature_size, wide),
        "video encoder": LEARNT * settings.video_layers * one_layer,
        "video projection": LEARNT * two_layers(rows * steps, wide, joint),
        "contrast": LEARNT * linear(rows * length, joint, rows),
    }


# ---- forward passes -----------------------------------------------------------------------


def linear(rows: int, size_in: int, size_out: int) -> int:
    """A product [rows, in] @ [in, out]."""
    return 2 * rows * size_in * size_out


def layer(rows: int, length: int, hidden: int, intermediate: int) -> int:
    """A Transformer layer over `rows` sequences of `length`."""
    weights = 4 * hidden * hidden + 2 * hidden * intermediate
    return 2 * rows * length * weights + 2 * linear(rows * length, hidden, length)


def encoder(text: TextEncoderSettings, rows: int, length: int) -> int:
    """The layers of a text encoder without its LM head."""
    return text.num_layers * layer(rows, length, text.hidden_size, text.intermediate_size)


def lm_head(settings: TextEncoderSettings, vocab_size: int, text: TextBatch) -> int:
    """The LM head on the masked positions."""
    return two_layers(int((text.labels >= 0).sum()), settings.hidden_size, vocab_size)


def two_layers(rows: int, hidden: int, size: int) -> int:
    """Linear [H, H], then Linear [H, size]."""
    return linear(rows, hidden, hidden) + linear(rows, hidden, size)

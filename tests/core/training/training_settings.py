"""Small settings that the tests of training share."""

from __future__ import annotations

from benchmarks import tiny_world
from core.config import TeacherSettings, TextEncoderSettings, TrainingSettings

TEXT = TextEncoderSettings(
    num_layers=2, hidden_size=48, num_heads=4, intermediate_size=96, max_tokens=32
)
TEACHER = TeacherSettings(
    name="tiny-teacher",
    library=tiny_world.NAME,
    tokenizer="bert-pruned",
    text=TEXT,
    video_layers=1,
    video_hidden=48,
    video_heads=4,
    joint_size=32,
    window_sec=8,
    contrast="info_nce",  # the hinge at the paper's margin needs far more steps to tell things apart
    validation_fraction=0.25,
    training=TrainingSettings(
        steps=100,
        batch_size=32,
        learning_rate=3e-3,
        warmup_steps=10,
        log_every=10,
        evaluate_every=40,
        checkpoint_every=40,
    ),
)

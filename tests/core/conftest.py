"""Small untrained runs that look to every reader like trained ones."""

from __future__ import annotations

import functools

import pytest

from core.config import DistillSettings, TeacherSettings, TextEncoderSettings
from core.models.run_folder import RunFolder
from core.models.tokenizer import Tokenizer, prune_vocabulary


@functools.cache
def small_tokenizer() -> Tokenizer:
    """BERT's WordPiece with its common words only: saved ten times as fast."""
    return prune_vocabulary(["Don't drop the how-to bottle: it shatters!"])


class SavedRuns:
    """Writes teachers and students with random weights, through RunFolder."""

    shape = TextEncoderSettings(
        num_layers=2, hidden_size=32, num_heads=2, intermediate_size=64, max_tokens=24, dropout=0.1
    )

    def teacher(self, name="teacher", seed=0, feature_size=6, **settings) -> RunFolder:
        import torch

        from core.models.teacher import Teacher

        tokenizer = small_tokenizer()
        settings = TeacherSettings(
            name=name, text=self.shape, video_hidden=32, video_heads=2, joint_size=16, **settings
        )
        torch.manual_seed(seed)
        model = Teacher(settings, tokenizer.vocab_size, feature_size)
        sizes = {"vocab_size": tokenizer.vocab_size, "feature_size": feature_size}
        provenance = {"model": sizes, "held_out_videos": []}
        return self._save("teacher", settings, model, provenance, tokenizer)

    def student(self, name="student", objectives=(), seed=1, **settings) -> RunFolder:
        import torch

        from core.models.heads import HeadedObjective
        from core.models.student import Student

        tokenizer = small_tokenizer()
        settings = DistillSettings(name=name, text=self.shape, objectives=objectives, **settings)
        torch.manual_seed(seed)
        model = Student(self.shape, tokenizer.vocab_size)
        heads = {
            objective: {"student_size": 32, "teacher_size": 32, "heads": True}
            for objective in objectives
        }
        provenance = {"model": {"vocab_size": tokenizer.vocab_size}, "heads": heads}
        run = self._save("student", settings, model, provenance, tokenizer)
        if heads:
            modules = torch.nn.ModuleDict({k: HeadedObjective(k, **v) for k, v in heads.items()})
            run.save_weights(modules.state_dict(), "float32", "heads.safetensors")
        return run

    def _save(self, kind, settings, model, provenance, tokenizer) -> RunFolder:
        run = RunFolder.create(kind, settings, provenance)
        run.save_weights(model.state_dict(), "float32")
        tokenizer.save(run.path / "tokenizer")
        run.write_status("finished", 1, 1)
        return run


@pytest.fixture
def saved(workspace) -> SavedRuns:
    return SavedRuns()

"""The demo's stage of students, with students that train too long to be waited for."""

from __future__ import annotations

import os
from pathlib import Path

from conftest import SavedRuns

from core import demo
from core.config import DemoSettings, DistillSettings, TrainingSettings


def endless(settings: DemoSettings, name: str) -> DistillSettings:
    training = TrainingSettings(
        steps=10**6, batch_size=4, log_every=1, evaluate_every=10**6, num_threads=1
    )
    return DistillSettings(
        name=name,
        teacher=demo.TEACHER,
        corpus=str(Path(os.environ["VIDLANKD_HOME"]) / "corpus.txt"),
        objectives=demo.STUDENTS[name],
        text=SavedRuns.shape,
        training=training,
    )


if __name__ == "__main__":
    text = "The bottle falls and it shatters.\n" * 60
    (Path(os.environ["VIDLANKD_HOME"]) / "corpus.txt").write_text(text)
    demo.student_settings = endless
    demo._distill_all(DemoSettings(workers=2), lambda *_: None)

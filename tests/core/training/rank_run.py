"""Train a teacher or a student of the tiny home in this process group.

[torchrun --nproc_per_node 2] rank_run.py HOME teacher|student|student-of-cached NAME ROWS_PER_PROCESS
"""

from __future__ import annotations

import dataclasses
import os
import sys

from training_settings import TEACHER, TEXT


def main(home: str, kind: str, name: str, rows: str) -> None:
    os.environ["VIDLANKD_HOME"] = home
    from core.config import DistillSettings
    from core.training.distill_student import distill
    from core.training.train_teacher import train_teacher

    text = dataclasses.replace(TEXT, dropout=0.0)  # ranks draw their own
    training = dataclasses.replace(
        TEACHER.training, steps=20, batch_size=int(rows), log_every=1, evaluate_every=10
    )
    if kind == "teacher":
        train_teacher(dataclasses.replace(TEACHER, name=name, text=text, training=training))
        return
    live = kind == "student"
    student = DistillSettings(
        name=name,
        teacher=TEACHER.name,
        corpus=os.path.join(home, "corpus.txt"),
        # Soft labels are no objective for cached states.
        objectives=("nst", "crd", "regression", *["soft_label"] * live),
        teacher_states="live" if live else "cached",
        text=text,
        training=training,
    )
    distill(student)


if __name__ == "__main__":
    main(*sys.argv[1:])

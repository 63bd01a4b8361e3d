"""Train a teacher: L_T = L_CT + L_MLM on clips and their captions (arXiv 2107.02681, eq. 1)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from core import config
from core.config import SettingsError, TeacherSettings
from core.data.masking import MaskingRule
from core.data.splits import split_videos
from core.data.text_corpus import Tokenizer, load_tokenizer, prune_vocabulary
from core.data.video_library import library_hash, load_library
from core.losses.catalog import TEACHER_CONTRASTS
from core.losses.mlm import mlm_loss
from core.models.run_folder import RunFolder, checked_name
from core.models.teacher import Teacher
from core.models.text_encoder import initialize_text_encoder
from core.records import Clip, VideoLibrary
from core.training.batches import ClipRows, ContrastBatch, feature_statistics, unmasked, words_of
from core.training.loop import make_accelerator, seed_everything, train
from core.training.provenance import provenance


class NothingToLearn(ValueError):
    """A library without captioned clips or without features."""


def train_teacher(settings: TeacherSettings, progress=None) -> RunFolder:
    """Train a teacher on a library's captioned clips and return its run folder.

    The same call continues a run that was cut off and does nothing for a finished one. Raises
    NothingToLearn without captions or features, RunError for an existing run with other
    settings, TrainingFailed and TrainingStopped as the loop does.
    """
    _check(settings)
    accelerator = make_accelerator(settings.training)
    library = load_library(settings.library)
    features = load_teacher_features(settings)
    train_clips, held_out_clips, held_out_ids = split_clips(library, features, settings)
    tokenizer = teacher_tokenizer(settings.tokenizer, library)
    inputs = {
        "library": library_hash(library),
        "features": features.key,
        "tokenizer": tokenizer.content_hash,
        "processes": accelerator.num_processes,
    }
    origin = provenance(
        seed=settings.training.seed,
        inputs=inputs,
        model={"vocab_size": tokenizer.vocab_size, "feature_size": features.dim},
        held_out_videos=held_out_ids,
        train_clips=len(train_clips),
        held_out_clips=len(held_out_clips),
        videos_without_features=_without_features(library, features),
    )
    run = open_run("teacher", settings, origin, tokenizer, accelerator)
    if run.status["state"] != "finished":
        task = _task(settings, features, tokenizer, train_clips, held_out_clips)
        train(task, settings.training, run, accelerator, progress)
    return run


class TeacherTask(nn.Module):
    """Token contrast and masked words of one forward pass over text and video."""

    keeps_snapshots = False

    def __init__(self, teacher: Teacher, train_rows: ClipRows, held_out_rows: ClipRows):
        super().__init__()
        self.teacher = teacher
        self.train_rows, self.held_out_rows = train_rows, held_out_rows
        self.num_rows, self.num_validation_rows = len(train_rows), len(held_out_rows)
        settings = teacher.settings
        weights = {"contrast": settings.contrast_weight, "mlm": settings.mlm_weight}
        self.weights = {name: weight for name, weight in weights.items() if weight}
        self.contrast = contrast_of(settings)

    def forward(self, batch: ContrastBatch) -> dict[str, Tensor]:
        text = batch.rows.text
        output = self.teacher.encode_text(text, mlm="mlm" in self.weights)
        terms = {}
        if "contrast" in self.weights:
            clips = self.teacher.encode_video(batch.rows.video).clip_vectors
            # A hidden word says nothing of the clip, and guessing it is the other term's task.
            shown = unmasked(text)
            terms["contrast"] = self.contrast(output.token_vectors, clips, shown, batch)
        if "mlm" in self.weights:
            terms["mlm"] = mlm_loss(output.mlm_logits, text.labels)
        return terms

    def batch(self, rows: Sequence[int], places: np.ndarray, seed: tuple[int, ...]):
        return self.train_rows.batch(rows, places, seed)

    def validation_batch(self, rows: Sequence[int], seed: tuple[int, ...]):
        return self.held_out_rows.batch(rows, np.arange(len(rows)), seed, fixed=True)

    def lengths(self) -> None:
        return None  # sentences of like length would be each other's only negatives

    def counts(self, batch: ContrastBatch) -> dict[str, int]:
        text = batch.rows.text
        return {"contrast": int(unmasked(text).sum()), "mlm": int((text.labels >= 0).sum())}

    def num_tokens(self, batch: ContrastBatch) -> int:
        return int(batch.rows.text.mask.sum())

    def prepare(self, device: torch.device) -> None:
        pass

    def export(self, run: RunFolder, dtype: str) -> None:
        run.save_weights(self.teacher.state_dict(), dtype)


def contrast_of(settings: TeacherSettings):
    """The contrastive loss that the settings name, with its constants."""
    names = {
        ("hinge", "token"): "hinge",
        ("info_nce", "token"): "info_nce",
        ("hinge", "sentence"): "sentence",
        ("info_nce", "sentence"): "sentence_info_nce",
        ("word_info_nce", "token"): "word_info_nce",
    }
    key = (settings.contrast, settings.contrast_level)
    if key not in names:
        raise SettingsError(
            "Wanted contrast hinge, info_nce or (of tokens only) word_info_nce, and "
            "contrast_level token or sentence, found "
            f"'{settings.contrast}' and '{settings.contrast_level}'."
        )
    if settings.negatives not in ("all", "paired"):
        raise SettingsError(f"Wanted negatives all or paired, found '{settings.negatives}'.")
    options = (
        {"margin": settings.margin, "negatives": settings.negatives}
        if settings.contrast == "hinge"
        else {"temperature": settings.temperature}
    )
    loss = TEACHER_CONTRASTS[names[key]]
    if settings.contrast == "word_info_nce":
        return lambda tokens, clips, mask, batch: loss(
            tokens, clips, mask, words=words_of(batch.rows.text), **options
        )
    return lambda tokens, clips, mask, batch: loss(
        tokens, clips, mask, same_clip=batch.groups, **options
    )


def split_clips(
    library: VideoLibrary, features, settings: TeacherSettings
) -> tuple[list[Clip], list[Clip], list[str]]:
    """Captioned clips with features to learn from, those held out, and the held-out videos."""
    train_ids, held_out_ids = split_videos(library, settings.validation_fraction)
    known = set(features.video_ids)
    usable = [c for c in library.clips if c.caption.strip() and c.video_id in known]
    train_ids, held = set(train_ids), set(held_out_ids)
    training = [c for c in usable if c.video_id in train_ids]
    if not training:
        raise NothingToLearn(
            f"Library '{library.name}' has {len(library.clips)} clips, and none to train on has "
            "both a caption and features. Import with subtitles or --captions, then run: "
            f"python -m core extract --library {library.name}"
        )
    return training, [c for c in usable if c.video_id in held], held_out_ids


def teacher_tokenizer(name: str, library: VideoLibrary) -> Tokenizer:
    """ "bert", "bert-pruned" to what the library's texts use, or a folder or hub name."""
    if name != "bert-pruned":
        return load_tokenizer(name)
    return prune_vocabulary(_texts(library))


def _texts(library: VideoLibrary):
    """All captions, and the texts that came with a demo library: students read them."""
    for clip in library.clips:
        yield clip.caption
    for path in sorted((config.library_root(library.name) / "demo").glob("*.txt")):
        yield from path.read_text(encoding="utf-8").splitlines()


def open_run(kind: str, settings, origin: dict, tokenizer: Tokenizer, accelerator) -> RunFolder:
    """Create or reopen the run folder, on the main process first."""
    checked_name(settings.name)
    with accelerator.main_process_first():
        run = RunFolder.create(kind, settings, origin)
        if accelerator.is_main_process and not (run.path / "tokenizer" / "vocab.txt").is_file():
            tokenizer.save(run.path / "tokenizer")
    return run


def _task(settings, features, tokenizer, train_clips, held_out_clips) -> TeacherTask:
    seed_everything(settings.training.seed)
    teacher = Teacher(settings, tokenizer.vocab_size, features.dim)
    initialize_text_encoder(teacher.text_encoder, settings.initialize_from, tokenizer)
    videos = sorted({clip.video_id for clip in train_clips})
    teacher.video_encoder.fit_standardisation(*feature_statistics(features, videos))
    train_rows = clip_rows(settings, train_clips, features, tokenizer)
    held_out_rows = clip_rows(settings, held_out_clips, features, tokenizer)
    return TeacherTask(teacher, train_rows, held_out_rows)


def clip_rows(
    settings: TeacherSettings, clips: Sequence[Clip], features, tokenizer: Tokenizer
) -> ClipRows:
    """The clips as rows to batch, with the teacher's window and masking."""
    return ClipRows(
        clips,
        features,
        tokenizer,
        MaskingRule.of(tokenizer, settings.mask_probability),
        max_tokens=settings.text.max_tokens,
        window_sec=settings.window_sec,
        image_only=settings.image_only,
    )


def load_teacher_features(settings: TeacherSettings):
    """The library's features in the streams that the teacher sees."""
    from core.extraction.clip_features import load_features

    return load_features(
        settings.library,
        settings.frame_features,
        settings.temporal_features,
        settings.streams,
    )


def _without_features(library: VideoLibrary, features) -> list[str]:
    known = set(features.video_ids)
    return [video.video_id for video in library.videos if video.video_id not in known]


def _check(settings: TeacherSettings) -> None:
    checked_name(settings.name)
    contrast_of(settings)
    if not (settings.contrast_weight or settings.mlm_weight):
        raise SettingsError("Wanted contrast_weight or mlm_weight above 0, found both 0.")
    if settings.image_only and settings.streams != "2d":
        raise SettingsError(
            "A teacher that sees one frame per clip has no motion features. "
            "Give: --set image_only=true --set streams=2d"
        )

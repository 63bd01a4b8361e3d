"""Seconds, clips and students brought into the joint space, kept so that pages only read.

One cache entry per library and teacher holds every video's second vectors. Beside its shards
lies index/: FAISS files over clips and seconds, and the null distributions of scores. A
student has no video side; it is seen in its teacher's entry, through its alignment.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from core import config
from core.analysis import alignment
from core.analysis.grounding import Calibration, calibrate
from core.analysis.index import ClipIndex
from core.config import EmbedSettings
from core.data.text_corpus import corpus_path, paragraphs
from core.data.video_library import load_library
from core.extraction.clip_features import FeatureStore, MissingFeatures, load_features
from core.feature_cache import CacheError, FeatureCache, entry_name
from core.inference import Encoder, alignment_folder, alignment_key, encoder_hash, teacher_of
from core.models.run_folder import RunFolder, list_runs
from core.records import Clip, ClipEmbeddings, TokenEmbeddings, Video, VideoLibrary

Progress = Callable[[int, int, str], None]

ALIGNMENT_SENTENCES = 4000  # 40,000 words or so fit a 768 × 512 map with room to spare
CALIBRATION_CAPTIONS = 400  # times their words times the clips: enough for a null percentile


def embed(settings: EmbedSettings, progress: Progress | None = None) -> None:
    """Embed a library for the given runs, or for every run that can see it.

    What is already there is kept: a second call runs no encoder. Raises RunError for unknown
    runs and MissingFeatures when the library's features were not extracted.
    """
    progress = progress or (lambda done, total, message: None)
    names = settings.runs or tuple(runs_for(settings.library))
    runs = [RunFolder.open(name) for name in names]
    teachers = list(dict.fromkeys(teacher_of(run) for run in runs))
    students = [run for run in runs if run.kind == "student"]
    total = len(teachers) + len(students)
    for number, teacher in enumerate(teachers):
        inside = part_of(progress, number, total)
        embed_videos(settings.library, teacher, settings.batch_size, inside)
    for number, run in enumerate(students, start=len(teachers)):
        progress(1000 * number, 1000 * total, f"align {run.name}")
        align_student(run)
    progress(1000 * total, 1000 * total, "embedded")


def part_of(progress: Progress, number: int, total: int) -> Progress:
    """A stage's own progress as one of `total` equal parts of the whole."""

    def inside(done: int, parts: int, message: str) -> None:
        progress(1000 * number + 1000 * done // max(1, parts), 1000 * total, message)

    return inside


def runs_for(library: str) -> list[str]:
    """Finished runs whose teacher's kind of features this library has, teachers first."""
    teachers = [
        run.name for run in list_runs() if run.kind == "teacher" and run.state == "finished"
    ]
    if not teachers:
        raise alignment.AlignmentError("No finished teacher. Run: python -m core train-teacher")
    able = [name for name in teachers if _has_features(library, name)]
    if not able:
        _features_of(library, RunFolder.open(teachers[-1]))  # raises and names the command
    students = [
        run.name for run in list_runs() if run.kind == "student" and run.state == "finished"
    ]
    return able + [name for name in students if teacher_of(RunFolder.open(name)) in able]


def _has_features(library: str, teacher: str) -> bool:
    try:
        _features_of(library, RunFolder.open(teacher))
    except MissingFeatures:
        return False
    return True


# ---- videos ------------------------------------------------------------------------------


def embed_videos(library: str, teacher: str, batch_videos: int = 64, progress=None) -> None:
    """Second vectors of every video, then the index and the calibration of scores."""
    run = RunFolder.open(teacher)
    features = _features_of(library, run)
    videos = _embeddable(load_library(library), features)
    settings = _entry_settings(run, features)
    cache = FeatureCache.create(
        entry_path(library, run, features),
        settings=settings,
        keys=sorted({video.content_hash for video in videos}),
        weights={video.content_hash: video.num_steps for video in videos},
        command=_command(library, run.name),
    )
    by_hash = {video.content_hash: video for video in videos}
    if back := [key for key in cache.failures() if key in by_hash]:
        cache.retry(back)
    encoder = None
    pending = cache.pending_shards()
    for number, shard in enumerate(pending):
        if progress:
            progress(number, len(pending), f"embed with {teacher}")
        encoder = encoder or Encoder.open(teacher)
        # A cut-off call may have planned videos that have left the library since.
        gone = {key: "It had left the library." for key in shard.keys if key not in by_hash}
        present = [key for key in shard.keys if key in by_hash]
        vectors = _encode(encoder, present, by_hash, features, batch_videos)
        cache.write_shard(shard.index, vectors, gone)
    if pending or not _is_finished(cache):
        cache.finish()
    _derive(library, run)


def _is_finished(cache: FeatureCache) -> bool:
    return (cache.directory / "manifest.json").exists() and cache.is_complete()


def _encode(
    encoder: Encoder,
    keys: Iterable[str],
    by_hash: dict[str, Video],
    features: FeatureStore,
    batch_videos: int,
) -> dict[str, np.ndarray]:
    """Second vectors f16 [S, D] by content hash."""
    keys, found = list(keys), {}
    for start in range(0, len(keys), batch_videos):
        chosen = keys[start : start + batch_videos]
        arrays = [features.video(by_hash[key].video_id) for key in chosen]
        found |= dict(zip(chosen, encoder.encode_videos(arrays)))
    return found


def _embeddable(library: VideoLibrary, features: FeatureStore) -> list[Video]:
    """Videos that have features; those that could not be decoded have none, and say why."""
    able = set(features.video_ids)
    return [video for video in library.videos if video.video_id in able]


def _features_of(library: str, run: RunFolder) -> FeatureStore:
    teacher = run.settings
    return load_features(
        library, teacher.frame_features, teacher.temporal_features, teacher.streams
    )


def _entry_settings(run: RunFolder, features: FeatureStore) -> dict:
    return {"run": run.name, "encoder": encoder_hash(run), "features": features.key}


def entry_path(library: str, run: RunFolder, features: FeatureStore) -> Path:
    """The folder of a library's embeddings by a teacher with exactly these weights."""
    name = entry_name("embeddings", run.name, _entry_settings(run, features))
    return config.library_root(library) / name


def _command(library: str, run: str) -> str:
    return f"python -m core embed --library {library} --run {run}"


# ---- reading -----------------------------------------------------------------------------


def load_clip_embeddings(library: str, run_name: str) -> ClipEmbeddings:
    """Clips and seconds of a library in a run's joint space; a student's is its teacher's.

    Raises CacheError, with the command that mends it, when the library or the run's weights
    changed since `embed`.
    """
    run = RunFolder.open(teacher_of(RunFolder.open(run_name)))
    features = _features_of(library, run)
    whole = load_library(library)
    videos = _embeddable(whole, features)
    command = _command(library, run.name)
    cache = FeatureCache.open(entry_path(library, run, features), command=command)
    missing = [video.video_id for video in videos if video.content_hash not in cache]
    if missing:
        raise CacheError(
            f"{len(missing)} videos of library '{library}' are not embedded yet, the first is "
            f"'{missing[0]}'. Run: {command}"
        )
    return _gather(whole, videos, cache)


def _gather(library: VideoLibrary, videos: list[Video], cache: FeatureCache) -> ClipEmbeddings:
    arrays = [np.asarray(cache.read(video.content_hash)) for video in videos]
    seconds = np.concatenate(arrays) if arrays else np.empty((0, cache.dim), np.float16)
    offsets = np.cumsum([0, *map(len, arrays)]).astype(np.int64)
    place = {video.video_id: row for row, video in enumerate(videos)}
    clips = tuple(clip for clip in library.clips if clip.video_id in place)
    spans = np.array([_rows(clip, offsets, place[clip.video_id]) for clip in clips])
    return ClipEmbeddings(
        library.name,
        clips,
        clip_vectors(seconds, spans.reshape(-1, 2)),
        tuple(place),
        seconds,
        offsets,
    )


def _rows(clip: Clip, offsets: np.ndarray, video: int) -> tuple[int, int]:
    """The clip's rows among all seconds; captions may run a little past a video's end."""
    first, last = clip.steps
    start, stop = int(offsets[video]), int(offsets[video + 1])
    begin = min(start + first, stop - 1)
    return begin, max(begin + 1, min(start + last, stop))


def clip_vectors(seconds: np.ndarray, spans: np.ndarray) -> np.ndarray:
    """Renormalised means f16 [C, D] of the second vectors [S, D] in each span, int [C, 2]."""
    if not len(spans):
        return np.empty((0, seconds.shape[1]), np.float16)
    # A row of zeros lets the last span end at the last second.
    padded = np.concatenate([seconds, np.zeros_like(seconds[:1])]).astype(np.float32)
    sums = np.add.reduceat(padded, spans.ravel(), axis=0)[::2]
    return alignment.unit(sums).astype(np.float16)


# ---- what is derived: index and calibration -------------------------------------------------


def load_clip_index(library: str, run_name: str) -> ClipIndex:
    """Search over the library's clips; ids are rows of `ClipEmbeddings.vectors`."""
    return ClipIndex.open(_derived_path(library, run_name, "clips.faiss"))


def load_second_index(library: str, run_name: str) -> ClipIndex:
    """Search over the library's seconds; ids are rows of `ClipEmbeddings.second_vectors`."""
    return ClipIndex.open(_derived_path(library, run_name, "seconds.faiss"))


def load_calibration(library: str, run_name: str) -> Calibration:
    """What scores mean in this library, as its teacher reads its captions."""
    path = _derived_path(library, run_name, "calibration.npy")
    if not path.exists():
        raise CacheError(f"No calibration at {path}. Run: {_command(library, run_name)}")
    return Calibration(*np.load(path))


def clips_key(library: str, run_name: str) -> str:
    """Names the embedded clips as a run's teacher sees them; "" where `embed` was not run.

    Raises MissingFeatures and what the library's loading raises.
    """
    path = _derived_path(library, run_name, "calibration.npy")
    return f"{path.parents[2].name}/{path.parent.name}" if path.exists() else ""


def _derived_path(library: str, run_name: str, file: str) -> Path:
    run = RunFolder.open(teacher_of(RunFolder.open(run_name)))
    entry = entry_path(library, run, _features_of(library, run))
    return entry / "index" / _clips_hash(load_library(library)) / file


def _clips_hash(library: VideoLibrary) -> str:
    """Names the rows of an index: another set or order of clips is another index."""
    rows = [(c.clip_id, c.video_id, c.start_sec, c.end_sec, c.caption) for c in library.clips]
    videos = [(v.video_id, v.content_hash) for v in library.videos]
    return hashlib.sha256(json.dumps([rows, videos]).encode()).hexdigest()[:8]


def _derive(library: str, run: RunFolder) -> None:
    """Write the index files and the calibration where they are missing, calibration last."""
    calibration_path = _derived_path(library, run.name, "calibration.npy")
    if calibration_path.exists():
        return
    video = load_clip_embeddings(library, run.name)
    folder = calibration_path.parent
    ClipIndex.build(video.vectors).save(folder / "clips.faiss")
    ClipIndex.build(video.second_vectors).save(folder / "seconds.faiss")
    found = _calibration(video, Encoder.open(run.name))
    temporary = calibration_path.with_name(f".{os.getpid()}.npy")
    np.save(temporary, np.stack([found.null_scores, found.null_margins]))
    os.replace(temporary, calibration_path)


def _calibration(video: ClipEmbeddings, encoder: Encoder) -> Calibration:
    """From the library's own captions, or from the teacher's where it has too few."""
    clips = [clip for clip in video.clips if clip.caption]
    if len(clips) < 20:
        clips = [clip for clip in load_library(encoder.run.settings.library).clips if clip.caption]
    chosen = np.random.default_rng(0).permutation(len(clips))[:CALIBRATION_CAPTIONS]
    clips = [clips[row] for row in np.sort(chosen)]
    text = encoder.encode_text([clip.caption for clip in clips])
    owners = np.repeat([clip.video_id for clip in clips], np.diff(text.text_offsets))
    return calibrate(text, owners, video)


# ---- students ----------------------------------------------------------------------------


def align_student(run: RunFolder) -> None:
    """Fit or check the student's way into the joint space, unless it is stored already.

    The text is not what pages show: the corpus' held-out file beside it (`<name>_heldout.txt`)
    where there is one, else lines drawn from the corpus; R² is on sentences left out of the fit.
    """
    key, folder = alignment_key(run), alignment_folder(run)
    facts = alignment.read_facts(folder)
    if facts is not None and facts["made_from"] == key:
        return
    encoder = Encoder.open(run.name)
    sentences = alignment_sentences(run)
    student, teacher = encoder.alignment_inputs(sentences), encoder.teacher.encode_text(sentences)
    pairs = _same_words(student, teacher)
    fit = alignment.check_direct if encoder.alignment == "regression head" else alignment.fit_ridge
    found = fit(
        student.vectors[pairs[:, 0]],
        teacher.vectors[pairs[:, 1]],
        [sentences[i] for i in pairs[:, 2]],
        [teacher.tokens[i].text.lower() for i in pairs[:, 1]],
    )
    alignment.save_map(folder, found, key)


def _same_words(student: TokenEmbeddings, teacher: TokenEmbeddings) -> np.ndarray:
    """Rows of the words that both kept, and their sentence, int [pairs, 3].

    They differ only where one of the two reads fewer tokens of a long paragraph.
    """
    places = {place: row for row, place in enumerate(_places(student))}
    rows = [(places[p], row, p[0]) for row, p in enumerate(_places(teacher)) if p in places]
    return np.array(rows, dtype=int).reshape(-1, 3)


def _places(text: TokenEmbeddings) -> list[tuple[int, int]]:
    """Sentence number and first character of each token."""
    sentences = np.repeat(np.arange(len(text.sentences)), np.diff(text.text_offsets))
    return [(int(s), token.start) for s, token in zip(sentences, text.tokens)]


def alignment_sentences(run: RunFolder, limit: int = ALIGNMENT_SENTENCES) -> list[str]:
    """Different sentences for a student's alignment, in a fixed random order."""
    path = corpus_path(run.settings.corpus)
    held_out = path.with_name(f"{path.stem}_heldout{path.suffix}")
    lines = list(dict.fromkeys(paragraphs(held_out if held_out.exists() else path)))
    order = np.random.default_rng(0).permutation(len(lines))[:limit]
    return [lines[row] for row in order]

"""Opens libraries, runs, encoders, embeddings and indexes once for all sessions.

The only place of Streamlit's caches. Each is bounded, and keyed by what it was made from, so
that a retrained run or a changed library is opened anew. What needs torch is imported inside.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import streamlit as st

from app.examples import choose_examples
from app.heat import Scale
from core import config
from core.analysis import baselines, probes
from core.analysis.grounding import Calibration, ground_tokens, groundedness
from core.analysis.probes import Answers
from core.data import probe_tasks, video_library
from core.data.probe_tasks import ProbeTask
from core.feature_cache import FeatureCache
from core.models.run_folder import RunFolder, RunInfo, list_runs
from core.records import (
    Clip,
    ClipEmbeddings,
    ProbeItem,
    Token,
    TokenEmbeddings,
    Video,
    VideoLibrary,
)
from core.score_cache import ScoreCache
from core.scoring import TextScore

# ---- libraries ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Shelf:
    """A library with its videos and clips at hand by id."""

    library: VideoLibrary
    videos: dict[str, Video]
    clips_of: dict[str, list]  # video id -> clips by start

    @property
    def name(self) -> str:
        return self.library.name


def library_names() -> list[str]:
    """The imported libraries, the demo first."""
    return sorted(video_library.list_libraries(), key=lambda name: (name != "demo", name))


def shelf(name: str) -> Shelf:
    return _shelf(name, str(config.home()), _library_stamp(name))


@st.cache_resource(max_entries=16, show_spinner=False)
def _shelf(name: str, home: str, stamp: tuple) -> Shelf:
    library = video_library.load_library(name)
    clips_of: dict[str, list] = {video.video_id: [] for video in library.videos}
    for clip in sorted(library.clips, key=lambda clip: (clip.start_sec, clip.end_sec)):
        clips_of[clip.video_id].append(clip)
    return Shelf(library, {video.video_id: video for video in library.videos}, clips_of)


def examples(name: str) -> tuple[Clip, ...]:
    """Clips whose captions are good to begin with."""
    return _examples(name, str(config.home()), _library_stamp(name))


@st.cache_resource(max_entries=16, show_spinner=False)
def _examples(name: str, home: str, stamp: tuple) -> tuple[Clip, ...]:
    opened = shelf(name)
    return choose_examples(opened.library, opened.clips_of)


def _library_stamp(name: str) -> tuple:
    """Changes when the library's tables do."""
    folder = config.library_root(name) / "library"
    files = sorted(folder.glob("*.parquet")) + [folder / "library.json"]
    return tuple((p.name, p.stat().st_mtime_ns, p.stat().st_size) for p in files if p.exists())


def feature_cache(path: Path) -> FeatureCache:
    """A finished cache entry. Raises CacheError for one that is damaged or stale."""
    manifest = path / "manifest.json"
    return _feature_cache(str(path), manifest.stat().st_mtime_ns)


@st.cache_resource(max_entries=32, show_spinner=False)
def _feature_cache(path: str, manifest_ns: int) -> FeatureCache:
    return FeatureCache.open(Path(path))


# ---- runs --------------------------------------------------------------------------------


def runs() -> list[RunInfo]:
    return list_runs()


def trained_runs() -> list[RunInfo]:
    """Runs that can be asked something: teachers first, then students, each newest first."""
    able = [run for run in reversed(runs()) if RunFolder.open(run.name).has_weights]
    return [r for r in able if r.kind == "teacher"] + [r for r in able if r.kind == "student"]


def is_run(name: str) -> bool:
    """Whether a model is a run of this workspace, not one that others trained."""
    return "/" not in name and (config.runs_root() / name / "settings.json").is_file()


# ---- encoders and what they say --------------------------------------------------------------


class SharedEncoder:
    """An encoder that several sessions use, one at a time; other runs are not held up."""

    def __init__(self, run_name: str):
        from core.inference import open_encoder

        self.encoder = open_encoder(run_name)
        self.lock = threading.Lock()

    def encode_text(self, sentence: str, words: bool) -> TokenEmbeddings:
        with self.lock:
            return self.encoder.encode_text([sentence], words=words)

    def score(self, context: str, choices: tuple[str, ...], method: str) -> tuple[TextScore, ...]:
        from core.scoring import score_texts

        with self.lock:
            return score_texts(self.encoder, [context], [choices], method)[0]


def encoder(run_name: str) -> SharedEncoder:
    return _encoder(run_name, str(config.home()), _model_key(run_name))


@st.cache_resource(max_entries=8, show_spinner="Opening the model …")
def _encoder(run_name: str, home: str, run_hash: str) -> SharedEncoder:
    opened = SharedEncoder(run_name)
    _freeze_imports()
    return opened


def words_of(run_name: str, sentence: str, words: bool) -> TokenEmbeddings:
    """The sentence's tokens in the joint space, as this run reads them."""
    return _words_of(run_name, str(config.home()), _run_hash(run_name), sentence, words)


@st.cache_resource(max_entries=512, show_spinner=False)
def _words_of(run_name: str, home: str, run_hash: str, sentence: str, words: bool):
    return encoder(run_name).encode_text(sentence, words)


@dataclass(frozen=True)
class Alignment:
    """How a run comes into the joint space, with the held-out R² of its map."""

    how: str  # "trained" | "regression head" | "crd head" | "ridge"
    sentences_r2: float | None = None
    new_words_r2: float | None = None


def alignment(run_name: str) -> Alignment:
    """Raises core's AlignmentError for a student that was not aligned yet."""
    opened = encoder(run_name).encoder
    if opened.has_joint_space:
        return Alignment(opened.alignment)
    found = opened.ridge_map
    return Alignment(opened.alignment, found.held_out_r2, found.word_type_r2)


def _run_hash(run_name: str) -> str:
    """Of the run's files by their time and size: cheap enough for every rerun."""
    path = RunFolder.open(run_name).path
    names = ("model.safetensors", "heads.safetensors", "alignment/alignment.json")
    stamps = [(n, (path / n).stat().st_mtime_ns) for n in names if (path / n).exists()]
    return str(stamps)


def _model_key(name: str) -> str:
    """The hash of a run as above, or of a model that others trained."""
    if is_run(name):
        return _run_hash(name)
    from core.inference import model_hash

    return model_hash(name)


# ---- students under the microscope ----------------------------------------------------------


def stages(run_name: str) -> list:
    """Moments of a student's training whose weights can be had: core's Stage, by step."""
    from core.microscope_states import stages

    return stages(RunFolder.open(run_name))


def check_microscope(run_name: str) -> None:
    """Raises core's errors for a student that cannot be set beside its teacher."""
    _open_microscope(run_name, _student_key(run_name))


def crd_scores(run_name: str, stage):
    """core's ScoreHistograms, or None for a student without CRD. Raises core's errors."""
    return _crd_scores(run_name, stage, _student_key(run_name))


def layer_likeness(run_name: str, stage):
    """core's LayerTable. Raises core's errors."""
    return _layer_likeness(run_name, stage, _student_key(run_name))


def sentence_grams(run_name: str, stage, sentence: str):
    """core's SentenceGrams. Raises core's errors."""
    return _sentence_grams(run_name, stage, sentence, _student_key(run_name))


@st.cache_resource(max_entries=64, show_spinner="Judging held-out tokens …")
def _crd_scores(run_name: str, stage, key: tuple):
    with _microscope(run_name, key) as opened:
        return opened.crd(stage)


@st.cache_resource(max_entries=64, show_spinner="Comparing the layers …")
def _layer_likeness(run_name: str, stage, key: tuple):
    with _microscope(run_name, key) as opened:
        return opened.cka(stage)


@st.cache_resource(max_entries=256, show_spinner=False)
def _sentence_grams(run_name: str, stage, sentence: str, key: tuple):
    with _microscope(run_name, key) as opened:
        return opened.grams(stage, sentence)


@contextmanager
def _microscope(run_name: str, key: tuple):
    """The opened microscope, for one session at a time."""
    lock, opened = _open_microscope(run_name, key)
    with lock:
        yield opened


@st.cache_resource(max_entries=2, show_spinner="Opening student and teacher …")
def _open_microscope(run_name: str, key: tuple):
    from core.microscope_states import Microscope

    opened = Microscope.open(run_name)
    _freeze_imports()
    return threading.Lock(), opened


def _student_key(run_name: str) -> tuple:
    """Changes when the student's weights, its snapshots' or its teacher's do."""
    from core.inference import teacher_of

    run = RunFolder.open(run_name)
    kept = sorted((run.path / "snapshots").glob("step-*"))
    stamps = tuple((path.name, path.stat().st_mtime_ns) for path in kept)
    return str(config.home()), _run_hash(run_name), _run_hash(teacher_of(run)), stamps


# ---- embeddings ----------------------------------------------------------------------------


@dataclass(frozen=True)
class JointSpace:
    """A library as a teacher sees it, ready to be searched."""

    video: ClipEmbeddings
    index: object  # core's ClipIndex over video.vectors
    calibration: Calibration


def joint_space(library: str, run_name: str) -> JointSpace:
    """Raises core's errors, which name the command, when the library was not embedded."""
    from core.inference import teacher_of

    teacher = teacher_of(RunFolder.open(run_name))
    return _joint_space(
        library, teacher, str(config.home()), _run_hash(teacher), _library_stamp(library)
    )


@st.cache_resource(max_entries=8, show_spinner="Opening the library's embeddings …")
def _joint_space(library: str, teacher: str, home: str, run_hash: str, stamp: tuple) -> JointSpace:
    from core.extraction import embeddings

    space = JointSpace(
        embeddings.load_clip_embeddings(library, teacher),
        embeddings.load_clip_index(library, teacher),
        embeddings.load_calibration(library, teacher),
    )
    _freeze_imports()
    return space


# ---- a sentence in a library ---------------------------------------------------------------


@dataclass(frozen=True)
class Reading:
    """A sentence as one run reads it, held against one library."""

    run: str
    text: TokenEmbeddings
    strengths: np.ndarray  # groundedness f32 [N] in [0, 1]
    scale: Scale  # of all shades that are drawn for this sentence and run


def reading(library: str, run_name: str, sentence: str, words: bool) -> Reading:
    """Raises core's errors, which name the command, when something was not computed yet."""
    space = joint_space(library, run_name)
    text = words_of(run_name, sentence, words)
    key = (str(config.home()), _run_hash(run_name), _library_stamp(library))
    return _reading(library, run_name, sentence, words, key, text, space)


@st.cache_resource(max_entries=256, show_spinner=False)
def _reading(library, run_name, sentence, words, key, _text, _space) -> Reading:
    scores = ground_tokens(_text, _space.video).similarity  # [N, C]
    best = float(scores.max()) if scores.size else 1.0
    nothing, rare = np.quantile(_space.calibration.null_scores, (0.5, 0.995))
    scale = Scale(float(nothing), max(best, float(rare)))
    return Reading(run_name, _text, groundedness(scores, _space.calibration), scale)


def in_common(readings: list[Reading]) -> list[Reading]:
    """The readings with the same tokens, those of the first: row i is the same in all of them.

    Models may cut a sentence into other pieces, and stop at other lengths. A token stands
    for the other model's token that shares most of its characters; where there is none, the
    other model does not read so far, and the token is left out.
    """
    first = readings[0].text.tokens
    partners = [[_partner(token, reading.text.tokens) for token in first] for reading in readings]
    kept = [row for row in range(len(first)) if all(p[row] is not None for p in partners)]
    tokens = tuple(first[row] for row in kept)
    return [
        _rows_of(reading, tokens, [partner[row] for row in kept])
        for reading, partner in zip(readings, partners)
    ]


def _partner(token: Token, others: tuple[Token, ...]) -> int | None:
    shared = [min(token.end, other.end) - max(token.start, other.start) for other in others]
    best = max(range(len(others)), key=lambda row: shared[row], default=None)
    return best if best is not None and shared[best] > 0 else None


def _rows_of(reading: Reading, tokens: tuple[Token, ...], rows: list[int]) -> Reading:
    text = replace(
        reading.text,
        tokens=tokens,
        vectors=reading.text.vectors[rows],
        text_offsets=np.array([0, len(rows)]),
    )
    return replace(reading, text=text, strengths=reading.strengths[rows])


# ---- probes ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class ProbeSet:
    """The items of a task, or a sample of them."""

    task: str
    items: tuple[ProbeItem, ...]
    concreteness: np.ndarray  # f64 [N], NaN for unknown words
    template: np.ndarray | None  # f64 [N]: how right a guess from training's templates is
    key: tuple  # changes when the items do


def probe_set(task: str, limit: int = 0, data: str = "") -> ProbeSet:
    """`data` is a folder, "hub", or "" for the default folder.

    Raises core's errors, which name the folder that is wanted, where a task's files are not.
    """
    if not data.startswith(probe_tasks.HUB):
        data = str(Path(data).expanduser() if data else probe_tasks.data_root())
    return _probe_set(task, limit, data, str(config.home()), _library_stamp("demo"))


@st.cache_resource(max_entries=8, show_spinner="Reading the items …")
def _probe_set(task: str, limit: int, data: str, home: str, stamp: tuple) -> ProbeSet:
    items = tuple(probe_tasks.load_items(task, data=data, limit=limit))
    return ProbeSet(
        task,
        items,
        probes.item_concreteness(items),
        _by_template(probe_tasks.load_task(task), items, data),
        (task, limit, data, home, stamp),
    )


def _by_template(task: ProbeTask, items: Sequence[ProbeItem], data: str) -> np.ndarray | None:
    """How right a guess by the templates of the training set is, where the task has both."""
    if not (
        task.template and task.training and probe_tasks.available(task.name, task.training, data)
    ):
        return None
    train = probe_tasks.load_items(task.name, task.training, "choice", data)
    return baselines.template_hits(train, items)


@dataclass(frozen=True)
class Probed:
    """What models have answered so far, each on the items that it has scored."""

    probe: ProbeSet
    method: str
    norm: str
    rows: dict[str, np.ndarray]  # model -> int64, the items that it has scored
    own: dict[str, Answers]  # model -> its answers on these; no entry without any
    common: np.ndarray  # int64, the items that all models have scored
    answers: tuple[Answers, ...]  # of all models on these; () without any
    key: tuple

    @property
    def items(self) -> list[ProbeItem]:
        """The items that all models have scored."""
        return [self.probe.items[row] for row in self.common]

    @property
    def missing(self) -> int:
        """Items without a score, over all models."""
        return sum(len(self.probe.items) - len(rows) for rows in self.rows.values())


def probed(probe: ProbeSet, models: tuple[str, ...], method: str, norm: str) -> Probed:
    """What is kept of these models' scores; nothing is computed. Raises core's errors."""
    states = tuple(_score_state(model, method) for model in models)
    return _probed((probe.key, models, method, norm, states), probe)


@st.cache_resource(max_entries=24, show_spinner=False)
def _probed(key: tuple, _probe: ProbeSet) -> Probed:
    _, models, method, norm, states = key
    scored = {m: _item_scores(_probe.key, method, s, _probe) for m, s in zip(models, states)}
    rows = {m: np.flatnonzero([row is not None for row in found]) for m, found in scored.items()}
    done = set.intersection(*(set(kept.tolist()) for kept in rows.values()))
    common = np.array(sorted(done), np.int64)

    def answered(model: str, kept: np.ndarray) -> Answers:
        items = [_probe.items[row] for row in kept]
        return probes.answers(model, items, [scored[model][row] for row in kept], norm, method)

    return Probed(
        probe=_probe,
        method=method,
        norm=norm,
        rows=rows,
        own={model: answered(model, kept) for model, kept in rows.items() if len(kept)},
        common=common,
        answers=tuple(answered(model, common) for model in models) if len(common) else (),
        key=key,
    )


def probe_item_table(probed: Probed):
    """core's table of the items that all models have scored."""
    return _probe_item_table(probed.key, probed)


@st.cache_resource(max_entries=24, show_spinner=False)
def _probe_item_table(key: tuple, _probed: Probed):
    concreteness = _probed.probe.concreteness[_probed.common]
    return probes.item_table(_probed.items, _probed.answers, concreteness)


def model_hash(name: str) -> str:
    """Of weights and tokenizer, as results are kept and exported under it."""
    return _model_hash(name, str(config.home()), _model_key(name))


@st.cache_resource(max_entries=64, show_spinner=False)
def _model_hash(name: str, home: str, run_hash: str) -> str:
    from core.inference import model_hash

    return model_hash(name)


def norm_flips(probed: Probed):
    """core's table of flips for each model, on the items that all have scored."""
    return _norm_flips(probed.key, probed)


@st.cache_resource(max_entries=24, show_spinner=False)
def _norm_flips(key: tuple, _probed: Probed):
    _, models, method, _, states = key
    found = []
    for model, state in zip(models, states):
        scored = _item_scores(_probed.probe.key, method, state, _probed.probe)
        table = probes.norm_flips(_probed.items, [scored[row] for row in _probed.common])
        found.append(table.assign(model=model))
    return pd.concat(found, ignore_index=True)


def probe_tables(probed: Probed, mask: np.ndarray | None = None):
    """core's score table and paired table, of all items that all models answered or a slice."""
    return _probe_tables(probed.key, None if mask is None else mask.tobytes(), probed)


@st.cache_resource(max_entries=128, show_spinner=False)
def _probe_tables(key: tuple, mask: bytes | None, _probed: Probed):
    chosen = None if mask is None else np.frombuffer(mask, bool)
    template = _probed.probe.template
    template = None if template is None else template[_probed.common]
    items = _probed.items
    return (
        probes.score_table(items, _probed.answers, chosen, template),
        probes.paired_table(items, _probed.answers, chosen),
    )


def concreteness_gains(probed: Probed, one: int, other: int):
    """core's ConcretenessGains of two of the models, by their places."""
    return _concreteness_gains(probed.key, one, other, probed)


@st.cache_resource(max_entries=64, show_spinner=False)
def _concreteness_gains(key: tuple, one: int, other: int, _probed: Probed):
    concreteness = _probed.probe.concreteness[_probed.common]
    first, second = _probed.answers[one], _probed.answers[other]
    return probes.concreteness_gains(_probed.items, first, second, concreteness)


def live_scores(model: str, method: str, context: str, choices: tuple[str, ...]):
    """TextScores of an item that somebody is writing. Raises core's errors."""
    return _live_scores(
        model, str(config.home()), _model_key(model), method, context, tuple(choices)
    )


@st.cache_resource(max_entries=512, show_spinner=False)
def _live_scores(model: str, home: str, run_hash: str, method: str, context: str, choices: tuple):
    # What was scored in a run needs no model, so that a page opens without loading one.
    item = ProbeItem("", "", context, choices, 0)
    kept = _score_cache(model, method, home, run_hash).lookup([item])[0]
    return kept or encoder(model).score(context, choices, method)


def _score_state(model: str, method: str) -> tuple:
    """Changes when more scores of the model are kept."""
    cache_key = (model, method, str(config.home()), _model_key(model))
    folder = _score_cache(*cache_key).folder
    return *cache_key, tuple(sorted(path.name for path in folder.glob("part-*")))


@st.cache_resource(max_entries=32, show_spinner=False)
def _score_cache(model: str, method: str, home: str, run_hash: str) -> ScoreCache:
    return ScoreCache.of(model, method)


@st.cache_resource(max_entries=32, show_spinner=False)
def _item_scores(probe_key: tuple, method: str, state: tuple, _probe: ProbeSet) -> list:
    return _score_cache(*state[:-1]).lookup(_probe.items)


def tuned_report() -> dict:
    """core's report of all fine-tuned runs: experiments, figures, categories, notes."""
    found = sorted(config.runs_root().glob("*/predictions/*.parquet"))
    stamps = tuple((str(path), path.stat().st_mtime_ns) for path in found)
    return _tuned_report(stamps)


@st.cache_resource(max_entries=4, show_spinner="Reading the fine-tuned runs' answers …")
def _tuned_report(stamps: tuple) -> dict:
    from core.analysis import fine_tuned

    return fine_tuned.report(fine_tuned.fine_tuned_runs())


# ---- the process ---------------------------------------------------------------------------

_FREEZING = threading.Lock()
_frozen = False


def _freeze_imports() -> None:
    """Take the modules of the first heavy import out of garbage collection, once.

    Streamlit collects fully on every rerun; with torch's objects tracked that costs 200 ms.
    """
    global _frozen
    with _FREEZING:
        if not _frozen:
            gc.collect()
            gc.freeze()
            _frozen = True

"""Settings: one frozen dataclass per command, three presets, and where things lie on disk.

Flags are read at the edge (core/cli.py); inside, values are passed. Every field can be set
with `--set field=value`; a misspelt field stops the run and names the close one.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import types
import typing
from dataclasses import dataclass
from pathlib import Path

REPO_ROOT = Path(__file__).resolve().parent.parent


class SettingsError(ValueError):
    """A setting that does not exist or has an impossible value."""


# ---- where things lie ------------------------------------------------------------------


def home() -> Path:
    """The folder that holds cached_features/ and runs/; VIDLANKD_HOME moves it (tests do)."""
    return Path(os.environ.get("VIDLANKD_HOME", REPO_ROOT)).resolve()


def cache_root() -> Path:
    return home() / "cached_features"


def runs_root() -> Path:
    return home() / "runs"


def library_root(library: str) -> Path:
    """Everything kept of one library: its tables, thumbnails, previews, features, embeddings."""
    return cache_root() / library


# ---- settings, one class per command -----------------------------------------------------


@dataclass(frozen=True)
class ImportSettings:
    name: str = ""  # the library's name; default: the folder's
    captions: str = ""  # captions CSV or HowTo100M caption.json, when not found beside the videos
    window_sec: float = 8.0  # videos without text are cut into clips of this length
    min_clip_sec: float = 0.2  # shorter captions are widened around their middle
    follow_links_outside: bool = False  # a link out of the folder may point anywhere
    workers: int = 2


@dataclass(frozen=True)
class ExtractSettings:
    library: str = "demo"
    frame_backbone: str = "efficientnet-lite0"  # or any vision model: hub name or local folder
    temporal_backbone: str = "motion"  # frame differences; or VideoMAE, X-CLIP, … by name
    decoder: str = "pyav"  # "pyav" | "decord"
    workers: int = 2
    batch_frames: int = 32


@dataclass(frozen=True)
class TextEncoderSettings:
    """A BERT-style encoder's shape."""

    num_layers: int = 6
    hidden_size: int = 512
    num_heads: int = 8
    intermediate_size: int = 2048
    max_tokens: int = 128  # the paper: 126 tokens and two special ones
    dropout: float = 0.1


@dataclass(frozen=True)
class TrainingSettings:
    """What the one training loop needs, whatever it trains."""

    steps: int = 10_000
    batch_size: int = 64  # rows per process and micro-step
    gradient_accumulation: int = 1
    learning_rate: float = 5e-5
    weight_decay: float = 0.01
    warmup_steps: int = 500
    schedule: str = "linear"  # "linear" | "cosine" | "constant", after a linear warm-up
    max_grad_norm: float = 1.0
    mixed_precision: str = "auto"  # bf16 on GPUs that have it, float32 on CPU; or "no" | "bf16"
    seed: int = 0
    log_every: int = 10
    evaluate_every: int = 200
    checkpoint_every: int = 500
    patience: int = 0  # evaluations without improvement before an early stop; 0 = never
    weights_dtype: str = "float32"  # of the exported weights; "float16" halves the demo on disk
    num_threads: int = 0  # torch threads; 0 = torch's choice
    compile: bool = False  # torch.compile the layers: for long runs, as it takes a minute or more
    snapshots: int = 3  # of a student on its way, kept for the distillation microscope


@dataclass(frozen=True)
class TeacherSettings:
    name: str = "teacher"
    library: str = "demo"
    frame_features: str = "efficientnet-lite0"
    temporal_features: str = "motion"
    streams: str = "2d+temporal"  # "2d" | "temporal" | "2d+temporal"
    tokenizer: str = "bert"  # packaged BERT WordPiece; "bert-pruned" keeps what the text needs
    initialize_from: str = ""  # "" from scratch; "minilm"; a local folder or hub name
    text: TextEncoderSettings = TextEncoderSettings()
    video_layers: int = 2
    video_hidden: int = 512
    video_heads: int = 8
    joint_size: int = 256
    feature_dropout: float = 0.0  # of the frozen backbones' features; small libraries need it
    pooling: str = "mean"  # "mean" | "cls"
    window_sec: int = 64  # seconds of video seen around a clip; the paper's limit is 384
    contrast: str = "hinge"  # "hinge" | "info_nce" | "word_info_nce"
    contrast_level: str = "token"  # "token" | "sentence"
    negatives: str = "all"  # "all" others of the batch | "paired" as the paper
    margin: float = 1.0
    temperature: float = 0.07  # of info_nce and word_info_nce
    contrast_weight: float = 1.0
    mlm_weight: float = 1.0
    mask_probability: float = 0.15
    validation_fraction: float = 0.1  # of videos, not of clips: no scene on both sides
    image_only: bool = False  # one frame per clip: the control for what motion gives
    training: TrainingSettings = TrainingSettings()


@dataclass(frozen=True)
class DistillSettings:
    name: str = "student"
    teacher: str = "teacher"  # run name or folder; unused by text-only runs
    corpus: str = ""  # a text file, one paragraph a line, or "demo"
    objectives: tuple[str, ...] = ("nst", "crd")  # () = text-only control
    weights: tuple[float, ...] = ()  # one per objective; () = all 1
    heads: bool = True  # an MLP distillation head per objective
    initialize_from: str = ""
    text: TextEncoderSettings = TextEncoderSettings()
    crd_negatives: str = "batch"  # "batch" | "queue"
    # "live": the teacher reads the student's batch, words hidden, at each step; "cached": it has
    # read the whole text once, nothing hidden. See core/training/teacher_states.py.
    teacher_states: str = "live"
    mask_probability: float = 0.15
    mlm_weight: float = 1.0
    validation_fraction: float = 0.05
    training: TrainingSettings = TrainingSettings(learning_rate=2e-4, batch_size=256)


@dataclass(frozen=True)
class FineTuneSettings:
    """An encoder and a task's head, trained together. One run is one seed (training.seed)."""

    name: str = ""  # default: the task, the model and the seed
    model: str = "teacher"  # a run; "minilm"; a local folder or hub name
    task: str = "tracie-uniform"
    data: str = ""  # folder of the tasks' files; default VIDLANKD_DATA, else data/ at home
    train_split: str = ""  # default: the task's own
    evaluate_split: str = ""
    also: tuple[str, ...] = ()  # more tasks to answer after training, as glue-diagnostics
    limit: int = 0  # training items, a sample that is the same for every seed; 0 = all
    evaluate_limit: int = 0
    validation_fraction: float = 0.1  # of the training items' stories, contexts, …; picks the best
    epochs: float = 3.0  # the paper's
    warmup: float = 0.1  # share of the steps; BERT's
    pooling: str = "cls"  # "cls" as the paper | "mean"
    head_dropout: float = 0.1
    max_tokens: int = 256  # or what the encoder reads, where that is less; bounds the memory
    overlap: int = 32  # pieces that neighbouring windows of a context share
    # Of each training question; a small encoder reads a context in so many windows that it would
    # learn little else than that the answer is not there.
    negatives: int = 1
    max_answer_pieces: int = 30  # BERT's limit on a span
    # The paper: 1e-4, which fails on some seeds; give learning_rate=3e-5 beside it. Steps of 0 come
    # from the epochs. A tuned model is there to be asked, and half the bytes answer the same.
    training: TrainingSettings = TrainingSettings(
        steps=0,
        batch_size=32,
        learning_rate=1e-4,
        warmup_steps=0,
        evaluate_every=0,
        snapshots=0,
        weights_dtype="float16",
    )


@dataclass(frozen=True)
class LayerProbeSettings:
    """Linear probes on the frozen states of every layer of an encoder."""

    task: str = "sst2"
    data: str = ""
    train_split: str = ""
    evaluate_split: str = ""
    limit: int = 2000  # training items; 0 = all
    evaluate_limit: int = 0
    pooling: str = "mean"  # "mean" | "cls"
    max_tokens: int = 256
    strength: float = 0.1  # inverse of the L2 penalty on standardised states
    seed: int = 0


@dataclass(frozen=True)
class EmbedSettings:
    library: str = "demo"
    runs: tuple[str, ...] = ()  # run names; () = every teacher and its students
    batch_size: int = 64


@dataclass(frozen=True)
class GroundSettings:
    library: str = "demo"
    run: str = "teacher"
    sentence: str = ""
    top: int = 5
    evaluate: bool = False
    split: str = "held-out"  # "held-out" | "all"
    bootstrap: int = 2000
    seed: int = 0


@dataclass(frozen=True)
class ProjectSettings:
    """Points of the embedding space and their maps."""

    sources: tuple[str, ...] = ("demo",)  # "demo" (its corpus), text files, or a library (captions)
    name: str = ""  # of the source on the page; default: the library's or the files' names
    kinds: tuple[str, ...] = ("tokens",)  # tokens | words | clips | seconds
    runs: tuple[str, ...] = ()  # run names; () = a finished teacher and its students
    layer: str = "joint"  # or a hidden layer: 0 the embeddings, 1 the first, …
    methods: tuple[str, ...] = ("pca", "umap")  # pca | umap | tsne
    limit: int = 50_000  # most points of a set; of a longer text, paragraphs are drawn by lot
    seed: int = 0
    parallel: bool = False  # UMAP on all cores: faster, and no two runs alike
    fit_points: int = 20_000  # UMAP is fitted on so many; the others are placed between them
    tsne_points: int = 10_000  # t-SNE's, whose cost grows faster
    neighbours: int = 15  # of UMAP
    min_dist: float = 0.1  # of UMAP
    perplexity: float = 30.0  # of t-SNE
    clustering: str = "kmeans"  # "kmeans" | "hdbscan"
    clusters: int = 0  # of k-means; 0 = by the number of points


@dataclass(frozen=True)
class ProbeSettings:
    """A task asked of models without training them for it."""

    task: str = "demo_physics"
    models: tuple[str, ...] = ()  # runs, folders or hub names; () = every finished run
    method: str = "PLL-word-l2r"
    norm: str = "sum"
    split: str = ""  # "" = the task's evaluation split
    data: str = ""  # folder of the tasks' files, or "hub"; "" = VIDLANKD_DATA
    limit: int = 0  # a sample of so many items; 0 = all
    seed: int = 0  # of the sample
    slice: tuple[str, ...] = ()  # "key=value" of the items' metadata; all must hold


@dataclass(frozen=True)
class DemoSettings:
    videos: int = 360
    size: int = 256  # pixels, square
    frame_rate: int = 25
    corpus_sentences: int = 8000
    items: int = 400  # of each probe
    seed: int = 0
    workers: int = 2
    teacher_steps: int = 0  # 0 = the preset's; tests take fewer
    student_steps: int = 300  # four students in about a minute on two cores
    force: bool = False


# ---- presets --------------------------------------------------------------------------

_DEMO_TEXT = TextEncoderSettings(
    num_layers=3, hidden_size=128, num_heads=4, intermediate_size=512, max_tokens=64, dropout=0.1
)

PRESETS: dict[str, dict] = {
    # The paper's student sizes; steps are set by the data at hand.
    "small": {"text": TextEncoderSettings()},
    "base": {
        "text": TextEncoderSettings(
            num_layers=12, hidden_size=768, num_heads=12, intermediate_size=3072
        ),
        "video_hidden": 768,
        "video_heads": 12,
        "joint_size": 512,
    },
    # For two laptop cores: minutes, not days.
    "demo": {
        "text": _DEMO_TEXT,
        "tokenizer": "bert-pruned",
        "video_layers": 2,
        "video_hidden": 128,
        "video_heads": 4,
        "joint_size": 128,
        "window_sec": 16,
        "feature_dropout": 0.5,
        # The paper's hinge with margin 1 hardly grounds on so few clips, and with InfoNCE all
        # words of a sentence point where the sentence points. The README has the figures.
        "contrast": "word_info_nce",
        "training": TrainingSettings(
            steps=400,
            batch_size=64,
            learning_rate=1e-3,
            warmup_steps=40,
            schedule="cosine",
            log_every=5,
            evaluate_every=50,
            checkpoint_every=200,
            weights_dtype="float16",
            snapshots=1,  # the built demo stays below 60 MB
        ),
    },
}


def preset(settings_class: type, name: str):
    """Settings of one command with a preset's values where the command has such a field."""
    if name in ("", "none"):
        return settings_class()
    if name not in PRESETS:
        raise SettingsError(_unknown("preset", name, list(PRESETS)))
    names = {f.name for f in dataclasses.fields(settings_class)}
    return settings_class(**{k: v for k, v in PRESETS[name].items() if k in names})


# ---- overrides -----------------------------------------------------------------------


def apply_overrides(settings, assignments: list[str]):
    """Settings with `key=value` assignments applied; `training.steps=5` or just `steps=5`.

    Raises SettingsError for a key that does not exist or a value of the wrong kind.
    """
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals:
            raise SettingsError(f"Wanted key=value, found '{assignment}'.")
        settings = _set(settings, key.strip(), value.strip())
    return settings


def parsed(name: str, text: str, kind):
    """A flag's text as a value of this kind, such as tuple[int, ...]. Raises SettingsError."""
    return _parse(text, kind, name)


def as_dict(settings) -> dict:
    """Plain nested dict, for settings.json."""
    return dataclasses.asdict(settings)


def from_dict(settings_class: type, values: dict):
    """The inverse of as_dict. Fields that are missing take their defaults."""
    hints = typing.get_type_hints(settings_class)
    known = {f.name for f in dataclasses.fields(settings_class)}
    arguments = {}
    for key, value in values.items():
        if key not in known:
            raise SettingsError(_unknown("setting", key, sorted(known)))
        if dataclasses.is_dataclass(hints[key]):
            value = from_dict(hints[key], value)
        elif isinstance(value, list):
            value = tuple(value)
        arguments[key] = value
    return settings_class(**arguments)


def _set(settings, key: str, text: str):
    owner_path = _find(settings, key)
    return _replace(settings, owner_path, text, key)


def _find(settings, key: str) -> list[str]:
    """The path to a field: given in full with dots, or its bare name when only one has it."""
    parts = key.split(".")
    paths = [path for path in _paths(settings) if path == parts]
    paths = paths or [path for path in _paths(settings) if path[-1] == key]
    if len(paths) == 1:
        return paths[0]
    if paths:
        choices = " or ".join(".".join(p) for p in paths)
        raise SettingsError(f"Setting '{key}' is ambiguous: write {choices}.")
    raise SettingsError(_unknown("setting", key, [".".join(p) for p in _paths(settings)]))


def _paths(settings, prefix: tuple[str, ...] = ()) -> list[list[str]]:
    found = []
    for f in dataclasses.fields(settings):
        value = getattr(settings, f.name)
        if dataclasses.is_dataclass(value):
            found += _paths(value, (*prefix, f.name))
        else:
            found.append([*prefix, f.name])
    return found


def _replace(settings, path: list[str], text: str, key: str):
    head, *rest = path
    if rest:
        value = _replace(getattr(settings, head), rest, text, key)
    else:
        value = _parse(text, typing.get_type_hints(type(settings))[head], key)
    return dataclasses.replace(settings, **{head: value})


def _parse(text: str, kind, key: str):
    if typing.get_origin(kind) is tuple:
        item = typing.get_args(kind)[0]
        return tuple(_parse(part.strip(), item, key) for part in text.split(",") if part.strip())
    if isinstance(kind, types.UnionType):
        kind = typing.get_args(kind)[0]
    if kind is bool:
        if text.lower() in ("true", "yes", "1", "false", "no", "0"):
            return text.lower() in ("true", "yes", "1")
        raise SettingsError(f"Setting '{key}' wants true or false, found '{text}'.")
    try:
        return kind(text)
    except ValueError:
        raise SettingsError(f"Setting '{key}' wants {kind.__name__}, found '{text}'.") from None


def _unknown(what: str, name: str, known: list[str]) -> str:
    bare = {k.split(".")[-1]: k for k in known}
    close = difflib.get_close_matches(name.split(".")[-1], list(bare), n=1, cutoff=0.5)
    hint = f" Did you mean '{bare[close[0]]}'?" if close else f" Known: {', '.join(known)}."
    return f"Unknown {what} '{name}'.{hint}"

"""Point sets: words, clips and seconds as a run sees them, with what is known of each.

A set is made in one pass over the text, in bounded memory, and shows itself when it is whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa

from core.analysis.alignment import unit
from core.analysis.clusters import NOISE, cluster, cluster_names
from core.analysis.grounding import groundedness, similarity
from core.config import ProjectSettings, SettingsError
from core.data import point_store
from core.data.video_library import list_libraries, load_library
from core.extraction import embeddings, point_metadata
from core.extraction.clip_features import MissingFeatures
from core.extraction.point_metadata import Columns
from core.extraction.point_texts import Source, Words, open_source, read_words
from core.feature_cache import CacheError
from core.inference import Encoder, alignment_key, encoder_hash, teacher_of
from core.models.run_folder import RunFolder
from core.records import PointSet, TokenEmbeddings

Progress = Callable[[int, int, str], None]

SENTENCES_AT_ONCE = 512  # encoded together: a few thousand words' vectors are held at once
ROWS_AT_ONCE = 8192  # compared with all clips together
MOST_CLIPS = 4096  # that groundedness is measured against, as in its calibration
VERSION = 2  # of what is computed here: raise it when points would come out otherwise


class PointSets:
    """The sets of one command: its texts are read once for all its runs."""

    def __init__(self, settings: ProjectSettings, runs: Sequence[str]):
        self.settings, self.runs = settings, list(runs)
        self._encoder: Encoder | None = None

    def point_set(self, kind: str, run: str, progress: Progress) -> PointSet:
        """The set of a kind as a run sees it: as kept, or made now.

        Raises SettingsError for a kind that the run or the source cannot have.
        """
        identity = (self.source, kind, run, self.settings.layer)
        made_from = self._made_from(kind, run)
        path = point_store.set_path(*identity, made_from)
        if not (path / "point_set.json").exists():
            with point_store.writing(path) as folder:
                columns = self._make(kind, run, folder, progress)
                self._write(kind, run, folder, columns)
                rows = (
                    self.words.rows_hash if kind == "tokens" else point_store.rows_hash(columns.ids)
                )
                point_store.write_facts(folder, identity, made_from, rows)
        return point_store.load_point_set(path)

    def _make(self, kind: str, run: str, folder: Path, progress: Progress) -> Columns:
        """Write the vectors; return what is known of the points."""
        if kind == "tokens":
            return self._tokens(run, folder, progress)
        if kind == "words":
            return self._words(run, folder, progress)
        return self._moments(kind, run, folder, progress)

    # ---- what a set is made from

    @cached_property
    def source(self) -> str:
        """The name that the page shows, and the folder's."""
        names = [name.removeprefix("captions:") for name in self.settings.sources]
        return self.settings.name or "+".join(Path(n).stem if "/" in n else n for n in names)

    @cached_property
    def sources(self) -> list[Source]:
        return [open_source(name) for name in self.settings.sources]

    @cached_property
    def words(self) -> Words:
        """The same words for all runs of the command."""
        folders = [RunFolder.open(run) for run in self.runs]
        tokenizers = [folder.load_tokenizer() for folder in folders]
        room = min(_room(folder) for folder in folders)
        return read_words(self.sources, tokenizers, room, self.settings.limit, self.settings.seed)

    def _made_from(self, kind: str, run: str) -> dict:
        """Everything that decides a set's content; equal dicts, equal sets."""
        folder, settings = RunFolder.open(run), self.settings
        joint = settings.layer == "joint"
        made_from = {
            "version": VERSION,
            "kind": kind,
            "layer": settings.layer,
            "encoder": encoder_hash(folder),
            "alignment": alignment_key(folder) if joint and folder.kind == "student" else {},
            "clips": self._clips_key(run) if joint else "",
            "drawn": [settings.limit, settings.seed],
            "clustering": [settings.clustering, settings.clusters],
        }
        if kind in ("tokens", "words"):
            made_from["text"] = [source.content_hash for source in self.sources]
            made_from["readers"] = sorted({_reader(RunFolder.open(name)) for name in self.runs})
        return made_from

    def _clips_key(self, run: str) -> str:
        """Names the clips that words are grounded in; "" where there are none."""
        try:
            return embeddings.clips_key(self._library(run), run)
        except (MissingFeatures, CacheError):
            return ""

    def _library(self, run: str) -> str:
        """The library that words are grounded in: the source's own, or the teacher's."""
        named = [name.removeprefix("captions:") for name in self.settings.sources]
        own = [name for name in named if name in list_libraries()]
        return own[0] if own else RunFolder.open(teacher_of(RunFolder.open(run))).settings.library

    # ---- words in context

    def _tokens(self, run: str, folder: Path, progress: Progress) -> Columns:
        words, encoder = self.words, self._open(run)
        vectors = None
        for first, last, block in self._encoded(encoder, words):
            if vectors is None:
                vectors = _create(folder, len(words), block.shape[1])
            vectors[first:last] = block
            progress(last, len(words), f"words read by {run}")
        vectors.flush()
        return point_metadata.word_columns(words, self.sources)

    def _encoded(self, encoder: Encoder, words: Words) -> Iterator[tuple[int, int, np.ndarray]]:
        """First and last row and vectors f16 [rows, D] of a few hundred sentences at a time."""
        for start in range(0, len(words.sentences), SENTENCES_AT_ONCE):
            stop = min(start + SENTENCES_AT_ONCE, len(words.sentences))
            first, last = np.searchsorted(words.sentence_ids, [start, stop])
            text = self._encode(encoder, words.sentences[start:stop])
            owners = np.repeat(np.arange(start, stop), np.diff(text.text_offsets)).tolist()
            found = {(s, t.start): row for row, (s, t) in enumerate(zip(owners, text.tokens))}
            own = slice(first, last)
            wanted = zip(words.sentence_ids[own].tolist(), words.starts[own].tolist())
            yield first, last, text.vectors[[found[place] for place in wanted]]

    def _encode(self, encoder: Encoder, sentences: Sequence[str]) -> TokenEmbeddings:
        if self.settings.layer == "joint":
            return encoder.encode_text(sentences)
        text = encoder.hidden_states(sentences, _layer(encoder, self.settings.layer))
        # States of every layer are compared by direction, as the joint space is.
        return replace(text, vectors=unit(text.vectors.astype(np.float32)).astype(np.float16))

    def _open(self, run: str) -> Encoder:
        """The run's encoder; one is held at a time."""
        if self._encoder is None or self._encoder.name != run:
            self._encoder = Encoder.open(run)
        return self._encoder

    # ---- words averaged over contexts

    def _words(self, run: str, folder: Path, progress: Progress) -> Columns:
        """Means over the contexts that the set of tokens has, which is made first."""
        tokens = self.point_set("tokens", run, progress)
        points = point_store.read_points(tokens)
        types = point_metadata.word_types(points["text"].to_pylist())
        means = unit(point_metadata.type_means(tokens.vectors, types))
        _save(folder, means.astype(np.float16))
        sentences = point_store.read_sentences(tokens)["text"].to_pylist()
        return point_metadata.type_columns(types, points, sentences)

    # ---- clips and seconds

    def _moments(self, kind: str, run: str, folder: Path, progress: Progress) -> Columns:
        if RunFolder.open(run).kind != "teacher" or self.settings.layer != "joint":
            raise SettingsError(
                f"{kind.capitalize()} are seen by teachers, in the joint space: a student has no "
                f"video side. Look at its teacher's: --run {teacher_of(RunFolder.open(run))}"
            )
        library = self.settings.sources[0].removeprefix("captions:")
        load_library(library)  # says what is wrong with it
        video = embeddings.load_clip_embeddings(library, run)
        vectors = video.vectors if kind == "clips" else video.second_vectors
        if not len(vectors):
            raise SettingsError(f"Library '{library}' has no {kind} to map.")
        rows = _drawn(len(vectors), self.settings.limit, self.settings.seed)
        _save(folder, vectors[rows])
        progress(1, 1, f"{kind} of {library}")
        columns = {"clips": point_metadata.clip_columns, "seconds": point_metadata.second_columns}
        return columns[kind](video, rows)

    # ---- what all kinds have

    def _write(self, kind: str, run: str, folder: Path, columns: Columns) -> None:
        vectors = np.load(folder / "vectors.npy", mmap_mode="r")
        settings = self.settings
        labels = cluster(vectors, settings.clustering, settings.clusters, settings.seed)
        contexts = columns.values.get("count")
        names = np.array([*cluster_names(labels, columns.texts, contexts), NOISE], dtype=object)
        is_text = kind in ("tokens", "words") and settings.layer == "joint"
        values = {
            **columns.values,
            "groundedness": self._groundedness(vectors, run) if is_text else None,
            "run": [run] * len(labels),
            "cluster": labels,
            "cluster_name": names[labels],
        }
        point_store.write_table(folder / "points.parquet", point_metadata.table(values))
        if columns.sentences:
            ids = pa.array(np.arange(len(columns.sentences), dtype=np.int32))
            sentences = pa.table({"sentence_id": ids, "text": list(columns.sentences)})
            point_store.write_table(folder / "sentences.parquet", sentences)

    def _groundedness(self, vectors: np.ndarray, run: str) -> np.ndarray | None:
        """f32 [N]; None where no clips are embedded to compare words with."""
        try:
            library = self._library(run)
            video = embeddings.load_clip_embeddings(library, run)
            calibration = embeddings.load_calibration(library, run)
        except (CacheError, MissingFeatures):
            return None
        clips = video.vectors[_drawn(len(video.vectors), MOST_CLIPS, 0)]
        found = np.empty(len(vectors), np.float32)
        for start in range(0, len(vectors), ROWS_AT_ONCE):
            scores = similarity(vectors[start : start + ROWS_AT_ONCE], clips)
            found[start : start + len(scores)] = groundedness(scores, calibration)
        return found


def _room(folder: RunFolder) -> int:
    """Word pieces that a run reads at once, without the special ones around them."""
    return folder.settings.text.max_tokens - 2


def _reader(folder: RunFolder) -> str:
    """Tokenizer and length: runs with equal ones cut a text in the same places."""
    return f"{folder.load_tokenizer().content_hash[:16]}:{_room(folder)}"


def _layer(encoder: Encoder, layer: str) -> int:
    """The layer's number. Raises SettingsError for one that the model does not have."""
    last = encoder.run.settings.text.num_layers
    if not layer.isdigit() or int(layer) > last:
        raise SettingsError(
            f"Wanted layer 'joint' or a number from 0 (the embeddings) to {last} of "
            f"'{encoder.name}', found '{layer}'."
        )
    return int(layer)


def _drawn(count: int, limit: int, seed: int) -> np.ndarray:
    """All rows, or `limit` of them by lot, rising."""
    return np.sort(np.random.default_rng(seed).permutation(count)[:limit])


def _create(folder: Path, rows: int, size: int) -> np.memmap:
    return np.lib.format.open_memmap(folder / "vectors.npy", "w+", np.float16, (rows, size))


def _save(folder: Path, vectors: np.ndarray) -> None:
    np.save(folder / "vectors.npy", np.asarray(vectors, np.float16))

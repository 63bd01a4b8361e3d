"""The data types that flow between the rooms of the house.

All are frozen. N tokens, C clips, S seconds, D joint-space size, H hidden size,
B batch, L tokens per sentence, T time steps. A step is one second: step k of a video
covers [k, k + 1) seconds from its start. Vectors are unit length unless a field says
otherwise; they are normalised where they are made (the encoders), never again later.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # pages and analysis use these records without importing torch
    import torch


@dataclass(frozen=True)
class Video:
    """One readable video file of a library. Sizes are as displayed, after rotation."""

    video_id: str  # unique in its library, made from the file name, safe in a path
    path: Path  # absolute; the file is used in place and never changed
    duration_sec: float
    frame_rate: float  # average frames per second; time stamps, not this, give positions
    width: int
    height: int
    rotation: int  # degrees to turn clockwise for display: 0, 90, 180 or 270
    codec: str
    content_hash: str  # sha256 of the file's bytes, hex
    thumbnail: str  # file name inside the library's thumbnails/ folder, or ""

    @property
    def num_steps(self) -> int:
        """Seconds started: a 2.3 s video has 3 steps, the last one short."""
        return max(1, int(np.ceil(self.duration_sec - 1e-3)))


@dataclass(frozen=True)
class Clip:
    """A piece of video with the text that goes with it; `caption` is "" when there is none."""

    clip_id: str
    video_id: str
    start_sec: float
    end_sec: float
    caption: str = ""

    @property
    def steps(self) -> tuple[int, int]:
        """First step and one past the last step that the clip touches by 10 ms or more."""
        first = int(np.floor(self.start_sec + 1e-2))
        return first, max(first + 1, int(np.ceil(self.end_sec - 1e-2)))


@dataclass(frozen=True)
class ImportProblem:
    """A file that could not be used, and why, in one line a person can act on."""

    file: str
    reason: str


@dataclass(frozen=True)
class VideoLibrary:
    """A named set of videos and clips; `problems` are the files that were passed over."""

    name: str
    videos: tuple[Video, ...]
    clips: tuple[Clip, ...]
    problems: tuple[ImportProblem, ...] = ()

    def video(self, video_id: str) -> Video:
        for video in self.videos:
            if video.video_id == video_id:
                return video
        raise KeyError(f"No video '{video_id}' in library '{self.name}'.")


@dataclass(frozen=True)
class TextBatch:
    """A batch of sentences. Masks are bool [B, L]."""

    token_ids: torch.Tensor  # int64 [B, L]
    mask: torch.Tensor  # True for real tokens, [CLS] and [SEP] among them
    content_mask: torch.Tensor  # True for real tokens without the special ones
    labels: torch.Tensor | None = None  # int64 [B, L]; -100 where nothing is to be predicted
    segments: torch.Tensor | None = None  # int64 [B, L]; which text of a pair, where models ask

    def to(self, device) -> TextBatch:
        values = (self.token_ids, self.mask, self.content_mask, self.labels, self.segments)
        return TextBatch(*(None if value is None else value.to(device) for value in values))


@dataclass(frozen=True)
class VideoBatch:
    """A batch of windows of video. The clip is the part of the window that the span marks."""

    features: torch.Tensor  # float32 [B, T, F], all streams side by side
    mask: torch.Tensor  # bool [B, T], True for real steps of the window
    span_mask: torch.Tensor  # bool [B, T], True for the steps of the clip itself

    def to(self, device) -> VideoBatch:
        return VideoBatch(self.features.to(device), self.mask.to(device), self.span_mask.to(device))


@dataclass(frozen=True)
class TeacherBatch:
    """Clips and their captions, row by row."""

    text: TextBatch  # token_ids have masked positions, labels hold what stood there
    video: VideoBatch

    def to(self, device) -> TeacherBatch:
        return TeacherBatch(self.text.to(device), self.video.to(device))


@dataclass(frozen=True)
class EncoderOutput:
    """What a language encoder says of a TextBatch."""

    token_states: torch.Tensor  # [B, L, H], last layer
    token_vectors: torch.Tensor | None  # [B, L, D] unit; None for a model without joint space
    mlm_logits: torch.Tensor | None = None  # [M, V] on the M masked positions only
    all_states: tuple[torch.Tensor, ...] | None = None  # embeddings and every layer, on request


@dataclass(frozen=True)
class VideoOutput:
    """What a video encoder says of a VideoBatch."""

    step_vectors: torch.Tensor  # [B, T, D] unit; rows outside the mask mean nothing
    clip_vectors: torch.Tensor  # [B, D] unit: the mean of the span's step vectors, renormalised


@dataclass(frozen=True)
class ClipEmbeddings:
    """Clips and seconds of a library in an encoder's joint space."""

    library: str
    clips: tuple[Clip, ...]
    vectors: np.ndarray  # f16 [C, D] unit, one per clip
    video_ids: tuple[str, ...]
    second_vectors: np.ndarray  # f16 [S, D] unit, all videos' seconds one after another
    second_offsets: np.ndarray  # int64 [len(video_ids) + 1]: video v owns rows [o[v], o[v+1])

    def seconds_of(self, video_id: str) -> np.ndarray:
        """The video's second vectors, f16 [S_v, D]."""
        row = self.video_ids.index(video_id)
        return self.second_vectors[self.second_offsets[row] : self.second_offsets[row + 1]]


@dataclass(frozen=True)
class Token:
    """A piece or word of a sentence with its place in the text that was typed."""

    text: str
    start: int  # character offsets into the sentence: text[start:end]
    end: int
    is_word: bool = True  # False for a word piece shown as such


@dataclass(frozen=True)
class TokenEmbeddings:
    """Tokens of one or more sentences in the joint space (or hidden space, see `space`)."""

    sentences: tuple[str, ...]
    tokens: tuple[Token, ...]
    vectors: np.ndarray  # f16 [N, D] unit
    text_offsets: np.ndarray  # int64 [len(sentences) + 1]: sentence i owns tokens [o[i], o[i+1])
    space: str = "joint"
    alignment: str = "trained"  # "trained" | "crd head" | "regression head" | "ridge"
    alignment_r2: float | None = None  # held-out R² of the map, where one was fitted


@dataclass(frozen=True)
class Grounding:
    """Cosine similarity of every token with every clip (or second)."""

    tokens: tuple[Token, ...]
    clips: tuple[Clip, ...]
    similarity: np.ndarray  # f32 [N, C]


@dataclass(frozen=True)
class ProbeItem:
    """A forced choice between texts. `choices[label]` is right; None where no answer is published."""

    item_id: str
    task: str
    context: str
    choices: tuple[str, ...]
    label: int | None
    metadata: dict = field(default_factory=dict)


@dataclass(frozen=True)
class TextItem:
    """A text, or a pair of texts, with its class."""

    item_id: str
    task: str
    text: str
    second_text: str  # "" where the task asks about one text
    label: int | None  # place in the task's labels; None where no answer is published
    metadata: dict = field(default_factory=dict)


@dataclass(frozen=True)
class SpanItem:
    """A question about a context, and the spans of it that were given as answers."""

    item_id: str
    task: str
    question: str
    context: str
    answers: tuple[tuple[str, int], ...]  # text and first character; () where it has no answer
    metadata: dict = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class PointSet:
    """Points of the embedding space, one row each. Two sets of one `rows_hash` have the same
    points in the same order, as different runs or layers see them."""

    path: Path
    source: str  # where the texts or clips came from: "demo", a library, a text file's name
    kind: str  # "tokens" | "words" | "clips" | "seconds"
    run: str
    layer: str  # "joint", or the number of a hidden layer: "0" the embeddings, "1" the first
    hash: str  # of all that decides the vectors, hex
    rows_hash: str
    made_from: dict  # hashes of encoder, alignment, text, …; and the settings
    vectors: np.ndarray  # f16 [N, D] unit, memory-mapped

    def __len__(self) -> int:
        return len(self.vectors)


@dataclass(frozen=True, eq=False)
class Projection:
    """A map: a place in the plane for each point of a set."""

    method: str  # "pca" | "umap" | "tsne", with "-shared" when placed on the reference's map
    coordinates: np.ndarray  # f32 [N, 2]
    parameters: dict  # seed, reference, size of the fitted sample, …
    trustworthiness: float  # in [0, 1]: are neighbours on the map neighbours in the space?
    neighbour_preservation: float  # in [0, 1]: share of the space's neighbours kept on the map
    quality_queries: int  # points that the two figures were measured on
    quality_neighbours: int  # k of the two figures
    sample: np.ndarray | None = None  # int64 rows a map was fitted on; None for all of them
    axes: np.ndarray | None = None  # f32 [2, D + 1] of PCA: components, and what to add

"""Embeddings of a library: from features to second vectors, clips, indexes and alignments."""

import dataclasses
import hashlib

import numpy as np
import pytest

from core import config
from core.analysis.grounding import best_moments
from core.config import EmbedSettings, ExtractSettings
from core.data.video_library import load_library, save_library
from core.extraction import clip_features, embeddings
from core.extraction.clip_features import MissingFeatures
from core.feature_cache import CacheError
from core.inference import Encoder
from core.models.run_folder import RunError
from core.records import Clip, Video, VideoLibrary

FEATURES = {"2d": 4, "temporal": 2}
WORDS = [
    "the",
    "red",
    "ball",
    "rolls",
    "falls",
    "glass",
    "metal",
    "stone",
    "box",
    "cup",
    "chair",
    "slowly",
    "then",
    "and",
    "water",
]


def make_library(folder, seconds: dict[str, int], name="toy") -> VideoLibrary:
    """Videos (empty files: nothing here decodes) of two captioned clips each."""
    videos, clips = [], []
    for number, (video_id, length) in enumerate(seconds.items()):
        path = folder / f"{video_id}.mp4"
        path.write_bytes(b"")
        digest = hashlib.sha256(video_id.encode()).hexdigest()
        videos.append(Video(video_id, path, float(length), 25.0, 8, 8, 0, "h264", digest, ""))
        half = length / 2
        for part, (start, end) in enumerate(((0.0, half), (half, float(length)))):
            caption = " ".join(np.random.default_rng((number, part)).choice(WORDS, 5))
            clips.append(Clip(f"{video_id}-{part}", video_id, start, end, caption))
    return save_library(VideoLibrary(name, tuple(videos), tuple(clips)))


def extract_random(library: VideoLibrary, fail: tuple[str, ...] = ()) -> None:
    """Features as `extract` leaves them, drawn at random for each content."""
    names = {v.content_hash: v for v in library.videos}
    plan = clip_features.plan(ExtractSettings(library=library.name), library)
    for stream, cache in plan.items():
        for shard in cache.pending_shards():
            rows, failed = {}, {}
            for key in shard.keys:
                if names[key].video_id in fail:
                    failed[key] = "Its end is damaged."
                    continue
                rng = np.random.default_rng(int(key[:8], 16))
                rows[key] = rng.standard_normal((names[key].num_steps, FEATURES[stream]))
            cache.write_shard(shard.index, rows, failed)
        cache.finish()


@pytest.fixture
def library(workspace, saved) -> VideoLibrary:
    """A library with features and a teacher that can see it."""
    library = make_library(workspace, {"long": 21, "short": 3, "middle": 8})
    extract_random(library)
    saved.teacher(library="toy", window_sec=8)
    return library


@pytest.fixture
def encoder_calls(monkeypatch) -> list:
    """Every batch that any encoder is asked for."""
    calls = []
    for name in ("encode_videos", "_arrays"):
        original = getattr(Encoder, name)

        def counted(self, *arguments, original=original, **named):
            calls.append((original.__name__, self.name))
            return original(self, *arguments, **named)

        monkeypatch.setattr(Encoder, name, counted)
    return calls


def embed(*runs):
    embeddings.embed(EmbedSettings(library="toy", runs=runs))


def test_every_second_is_the_encoders(library):
    embed("teacher")
    found = embeddings.load_clip_embeddings("toy", "teacher")
    encoder = Encoder.open("teacher")
    store = clip_features.load_features("toy")
    assert found.video_ids == ("long", "short", "middle")
    for video in library.videos:
        wanted = encoder.encode_seconds(store.video(video.video_id))
        assert found.seconds_of(video.video_id).shape == (video.num_steps, 16)
        np.testing.assert_allclose(found.seconds_of(video.video_id), wanted, atol=2e-3)


def test_a_clip_is_the_renormalised_mean_of_its_seconds(library):
    embed("teacher")
    found = embeddings.load_clip_embeddings("toy", "teacher")
    assert found.clips == library.clips and found.vectors.dtype == np.float16
    for clip, vector in zip(found.clips, found.vectors):
        first, last = clip.steps
        mean = found.seconds_of(clip.video_id)[first:last].astype(np.float32).mean(0)
        np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=2e-3)


def test_a_caption_that_runs_past_the_end_keeps_to_its_video(workspace, library):
    late = Clip("late", "short", 2.5, 9.0, "the ball rolls")
    after = Clip("after", "short", 5.0, 6.0, "the ball rolls")
    save_library(dataclasses.replace(library, clips=(*library.clips, late, after)))
    embed("teacher")
    found = embeddings.load_clip_embeddings("toy", "teacher")
    last_second = found.seconds_of("short")[2].astype(np.float32)
    for vector in found.vectors[-2:].astype(np.float32):
        assert vector @ last_second == pytest.approx(1.0, abs=3e-3)


def test_the_second_call_runs_no_encoder(library, encoder_calls):
    embed("teacher")
    assert ("encode_videos", "teacher") in encoder_calls
    encoder_calls.clear()
    embed("teacher")
    embeddings.load_clip_embeddings("toy", "teacher")
    embeddings.load_clip_index("toy", "teacher")
    embeddings.load_calibration("toy", "teacher")
    assert encoder_calls == []


def test_a_new_video_is_the_only_one_encoded(workspace, library, monkeypatch):
    embed("teacher")
    before = embeddings.load_clip_embeddings("toy", "teacher")
    lengths = {"long": 21, "short": 3, "middle": 8, "new": 5}
    extract_random(make_library(workspace, lengths))
    with pytest.raises(CacheError, match="'new'.*python -m core embed --library toy"):
        embeddings.load_clip_embeddings("toy", "teacher")
    seen = []
    original = Encoder.encode_videos
    monkeypatch.setattr(
        Encoder,
        "encode_videos",
        lambda self, videos: seen.extend(map(len, videos)) or original(self, videos),
    )
    embed("teacher")
    assert seen == [5]
    after = embeddings.load_clip_embeddings("toy", "teacher")
    assert after.video_ids == ("long", "short", "middle", "new")
    np.testing.assert_array_equal(after.second_vectors[:32], before.second_vectors)
    assert len(embeddings.load_second_index("toy", "teacher")) == 37


def test_a_video_that_left_the_library_is_not_waited_for(workspace, library):
    """A call that was cut off had planned it; the next one goes on without it."""
    run = embeddings.RunFolder.open("teacher")
    features = embeddings._features_of("toy", run)
    embeddings.FeatureCache.create(
        embeddings.entry_path("toy", run, features),
        settings=embeddings._entry_settings(run, features),
        keys=[video.content_hash for video in library.videos],
        command="python -m core embed",
    )
    make_library(workspace, {"long": 21, "middle": 8})
    embed("teacher")
    found = embeddings.load_clip_embeddings("toy", "teacher")
    assert found.video_ids == ("long", "middle")
    # It comes back, and is encoded after all.
    make_library(workspace, {"long": 21, "short": 3, "middle": 8})
    embed("teacher")
    assert len(embeddings.load_clip_embeddings("toy", "teacher").seconds_of("short")) == 3


def test_unreadable_videos_are_left_out_with_their_clips(workspace, saved):
    library = make_library(workspace, {"good": 4, "bad": 6})
    extract_random(library, fail=("bad",))
    saved.teacher(library="toy", window_sec=8)
    embed("teacher")
    found = embeddings.load_clip_embeddings("toy", "teacher")
    assert found.video_ids == ("good",)
    assert {clip.video_id for clip in found.clips} == {"good"}


def test_the_index_and_numpy_agree(library):
    embed("teacher")
    video = embeddings.load_clip_embeddings("toy", "teacher")
    index = embeddings.load_clip_index("toy", "teacher")
    assert len(index) == len(video.clips) == 6
    text = Encoder.open("teacher").encode_text(["the red ball falls"])
    for vector in text.vectors:
        plain, indexed = best_moments(vector, video, 3), best_moments(vector, video, 3, index)
        assert [m.clip for m in plain] == [m.clip for m in indexed]
    scores, rows = embeddings.load_second_index("toy", "teacher").search(text.vectors, 1)
    every = text.vectors.astype(np.float32) @ video.second_vectors.astype(np.float32).T
    np.testing.assert_array_equal(rows[:, 0], every.argmax(1))


def test_retrained_weights_make_the_old_embeddings_unusable(library, saved):
    embed("teacher")
    run = embeddings.RunFolder.open("teacher")
    weights = run.load_weights()
    run.save_weights({name: value + 0.01 for name, value in weights.items()}, "float32")
    with pytest.raises(CacheError, match="python -m core embed --library toy --run teacher"):
        embeddings.load_clip_embeddings("toy", "teacher")
    embed("teacher")
    assert len(embeddings.load_clip_embeddings("toy", "teacher").video_ids) == 3


def test_edited_captions_renew_the_index_but_not_the_vectors(library, encoder_calls):
    embed("teacher")
    encoder_calls.clear()
    kept = dataclasses.replace(library, clips=library.clips[:-1])
    save_library(kept)
    embed("teacher")
    assert ("encode_videos", "teacher") not in encoder_calls
    assert len(embeddings.load_clip_index("toy", "teacher")) == 5


def test_what_is_missing_is_named_with_its_command(workspace, saved):
    make_library(workspace, {"a": 3})
    with pytest.raises(RunError, match="No run 'nobody'"):
        embed("nobody")
    saved.teacher(library="toy")
    with pytest.raises(MissingFeatures, match="python -m core extract --library toy"):
        embed("teacher")
    with pytest.raises(MissingFeatures, match="python -m core extract --library toy"):
        embed()


# ---- students ----------------------------------------------------------------------------


@pytest.fixture
def corpus(workspace):
    rng = np.random.default_rng(5)
    lines = [" ".join(rng.choice(WORDS, 7)) for _ in range(300)]
    (workspace / "text.txt").write_text("\n".join(lines))
    return str(workspace / "text.txt")


def test_a_student_is_aligned_and_sees_its_teachers_videos(library, saved, corpus, encoder_calls):
    saved.student(corpus=corpus)
    embed("student")
    student, teacher = Encoder.open("student"), Encoder.open("teacher")
    text = student.encode_text(["the red ball falls"])
    assert text.alignment == "ridge" and -1 < text.alignment_r2 <= 1
    assert student.ridge_map.num_words + student.ridge_map.num_held_out == 300 * 7
    assert student.ridge_map.num_word_types == len(WORDS)
    # Untrained encoders keep word identity in their states: the map finds it again.
    wanted = teacher.encode_text(["the red ball falls"]).vectors.astype(np.float32)
    assert (text.vectors.astype(np.float32) * wanted).sum(1).min() > 0.8
    mine = embeddings.load_clip_embeddings("toy", "student")
    np.testing.assert_array_equal(
        mine.vectors, embeddings.load_clip_embeddings("toy", "teacher").vectors
    )
    encoder_calls.clear()
    embed("student")
    assert encoder_calls == []


def test_without_names_every_run_that_sees_the_library_is_embedded(library, saved, corpus):
    saved.student(corpus=corpus)
    saved.student("regression", objectives=("regression",), corpus=corpus)
    saved.teacher("other", seed=3, frame_features="resnet", temporal_features="videomae")
    saved.student("others-student", teacher="other", corpus=corpus)
    assert embeddings.runs_for("toy") == ["teacher", "regression", "student"]
    embed()
    assert Encoder.open("student").encode_text(["ball"]).alignment == "ridge"
    direct = Encoder.open("regression")
    assert direct.encode_text(["ball"]).alignment == "regression head"
    assert direct.ridge_map.num_words == 0  # nothing was fitted
    assert (direct.ridge_map.weight == np.eye(16)).all()


def test_alignment_text_is_the_held_out_file_where_there_is_one(library, saved, corpus, workspace):
    run = saved.student(corpus=corpus)
    lines = (workspace / "text.txt").read_text().splitlines()
    assert set(embeddings.alignment_sentences(run)) == set(lines)
    (workspace / "text_heldout.txt").write_text("one line\nanother line\none line\n")
    assert sorted(embeddings.alignment_sentences(run)) == ["another line", "one line"]


def test_progress_rises_to_its_end(library, saved, corpus):
    saved.student(corpus=corpus)
    seen = []
    settings = EmbedSettings(library="toy")
    embeddings.embed(settings, lambda done, total, message: seen.append(done / total))
    assert seen == sorted(seen) and seen[-1] == 1.0


def test_clip_vectors_by_hand():
    seconds = np.array([[1, 0], [0, 1], [1, 0]], np.float16)
    spans = np.array([[0, 1], [0, 2], [1, 3], [2, 3]])
    root = np.sqrt(0.5)
    wanted = [[1, 0], [root, root], [root, root], [1, 0]]
    np.testing.assert_allclose(embeddings.clip_vectors(seconds, spans), wanted, atol=1e-3)
    assert embeddings.clip_vectors(seconds, np.empty((0, 2), int)).shape == (0, 2)


def test_entries_lie_where_the_cache_readme_says(library):
    embed("teacher")
    names = [p.name for p in config.library_root("toy").iterdir()]
    assert any(name.startswith("embeddings-teacher-") for name in names)
    assert load_library("toy").name == "toy"

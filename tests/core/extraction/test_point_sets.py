"""Point sets and maps made from real (small, untrained) encoders."""

import numpy as np
import pytest
from test_embeddings import extract_random, make_library

from core.analysis.alignment import unit
from core.config import ProjectSettings, SettingsError
from core.data import point_store
from core.extraction import embeddings, point_sets
from core.extraction.point_maps import default_runs, project
from core.extraction.point_texts import open_source, read_words
from core.inference import Encoder

WORDS = ["the", "red", "ball", "rolls", "falls", "glass", "shatters", "bottle", "don't", "how-to"]


@pytest.fixture
def text(workspace):
    """Sixty paragraphs, some longer than the models read."""
    random = np.random.default_rng(0)
    lines = [" = Heading = ", ""]
    for _ in range(60):
        sentences = [" ".join(random.choice(WORDS, random.integers(3, 30))) for _ in range(2)]
        lines.append(". ".join(sentences) + ".")
    path = workspace / "text.txt"
    path.write_text("\n".join(lines))
    return path


@pytest.fixture
def runs(workspace, saved, text):
    """A teacher that sees a small library, and a student aligned with it."""
    extract_random(make_library(workspace, {"long": 21, "short": 3, "middle": 8}))
    teacher = saved.teacher(library="toy", window_sec=8)
    student = saved.student(teacher="teacher", corpus=str(text))
    embeddings.embed_videos("toy", "teacher")
    embeddings.align_student(student)
    return teacher, student


def settings_for(text, **changes) -> ProjectSettings:
    values = {"sources": (str(text),), "methods": ("pca",), "limit": 5000, "clusters": 3}
    return ProjectSettings(**(values | changes))


def test_every_point_is_its_word_as_the_encoder_reads_it(runs, text):
    points = project(settings_for(text, runs=("teacher",)))[0]
    table = point_store.read_points(points).to_pandas()
    sentences = point_store.read_sentences(points)["text"].to_pylist()
    encoder = Encoder.open("teacher")
    for row in (0, len(table) // 2, len(table) - 1):
        point = table.iloc[row]
        sentence = sentences[point["sentence_id"]]
        assert sentence[point["start"] : point["end"]] == point["text"]
        found = encoder.encode_text([sentence])
        place = [token.start for token in found.tokens].index(point["start"])
        assert np.allclose(points.vectors[row], found.vectors[place], atol=2e-3)
        assert found.tokens[point["position"]].start == point["start"]


def test_no_word_of_a_long_paragraph_is_lost(runs, text):
    words = read_words([open_source(str(text))], [runs[0].load_tokenizer()], 22, 10**6, 0)
    read = " ".join(words.texts())
    body = " ".join(line for line in text.read_text().splitlines() if "=" not in line)
    assert read.split() == body.replace(".", "").split()
    sizes = [len(ids) for ids in runs[0].load_tokenizer().piece_ids(words.sentences)]
    assert max(sizes) <= 22


def test_teacher_and_student_have_the_same_points_row_by_row(runs, text):
    teacher, student = project(settings_for(text, runs=("student", "teacher"), kinds=("tokens",)))
    assert (teacher.run, student.run) == ("teacher", "student")
    assert teacher.rows_hash == student.rows_hash
    one, other = (
        point_store.read_points(s, ["text", "sentence_id", "start"]) for s in (teacher, student)
    )
    assert one.equals(other)
    assert not np.allclose(teacher.vectors, student.vectors, atol=0.05)


def test_a_student_has_a_map_of_its_own_and_one_on_its_teachers(runs, text):
    teacher, student = project(settings_for(text))
    assert point_store.list_methods(teacher) == ["pca"]
    assert point_store.list_methods(student) == ["pca", "pca-shared"]
    own, shared = (point_store.load_projection(student, m) for m in ("pca", "pca-shared"))
    reference = point_store.load_projection(teacher, "pca")
    assert own.parameters["aligned_to"] == "teacher"
    assert np.allclose(shared.axes, reference.axes)
    on_axes = student.vectors @ reference.axes[:, :-1].T + reference.axes[:, -1]
    assert np.allclose(shared.coordinates, on_axes, atol=1e-3)
    assert np.allclose(own.coordinates.mean(0), reference.coordinates.mean(0), atol=1e-3)


def test_a_student_mapped_later_is_laid_on_its_teachers_map_all_the_same(runs, text):
    project(settings_for(text, runs=("teacher",)))
    student = project(settings_for(text, runs=("student",)))[0]
    assert point_store.list_methods(student) == ["pca", "pca-shared"]


def test_a_student_without_its_teachers_map_has_one_of_its_own(runs, text):
    student = project(settings_for(text, runs=("student",)))[0]
    assert point_store.list_methods(student) == ["pca"]
    assert point_store.load_projection(student, "pca").parameters["aligned_to"] == ""


def test_words_are_means_of_their_contexts(runs, text):
    tokens, words = project(settings_for(text, kinds=("tokens", "words"), runs=("teacher",)))
    contexts = np.array(point_store.read_points(tokens, ["text"])["text"].to_pylist())
    table = point_store.read_points(words).to_pandas()
    assert sorted(table["text"]) == sorted(WORDS)
    assert table["count"].tolist() == sorted(table["count"], reverse=True)
    for row, word in enumerate(table["text"]):
        mean = unit(tokens.vectors[contexts == word].astype(float).mean(0)[None])[0]
        assert np.allclose(words.vectors[row], mean, atol=2e-3)
        assert table["count"][row] == (contexts == word).sum()


def test_a_limit_draws_whole_paragraphs_by_seed(runs, text):
    few = [
        project(settings_for(text, limit=200, seed=seed, runs=("teacher",)))[0]
        for seed in (0, 0, 1)
    ]
    assert [len(points) for points in few] == [200] * 3
    assert few[0].path == few[1].path
    assert few[0].rows_hash != few[2].rows_hash


def test_a_second_call_reads_and_fits_nothing(runs, text, monkeypatch):
    before = project(settings_for(text, kinds=("tokens", "words")))
    stamp = (before[0].path / "maps").stat().st_mtime_ns

    def fail(*_):
        raise AssertionError("an encoder was opened")

    monkeypatch.setattr(point_sets.Encoder, "open", fail)
    after = project(settings_for(text, kinds=("tokens", "words")))
    assert [s.path for s in after] == [s.path for s in before]
    assert (after[0].path / "maps").stat().st_mtime_ns == stamp


def test_groundedness_is_measured_in_the_joint_space_only(runs, text):
    joint = project(settings_for(text, runs=("teacher",)))[0]
    hidden = project(settings_for(text, runs=("teacher",), layer="1"))[0]
    values = point_store.read_points(joint, ["groundedness"])["groundedness"].to_numpy()
    assert ((values >= 0) & (values <= 1)).all()
    assert np.isnan(point_store.read_points(hidden)["groundedness"].to_numpy()).all()


def test_hidden_layers_are_the_encoders_states_made_unit(runs, text):
    points = project(settings_for(text, runs=("student",), layer="0"))[0]
    sentence = point_store.read_sentences(points)["text"][0].as_py()
    states = Encoder.open("student").hidden_states([sentence], 0).vectors.astype(float)
    assert np.allclose(points.vectors[: len(states)], unit(states), atol=2e-3)


def test_clips_and_seconds_are_the_teachers_alone(runs):
    clips, seconds = project(
        ProjectSettings(sources=("toy",), kinds=("clips", "seconds"), methods=("pca",))
    )
    video = embeddings.load_clip_embeddings("toy", "teacher")
    assert np.array_equal(clips.vectors, video.vectors)
    assert np.array_equal(seconds.vectors, video.second_vectors)
    table = point_store.read_points(seconds).to_pandas()
    assert table["video_id"].tolist() == [v for v, n in (("long", 21), ("middle", 8), ("short", 3)) for _ in range(n)] or len(table) == 32  # fmt: skip
    captions = {clip.clip_id: clip.caption for clip in video.clips}
    assert [captions[i] for i in table["clip_id"]] == table["text"].tolist()
    with pytest.raises(SettingsError, match="teacher"):
        project(ProjectSettings(sources=("toy",), kinds=("clips",), runs=("student",)))


def test_captions_know_their_clip(runs):
    points = project(ProjectSettings(sources=("toy",), runs=("teacher",), methods=("pca",)))[0]
    table = point_store.read_points(points).to_pandas()
    clips = {c.clip_id: c for c in embeddings.load_clip_embeddings("toy", "teacher").clips}
    assert set(table["clip_id"]) == set(clips)
    for row in table.iloc[:20].itertuples():
        assert row.text in clips[row.clip_id].caption.split()
        assert row.second == pytest.approx(clips[row.clip_id].start_sec)


def test_an_interruption_leaves_no_half_set(runs, text):
    def interrupt(done, total, message):
        if "read by" in message:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        project(settings_for(text, runs=("teacher",)), interrupt)
    assert point_store.list_point_sets() == []
    assert not list(point_store.config.cache_root().glob("*/.points-*"))


def test_default_runs_are_a_teacher_and_its_students(runs):
    assert default_runs() == ["teacher", "student"]


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"kinds": ("token",)}, "Unknown kind 'token'"),
        ({"methods": ("lda",)}, "Unknown method 'lda'"),
        ({"layer": "7"}, "from 0 .* to 2"),
        ({"sources": ("nowhere.txt",)}, "a text file or a library, found 'nowhere.txt'"),
        ({"limit": 1}, "at least 3 points"),
    ],
)
def test_impossible_settings_say_what_is_possible(runs, text, changes, message):
    with pytest.raises(SettingsError, match=message):
        project(settings_for(text, runs=("teacher",), **changes))

"""Encoders on small untrained models: how words, pieces, windows and alignments are treated."""

import numpy as np
import pytest
import torch

from core import inference
from core.analysis import alignment
from core.analysis.alignment import AlignmentError
from core.inference import Encoder
from core.models.run_folder import RunError, RunFolder
from core.models.student import Student

SENTENCE = "Don't drop the how-to bottle: it shatters!"


@pytest.fixture
def teacher(saved) -> Encoder:
    saved.teacher()
    return Encoder.open("teacher")


# ---- words and pieces ----------------------------------------------------------------------


def test_words_are_the_readers_words_with_their_places(teacher):
    text = teacher.encode_text([SENTENCE])
    words = [token.text for token in text.tokens]
    assert words == ["Don't", "drop", "the", "how-to", "bottle", "it", "shatters"]
    assert all(SENTENCE[t.start : t.end] == t.text and t.is_word for t in text.tokens)
    assert text.vectors.shape == (7, 16) and text.vectors.dtype == np.float16
    np.testing.assert_allclose(np.linalg.norm(text.vectors.astype(float), axis=1), 1, atol=2e-3)
    assert (text.space, text.alignment, text.alignment_r2) == ("joint", "trained", None)


def test_pieces_are_all_content_tokens_without_the_special_ones(teacher):
    text = teacher.encode_text([SENTENCE], words=False)
    pieces = [token.text for token in text.tokens]
    assert pieces == ["Don", "'", "t", "drop", "the", "how", "-", "to", "bottle", ":", "it"] + [
        "shatter",
        "s",
        "!",
    ]
    assert not any(token.is_word for token in text.tokens)


def test_a_word_is_the_renormalised_mean_of_its_pieces(teacher):
    words, pieces = teacher.encode_text([SENTENCE]), teacher.encode_text([SENTENCE], words=False)
    mean = pieces.vectors[11:13].astype(np.float32).mean(0)  # shatter ##s
    np.testing.assert_allclose(words.vectors[6], mean / np.linalg.norm(mean), atol=2e-3)
    np.testing.assert_allclose(words.vectors[4], pieces.vectors[8], atol=2e-3)  # bottle


def test_vectors_are_the_models_own(teacher):
    """Against a plain forward pass of the model on the same sentence alone."""
    batch = teacher.tokenizer.encode_batch(["it falls"], 24).batch
    with torch.no_grad():
        wanted = teacher.model.encode_text(batch).token_vectors[0, 1:3].numpy()
    np.testing.assert_allclose(teacher.encode_text(["it falls"]).vectors, wanted, atol=1e-3)


def test_a_sentence_has_the_same_vectors_in_any_company(teacher):
    company = [f"{'very ' * (i % 9)}slow number {i}" for i in range(40)]
    alone = teacher.encode_text([SENTENCE])
    among = teacher.encode_text([*company, SENTENCE, "", "..."])
    first, last = among.text_offsets[40:42]
    np.testing.assert_allclose(among.vectors[first:last], alone.vectors, atol=2e-3)
    assert among.tokens[first:last] == alone.tokens
    assert np.diff(among.text_offsets)[-2:].tolist() == [0, 0]  # "" and "..." have no words
    assert among.text_offsets[-1] == len(among.tokens)


def test_nothing_to_read_gives_no_tokens(teacher):
    for sentences in ([], [""], ["?!", " "]):
        text = teacher.encode_text(sentences)
        assert text.vectors.shape == (0, 16) and len(text.tokens) == 0
        assert text.text_offsets.tolist() == [0] * (len(sentences) + 1)


def test_other_scripts_emoji_and_accents_keep_their_places(teacher):
    sentence = "Crème brûlée 🍮, 水 fließt"
    text = teacher.encode_text([sentence])
    assert [t.text for t in text.tokens] == ["Crème", "brûlée", "水", "fließt"]


def test_a_sentence_beyond_max_tokens_loses_its_end(teacher):
    text = teacher.encode_text(["word " * 60])
    assert len(text.tokens) == 22  # 24 without [CLS] and [SEP]


def test_hidden_states_are_the_layers_as_they_are(teacher):
    text = teacher.hidden_states(["it falls"], layer=1)
    batch = teacher.tokenizer.encode_batch(["it falls"], 24).batch
    with torch.no_grad():
        states = teacher.model.encode_text(batch, all_states=True).all_states[1][0, 1:3].numpy()
    assert text.space == "hidden"
    np.testing.assert_allclose(text.vectors, states, atol=5e-3)


# ---- seconds -------------------------------------------------------------------------------


@pytest.mark.parametrize("num_steps", [1, 5, 16, 17, 20, 24, 31, 32, 33, 100])
def test_windows_tile_the_video(num_steps):
    found = inference.windows(num_steps, 16)
    kept = [step for w in found for step in range(w.first, w.last)]
    assert kept == list(range(num_steps))
    for w in found:
        assert w.start <= w.first < w.last <= w.stop and w.stop - w.start <= 16
        # Away from the video's ends a kept second has four on each side.
        assert w.first - w.start >= 4 or w.first == w.start == 0
        assert w.stop - w.last >= 4 or w.last == w.stop == num_steps


def test_windows_of_one_second_work():
    assert [(w.first, w.last) for w in inference.windows(3, 1)] == [(0, 1), (1, 2), (2, 3)]


def test_a_video_that_fits_one_window_is_encoded_as_in_training(saved):
    saved.teacher(window_sec=8)
    encoder = Encoder.open("teacher")
    features = np.random.default_rng(0).standard_normal((5, 6), dtype=np.float32)
    from core.models.video_encoder import video_batch

    with torch.no_grad():
        wanted = encoder.model.encode_video(video_batch([features], [(0, 5)])).step_vectors[0]
    found = encoder.encode_seconds(features)
    assert found.dtype == np.float16 and found.shape == (5, 16)
    np.testing.assert_allclose(found, wanted.numpy(), atol=1e-3)


def test_long_videos_have_a_unit_vector_for_every_second(saved):
    saved.teacher(window_sec=8)
    encoder = Encoder.open("teacher")
    rng = np.random.default_rng(0)
    videos = [rng.standard_normal((n, 6), dtype=np.float32) for n in (50, 3, 9, 8)]
    together = encoder.encode_videos(videos)
    for features, found in zip(videos, together):
        assert len(found) == len(features)
        np.testing.assert_allclose(np.linalg.norm(found.astype(float), axis=1), 1, atol=2e-3)
        np.testing.assert_allclose(found, encoder.encode_seconds(features), atol=2e-3)


def test_a_teacher_of_single_frames_is_shown_single_frames(saved):
    saved.teacher(window_sec=8, image_only=True, streams="2d")
    encoder = Encoder.open("teacher")
    features = np.random.default_rng(0).standard_normal((5, 6), dtype=np.float32)
    one_by_one = [encoder.encode_seconds(features[i : i + 1])[0] for i in range(5)]
    np.testing.assert_allclose(encoder.encode_seconds(features), one_by_one, atol=1e-3)


def test_with_cls_pooling_each_second_is_asked_as_a_clip(saved):
    saved.teacher(window_sec=8, pooling="cls")
    encoder = Encoder.open("teacher")
    features = np.random.default_rng(0).standard_normal((5, 6), dtype=np.float32)
    from core.models.video_encoder import video_batch

    with torch.no_grad():
        wanted = encoder.model.encode_video(video_batch([features], [(2, 3)])).clip_vectors[0]
    np.testing.assert_allclose(encoder.encode_seconds(features)[2], wanted.numpy(), atol=1e-3)


def test_a_student_sees_no_video(teacher, saved):
    saved.student()
    with pytest.raises(RunError, match="sees no video. Use 'teacher'"):
        Encoder.open("student").encode_seconds(np.zeros((3, 6), np.float32))


# ---- students ------------------------------------------------------------------------------


def sentences(count=200, seed=0):
    rng = np.random.default_rng(seed)
    words = [
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
    return [" ".join(rng.choice(words, 6)) for _ in range(count)]


def align(encoder: Encoder) -> None:
    text = encoder.alignment_inputs(sentences())
    wanted = encoder.teacher.encode_text(sentences())
    groups = np.repeat(np.arange(200), np.diff(wanted.text_offsets))
    fit = alignment.fit_ridge(text.vectors, wanted.vectors, groups, [t.text for t in text.tokens])
    alignment.save_map(
        inference.alignment_folder(encoder.run), fit, inference.alignment_key(encoder.run)
    )


def test_an_unaligned_student_says_what_to_run(teacher, saved):
    saved.student()
    with pytest.raises(AlignmentError, match="python -m core embed --run student"):
        Encoder.open("student").encode_text(["it falls"])


@pytest.mark.parametrize(
    ("objectives", "how", "width"),
    [((), "ridge", 32), (("nst",), "ridge", 32), (("nst", "crd"), "crd head", 128)],
)
def test_students_come_in_through_their_head_or_a_ridge_map(teacher, saved, objectives, how, width):
    saved.student(objectives=objectives)
    student = Encoder.open("student")
    assert student.alignment == how and not student.has_joint_space
    assert student.alignment_inputs(["it falls"]).vectors.shape == (2, width)
    align(student)
    text = Encoder.open("student").encode_text([SENTENCE])
    assert text.alignment == how
    assert text.alignment_r2 == student.ridge_map.held_out_r2
    assert text.vectors.shape == (7, 16)
    np.testing.assert_allclose(np.linalg.norm(text.vectors.astype(float), axis=1), 1, atol=2e-3)


def test_a_regression_student_goes_through_the_teachers_own_projection(teacher, saved):
    saved.student(objectives=("regression",))
    student = Encoder.open("student")
    assert student.alignment == "regression head"
    batch = teacher.tokenizer.encode_batch(["it falls"], 24).batch
    head = student.run.load_heads()["regression"].student_head
    with torch.no_grad():
        states = student.model.encode_text(batch).token_states
        wanted = teacher.model.text_projection(head(states))[0, 1:3].numpy()
    np.testing.assert_allclose(student.alignment_inputs(["it falls"]).vectors, wanted, atol=1e-5)


def test_a_student_equal_to_its_teacher_is_aligned_perfectly(teacher, saved):
    """The joint vectors are not linear in the states, but with 15 word types nearly so."""
    run = saved.student()
    own = {
        k.removeprefix("text_encoder."): v
        for k, v in teacher.model.state_dict().items()
        if k.startswith("text_encoder.")
    }
    run.save_weights({f"text_encoder.{k}": v for k, v in own.items()}, "float32")
    student = Encoder.open("student")
    align(student)
    assert student.ridge_map.held_out_r2 > 0.95
    same = student.encode_text(sentences(5, seed=9)).vectors.astype(np.float32)
    wanted = teacher.encode_text(sentences(5, seed=9)).vectors.astype(np.float32)
    assert (same * wanted).sum(1).mean() > 0.95


def test_an_alignment_of_older_weights_is_refused(teacher, saved):
    saved.student()
    align(Encoder.open("student"))
    Encoder.open("student").encode_text(["it falls"])
    torch.manual_seed(7)
    run = RunFolder.open("student")
    run.save_weights(Student(saved.shape, teacher.tokenizer.vocab_size).state_dict(), "float32")
    with pytest.raises(AlignmentError, match="other weights"):
        Encoder.open("student").encode_text(["it falls"])


def test_a_missing_run_names_the_known_ones(teacher):
    with pytest.raises(RunError, match="teacher"):
        Encoder.open("nobody")


def test_encoding_leaves_no_gradient_and_no_dropout(teacher):
    assert not any(p.requires_grad for p in teacher.model.parameters())
    once, again = (teacher.encode_text([SENTENCE]).vectors for _ in range(2))
    np.testing.assert_array_equal(once, again)


def test_importing_the_room_does_not_load_torch():
    import subprocess
    import sys

    code = "import sys, core.inference; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_open_encoder_opens_runs_and_other_peoples_models(saved, tmp_path):
    from core.inference import model_hash, open_encoder
    from tests.core.pretrained_models import save_bert

    run = saved.teacher()
    assert open_encoder(run.name).hash == model_hash(run.name) == Encoder(run).hash
    encoder = open_encoder(save_bert(tmp_path / "small-bert"))
    assert (encoder.name, encoder.kind) == ("small-bert", "pretrained")
    assert encoder.hash == model_hash(tmp_path / "small-bert")
    states = encoder.hidden_states(["Don't drop the bottle."], layer=1)
    assert [token.text for token in states.tokens] == ["Don't", "drop", "the", "bottle"]
    assert states.vectors.shape == (4, encoder.model.hidden_size)
    with pytest.raises(RunError, match="no joint space"):
        encoder.encode_text(["Don't drop the bottle."])


def test_open_encoder_names_the_run_that_was_meant(saved):
    from core.inference import open_encoder
    from core.models.pretrained_folder import PretrainedError

    saved.teacher("kitchen-teacher")
    with pytest.raises(PretrainedError, match="Did you mean the run 'kitchen-teacher'"):
        open_encoder("kitchen-taecher")

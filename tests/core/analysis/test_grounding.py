"""Grounding on a small world of arrays whose right answer is known."""

import numpy as np
import pytest

from core.analysis import grounding
from core.analysis.grounding import Event, WordQuery
from core.analysis.index import ClipIndex
from core.records import Clip, ClipEmbeddings, Token, TokenEmbeddings

D = 8
AXES = np.eye(D, dtype=np.float32)
BALL, CUBE, ROLL, BOUNCE = AXES[:4]


def unit(vector):
    return (np.asarray(vector) / np.linalg.norm(vector)).astype(np.float16)


def embeddings(videos: dict[str, list]) -> ClipEmbeddings:
    """Videos of two clips each, halves of their seconds."""
    clips, vectors, seconds, offsets = [], [], [], [0]
    for name, rows in videos.items():
        half = len(rows) // 2
        for part, (first, last) in enumerate(((0, half), (half, len(rows)))):
            clips.append(Clip(f"{name}-{part}", name, float(first), float(last), f"{name} {part}"))
            vectors.append(unit(np.mean(rows[first:last], axis=0)))
        seconds += [unit(row) for row in rows]
        offsets.append(len(seconds))
    return ClipEmbeddings(
        "toy", tuple(clips), np.stack(vectors), tuple(videos), np.stack(seconds), np.array(offsets)
    )


@pytest.fixture
def video():
    return embeddings(
        {
            "a": [BALL + ROLL, BALL + ROLL, BALL, BALL + BOUNCE],
            "b": [CUBE, CUBE, CUBE + ROLL, CUBE + ROLL],
            "c": [BALL, BALL + 2 * BOUNCE, BALL, BALL],
        }
    )


@pytest.fixture
def events():
    return [
        Event("a", "thing", "ball", 0, 4),
        Event("a", "action", "roll", 0, 2),
        Event("a", "action", "bounce", 3, 4),
        Event("b", "thing", "cube", 0, 4),
        Event("b", "action", "roll", 2, 4),
        Event("c", "thing", "ball", 0, 4),
        Event("c", "action", "bounce", 1, 2),
    ]


def text(*vectors, words=None) -> TokenEmbeddings:
    words = words or [f"w{i}" for i in range(len(vectors))]
    tokens = tuple(Token(word, 0, len(word)) for word in words)
    stacked = np.stack([unit(v) for v in vectors])
    return TokenEmbeddings((" ".join(words),), tokens, stacked, np.array([0, len(words)]))


def test_ground_tokens_is_the_cosine(video):
    found = grounding.ground_tokens(text(BALL, ROLL), video)
    assert found.similarity.shape == (2, 6) and found.similarity.dtype == np.float32
    # clip a-0 is (ball + roll)/√2 in both seconds
    np.testing.assert_allclose(found.similarity[:, 0], [np.sqrt(0.5)] * 2, atol=1e-3)
    assert found.clips == video.clips


def test_ground_seconds_peaks_where_it_happens(video):
    heat = grounding.ground_seconds(text(BALL, BOUNCE), video, "c")
    assert heat.shape == (2, 4)
    assert heat[1].argmax() == 1
    np.testing.assert_allclose(heat[1], [0, 2 / np.sqrt(5), 0, 0], atol=1e-3)


def test_best_moments_start_at_the_best_second_and_take_each_video_once(video):
    moments = grounding.best_moments(BOUNCE, video, k=3)
    assert [m.clip.video_id for m in moments][:2] in (["a", "c"], ["c", "a"])
    assert len({m.clip.video_id for m in moments}) == 3
    start = {m.clip.video_id: m.start_sec for m in moments}
    assert (start["a"], start["c"]) == (3.0, 1.0)
    assert [m.score for m in moments] == sorted((m.score for m in moments), reverse=True)


def test_best_moments_with_an_index_are_the_same(video):
    index = ClipIndex.build(video.vectors)
    for vector in np.random.default_rng(0).standard_normal((10, D)):
        plain = grounding.best_moments(vector, video, k=2)
        indexed = grounding.best_moments(vector, video, k=2, index=index)
        assert [m.clip for m in plain] == [m.clip for m in indexed]


def test_one_video_with_many_clips_does_not_hide_the_others():
    rows = {f"v{i:02}": [BALL + 0.5 * CUBE] * 2 for i in range(3)}
    long = embeddings({"long": [BALL] * 2, **rows})
    many = tuple(Clip(f"l{i}", "long", 0.0, 2.0) for i in range(200))
    video = ClipEmbeddings(
        "toy",
        many + long.clips,
        np.concatenate([np.repeat(long.vectors[:1], 200, 0), long.vectors]),
        long.video_ids,
        long.second_vectors,
        long.second_offsets,
    )
    index = ClipIndex.build(video.vectors)
    assert len(grounding.best_moments(BALL, video, k=4, index=index)) == 4


def test_start_is_never_before_the_clip():
    base = embeddings({"a": [BALL, CUBE]})
    clip = Clip("late", "a", 0.6, 1.0)
    video = ClipEmbeddings(
        "toy", (clip,), base.vectors[:1], ("a",), base.second_vectors, base.second_offsets
    )
    assert grounding.best_moments(BALL, video, k=1)[0].start_sec == pytest.approx(0.6)


def test_percentile_is_the_share_of_shuffled_pairs_below(video):
    captions = text(BALL, ROLL, CUBE, BOUNCE)
    calibration = grounding.calibrate(captions, ["a", "a", "b", "c"], video)
    low, high = calibration.percentile(np.array([-1.0, 1.0]))
    assert (low, high) == (0.0, 1.0)
    ours = grounding.similarity(captions.vectors, video.vectors)
    owners = np.array([c.video_id for c in video.clips])
    shuffled = np.concatenate([row[owners != own] for row, own in zip(ours, ["a", "a", "b", "c"])])
    middle = float(np.mean(shuffled < 0.3))
    assert calibration.percentile(np.array([0.3]))[0] == pytest.approx(middle, abs=0.05)


def test_calibration_of_many_clips_takes_a_sample_that_says_the_same():
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((3000, D))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)
    clips = tuple(Clip(str(i), f"v{i}", 0.0, 1.0) for i in range(3000))
    video = ClipEmbeddings("toy", clips, vectors, (), vectors, np.zeros(1, int))
    captions = text(*rng.standard_normal((40, D)))
    owners = ["none"] * 40
    whole = grounding.calibrate(captions, owners, video)
    sample = grounding.calibrate(captions, owners, video, max_clips=1000)
    inner = slice(50, 950)  # the rarest scores of a sample are less sure
    np.testing.assert_allclose(sample.null_scores[inner], whole.null_scores[inner], atol=0.02)
    np.testing.assert_allclose(
        np.median(sample.null_margins), np.median(whole.null_margins), atol=0.03
    )


def test_a_word_that_fits_everything_equally_is_not_grounded(video):
    the = np.sum([BALL, CUBE, ROLL, BOUNCE], axis=0)
    captions = text(BALL, ROLL, CUBE, BOUNCE, the)
    calibration = grounding.calibrate(captions, ["a", "b", "b", "c", "c"], video)
    scores = grounding.similarity(captions.vectors, video.vectors)
    strength = grounding.groundedness(scores, calibration)
    assert strength[4] == strength.min() == 0.0
    assert strength.max() == 1.0 and ((strength >= 0) & (strength <= 1)).all()
    # Its best score is higher than that of others: raw scores would have misled.
    assert scores[4].mean() > scores[3].mean()


def test_clips_with_follow_the_true_intervals(video, events):
    presence = grounding.clips_with(events, video.clips)
    names = [c.clip_id for c in video.clips]
    assert [n for n, x in zip(names, presence["action", "roll"]) if x] == ["a-0", "b-1"]
    assert [n for n, x in zip(names, presence["action", "bounce"]) if x] == ["a-1", "c-0"]


def query(event, vector):
    return WordQuery(event, event.label, np.asarray(vector, np.float32))


def test_perfect_words_are_right_and_chance_is_the_share_of_right_clips(video, events):
    axis = {"ball": BALL, "cube": CUBE, "roll": ROLL, "bounce": BOUNCE}
    queries = [query(event, axis[event.label]) for event in events]
    figures = {f.name: f for f in grounding.evaluate_words(queries, events, video, samples=200)}
    assert figures["R@1 actions"].value == 1.0
    assert figures["R@1 things"].value == 1.0
    assert figures["peak in interval, actions"].value == 1.0
    # each action is in 2 of 6 clips; ball in 4 (asked twice), cube in 2
    assert figures["R@1 actions"].chance == pytest.approx(2 / 6)
    assert figures["R@1 things"].chance == pytest.approx((4 + 2 + 4) / 18)
    assert figures["R@1 things and actions"].count == 7
    assert figures["R@1 things and actions"].videos == 3
    # roll: 2 of 4 seconds twice; bounce: 1 of 4 twice
    assert figures["peak in interval, actions"].chance == pytest.approx(0.375)


def test_own_video_is_left_out_of_the_harder_figure(video, events):
    # This vector knows only its own scene: it points at video b, where it was said.
    scene = query(events[4], CUBE + 0.1 * BOUNCE)
    hits, chances, _ = grounding.retrieval_hits([scene], events, video, own_video=False)
    assert hits.tolist() == [0.0] and chances[0] == pytest.approx(1 / 4)
    # cube is in no other video: the question cannot be asked
    hits, _, _ = grounding.retrieval_hits([query(events[3], CUBE)], events, video, False)
    assert len(hits) == 0


def test_wrong_words_are_wrong(video, events):
    queries = [query(events[2], CUBE)]
    hits, _, _ = grounding.retrieval_hits(queries, events, video)
    assert hits.tolist() == [0.0]
    hits, _, _ = grounding.peak_hits([query(events[2], ROLL)], video)
    assert hits.tolist() == [0.0]


@pytest.mark.parametrize(
    ("start", "end", "wanted"),
    [
        (1.0, 2.0, [0, 1, 0, 0]),
        (0.5, 2.5, [1, 1, 1, 0]),  # half of the step counts
        (0.6, 2.4, [0, 1, 0, 0]),  # less than half does not
        (1.2, 1.5, [0, 1, 0, 0]),  # a short event lies in its step
        (1.8, 2.2, [0, 1, 1, 0]),  # a short event over a border counts in both
        (3.7, 3.9, [0, 0, 0, 1]),
    ],
)
def test_steps_inside(start, end, wanted):
    assert grounding.steps_inside(start, end, 4).astype(int).tolist() == wanted


def test_captions_find_their_clip_among_all(video):
    wanted = video.clips
    captions = TokenEmbeddings(
        tuple(c.caption for c in wanted),
        tuple(Token("x", 0, 1) for _ in range(12)),
        np.repeat(video.vectors, 2, axis=0).astype(np.float16),
        np.arange(0, 13, 2),
    )
    figures = grounding.evaluate_captions(captions, wanted, np.ones(12, bool), video, samples=100)
    by_name = {f.name: f for f in figures}
    # c-1 is the ball alone and no other clip is: all find their own
    assert by_name["R@1 captions"].value == 1.0
    assert by_name["R@1 captions"].chance == pytest.approx(1 / 6)
    assert by_name["R@5 captions"].chance == pytest.approx(5 / 6)
    assert by_name["R@10 captions"].chance == 1.0
    assert by_name["R@1 captions, any clip of the video"].chance == pytest.approx(2 / 6)


def test_another_clip_of_the_right_video_is_right_only_in_the_easier_figure(video):
    """The caption of a's second clip looks like its first."""
    caption = TokenEmbeddings(("x",), (Token("x", 0, 1),), video.vectors[:1], np.array([0, 1]))
    figures = grounding.evaluate_captions(caption, video.clips[1:2], np.ones(1, bool), video, 100)
    by_name = {f.name: f.value for f in figures}
    assert by_name["R@1 captions"] == 0.0
    assert by_name["R@1 captions, any clip of the video"] == 1.0


def test_captions_that_all_look_alike_earn_nothing(video):
    same = TokenEmbeddings(
        tuple(c.caption for c in video.clips),
        tuple(Token("x", 0, 1) for _ in range(6)),
        np.repeat(AXES[7:8], 6, axis=0).astype(np.float16),
        np.arange(7),
    )
    figures = grounding.evaluate_captions(same, video.clips, np.ones(6, bool), video, samples=100)
    assert figures[0].value == figures[-1].value == 0.0


def test_two_captions_of_one_span_share_their_clip(video):
    doubled = ClipEmbeddings(
        "toy",
        video.clips + (Clip("a-0-again", "a", 0.0, 2.0, "another caption"),),
        np.concatenate([video.vectors, video.vectors[:1]]),
        video.video_ids,
        video.second_vectors,
        video.second_offsets,
    )
    captions = TokenEmbeddings(
        tuple(c.caption for c in doubled.clips),
        tuple(Token("x", 0, 1) for _ in range(7)),
        doubled.vectors,
        np.arange(8),
    )
    figures = grounding.evaluate_captions(captions, doubled.clips, np.ones(7, bool), doubled, 100)
    assert figures[0].value == 1.0 and figures[0].chance == pytest.approx(1 / 6)


def test_caption_scores_use_content_tokens_only(video):
    caption = text(BALL, CUBE)
    scores = grounding.caption_scores(caption, np.array([True, False]), video.vectors)
    np.testing.assert_allclose(
        scores, grounding.similarity(text(BALL).vectors, video.vectors), atol=1e-3
    )

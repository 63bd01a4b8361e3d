"""The demo world's videos and files: playable, reproducible, showing what the truth says."""

from __future__ import annotations

import csv
import hashlib
import json
from dataclasses import replace

import av
import numpy as np
import pandas as pd
import pytest

from core.config import DemoSettings
from core.data.demo_drawing import draw_frames, lay
from core.data.demo_facts import ACTIONS, MATERIALS, THINGS
from core.data.demo_materials import Sprite
from core.data.demo_motion import stage_take
from core.data.demo_set import FLOOR, PICTURE
from core.data.demo_story import Prop, plan_stories
from core.data.demo_world import build_demo_world

TINY = DemoSettings(videos=9, size=128, corpus_sentences=300, items=300, workers=1)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return build_demo_world(TINY, tmp_path_factory.mktemp("demo"))


@pytest.fixture(scope="module")
def stories():
    return plan_stories(120, 0, 25)


def digests(folder) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_all_files_are_there_and_nothing_half_written(world):
    names = {path.name for path in world.folder.iterdir()}
    assert names == {
        *("media", "captions.csv", "ground_truth.parquet", "world.json"),
        *("corpus.txt", "corpus_heldout.txt", "demo_physics.jsonl", "demo_time.jsonl"),
    }
    assert sorted(p.name for p in (world.folder / "media").iterdir()) == [
        story.name for story in world.stories
    ]


def test_the_same_bytes_with_any_number_of_workers(world, tmp_path):
    other = build_demo_world(replace(TINY, workers=2), tmp_path)
    assert digests(other.folder) == digests(world.folder)


def test_a_whole_world_is_kept_and_an_unfinished_one_made_anew(world, tmp_path):
    small = replace(TINY, videos=2)
    first = build_demo_world(small, tmp_path)
    before = first.videos[0].stat().st_mtime_ns
    build_demo_world(small, tmp_path)
    assert first.videos[0].stat().st_mtime_ns == before
    (tmp_path / "world.json").unlink()
    build_demo_world(small, tmp_path)
    assert first.videos[0].stat().st_mtime_ns > before


def test_videos_are_h264_that_browsers_play(world):
    for story, path in zip(world.stories, world.videos):
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            assert stream.codec_context.name == "h264"
            assert stream.codec_context.pix_fmt == "yuv420p"
            assert (stream.width, stream.height) == (TINY.size, TINY.size)
            frames = sum(1 for _ in container.decode(stream))
        assert frames == round(story.duration_sec * TINY.frame_rate)
        head = path.read_bytes()
        assert head.index(b"moov") < head.index(b"mdat")  # plays before it is all there


def test_captions_and_truth_speak_of_the_rendered_videos(world):
    with (world.folder / "captions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["file", "start", "end", "text"]
    assert all((world.folder / row["file"]).is_file() for row in rows)
    truth = pd.read_parquet(world.folder / "ground_truth.parquet")
    assert set(truth["split"]) == {"train", "held-out"}
    assert set(truth["role"]) == {"thing", "material", "colour", "action"}
    sentences = {
        name: [r["text"] for r in rows if r["file"] == f"media/{name}"]
        for name in set(truth["video"])
    }
    for row in truth.itertuples():
        assert row.word in sentences[row.video][row.sentence_index].lower()
        assert 0 <= row.start_sec < row.end_sec
    assert set(truth["video"]) == {story.name for story in world.stories}


def test_items_can_be_read_back(world):
    for name in ("demo_physics", "demo_time"):
        lines = (world.folder / f"{name}.jsonl").read_text().splitlines()
        items = [json.loads(line) for line in lines]
        assert len(items) >= TINY.items and all(len(item["choices"]) == 2 for item in items)
        assert {"fact", "subject", "outcome", "thing", "material"} <= set(items[0]["metadata"])


# ---- pictures ----------------------------------------------------------------------------


def test_a_sprite_lands_where_it_is_laid():
    picture = np.zeros((64, 64, 3), np.uint8)
    sprite = np.full((20, 20, 4), 255, np.uint8)
    lay(picture, sprite, 32.0, 24.0)  # 10 x 10 on screen
    rows, columns = np.nonzero(picture[..., 0] > 127)
    assert abs(rows.mean() - 23.5) < 0.51 and abs(columns.mean() - 31.5) < 0.51
    assert 81 <= len(rows) <= 121


def test_half_transparent_red_over_blue_is_half_of_each():
    picture = np.zeros((8, 8, 3), np.uint8)
    picture[..., 0] = 200
    sprite = np.zeros((40, 40, 4), np.uint8)
    sprite[..., 2], sprite[..., 3] = 100, 128
    lay(picture, sprite, 4, 4)
    assert np.abs(picture[4, 4].astype(int) - [100, 0, 100]).max() <= 2


def test_every_thing_fills_enough_of_the_picture(stories):
    for story in stories:
        take = stage_take(story, 25)
        hull = Sprite(story.prop).shape.hull * 100 * take.prop.wide[0]
        assert 60 <= max(hull.max(0) - hull.min(0)) <= 112, story


@pytest.mark.parametrize("material", MATERIALS)
def test_materials_look_different_and_colour_shows(material):
    def look(material, colour):
        return Sprite(Prop("vase", material, colour)).lit().astype(float)

    here = look(material, "red")
    for other in set(MATERIALS) - {material}:
        assert np.abs(here - look(other, "red")).mean() > 3
    inside = here[..., 3] > 100
    red, blue = here[inside], look(material, "blue")[inside]
    assert (red[:, 2] - red[:, 0]).mean() > (blue[:, 2] - blue[:, 0]).mean() + 40


def test_light_stays_put_when_a_thing_turns():
    sprite = Sprite(Prop("ring", "rubber", "red"))
    upright, turned = sprite.lit(0).astype(float), sprite.lit(180).astype(float)
    middle = upright.shape[0] // 2
    assert upright[:middle, :, 2].sum() > 1.05 * upright[middle:, :, 2].sum()
    assert turned[middle:, :, 2].sum() > 1.05 * turned[:middle, :, 2].sum()  # its top is below now


# ---- motion ------------------------------------------------------------------------------


def acting(stories, action):
    found = [story for story in stories if story.beat(action)]
    assert found, f"no story with '{action}'"
    return found


def track_in(story, action):
    take = stage_take(story, 25)
    beat = story.beat(action)
    span = slice(round(beat.start_sec * 25), round(beat.end_sec * 25))
    return take, span


@pytest.mark.parametrize("action", ACTIONS)
def test_something_moves_during_an_action_and_rests_before_it(stories, action):
    """Mean change of pixels per frame: high in the beat, near none in the quiet first second."""
    story = acting(stories, action)[0]
    frames = np.stack([frame.astype(np.int16) for frame in draw_frames(story, 25)])
    change = np.abs(np.diff(frames, axis=0)).mean((1, 2, 3))
    beat = story.beat(action)
    active = change[round(beat.start_sec * 25) : round(beat.end_sec * 25) - 1]
    assert active.mean() > 0.15
    if story.beats[0].action == action and story.script not in ("water",):
        assert active.mean() > 2 * change[:8].mean()


def test_a_bounce_rises_again_and_loses_height(stories):
    for story in acting(stories, "bounce")[:6]:
        take, span = track_in(story, "bounce")
        y = take.prop.y[span]
        peaks = [i for i in range(1, len(y) - 1) if y[i] <= y[i - 1] and y[i] < y[i + 1]]
        heights = [y.max() - y[i] for i in peaks if y.max() - y[i] > 3]
        assert len(heights) >= 2 and heights[0] > heights[1]
        assert heights[0] > 20


def test_floating_ends_at_the_surface_and_sinking_at_the_bottom(stories):
    floated = [stage_take(s, 25).prop.y[-1] for s in acting(stories, "float")]
    sunk = [stage_take(s, 25).prop.y[-1] for s in acting(stories, "sink")]
    assert max(floated) < 150 and min(sunk) > 175


def test_rolling_turns_and_sliding_does_not(stories):
    for story in acting(stories, "roll"):
        take, span = track_in(story, "roll")
        assert np.ptp(take.prop.angle[span]) > 60
    for story in acting(stories, "slide"):
        take, span = track_in(story, "slide")
        assert np.ptp(take.prop.angle[span]) < 10 and np.ptp(take.prop.x[span]) > 40


def test_tipping_ends_on_the_side_and_nothing_goes_through_the_floor(stories):
    for story in stories:
        take = stage_take(story, 25)
        hull = Sprite(story.prop).shape.hull * 100
        for frame in range(0, take.frames, 5):
            turn = np.radians(take.prop.angle[frame])
            down = hull[:, 0] * np.sin(turn) + hull[:, 1] * np.cos(turn)
            lowest = take.prop.y[frame] + down.max() * take.prop.high[frame]
            assert lowest < take.floor[frame] + 3, (story, frame)
        if story.beats[-1].action == "tip":
            assert take.prop.angle[-1] == 90


def test_a_shattered_thing_is_gone_and_its_pieces_come_to_rest_in_the_picture(stories):
    for story in acting(stories, "shatter"):
        take, span = track_in(story, "shatter")
        assert not take.prop.visible[span.start :].any()
        ends = np.array([[s.track.x[-1], s.track.y[-1]] for s in take.shards])
        assert len(ends) >= 10
        assert ((ends > 0) & (ends < PICTURE)).all(1).mean() > 0.7
        last = [abs(s.track.x[-1] - s.track.x[-4]) for s in take.shards]
        assert max(last) < 2.5


def test_hiding_covers_the_thing_in_the_middle_only(stories):
    for story in acting(stories, "hide"):
        take, span = track_in(story, "hide")
        middle = (span.start + span.stop) // 2
        assert abs(take.board_x[middle] - take.prop.x[middle]) < 2
        assert take.board_x[span.start - 1] > PICTURE + 50


def test_pouring_fills_the_bowl(stories):
    for story in acting(stories, "pour"):
        take, span = track_in(story, "pour")
        assert take.bowl_level[span.start] == 0 and take.bowl_level[-1] == pytest.approx(1)
        flowing = take.stream[take.stream[:, 2] > 0.9]
        assert len(flowing) > 15 and (flowing[:, 1] < 178).all()  # from above the bowl's rim


def test_stacking_ends_on_the_box(stories):
    for story in acting(stories, "stack"):
        take = stage_take(story, 25)
        assert abs(take.prop.x[-1] - take.base.x[-1]) < 10
        assert take.prop.y[-1] < FLOOR - 80


def test_all_things_and_materials_are_on_stage(stories):
    assert {s.prop.thing for s in stories} == set(THINGS)
    assert {s.prop.material for s in stories} == set(MATERIALS)

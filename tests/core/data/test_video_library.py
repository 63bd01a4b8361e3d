"""Importing: every usable video arrives with its text, every other file with a reason."""

from __future__ import annotations

import io
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from core.config import ImportSettings, library_root
from core.data import video_inspection
from core.data.video_library import (
    LibraryError,
    add_uploads,
    delete_library,
    import_library,
    library_hash,
    list_libraries,
    load_library,
    save_library,
    thumbnail_path,
)
from core.records import VideoLibrary
from tests.video_samples import cut_short, inspect_or_die, make_audio, make_video

SETTINGS = ImportSettings(name="test", workers=1)


@pytest.fixture(scope="session")
def samples(tmp_path_factory) -> Path:
    """Videos of different content: a.mp4 of 4 s, b.mkv of 2 s, c.webm of 2 s."""
    folder = tmp_path_factory.mktemp("samples")
    make_video(folder / "a.mp4", 100)
    make_video(folder / "b.mkv", 50, first_number=200)
    make_video(folder / "c.webm", 50, codec="libvpx", first_number=400)
    return folder


@pytest.fixture
def folder(workspace, samples) -> Path:
    """A folder to import, away from the workspace's own."""
    return Path(shutil.copytree(samples, workspace / "my videos"))


@pytest.fixture
def inspected(monkeypatch) -> list[str]:
    """Names of the files that an import really looked into."""
    names: list[str] = []
    inspect = video_inspection.inspect_file

    def recorded(job):
        names.append(job.path.name)
        return inspect(job)

    monkeypatch.setattr(video_inspection, "inspect_file", recorded)
    return names


def spans(library: VideoLibrary, video_id: str) -> list[tuple[float, float, str]]:
    return [
        (round(c.start_sec, 2), round(c.end_sec, 2), c.caption)
        for c in library.clips
        if c.video_id == video_id
    ]


def reasons(library: VideoLibrary) -> dict[str, str]:
    return {problem.file: problem.reason for problem in library.problems}


def ids(library: VideoLibrary) -> dict[str, str]:
    return {str(video.path): video.video_id for video in library.videos}


# ---- what comes in -----------------------------------------------------------------------


def test_folder_is_imported_with_facts_thumbnails_and_windows(folder):
    settings = replace(SETTINGS, window_sec=1.5)
    library = import_library(folder, settings)
    assert [video.video_id for video in library.videos] == ["a", "b", "c"]
    assert [video.codec for video in library.videos] == ["h264", "h264", "vp8"]
    assert [round(video.duration_sec, 2) for video in library.videos] == [4.0, 2.0, 2.0]
    assert spans(library, "a") == [(0, 1.5, ""), (1.5, 4.0, "")]  # 1 s of rest joins the last
    assert library.problems == ()
    with Image.open(thumbnail_path("test", library.videos[0])) as picture:
        assert (picture.format, picture.size) == ("JPEG", (160, 96))
    assert load_library("test") == library


def test_subfolders_and_any_case_of_suffix_count(folder):
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "a.mp4").rename(folder / "deep" / "er" / "LOUD.MP4")
    (folder / "notes.txt").write_text("not a video")
    library = import_library(folder, SETTINGS)
    assert {video.video_id for video in library.videos} == {"LOUD", "b", "c"}
    assert library.problems == ()


def test_one_file_a_list_and_a_manifest_give_the_same_library(folder):
    (folder / "list.csv").write_text("file\na.mp4\nb.mkv\n")
    (folder / "list.json").write_text(json.dumps([{"file": "a.mp4"}, {"file": "b.mkv"}]))
    sources = [
        [folder / "a.mp4", folder / "b.mkv"],
        folder / "list.csv",
        folder / "list.json",
        str(folder / "list.csv"),
    ]
    hashes = {
        library_hash(import_library(source, replace(SETTINGS, name=f"n{k}")))
        for k, source in enumerate(sources)
    }
    assert len(hashes) == 1
    one = import_library(folder / "c.webm", SETTINGS)
    assert [video.video_id for video in one.videos] == ["c"]


def test_name_defaults_to_the_folder(folder):
    assert import_library(folder, ImportSettings(workers=1)).name == "my-videos"


def test_worker_processes_find_the_same(folder):
    alone = import_library(folder, SETTINGS)
    together = import_library(folder, replace(SETTINGS, name="pool", workers=2))
    assert together.videos == alone.videos and together.clips == alone.clips


def test_progress_counts_every_file(folder):
    seen = []
    import_library(folder, SETTINGS, lambda *step: seen.append(step))
    assert [step[:2] for step in seen] == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert {step[2] for step in seen[1:]} == {"a.mp4", "b.mkv", "c.webm"}


# ---- text --------------------------------------------------------------------------------


def test_captions_of_whole_videos_and_segments_are_both_kept(folder):
    (folder / "captions.csv").write_text("file,caption,source\na.mp4,one,x\na.mp4,two,y\n")
    (folder / "segments.csv").write_text("file,start,end,text,source\na.mp4,0.5,2,part,x\n")
    library = import_library(folder, SETTINGS)
    assert spans(library, "a") == [(0, 4.0, "one"), (0, 4.0, "two"), (0.5, 2.0, "part")]
    assert spans(library, "b") == [(0, 2.0, "")]
    assert len({clip.clip_id for clip in library.clips}) == len(library.clips)


def test_subtitles_beside_a_video_become_its_clips(folder):
    (folder / "a.srt").write_text("1\n00:00:01,000 --> 00:00:02,000\n<b>hello</b>\n")
    (folder / "b.en.vtt").write_text("WEBVTT\n\n00:00.500 --> 00:01.000\nhi\n")
    (folder / "b.de.vtt").write_text("WEBVTT\n\n00:00.500 --> 00:01.000\nhallo\n")
    library = import_library(folder, SETTINGS)
    assert spans(library, "a") == [(1.0, 2.0, "hello")]
    assert spans(library, "b") == [(0.5, 1.0, "hi")]


def test_howto100m_captions_go_by_the_file_stem(folder):
    content = {
        "a": {"start": [0, 1], "end": [1.5, 3], "text": ["first", "second"]},
        "elsewhere": {"start": [0], "end": [1], "text": ["x"]},
    }
    path = folder.parent / "narration.json"
    path.write_text(json.dumps(content))
    library = import_library(folder, replace(SETTINGS, captions=str(path)))
    assert spans(library, "a") == [(0, 1.5, "first"), (1.0, 3.0, "second")]
    assert library.problems == ()


def test_manifest_rows_bring_times_and_text(folder):
    (folder / "list.csv").write_text(
        "file,start,end,caption\na.mp4,0:00:01,0:00:02.5,one\na.mp4,3,4,\nb.mkv,,,whole\n"
        "gone.mp4,,,x\na.mp4,2,1,backwards\n"
    )
    library = import_library(folder / "list.csv", SETTINGS)
    assert spans(library, "a") == [(1.0, 2.5, "one"), (3.0, 4.0, "")]
    assert spans(library, "b") == [(0, 2.0, "whole")]
    assert reasons(library) == {
        "gone.mp4": "list.csv, line 5, names it, but there is no such file.",
        "list.csv": "list.csv, line 6: field 'end' wants a time after 2 s, found 1 s.",
    }


def test_short_captions_are_widened_and_stay_inside(folder):
    (folder / "segments.csv").write_text(
        "file,start,end,text\na.mp4,0.99,1.01,middle\na.mp4,0,0.01,first\na.mp4,3.98,3.99,last\n"
    )
    library = import_library(folder, replace(SETTINGS, min_clip_sec=0.5))
    assert spans(library, "a") == [(0, 0.5, "first"), (0.75, 1.25, "middle"), (3.5, 4.0, "last")]


def test_captions_past_the_end_are_cut_or_left_out_and_told(folder):
    (folder / "segments.csv").write_text(
        "file,start,end,text\na.mp4,3,4.5,a bit late\na.mp4,2,9,far too long\nb.mkv,7,8,never\n"
    )
    library = import_library(folder, SETTINGS)
    assert spans(library, "a") == [(2.0, 4.0, "far too long"), (3.0, 4.0, "a bit late")]
    assert spans(library, "b") == [(0, 2.0, "")]  # no usable text: it is found by its windows
    found = reasons(library)
    assert (
        "1 caption ends after the end at 4.0 s and was cut off; first: segments.csv, line 3"
        in (found["a.mp4"])
    )
    assert "left out; first: segments.csv, line 4, 7 to 8 s" in found["b.mkv"]


def test_captions_of_absent_videos_are_told_once(folder):
    (folder / "captions.csv").write_text("file,caption\nnowhere.mp4,x\nnowhere.mp4,y\na.mp4,z\n")
    library = import_library(folder, SETTINGS)
    assert spans(library, "a") == [(0, 4.0, "z")]
    assert reasons(library) == {
        "nowhere.mp4": "captions.csv, line 2, has a caption for it, but there is no such video."
    }


def test_captions_file_that_cannot_be_read_stops_only_where_it_was_asked_for(folder):
    (folder / "captions.csv").write_text("nothing,useful\n1,2\n")
    library = import_library(folder, SETTINGS)
    assert "wanted a column 'file'" in reasons(library)["captions.csv"]
    with pytest.raises(LibraryError, match="wanted a column 'file'"):
        import_library(folder, replace(SETTINGS, captions=str(folder / "captions.csv")))
    with pytest.raises(LibraryError, match="No captions file at"):
        import_library(folder, replace(SETTINGS, captions=str(folder / "absent.csv")))


def test_captions_find_videos_by_path_before_name(folder):
    (folder / "sub").mkdir()
    make_video(folder / "sub" / "a.mp4", 25, first_number=900)
    (folder / "captions.csv").write_text("file,caption\nsub/a.mp4,inner\na.mp4,outer\n")
    library = import_library(folder, SETTINGS)
    by_path = {video.path: video.video_id for video in library.videos}
    inner, outer = by_path[folder / "sub" / "a.mp4"], by_path[folder / "a.mp4"]
    assert inner != outer == "a"
    assert spans(library, inner) == [(0, 1.0, "inner")]
    assert spans(library, outer) == [(0, 4.0, "outer")]


# ---- files that are not as they should be ------------------------------------------------


def test_odd_files_are_told_and_stop_nothing(folder):
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("not a video at all\n" * 99)
    make_audio(folder / "sound only.mp4")
    cut_short(make_video(folder / "broken.mp4", 400, first_number=1000), 0.5)
    cut_short(make_video(folder / "hopeless.mp4", 400, gop=12, first_number=2000), 0.05)
    shutil.copy(folder / "a.mp4", folder / "z copy.mp4")
    os.symlink(folder / "nowhere.mp4", folder / "dangling.mp4")
    os.mkfifo(folder / "pipe.mp4")
    (folder / ".hidden.mp4").touch()
    library = import_library(folder, SETTINGS)
    found = reasons(library)
    assert "0 bytes" in found.pop("empty.mp4")
    assert "Not a video" in found.pop("text.mp4")
    assert "No video stream: the file holds audio only" in found.pop("sound only.mp4")
    assert "The same content as a.mp4" in found.pop("z copy.mp4")
    assert "leads nowhere" in found.pop("dangling.mp4")
    assert "Not a regular file" in found.pop("pipe.mp4")
    assert "damaged" in found.pop("hopeless.mp4").lower()
    assert "though the file says 16.0 s: damaged or cut short" in found.pop("broken.mp4")
    assert found == {}
    kept = {video.video_id: video for video in library.videos}
    assert sorted(kept) == ["a", "b", "broken", "c"]
    assert 4 < kept["broken"].duration_sec < 12
    assert spans(library, "broken")[-1][1] == round(kept["broken"].duration_sec, 2)


def test_all_file_names_are_taken_and_told_on_one_line(folder):
    names = ['it\'s "quoted".mp4', "🎬 film.mp4", "two\nlines.mp4", "naïve café.mp4", "日本.mp4"]
    for number, name in enumerate(names):
        make_video(folder / name, 25, first_number=100 * number)
    (folder / "bad\nname.mp4").write_text("x")
    (folder / "captions.csv").write_text("file,caption\n日本.mp4,Japan\n🎬 film.mp4,film\n")
    library = import_library(folder, SETTINGS)
    assert {folder / name for name in names} <= {video.path for video in library.videos}
    for video in library.videos:
        assert video.video_id.isascii() and "/" not in video.video_id and " " not in video.video_id
    by_name = {video.path.name: video.video_id for video in library.videos}
    assert spans(library, by_name["日本.mp4"]) == [(0, 1.0, "Japan")]
    (problem,) = library.problems
    assert problem.file == "bad\\nname.mp4" and "\n" not in problem.reason
    assert load_library("test") == library


def test_file_name_that_is_no_utf8_is_told(folder):
    (folder / os.fsdecode(b"caf\xe9.mp4")).write_bytes((folder / "a.mp4").read_bytes() + b"\0")
    library = import_library(folder, SETTINGS)
    (problem,) = library.problems
    assert "not valid UTF-8" in problem.reason and problem.file.isascii()


def test_links_out_of_the_folder_need_leave(folder, tmp_path):
    outside = make_video(tmp_path / "o.mp4", 25)
    (tmp_path / "more").mkdir()
    make_video(tmp_path / "more" / "m.mp4", 25, first_number=700)
    os.symlink(outside, folder / "link.mp4")
    os.symlink(tmp_path / "more", folder / "linked folder")
    os.symlink(folder / "a.mp4", folder / "inside.mp4")
    os.symlink(folder, folder / "circle")
    refused = import_library(folder, SETTINGS)
    assert sorted(reasons(refused)) == ["link.mp4", "linked folder"]
    assert all("follow_links_outside=true" in reason for reason in reasons(refused).values())
    assert len(refused.videos) == 3
    followed = import_library(folder, replace(SETTINGS, follow_links_outside=True))
    assert [v.video_id for v in followed.videos] == ["a", "b", "c", "link", "m"]
    assert followed.problems == ()


def test_files_without_permission_are_told(folder):
    (folder / "a.mp4").chmod(0)
    if os.access(folder / "a.mp4", os.R_OK):
        pytest.skip("this user may read every file")
    library = import_library(folder, SETTINGS)
    assert "permission denied" in reasons(library)["a.mp4"].lower()


def test_decoder_crash_costs_one_file(folder, monkeypatch):
    """A worker process that dies takes only its own file along."""
    monkeypatch.setattr(video_inspection, "_FEWER_THAN_POOL", 1)
    monkeypatch.setattr(video_inspection, "inspect_file", inspect_or_die)
    (folder / "b.mkv").rename(folder / "deadly.mkv")
    library = import_library(folder, replace(SETTINGS, workers=2))
    assert [video.video_id for video in library.videos] == ["a", "c"]
    assert reasons(library) == {"deadly.mkv": "The decoder crashed on it: the file is damaged."}


# ---- importing again ---------------------------------------------------------------------


def test_unchanged_files_are_not_looked_at_again(folder, inspected):
    cut_short(make_video(folder / "cut.mp4", 100, first_number=900), 0.6)
    first = import_library(folder, SETTINGS)
    assert sorted(inspected) == ["a.mp4", "b.mkv", "c.webm", "cut.mp4"]
    assert list(reasons(first)) == ["cut.mp4"]
    inspected.clear()
    assert import_library(folder, SETTINGS) == first
    assert inspected == []


def test_new_changed_and_gone_files_are_merged(folder, inspected):
    first = import_library(folder, SETTINGS)
    inspected.clear()
    make_video(folder / "a.mp4", 75, first_number=50)
    make_video(folder / "new.mp4", 25, first_number=600)
    (folder / "b.mkv").unlink()
    second = import_library(folder, SETTINGS)
    assert sorted(inspected) == ["a.mp4", "new.mp4"]
    assert [video.video_id for video in second.videos] == ["a", "c", "new"]
    assert second.video("a").duration_sec == pytest.approx(3.0)
    assert second.video("a").content_hash != first.video("a").content_hash
    assert second.video("c") == first.video("c")
    assert reasons(second) == {"b.mkv": "Was in the library; the file is gone, so it left it."}
    assert {clip.video_id for clip in second.clips} == {"a", "c", "new"}
    assert import_library(folder, SETTINGS).problems == ()
    pictures = {path.name for path in thumbnail_path("test", second.videos[0]).parent.iterdir()}
    assert pictures == {video.thumbnail for video in second.videos}


def test_ids_are_stable_and_distinct(folder):
    for name in ("x", "y"):
        (folder / name).mkdir()
    make_video(folder / "y" / "a.mp4", 25, first_number=700)
    first = ids(import_library(folder, SETTINGS))
    make_video(folder / "x" / "a.mp4", 25, first_number=800)  # comes before y/a.mp4
    second = ids(import_library(folder, SETTINGS))
    assert len(set(second.values())) == 5
    assert {path: second[path] for path in first} == first
    fresh = ids(import_library(folder, replace(SETTINGS, name="other")))
    assert fresh == second


def test_moved_file_keeps_its_id(folder):
    import_library(folder, SETTINGS)
    (folder / "a.mp4").rename(folder / "renamed.mp4")
    library = import_library(folder, SETTINGS)
    assert ids(library)[str(folder / "renamed.mp4")] == "a"


def test_other_sources_add_to_a_library(folder, tmp_path):
    (folder / "bad.mp4").touch()
    import_library(folder, SETTINGS)
    extra = make_video(tmp_path / "extra.mp4", 25, first_number=700)
    library = import_library(extra, SETTINGS)
    assert [video.video_id for video in library.videos] == ["a", "b", "c", "extra"]
    assert list(reasons(library)) == ["bad.mp4"]  # still true of the first source
    shutil.copy(make_video(tmp_path / "good.mp4", 25, first_number=800), folder / "bad.mp4")
    assert import_library(folder / "bad.mp4", SETTINGS).problems == ()


def test_text_may_come_after_its_video(folder):
    import_library(folder, SETTINGS)
    (folder / "a.srt").write_text("1\n00:00:01,000 --> 00:00:02,000\nhello\n")
    assert spans(import_library(folder / "a.srt", SETTINGS), "a") == [(1.0, 2.0, "hello")]
    (folder / "words.csv").write_text("file,caption\nb.mkv,whole\n")
    library = import_library([folder / "a.srt", folder / "b.mkv", folder / "words.csv"], SETTINGS)
    assert spans(library, "b") == [(0, 2.0, "whole")]
    assert spans(library, "a") == [(1.0, 2.0, "hello")]
    assert len(library.videos) == 3


def test_text_follows_its_file_and_outlives_a_forgetful_import(folder):
    path = folder.parent / "words.csv"
    path.write_text("file,caption\na.mp4,one\n")
    settings = replace(SETTINGS, captions=str(path))
    assert spans(import_library(folder, settings), "a") == [(0, 4.0, "one")]
    path.write_text("file,caption\na.mp4,two\n")
    assert spans(import_library(folder, settings), "a") == [(0, 4.0, "two")]
    assert spans(import_library(folder, SETTINGS), "a") == [(0, 4.0, "two")]


# ---- hash, disk, names -------------------------------------------------------------------


def test_hash_ignores_order_and_tells_content_and_clips(folder):
    library = import_library(folder, SETTINGS)
    turned = replace(library, videos=library.videos[::-1], clips=library.clips[::-1])
    assert library_hash(turned) == library_hash(library)
    clip = replace(library.clips[0], caption="other")
    video = replace(library.videos[0], content_hash="0" * 64)
    assert library_hash(replace(library, clips=(clip, *library.clips[1:]))) != library_hash(library)
    assert library_hash(replace(library, videos=(video, *library.videos[1:]))) != library_hash(
        library
    )
    elsewhere = replace(library.videos[0], path=Path("/elsewhere/a.mp4"))
    moved = replace(library, videos=(elsewhere, *library.videos[1:]))
    assert library_hash(moved) == library_hash(library)


def test_saved_library_loads_as_it_was(folder):
    library = import_library(folder, SETTINGS)
    other = replace(library, name="other", clips=library.clips[:1])
    save_library(other)
    assert load_library("other") == other
    empty = VideoLibrary("empty", (), ())
    save_library(empty)
    assert load_library("empty") == empty
    assert list_libraries() == ["empty", "other", "test"]


def test_unknown_library_names_the_known_ones_and_the_command(folder):
    import_library(folder, SETTINGS)
    with pytest.raises(LibraryError, match="Known: test. Run: python -m core import FOLDER --name"):
        load_library("tset")


@pytest.mark.parametrize("damage", ["videos.parquet", "clips.parquet", "library.json"])
def test_damaged_library_is_refused_with_the_cure(folder, damage, monkeypatch):
    monkeypatch.setattr("core.data.library_store._READ_TRIES", 1)
    import_library(folder, SETTINGS)
    path = library_root("test") / "library" / damage
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(LibraryError, match="damaged .*python -m core import"):
        load_library("test")
    (library_root("test") / "library" / "library.json").unlink()
    assert len(import_library(folder, SETTINGS).videos) == 3  # the cure works


@pytest.mark.parametrize(
    "name", ["../evil", "a/b", "with space", ".hidden", "-flag", "x" * 81, "ü"]
)
def test_unsafe_names_are_refused_everywhere(folder, name):
    for use in (load_library, delete_library, lambda n: add_uploads(n, [])):
        with pytest.raises(LibraryError, match="letters, digits"):
            use(name)
    with pytest.raises(LibraryError, match="letters, digits"):
        import_library(folder, replace(SETTINGS, name=name))


@pytest.mark.parametrize(
    ("setting", "value"), [("window_sec", 0.0), ("min_clip_sec", -1.0), ("workers", 0)]
)
def test_impossible_settings_are_refused(folder, setting, value):
    with pytest.raises(LibraryError, match=f"'{setting}' wants"):
        import_library(folder, replace(SETTINGS, **{setting: value}))


def test_sources_without_videos_are_refused(workspace):
    (workspace / "none").mkdir()
    with pytest.raises(LibraryError, match="No videos in .*none: wanted .mp4"):
        import_library(workspace / "none", SETTINGS)
    with pytest.raises(LibraryError, match="Nothing at"):
        import_library(workspace / "absent", SETTINGS)
    assert list_libraries() == []


def test_deleting_takes_the_library_and_nothing_else(folder):
    import_library(folder, SETTINGS)
    import_library(folder, replace(SETTINGS, name="other"))
    delete_library("test")
    assert list_libraries() == ["other"]
    assert not library_root("test").exists()
    assert (folder / "a.mp4").exists()
    with pytest.raises(LibraryError, match="No library 'test'"):
        delete_library("test")


def test_deleting_never_follows_a_link_out(folder, tmp_path):
    import_library(folder, SETTINGS)
    outside = tmp_path / "outside"
    shutil.move(library_root("test"), outside)
    os.symlink(outside, library_root("test"))
    with pytest.raises(LibraryError, match="by hand"):
        delete_library("test")
    assert (outside / "library" / "library.json").exists()


# ---- uploads -----------------------------------------------------------------------------


def test_uploads_are_stored_safely_and_imported(workspace, samples):
    clip = (samples / "a.mp4").read_bytes()
    other = (samples / "c.webm").read_bytes()
    subtitles = b"1\n00:00:01,000 --> 00:00:02,000\nhello\n"
    files = [
        ("../../etc/my film.mp4", clip),
        ("..\\..\\my film.srt", subtitles),
        ("my film.mp4", other),
        ("my film.mp4", clip),
    ]
    paths = add_uploads("up", [(name, io.BytesIO(content)) for name, content in files])
    media = library_root("up") / "library" / "media"
    assert [path.name for path in paths] == [
        "my film.mp4",
        "my film.srt",
        "my film-2.mp4",
        "my film.mp4",
    ]
    assert {path.parent for path in paths} == {media}
    assert sorted(p.name for p in media.iterdir()) == sorted({path.name for path in paths})
    library = import_library(media, replace(SETTINGS, name="up"))
    assert spans(library, "my-film") == [(1.0, 2.0, "hello")]
    assert len(library.videos) == 2


@pytest.mark.parametrize("name", ["run.exe", "noending", "..", "", "x.mp4.sh"])
def test_uploads_of_other_kinds_are_refused_before_any_is_stored(workspace, name):
    with pytest.raises(LibraryError, match="Cannot import"):
        add_uploads("up", [("fine.mp4", io.BytesIO(b"x")), (name, io.BytesIO(b"x"))])
    assert not list(workspace.rglob("fine.mp4"))


def test_broken_upload_leaves_nothing(workspace):
    class Torn(io.BytesIO):
        def read(self, size=-1):
            raise OSError("connection lost")

    with pytest.raises(OSError, match="connection lost"):
        add_uploads("up", [("fine.mp4", Torn())])
    assert list((library_root("up") / "library" / "media").iterdir()) == []


# ---- real files --------------------------------------------------------------------------


@pytest.mark.slow
def test_all_real_clips_arrive(workspace, shared_data):
    library = import_library(shared_data / "videos", replace(SETTINGS, workers=2))
    assert (len(library.videos), len(library.clips), library.problems) == (72, 93 + 67, ())
    assert all(clip.caption for clip in library.clips)
    for clip in library.clips:
        assert 0 <= clip.start_sec < clip.end_sec <= library.video(clip.video_id).duration_sec

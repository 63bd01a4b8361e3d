"""Text beside videos is read whatever its dress; what is wrong with it is said by line and field."""

from __future__ import annotations

import json

import pytest

from core.data.subtitles import (
    TextError,
    parse_seconds,
    read_captions_csv,
    read_captions_leniently,
    read_howto100m,
    read_manifest,
    read_subtitles,
)


def write(path, content: str | bytes, encoding: str = "utf-8"):
    path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return path


SRT = """1
00:00:01,000 --> 00:00:02,500
<i>Hello</i> <font color="#fff">there</font>
{\\an8}&amp; welcome

2
00:00:03,000 --> 00:00:04,000


3
01:00:03,000 --> 01:00:04,250
Bye
"""

# As video sites generate them: each line appears word by word, then stays above the next one.
ROLLING_VTT = """WEBVTT
Kind: captions
Language: en

00:00:00.000 --> 00:00:02.000 align:start position:0%
 
crack<00:00:00.400><c> the</c><00:00:00.900><c> eggs</c>

00:00:02.000 --> 00:00:02.010 align:start position:0%
crack the eggs
 

00:00:02.010 --> 00:00:04.000 align:start position:0%
crack the eggs
into<00:00:02.500><c> a bowl</c>

00:00:04.000 --> 00:00:04.010 align:start position:0%
into a bowl
 

00:00:04.010 --> 00:00:06.500 align:start position:0%
into a bowl
and whisk
"""

ROLLING_SRT = """1
00:00:00,000 --> 00:00:04,000
crack the eggs

2
00:00:02,000 --> 00:00:06,000
crack the eggs
into a bowl

3
00:00:04,000 --> 00:00:08,000
into a bowl
and whisk
"""


# ---- subtitles ---------------------------------------------------------------------------


def test_tags_and_empty_lines_are_dropped(tmp_path):
    assert read_subtitles(write(tmp_path / "a.srt", SRT)) == [
        (1.0, 2.5, "Hello there & welcome"),
        (3603.0, 3604.25, "Bye"),
    ]


def test_rolling_captions_say_every_line_once(tmp_path):
    vtt = read_subtitles(write(tmp_path / "a.vtt", ROLLING_VTT))
    assert [text for _, _, text in vtt] == ["crack the eggs", "into a bowl", "and whisk"]
    assert vtt[0][:2] == (0.0, 2.01) and vtt[2][:2] == (4.01, 6.5)
    srt = read_subtitles(write(tmp_path / "a.srt", ROLLING_SRT))
    assert srt == [
        (0.0, 2.0, "crack the eggs"),
        (2.0, 4.0, "into a bowl"),
        (4.0, 8.0, "and whisk"),
    ]


def test_same_words_said_again_later_stay(tmp_path):
    cue = "{0}\n00:00:0{0},000 --> 00:00:0{0},800\nNo!\n\n"
    spoken = read_subtitles(write(tmp_path / "a.srt", cue.format(1) + cue.format(5)))
    assert spoken == [(1.0, 1.8, "No!"), (5.0, 5.8, "No!")]


def test_overlapping_captions_that_differ_stay_as_they_are(tmp_path):
    content = "1\n00:00:00,000 --> 00:00:04,000\none\n\n2\n00:00:02,000 --> 00:00:06,000\ntwo\n"
    assert read_subtitles(write(tmp_path / "a.srt", content)) == [(0, 4, "one"), (2, 6, "two")]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_encodings_of_the_wild_are_read(tmp_path, encoding):
    content = "1\r\n00:00:01,000 --> 00:00:02,000\r\nnaïve café\r\n"
    assert read_subtitles(write(tmp_path / "a.srt", content, encoding)) == [(1, 2, "naïve café")]


def test_short_times_voices_and_notes_of_vtt(tmp_path):
    content = "WEBVTT\n\nNOTE not spoken\n\nSTYLE\n::cue {}\n\n00:01.000 --> 00:02.000\n<v Bob>hi\n"
    assert read_subtitles(write(tmp_path / "a.vtt", content)) == [(1.0, 2.0, "hi")]


@pytest.mark.parametrize("content", ["hello, no subtitles here\nat all", bytes(range(256)) * 9])
def test_files_without_subtitles_are_refused(tmp_path, content):
    with pytest.raises(TextError, match="a.srt: wanted subtitles with times and text, found none"):
        read_subtitles(write(tmp_path / "a.srt", content))


# ---- captions CSV ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        'file,start,end,text\na b.mp4,0.5,62.25,"stirs, slowly"\n',
        "\ufefffile;start;end;text\r\na b.mp4;0,5;1:02,25;stirs, slowly\r\n",
        "FILE\tStart\tEnd\tcaption\tsource\na b.mp4\t00:00:00.5\t00:01:02.250\tstirs, slowly\tme\n",
        'id,file,end,start,text\n7,a b.mp4,62.25,.5,"stirs,\nslowly"\n'.replace(",.5", ",0.5"),
    ],
    ids=["comma", "semicolon and mark", "tab and clock", "other columns and a line break"],
)
def test_all_forms_of_timed_captions_read_the_same(tmp_path, content):
    (row,) = read_captions_csv(write(tmp_path / "a.csv", content))
    assert (row.file, row.start_sec, row.end_sec, row.text) == (
        "a b.mp4",
        0.5,
        62.25,
        "stirs, slowly",
    )


def test_captions_of_whole_videos_have_no_times(tmp_path):
    content = "file,caption,source\na.mp4,one,x\na.mp4,two,y\nb.mp4,,z\n"
    rows = read_captions_csv(write(tmp_path / "a.csv", content))
    assert [(r.file, r.start_sec, r.text, r.line) for r in rows] == [
        ("a.mp4", None, "one", 2),
        ("a.mp4", None, "two", 3),
    ]


def test_timed_and_whole_captions_mix(tmp_path):
    rows = read_captions_csv(
        write(tmp_path / "a.csv", "file,start,end,text\na.mp4,1,2,x\na.mp4,,,y\n")
    )
    assert [(r.start_sec, r.end_sec) for r in rows] == [(1.0, 2.0), (None, None)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "file,start,end,text\na,x,2,t\n",
            "line 2: field 'start' wants seconds or HH:MM:SS, .*'x'",
        ),
        ("file,start,end,text\na,1,nan,t\n", "line 2: field 'end' wants seconds"),
        ("file,start,end,text\na,-1,2,t\n", "line 2: field 'start' wants seconds"),
        ("file,start,end,text\na,1,2,t\na,5,4,t\n", "line 3: field 'end' wants a time after 5 s"),
        ("file,start,end,text\na,5\n", "line 2: the row ends before field 'text'"),
        ("file,caption\na,hi, there\n", "line 2: 1 fields too many after 'caption'"),
        ("file,caption\n,hi\n", "line 2: field 'file' is empty"),
        ('file,caption\na,fine\nb,"open\nc,x\n', "line 3: a quote is never closed"),
        ("name,caption\na,t\n", "line 1: wanted a column 'file', found: 'name, caption'"),
        ("file,label\na,t\n", "line 1: wanted a column 'text'"),
        ("file,start,text\na,5,t\n", "wanted a column 'end'"),
        ("", "line 1: wanted a column 'file', found: 'nothing'"),
    ],
)
def test_errors_name_file_line_and_field(tmp_path, content, message):
    with pytest.raises(TextError, match=rf"^bad.csv, {message}" if "line" in message else message):
        read_captions_csv(write(tmp_path / "bad.csv", content))


def test_bad_rows_do_not_cost_the_good_ones(tmp_path):
    content = "file,start,end,text\na,1,2,good\na,x,2,bad\na,3,4,good too\n"
    rows, problems = read_captions_leniently(write(tmp_path / "a.csv", content))
    assert [row.text for row in rows] == ["good", "good too"]
    assert len(problems) == 1 and "line 3" in problems[0]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("12.5", 12.5), ("0", 0), ("1:02.5", 62.5), ("01:02:03,250", 3723.25), (" 7. ", 7)],
)
def test_times_in_all_ways_of_writing(text, seconds):
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "abc", "1:2:3:4", "-5", "inf", "1e3", "5 s"])
def test_other_times_are_refused(text):
    with pytest.raises(ValueError, match="Wanted seconds or HH:MM:SS"):
        parse_seconds(text)


# ---- manifests ---------------------------------------------------------------------------


def test_manifests_in_csv_and_json_read_the_same(tmp_path):
    records = [
        {"file": "a.mp4", "start": 1, "end": 2.5, "text": "one"},
        {"file": "b.mp4", "start": None, "end": None, "text": None},
    ]
    as_json = read_manifest(write(tmp_path / "m.json", json.dumps(records)))
    as_csv = read_manifest(
        write(tmp_path / "m.csv", "file,start,end,text\na.mp4,1,2.5,one\nb.mp4,,,\n")
    )
    assert as_json[1] == as_csv[1] == []
    shown = [
        [(r.file, r.start_sec, r.end_sec, r.text) for r in rows] for rows in (as_json[0], as_csv[0])
    ]
    assert shown[0] == shown[1] == [("a.mp4", 1.0, 2.5, "one"), ("b.mp4", None, None, "")]


def test_manifest_may_be_files_alone(tmp_path):
    rows, problems = read_manifest(write(tmp_path / "m.csv", "file\na.mp4\nb.mp4\n"))
    assert [row.file for row in rows] == ["a.mp4", "b.mp4"] and problems == []
    rows, problems = read_manifest(write(tmp_path / "m.json", '["a.mp4", {"path": "b.mp4"}, 7]'))
    assert [row.file for row in rows] == ["a.mp4", "b.mp4"]
    assert problems[0].startswith("m.json, entry 3: wanted a column 'file'")


@pytest.mark.parametrize(
    ("content", "message"),
    [("{}", "wanted a list of objects"), ("[1,", "m.json, line 1: not JSON")],
)
def test_json_that_is_no_manifest_is_refused(tmp_path, content, message):
    with pytest.raises(TextError, match=message):
        read_manifest(write(tmp_path / "m.json", content))


# ---- HowTo100M ---------------------------------------------------------------------------


def test_howto100m_captions_are_read(tmp_path):
    content = {"vid": {"start": [0.5, 3, 9], "end": [4, 5, 9], "text": ["one ", " ", "no length"]}}
    path = write(tmp_path / "caption.json", json.dumps(content))
    assert read_howto100m(path) == {"vid": [(0.5, 4.0, "one")]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "found a list"),
        ({"v": {"start": [1]}}, "video 'v': wanted lists"),
        ({"v": {"start": [1], "end": [2, 3], "text": ["x"]}}, r"differ in length \(1, 2, 1\)"),
        ({"v": {"start": ["x"], "end": [2], "text": ["x"]}}, "entry 0: wanted seconds, found 'x'"),
    ],
)
def test_other_shapes_of_howto100m_are_refused(tmp_path, content, message):
    with pytest.raises(TextError, match=message):
        read_howto100m(write(tmp_path / "caption.json", json.dumps(content)))


def test_shared_captions_are_read_whole(shared_data):
    captions = read_captions_csv(shared_data / "videos" / "captions.csv")
    segments = read_captions_csv(shared_data / "videos" / "segments.csv")
    manifest, problems = read_manifest(shared_data / "videos" / "manifest.csv")
    assert (len(captions), len(segments), len(manifest), problems) == (93, 67, 72, [])
    assert all(row.start_sec is None for row in captions)
    assert all(0 <= row.start_sec < row.end_sec for row in segments)

"""A page of videos with thumbnails, durations and captions; a click chooses one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import streamlit as st

from app.components import mount
from app.media import serve
from app.wording import clock, count, shorten
from core.data.video_library import thumbnail_path
from core.records import Clip, Video

PER_PAGE = 24


def show_gallery(
    key: str,
    library: str,
    videos: Sequence[Video],
    clips_of: dict[str, list[Clip]],
    remarks: dict[str, str],
    on_pick: Callable[[str], None],
) -> None:
    """Show at most PER_PAGE videos; `remarks` are short words on some of them, by video id."""
    cards = [
        card(key, library, video, clips_of[video.video_id], remarks.get(video.video_id, ""))
        for video in videos[:PER_PAGE]
    ]

    def picked() -> None:
        video_id = st.session_state[key].get("picked")
        if video_id is not None:
            on_pick(str(video_id))

    mount("gallery", key, {"cards": cards}, on_picked_change=picked)


def card(key: str, library: str, video: Video, clips: list[Clip], remark: str) -> dict:
    captions = [clip.caption for clip in clips if clip.caption]
    picture = thumbnail_path(library, video)
    shown = picture.is_file()
    return {
        "id": video.video_id,
        "name": video.path.name,
        "picture": serve(picture, "image/jpeg", f"{key}.{video.video_id}") if shown else "",
        "duration": clock(round(video.duration_sec)),
        "caption": shorten(captions[0], 110) if captions else "",
        "clips": count(len(clips), "clip"),
        "remark": remark,
    }


def matching(videos: Sequence[Video], clips_of: dict[str, list[Clip]], wanted: str) -> list[Video]:
    """Videos whose file name or captions have every word of the search."""
    words = wanted.lower().split()
    if not words:
        return list(videos)
    return [video for video in videos if _matches(video, clips_of[video.video_id], words)]


def _matches(video: Video, clips: list[Clip], words: list[str]) -> bool:
    text = " ".join([video.path.name, *(clip.caption for clip in clips)]).lower()
    return all(word in text for word in words)

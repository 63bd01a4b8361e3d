"""The videos of a library, what was computed of them, and the way to bring in one's own."""

from __future__ import annotations

import streamlit as st

from app import features, gallery, importing, pickers, resources, viewstate
from app.closeup import show_timeline
from app.links import grounding_link
from app.media import piece_around
from app.player import own_aspect, show_player
from app.problems import explained
from app.wording import count, escape, length
from core.records import Video

PLAYER = "library-player"


def main() -> None:
    importing.open_imported()
    st.title("Library")
    names = resources.library_names()
    if names:
        left, right = st.columns([3, 2], vertical_alignment="bottom")
        with left:
            name = pickers.choose_library(on_change=viewstate.forget)
        with right:
            importing.show_button()
    else:
        st.write("A library is a set of videos, with narration or captions where there are any.")
        name = None
        importing.show_form()
    importing.show_running()
    if name:
        with explained():
            show_library(resources.shelf(name))


def show_library(shelf: resources.Shelf) -> None:
    video_id = viewstate.text("video")
    if video_id in shelf.videos:
        show_video(shelf, shelf.videos[video_id])
    else:
        show_overview(shelf)
        show_videos(shelf)


def show_overview(shelf: resources.Shelf) -> None:
    library = shelf.library
    seconds = sum(video.duration_sec for video in library.videos)
    captioned = sum(bool(clip.caption) for clip in library.clips)
    st.markdown(
        f"**{count(len(library.videos), 'video')}** · {length(seconds)} · "
        f"{count(len(library.clips), 'clip')}, {captioned:,} with text"
    )
    features.show_state(shelf)
    if library.problems:
        with st.expander(f"{count(len(library.problems), 'remark')} of the import"):
            show_problems(library)


def show_problems(library) -> None:
    st.dataframe(
        {
            "file": [problem.file for problem in library.problems],
            "reason": [problem.reason for problem in library.problems],
        },
        hide_index=True,
        column_config={"reason": st.column_config.TextColumn(width="large")},
    )


def show_videos(shelf: resources.Shelf) -> None:
    wanted = st.text_input(
        "Search in names and captions",
        key="search",
        type="search",
        bind="query-params",
        placeholder="glass bounces",
        width=420,
    )
    videos = gallery.matching(shelf.library.videos, shelf.clips_of, wanted or "")
    if not videos:
        st.info("No video has all of these words in its name or captions.")
        return
    if wanted:
        st.caption(f"{count(len(videos), 'video')} found")
    num_pages = -(-len(videos) // gallery.PER_PAGE)
    place = st.container()
    page = st.pagination(num_pages, key=f"page-{wanted}") if num_pages > 1 else 1
    first = gallery.PER_PAGE * (min(page, num_pages) - 1)
    chosen = videos[first : first + gallery.PER_PAGE]
    with place:
        gallery.show_gallery(
            "gallery",
            shelf.name,
            chosen,
            shelf.clips_of,
            features.remarks(shelf, chosen),
            on_pick=lambda video_id: viewstate.put(video=video_id),
        )


def show_video(shelf: resources.Shelf, video: Video) -> None:
    st.button(
        "All videos",
        icon=":material/arrow_back:",
        on_click=viewstate.forget,
        type="tertiary",
    )
    clips = shelf.clips_of[video.video_id]
    at_sec = min(max(viewstate.number("at") or 0.0, 0.0), video.duration_sec)
    st.subheader(escape(video.path.name))
    left, right = st.columns([7, 5], gap="medium")
    with left, explained():
        piece = piece_around(shelf.name, video, at_sec, PLAYER)
        show_player(
            PLAYER,
            piece,
            video,
            (0.0, 0.0),
            at_sec,
            aspect=own_aspect(video),
            on_sought=lambda second: viewstate.put(at=second),
        )
        st.caption(" · ".join(facts(shelf, video)))
    with right:
        captioned = [clip for clip in clips if clip.caption]
        if captioned:
            st.markdown("##### What is said, and when")
            show_timeline("library-captions", PLAYER, video, at_sec, captioned)
            grounding_link(
                shelf.name, captioned[0].caption, video.video_id, "Ground its first sentence"
            )
        else:
            st.write(
                f"No text came with this video. It was cut into {count(len(clips), 'window')}, "
                "which can be searched."
            )


def facts(shelf: resources.Shelf, video: Video) -> list[str]:
    found = [
        length(video.duration_sec),
        f"{video.width}×{video.height}",
        f"{video.frame_rate:.4g} frames/s",
        escape(video.codec),
    ]
    if video.rotation:
        found.append(f"turned by {video.rotation}°")
    remark = features.remarks(shelf, [video]).get(video.video_id)
    return [*found, escape(remark)] if remark else found


main()

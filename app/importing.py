"""Bringing in one's own videos: a folder of this computer, or files sent through the browser."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from app import jobs, preparation
from app.problems import explained
from app.wording import count, escape
from core.data.library_sources import TEXT_SUFFIXES, VIDEO_SUFFIXES, default_name
from core.data.library_store import check_name, safe_name
from core.data.video_library import add_uploads, list_libraries, load_library


def show_button() -> None:
    with st.popover("Import videos", icon=":material/upload:", width="stretch"):
        show_form()


def show_form() -> None:
    folder, files = st.tabs(["A folder", "Upload files"])
    with folder:
        show_folder_form()
    with files:
        show_upload_form()


def show_folder_form() -> None:
    with st.form("import-folder", border=False):
        path = st.text_input(
            "Folder, video or manifest on the computer that runs this app",
            placeholder="~/videos/kitchen",
        )
        captions = st.text_input(
            "Captions file",
            placeholder="found by itself when it lies beside the videos",
            help="CSV with `file,caption` or `file,start,end,text`, or HowTo100M's caption.json. "
            "Subtitles (.srt, .vtt) beside a video are always read.",
        )
        name = st.text_input("Name of the library", placeholder="the folder's name")
        if st.form_submit_button("Import", type="primary", icon=":material/upload:"):
            with explained():
                import_folder(path.strip(), captions.strip(), name.strip())


def import_folder(path: str, captions: str, name: str) -> None:
    source = Path(path).expanduser()
    if not path or not source.exists():
        st.error(f"There is no folder or file {escape(path) or '(none given)'} on this computer.")
        return
    if captions and not Path(captions).expanduser().is_file():
        st.error(f"There is no captions file {escape(captions)}.")
        return
    name = check_name(name or safe_name(default_name(source)))
    start_import(name, [source.resolve()], captions)


def show_upload_form() -> None:
    suffixes = [suffix.lstrip(".") for suffix in VIDEO_SUFFIXES + TEXT_SUFFIXES]
    with st.form("import-files", border=False):
        files = st.file_uploader(
            "Videos, with their subtitles or captions file",
            type=suffixes,
            accept_multiple_files=True,
        )
        name = st.text_input("Name of the library", placeholder="my-videos", key="upload-name")
        if st.form_submit_button("Import", type="primary", icon=":material/upload:"):
            with explained():
                import_files(name.strip() or "my-videos", files)


def import_files(name: str, files: list) -> None:
    if not files:
        st.error("Choose files first.")
        return
    name = check_name(name)
    with st.spinner("Storing the files …"):
        paths = add_uploads(name, [(file.name, file) for file in files])
    start_import(name, paths, "")


def start_import(name: str, sources: list[Path], captions: str) -> None:
    command = ["import", "--name", name]
    if captions:
        command += ["--captions", str(Path(captions).expanduser().resolve())]
    # After "--" a path that begins with a dash is still a path.
    jobs.start(name, "Import", [[*command, "--", *map(str, sources)]])
    st.session_state["importing"] = name
    st.rerun()


def show_running() -> None:
    """Progress of the import that this session started."""
    name = st.session_state.get("importing")
    job = jobs.find(name) if name else None
    if job is None or job.title != "Import":
        return
    st.markdown(f"Importing **{escape(name)}**")
    preparation.show_job(name, job.state)


def open_imported() -> None:
    """When this session's import has just ended well: show its library, and how it went."""
    name = st.session_state.get("importing")
    job = jobs.find(name) if name else None
    if job is None or job.state == "running":
        return
    if job.state == "finished" and name in list_libraries():
        del st.session_state["importing"]
        jobs.forget(name)
        st.session_state["library"] = name
        library = load_library(name)
        passed = f", {count(len(library.problems), 'remark')}" if library.problems else ""
        st.toast(f"Imported {escape(name)}: {count(len(library.videos), 'video')}{passed}.")

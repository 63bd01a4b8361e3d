"""The entry: a table of pages, one theme, one header. Run: streamlit run app/main.py"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# `streamlit run` puts app/ on the path; pages import `app.…` and `core.…` from the root.
sys.path[:] = [str(ROOT), *(p for p in sys.path if p not in (str(ROOT), str(ROOT / "app")))]

import streamlit as st  # noqa: E402

PAGES = {
    "home": ("Home", ":material/home:"),
    "grounding": ("Grounding", ":material/my_location:"),
    "probes": ("Probes", ":material/quiz:"),
    "projections": ("Projections", ":material/scatter_plot:"),
    "library": ("Library", ":material/video_library:"),
    "runs": ("Runs", ":material/monitoring:"),
}


def main() -> None:
    st.set_page_config(
        page_title="VidLanKD Studio", page_icon=str(ROOT / "app/assets/icon.svg"), layout="wide"
    )
    st.logo(str(ROOT / "app/assets/logo.svg"), size="large")
    st.html(ROOT / "app/frontend/page.css")
    pages = [
        st.Page(
            ROOT / "pages" / f"{name}.py",
            title=title,
            icon=icon,
            url_path=name,
            default=name == "home",
        )
        for name, (title, icon) in PAGES.items()
    ]
    st.navigation(pages, position="top").run()


main()

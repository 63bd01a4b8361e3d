"""Expected errors as a message that says what to do; all others stay loud in the log."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st

from app.wording import escape


def is_expected(error: Exception) -> bool:
    """Core's own errors carry a message to act on; files may vanish while the app runs."""
    return type(error).__module__.startswith("core.") or isinstance(error, OSError)


@contextmanager
def explained() -> Iterator[None]:
    """Show an expected error of the block in its place; the page goes on below."""
    try:
        yield
    except Exception as error:
        if not is_expected(error):
            raise
        st.error(message_of(error), icon=":material/error:")


def message_of(error: Exception) -> str:
    """The error's own words, the command in it set as code."""
    text = " ".join(str(error).split())
    before, mark, command = text.partition("Run: ")
    if not mark:
        return escape(text)
    return f"{escape(before)} Run: `{command.replace('`', '')}`"

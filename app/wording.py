"""How figures and other people's text are written on a page."""

from __future__ import annotations

import re

from core.analysis.evaluation import FUNCTION_WORDS

_SPECIAL = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|~$:&^=\"'])")


def escape(text: str) -> str:
    """Text of a user or a file, so that Streamlit's markdown shows it letter for letter."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def shorten(text: str, length: int) -> str:
    """At most `length` characters, cut between words where that is possible."""
    text = " ".join(text.split())
    if len(text) <= length:
        return text
    head = text[: length - 1]
    return (head.rsplit(" ", 1)[0] if " " in head[length // 2 :] else head).rstrip(" ,;:.") + "…"


def clock(sec: float) -> str:
    """0:07, 12:05 or 1:02:03, rounded down as players show it."""
    whole = int(max(0.0, sec))
    hours, minutes, seconds = whole // 3600, whole % 3600 // 60, whole % 60
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def span(start_sec: float, end_sec: float) -> str:
    """0:02.5–0:04.0: with tenths, since clips are short."""

    def tenths(sec: float) -> str:
        sec = round(max(0.0, sec), 1)
        return f"{int(sec // 60)}:{sec % 60:04.1f}"

    return f"{tenths(start_sec)}–{tenths(end_sec)}"


def length(sec: float) -> str:
    """4.3 s, 2 min 5 s or 1 h 20 min."""
    if sec < 59.95:
        return f"{sec:.1f} s"
    minutes, rest = divmod(round(sec), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"


def percent(share: float) -> str:
    """A share in [0, 1] with as many digits as it bears: 42 %, 97.3 %, > 99.9 %."""
    if share > 0.999:
        return "> 99.9 %"
    return f"{100 * share:.1f} %" if share >= 0.9 else f"{100 * share:.0f} %"


def number(value: float) -> str:
    """Four significant digits at most, thousands set apart."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, int) or (float(value).is_integer() and abs(value) < 1e15):
        return f"{int(value):,}"
    return f"{value:.4g}"


def count(amount: int, noun: str) -> str:
    """1 video, 2 videos, 1,200 videos; '-y' becomes '-ies'."""
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{amount:,} {noun if amount == 1 else plural}"


def opening_token(words: list[str], strengths) -> int:
    """The token that a page opens with: the most strongly grounded one that names something."""
    named = [i for i, w in enumerate(words) if w.lower() not in FUNCTION_WORDS and w.isalpha()]
    return max(named or range(len(words)), key=lambda i: float(strengths[i]))

"""Plotly figures. Colours come from the page's theme, so that they follow light and dark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

GREY = "#8a8f91"  # seen on paper and on ink alike
MAX_POINTS = 2000  # of one curve; more than a screen has columns


@dataclass(frozen=True)
class Curve:
    """One line of a chart: `place` chooses the colour, validation is dotted."""

    name: str
    steps: Sequence[float]
    values: Sequence[float]
    place: int = 0
    dotted: bool = False


def loss_curves(
    curves: Sequence[Curve], title: str, log_scale: bool = False, smoothing: float = 0.0
) -> go.Figure:
    """Curves over training steps; with smoothing the raw line shines through."""
    figure = go.Figure()
    for curve in curves:
        steps, values = thinned(np.asarray(curve.steps, float), np.asarray(curve.values, float))
        color = _color(curve.place)
        if smoothing > 0 and len(values) > 2:
            figure.add_scatter(
                x=steps, y=values, mode="lines", opacity=0.25, hoverinfo="skip",
                line={"width": 1, "color": color},
            )  # fmt: skip
            values = smoothed(values, smoothing)
        figure.add_scatter(
            x=steps, y=values, mode="lines" if len(values) > 1 else "markers",
            name=_plain(curve.name), marker={"size": 8, "color": color},
            line={"width": 2, "dash": "dot" if curve.dotted else "solid", "color": color},
            hovertemplate="%{y:.4g}",
        )  # fmt: skip
    _lay_out(figure, title, "training step", "loss")
    figure.update_layout(showlegend=False, height=300)
    if log_scale:
        figure.update_yaxes(type="log", dtick=1, minor={"ticks": "outside"})
    return figure


BAR, ROOM = 20, 32  # pixels: a bar's height, and the room above a group for its name


def figures_chart(rows: Sequence[Mapping]) -> go.Figure:
    """Measured shares with their bootstrap interval, and the chance level as an open diamond.

    A row has model, name, value, chance, low and high, all shares in [0, 1]. Names stand above
    their bars: beside them they would leave a phone no room.
    """
    figure = go.Figure()
    models = list(dict.fromkeys(row["model"] for row in rows))
    names = list(dict.fromkeys(row["name"] for row in rows))
    for number, model in enumerate(models):
        own = [row for row in rows if row["model"] == model]
        value = np.array([row["value"] for row in own])
        figure.add_bar(
            y=[_plain(row["name"]) for row in own], x=value, name=_plain(model), orientation="h",
            marker_color=_color(number),
            error_x={"type": "data", "symmetric": False, "thickness": 1.5, "width": 4, "color": GREY,
                     "array": np.array([row["high"] for row in own]) - value,
                     "arrayminus": value - np.array([row["low"] for row in own])},
            hovertemplate="%{y}: %{x:.1%}<extra>" + _plain(model) + "</extra>",
        )  # fmt: skip
    chances = {row["name"]: row["chance"] for row in rows}
    figure.add_scatter(
        y=[_plain(name) for name in names], x=[chances[name] for name in names], mode="markers",
        name="chance", hovertemplate="chance: %{x:.1%}<extra></extra>",
        marker={"symbol": "diamond-open", "size": 11, "line": {"width": 2.5}, "color": GREY},
    )  # fmt: skip
    group = BAR * len(models) + ROOM
    for name in names:
        figure.add_annotation(
            x=0, y=_plain(name), text=_plain(name), showarrow=False, xanchor="left",
            yshift=BAR * len(models) / 2 + 11,
        )  # fmt: skip
    _lay_out(figure, "", "share that is right", "")
    figure.update_xaxes(range=[0, 1.03], dtick=0.25, tickangle=0, tickformat=".0%")
    figure.update_yaxes(autorange="reversed", showticklabels=False, title_text=None)
    figure.update_layout(
        height=110 + group * len(names),
        barmode="group",
        bargap=ROOM / group,
        hovermode="closest",
        margin_t=40,
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.0, "x": 0},
    )
    return figure


MAX_NAME, NAMES_SHARE = 22, 0.75  # letters of a name, and its room as a share of what is drawn
LINE_STYLES = ("dot", "dash", "dashdot")


def forest(rows: Sequence[Mapping], lines: Mapping[str, float]) -> go.Figure:
    """Shares with their intervals, one below the other, and levels to beat as upright lines.

    A row has model, accuracy, low and high; its name stands left of all that is drawn.
    """
    figure = go.Figure()
    for place, row in enumerate(rows):
        value = row["accuracy"]
        figure.add_scatter(
            x=[value], y=[place], mode="markers", marker={"size": 12, "color": _color(place)},
            error_x={"type": "data", "symmetric": False, "thickness": 2.5, "width": 0,
                     "array": [row["high"] - value], "arrayminus": [value - row["low"]],
                     "color": _color(place)},
            showlegend=False, hovertemplate=f"{row['low']:.1%} to {row['high']:.1%}<extra>"
            + _plain(row["model"]) + " %{x:.1%}</extra>",
        )  # fmt: skip
        name = row["model"]
        name = name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 1]}…"
        figure.add_annotation(
            x=0, xref="paper", xanchor="left", y=place, text=_plain(name), showarrow=False
        )
    known = {name: level for name, level in lines.items() if np.isfinite(level)}
    for (name, level), style in zip(known.items(), LINE_STYLES):
        figure.add_scatter(
            x=[level, level], y=[-0.7, len(rows) - 0.5], mode="lines", name=name,
            line={"color": GREY, "width": 1.5, "dash": style}, hovertemplate="%{x:.1%}",
        )  # fmt: skip
    _lay_out(figure, "", "share that is right, with its 95 % interval", "")
    ends = [*known.values(), *(row[end] for row in rows for end in ("low", "high"))]
    width = max(0.02, max(ends) - min(ends))
    begin = min(ends) - NAMES_SHARE * width
    figure.update_xaxes(range=[begin, max(ends) + 0.08 * width], tickformat=".0%", nticks=6)
    figure.update_yaxes(range=[len(rows) - 0.5, -0.7], visible=False)
    figure.update_layout(
        height=110 + 36 * len(rows), hovermode="closest", margin_t=34,
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.0, "x": 0},
    )  # fmt: skip
    return figure


def gains_chart(bands: Sequence[Mapping], one: str, other: str) -> go.Figure:
    """How much more often `one` is right than `other`, by bands of concreteness.

    A band has band, from, to, n, gain, low and high.
    """
    names = [f"{_plain(b['band'])}<br>{b['from']:.2f} to {b['to']:.2f}" for b in bands]
    gain = np.array([band["gain"] for band in bands])
    figure = go.Figure()
    figure.add_scatter(
        x=names, y=gain, mode="markers+lines", marker={"size": 12}, showlegend=False,
        line={"color": _color(0), "width": 1.5, "dash": "dot"},
        error_y={"type": "data", "symmetric": False, "thickness": 2.5, "width": 0,
                 "array": np.array([band["high"] for band in bands]) - gain,
                 "arrayminus": gain - np.array([band["low"] for band in bands])},
        customdata=[band["n"] for band in bands],
        hovertemplate="%{y:+.1%} on %{customdata} items<extra></extra>",
    )  # fmt: skip
    figure.add_hline(y=0, line={"color": GREY, "width": 1.5, "dash": "dash"})
    _lay_out(
        figure, f"{one} minus {other}", "concreteness of the item's words", "share right, gain"
    )
    figure.update_yaxes(tickformat="+.0%")
    figure.update_layout(hovermode="closest", height=360)
    return figure


SEQUENTIAL = [[place / 9, f"#{11 + place:06d}"] for place in range(10)]  # the theme's, as `_color`
AROUND_ZERO = [[0.0, "#000002"], [0.5, "#000038"], [1.0, "#000001"]]  # coral, the page, teal
TEXT = "#000037"  # the theme's, as `_color`
MAX_NAMED_TOKENS = 30  # more names than this run into each other


def token_heatmap(
    values: np.ndarray, tokens: Sequence[str], title: str, low: float, high: float, scale=SEQUENTIAL
) -> go.Figure:
    """A value for each pair of a sentence's tokens [L, L]; colours go from `low` to `high`."""
    names = [_plain(token) for token in tokens]
    places = list(range(len(names)))
    figure = go.Figure()
    figure.add_heatmap(
        z=values, zmin=low, zmax=high, xgap=1, ygap=1, colorscale=scale,
        colorbar={"thickness": 8, "outlinewidth": 0, "nticks": 5, "tickformat": ".2~f"},
        text=[[f"{row} · {column}" for column in names] for row in names],
        hovertemplate="%{text}: %{z:.3f}<extra></extra>",
    )  # fmt: skip
    _lay_out(figure, title, "", "")
    shown = {"tickvals": places, "ticktext": names, "showgrid": False, "zeroline": False}
    shown |= {"showticklabels": len(names) <= MAX_NAMED_TOKENS, "tickfont": {"size": 11}}
    figure.update_xaxes(**shown, tickangle=-60, title_text=None)
    figure.update_yaxes(**shown, autorange="reversed", title_text=None)
    figure.update_layout(height=360, hovermode="closest")
    return figure


def layer_heatmap(values: np.ndarray, title: str) -> go.Figure:
    """Likeness in [0, 1] of the teacher's layers (rows) and the student's (columns)."""
    figure = go.Figure()
    figure.add_heatmap(
        z=values, zmin=0, zmax=1, xgap=1, ygap=1, textfont={"color": TEXT},
        # Its beginning, on which the theme's text can be read everywhere.
        colorscale=[[place / 6, color] for place, (_, color) in enumerate(SEQUENTIAL[:7])],
        colorbar={"thickness": 8, "outlinewidth": 0, "dtick": 0.25},
        texttemplate="%{z:.2f}" if values.shape[1] <= 8 else None,
        hovertemplate="teacher layer %{y}, student layer %{x}: %{z:.3f}<extra></extra>",
    )  # fmt: skip
    _lay_out(figure, title, "student's layer", "teacher's layer")
    figure.update_xaxes(dtick=1, showgrid=False, zeroline=False)
    figure.update_yaxes(dtick=1, showgrid=False, zeroline=False)
    figure.update_layout(height=380, hovermode="closest")
    return figure


def score_chart(edges: np.ndarray, shares: np.ndarray, names: Sequence[str], title: str):
    """Histograms of log odds over common bins; the border at 0 is marked."""
    figure = go.Figure()
    middles = (edges[1:] + edges[:-1]) / 2
    for place, (name, share) in enumerate(zip(names, shares)):
        if share.any():
            figure.add_scatter(
                x=middles, y=share, name=name, line={"shape": "hvh", "color": _color(place)},
                mode="lines", fill="tozeroy", hovertemplate="%{y:.1%}",
            )  # fmt: skip
    figure.add_vline(x=0, line={"color": GREY, "width": 1.5, "dash": "dot"})
    _lay_out(figure, title, "log odds", "share of the pairs")
    figure.update_xaxes(hoverformat=".1f")
    figure.update_yaxes(tickformat=".0%", rangemode="tozero")
    figure.update_layout(height=380, legend=LEGEND_BELOW)
    return figure


LEGEND_BELOW = {"orientation": "h", "yanchor": "top", "y": -0.22, "x": 0}


def norm_curves(curves: Sequence[Curve], title: str) -> go.Figure:
    """Lengths of gradients over training steps, on a logarithmic scale."""
    figure = loss_curves(curves, title, log_scale=True)
    figure.update_yaxes(title_text="gradient norm", minor={"ticks": ""})
    figure.update_layout(showlegend=True, height=340, legend=LEGEND_BELOW)
    return figure


def survival_chart(words, names: Mapping[str, str]) -> go.Figure:
    """Change of groundedness against concreteness, a point for each word; `names` of its fate."""
    figure = go.Figure()
    shown = words if len(words) <= MAX_POINTS else words.sample(MAX_POINTS, random_state=0)
    for place, (fate, name) in enumerate(names.items()):
        own = shown[shown["fate"] == fate]
        if len(own):
            figure.add_scatter(
                x=own["concreteness"], y=own["change"], mode="markers", name=name,
                text=[_plain(str(word)) for word in own["word"]],
                marker={"size": 6, "opacity": 0.75 if place < 3 else 0.35,
                        "color": _color(place) if place < 3 else GREY},
                hovertemplate="%{text}: concreteness %{x:.1f}, change %{y:+.2f}<extra></extra>",
            )  # fmt: skip
    figure.add_hline(y=0, line={"color": GREY, "width": 1.5, "dash": "dot"})
    _lay_out(figure, "", "concreteness (1 abstract, 5 concrete)", "change of groundedness")
    figure.update_layout(height=400, hovermode="closest", legend=LEGEND_BELOW)
    return figure


def smoothed(values: np.ndarray, smoothing: float) -> np.ndarray:
    """Exponential moving average, corrected for its start; 0 leaves the values as they are."""
    average, weight, result = 0.0, 0.0, np.empty(len(values))
    for row, value in enumerate(values):
        average = smoothing * average + (1 - smoothing) * value
        weight = smoothing * weight + (1 - smoothing)
        result[row] = average / weight
    return result


def thinned(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most MAX_POINTS points, evenly taken, the last one always among them."""
    if len(steps) <= MAX_POINTS:
        return steps, values
    rows = np.unique(np.linspace(0, len(steps) - 1, MAX_POINTS).round().astype(int))
    return steps[rows], values[rows]


def _color(number: int) -> str:
    """The theme's categorical colour by its place: the browser puts it in for this code."""
    return f"#{1 + number % 8:06d}"


def _plain(text: str) -> str:
    """Plotly reads a little HTML in its texts; names of users are shown letter for letter."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _lay_out(figure: go.Figure, title: str, x_title: str, y_title: str) -> None:
    figure.update_layout(
        title={"text": _plain(title), "x": 0.01, "font": {"size": 15}} if title else None,
        height=340,
        margin={"l": 10, "r": 10, "t": 44 if title else 10, "b": 10},
        hovermode="x unified",
    )
    figure.update_xaxes(title_text=x_title, automargin=True)
    figure.update_yaxes(title_text=y_title, automargin=True)

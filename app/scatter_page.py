"""A map as one HTML file that opens anywhere, without this app and without a network."""

from __future__ import annotations

import base64
import json
import tomllib
from dataclasses import replace
from html import escape

from app.components import source
from app.scatter import Layer, Picture, data_of
from core import config

# Names of the theme's settings as Streamlit gives them to components.
COLORS = {
    "primaryColor": "--st-primary-color",
    "backgroundColor": "--st-background-color",
    "secondaryBackgroundColor": "--st-secondary-background-color",
    "textColor": "--st-text-color",
    "borderColor": "--st-border-color",
    "greenColor": "--st-green-color",
    "orangeColor": "--st-orange-color",
    "chartCategoricalColors": "--st-chart-categorical-colors",
    "chartSequentialColors": "--st-chart-sequential-colors",
}
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>:root {{ color-scheme: light dark; --st-base-radius: 0.6rem; --st-font: sans-serif; {light} }}
@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}
body {{ margin: 1.5rem; background: var(--st-background-color); color: var(--st-text-color); font-family: sans-serif; }}
{css}</style></head>
<body><h1>{title}</h1><p>{about}</p><div id="map"></div>
<script type="application/json" id="data">{data}</script>
<script type="module">{js}
const data = JSON.parse(document.getElementById("data").textContent);
showScatter({{ data, parentElement: document.getElementById("map"), setTriggerValue() {{}} }});
</script></body></html>
"""


def html_page(title: str, about: str, picture: Picture, layer: Layer, total: int) -> str:
    """The map with its points, colours, labels and selection; it zooms and tells its points."""
    items = [item | {"choice": None} for item in picture.legend.get("items", ())]
    still = replace(picture, legend={**picture.legend, "items": items})
    data = data_of("map", still, layer, total, None, _data_url) | {"still": True}
    js, css = source("scatter")
    js = js.replace("export default function (", "const showScatter = function (")
    return PAGE.format(
        title=escape(title),
        about=escape(about),
        light=_theme("light"),
        dark=_theme("dark"),
        css=css.replace(":host,", ":root,"),
        js=js,
        # "</script>" inside a text would end the element.
        data=json.dumps(data).replace("<", "\\u003c"),
    )


def _data_url(name: str, file: bytes) -> str:
    kind = "image/jpeg" if name == "sheet" else "application/octet-stream"
    return f"data:{kind};base64,{base64.b64encode(file).decode()}" if file else ""


def _theme(light: str) -> str:
    """The app's own colours, from its settings file."""
    settings = tomllib.loads((config.REPO_ROOT / ".streamlit/config.toml").read_text())
    colors = settings["theme"][light]
    values = {name: colors[key] for key, name in COLORS.items()}
    return " ".join(
        f"{name}: {', '.join(value) if isinstance(value, list) else value};"
        for name, value in values.items()
    )

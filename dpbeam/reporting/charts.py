"""A result table and one metric in, a bar chart of its top partitions with error bars out, as inline SVG."""

from __future__ import annotations

import io
import math
import unicodedata
import warnings
from typing import Any
from xml.dom import minidom

from dpbeam.reporting.rows import DisplayRow
from dpbeam.reporting.visible import visible, visible_key

MAX_BARS = 20
LABEL_WIDTH = 30  # in columns of a fixed-width font; wide characters count as two

# Colours by role: the drawing uses the left ones, the page replaces them by its CSS variables (light and dark).
_ROLES = {"#1f5fbf": "--bar", "#10151c": "--ink", "#5b6673": "--muted", "#d5dae1": "--line"}
_BAR, _INK, _MUTED, _LINE = _ROLES
_POINTS_PER_CHARACTER = 5.6
_WIDTH_IN, _ROW_IN, _FOOT_IN = 7.2, 0.26, 0.62
_RC: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "dpbeam",
    "svg.image_inline": True,
    "text.usetex": False,
    "text.parse_math": False,
    "font.family": ["sans-serif"],
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
}


def bar_chart(rows: list[DisplayRow], *, metric: str, title: str, prefix: str) -> str:
    """An SVG element with one bar a row (at most `MAX_BARS`) and its interval; "" if no row has a finite value.

    Labels may be any text: they are cut to `LABEL_WIDTH`, freed of control characters and never read as markup or
    mathematics. `prefix` keeps the ids apart from those of other charts in the page. The same input gives the
    same text.
    """
    shown = [row for row in rows if row.is_finite(metric)][:MAX_BARS]
    if not shown:
        return ""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    labels = [shorten(" · ".join(row.keys)) for row in shown]
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "Glyph … missing": the browser draws the text, with its own fonts
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_RC)
        height = len(shown) * _ROW_IN + _FOOT_IN
        figure = Figure(figsize=(_WIDTH_IN, height))
        FigureCanvasSVG(figure)
        _draw(figure, shown, labels, metric, height)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    return _inline(buffer.getvalue(), title=title, prefix=prefix)


def shorten(text: str) -> str:
    """`text` made visible and cut to `LABEL_WIDTH` columns, with "…" where it was cut."""
    clean = visible_key(text[: 4 * LABEL_WIDTH])
    width = 0
    for i, character in enumerate(clean):
        width += _columns(character)
        if width > LABEL_WIDTH:
            return clean[:i].rstrip() + "…"
    return clean + ("…" if len(text) > 4 * LABEL_WIDTH else "") or "(empty)"


def _columns(character: str) -> int:
    if unicodedata.combining(character):
        return 1  # counted, so that a stack of marks has an end
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _draw(figure: Any, rows: list[DisplayRow], labels: list[str], metric: str, height: float) -> None:
    widest = max(sum(_columns(c) for c in label) for label in labels)
    left = min(0.42, (widest * _POINTS_PER_CHARACTER + 14) / (_WIDTH_IN * 72))
    axes = figure.add_axes((left, _FOOT_IN / height, 0.97 - left, 1 - _FOOT_IN / height - 0.04 / height))
    places = list(range(len(rows)))
    values = [row.values[metric] for row in rows]
    below = [max(0.0, v.value - v.low) if math.isfinite(v.low) else 0.0 for v in values]
    above = [max(0.0, v.high - v.value) if math.isfinite(v.high) else 0.0 for v in values]
    axes.barh(places, [v.value for v in values], height=0.62, color=_BAR, linewidth=0)
    axes.errorbar(
        [v.value for v in values], places, xerr=[below, above], fmt="none", ecolor=_INK, elinewidth=1.1, capsize=2.5
    )
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks(places, labels=labels, parse_math=False, color=_INK)
    axes.tick_params(axis="y", length=0, pad=6)
    axes.tick_params(axis="x", colors=_MUTED, length=0, pad=5)
    axes.xaxis.set_major_locator(_locator())
    axes.xaxis.set_major_formatter(lambda x, _: f"{x:,.10g}".replace("-", "−"))
    axes.set_xlabel(visible(metric)[:80] + ", with 95 % intervals", color=_MUTED, parse_math=False, labelpad=6)
    axes.grid(axis="x", color=_LINE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    axes.axvline(0, color=_MUTED, linewidth=0.8)


def _locator() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10])


def _inline(document: str, *, title: str, prefix: str) -> str:
    """The drawing as an element for an HTML page: own ids, the page's colours and fonts, a title for readers."""
    parsed = minidom.parseString(document.encode("utf-8"))
    svg: Any = parsed.documentElement
    for metadata in svg.getElementsByTagName("metadata"):
        metadata.parentNode.removeChild(metadata)
    for element in [svg, *svg.getElementsByTagName("*")]:
        if element.hasAttribute("id"):
            element.setAttribute("id", prefix + element.getAttribute("id"))
        for name in ("xlink:href", "href"):
            if element.getAttribute(name).startswith("#"):
                element.setAttribute(name, "#" + prefix + element.getAttribute(name)[1:])
        if element.hasAttribute("clip-path"):
            element.setAttribute("clip-path", element.getAttribute("clip-path").replace("url(#", "url(#" + prefix))
        if element.hasAttribute("style"):
            element.setAttribute("style", _style(element.getAttribute("style"), text=element.tagName == "text"))
    for name in ("width", "height"):
        svg.removeAttribute(name)
    svg.setAttribute("role", "img")
    svg.setAttribute("class", "chart")
    caption = parsed.createElement("title")
    caption.appendChild(parsed.createTextNode(visible(title)))
    svg.insertBefore(caption, svg.firstChild)
    markup: str = svg.toxml()
    return markup


def _style(style: str, *, text: bool) -> str:
    for colour, role in _ROLES.items():
        style = style.replace(colour, f"var({role}, {colour})")
    if text:  # the page's own font instead of the one the layout was measured with
        style = style.replace("'DejaVu Sans'", "system-ui, 'DejaVu Sans'")
    return style

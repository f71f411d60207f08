"""Draws curves as an SVG embedded in a page, in the font and colours of the page, light or dark.

Matplotlib draws with placeholder colours: ink becomes `currentColor`, the k-th line `var(--figure-k)`.
"""

import re
from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any, Literal, NamedTuple
from xml.etree import ElementTree

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator
from torch import Tensor

#: The number of lines with different colours, which are in `docs/assets/figures.css`.
COLOURS = 4

_INK = "#0b0c0d"
_LINES = tuple(f"#0a00{k:02x}" for k in range(1, COLOURS + 1))
_DASHES = ("-", (0, (5, 2)), (0, (1.2, 1.4)), (0, (6, 2, 1.2, 2)))
_MARKERS = ("o", "s", "^", "D")

_SVG = "http://www.w3.org/2000/svg"
_LINK = "{http://www.w3.org/1999/xlink}href"

#: Width, height and font size by the number of panels; on a phone a page is about 340 pixels wide.
_SIZES = {1: (470, 340, 16), 2: (640, 400, 20)}

_STYLE: Any = {
    "svg.fonttype": "none",
    "axes.titlesize": "medium",
    "axes.titlepad": 10,
    "legend.fontsize": "medium",
    "lines.linewidth": 2.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.18,
    "legend.frameon": False,
    "legend.borderpad": 0,
    "legend.handlelength": 1.6,
    "legend.handletextpad": 0.5,
    "legend.columnspacing": 1.2,
} | dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color", "grid.color"), _INK)


class Line(NamedTuple):
    """One curve: the points (x, y), drawn as a line or as points, in the colour of its number from 1 to COLOURS."""

    label: str
    x: Tensor
    y: Tensor
    colour: int
    kind: Literal["line", "points", "both"] = "line"


class Panel(NamedTuple):
    """One pair of axes.

    There are thin vertical lines at the values `guides` of x and a horizontal one at the value `level` of y.
    `logarithmic` names the logarithmic axes: "x", "y" or "xy". Without `in_legend`, the title identifies the lines.
    """

    x_label: str
    y_label: str
    lines: Sequence[Line]
    title: str = ""
    x_ticks: Mapping[float, str] | None = None
    y_ticks: Mapping[float, str] | None = None
    logarithmic: str = ""
    y_limits: tuple[float, float] | None = None
    guides: Sequence[float] = ()
    level: float | None = None
    in_legend: bool = True

    def line(self, label: str) -> Line:
        """The line with that label."""
        return next(line for line in self.lines if line.label == label)


def draw(panels: Sequence[Panel], *, name: str, title: str, description: str) -> str:
    """The SVG of one or two panels side by side, with one legend above them; every id begins with the name."""
    with mpl.rc_context():
        mpl.rcdefaults()
        width, height, letters = _SIZES[len(panels)]
        mpl.rcParams.update(_STYLE | {"svg.hashsalt": name, "font.size": letters})
        layout = ConstrainedLayoutEngine(h_pad=0.1, w_pad=0.06)
        figure = Figure(figsize=(width / 72, height / 72), layout=layout)
        axes = figure.subplots(1, len(panels), squeeze=False)[0]
        for number, (ax, panel) in enumerate(zip(axes, panels, strict=True)):
            _draw_panel(ax, panel, f"panel-{number}")
        _draw_legend(figure, [ax for ax, panel in zip(axes, panels, strict=True) if panel.in_legend])
        text = StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    frames = {f"panel-{number}": _frame(ax, width, height) for number, ax in enumerate(axes)}
    svg = _for_a_page(text.getvalue(), name, title, description, frames)
    return svg if len(panels) == 1 else svg.replace("<svg ", '<svg class="wide" ', 1)


def _draw_panel(ax: Axes, panel: Panel, id: str) -> None:
    ax.set_gid(id)
    for guide in panel.guides:
        ax.axvline(guide, color=_INK, linewidth=1, alpha=0.6)
    if panel.level is not None:
        ax.axhline(panel.level, color=_INK, linewidth=1, alpha=0.6)
    for line in panel.lines:
        place = line.colour - 1
        ax.plot(
            line.x.tolist(),
            line.y.tolist(),
            label=line.label,
            color=_LINES[place],
            linestyle="none" if line.kind == "points" else _DASHES[place],
            marker="none" if line.kind == "line" else _MARKERS[place],
            markersize=5 if len(line.x) > 20 else 8,
            gid=f"{id}-line-{place}",
        )
    _draw_axes(ax, panel)


def _draw_axes(ax: Axes, panel: Panel) -> None:
    ax.set(xlabel=panel.x_label, ylabel=panel.y_label, title=panel.title)
    if "x" in panel.logarithmic:
        ax.set_xscale("log")
    if "y" in panel.logarithmic:
        ax.set_yscale("log")
    for axis, letter in ((ax.xaxis, "x"), (ax.yaxis, "y")):
        if letter in panel.logarithmic:
            axis.set_major_formatter(FuncFormatter(_power_of_ten))
            axis.set_minor_locator(NullLocator())
        else:
            axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    if panel.x_ticks is not None:
        ax.set_xticks(list(panel.x_ticks), list(panel.x_ticks.values()))
    if panel.y_ticks is not None:
        ax.set_yticks(list(panel.y_ticks), list(panel.y_ticks.values()))
    if panel.y_limits is not None:
        ax.set_ylim(*panel.y_limits)


def _frame(ax: Axes, width: float, height: float) -> str:
    """The ends of both axes in the data, (x, y) and (x, y), and where these corners are in the SVG."""
    box = ax.get_position()
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    corners = box.x0 * width, (1 - box.y0) * height, box.x1 * width, (1 - box.y1) * height
    return " ".join(f"{number:.6g}" for number in (left, bottom, right, top, *corners))


def _draw_legend(figure: Figure, axes: Sequence[Axes]) -> None:
    """One entry for each label, however many panels it is in; none for a single line."""
    entries: dict[str, Any] = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    if len(entries) > 1:
        width = sum(len(label) + 5 for label in entries)
        columns = len(entries) if width <= 48 else 2
        figure.legend(list(entries.values()), list(entries), loc="outside upper center", ncols=columns)


def _power_of_ten(value: float, _position: int | None = None) -> str:
    """A tick of a logarithmic axis as text: matplotlib's own would need a font that the page does not have."""
    if 0.01 <= value <= 1000:
        return f"{value:g}"
    exponent = f"{value:.0e}".partition("e")[2]
    return "10" + str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def _for_a_page(text: str, name: str, title: str, description: str, frames: Mapping[str, str]) -> str:
    """Matplotlib's document as an element of a page: without a size, global styles, or ids that may clash.

    The group of each panel gets its frame, so that a script can draw lines on the same axes.
    """
    ElementTree.register_namespace("", _SVG)
    root = ElementTree.fromstring(text)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in {f"{{{_SVG}}}style", f"{{{_SVG}}}metadata"}:
                parent.remove(child)
    for element in root.iter():
        if element.get("id") in frames:
            element.set("data-frame", frames[element.attrib["id"]])
        _rename(element.attrib, name)
        if "style" in element.attrib:
            element.set("style", re.sub(r"font-family:[^;]*", "font-family: inherit", element.attrib["style"]))
    for attribute in ("width", "height", "version"):
        root.attrib.pop(attribute, None)
    root.attrib.update(width="100%", role="img", style="stroke-linejoin: round; stroke-linecap: butt")
    root.set("aria-labelledby", f"{name}-title {name}-desc")
    for tag, content in (("desc", description), ("title", title)):
        label = ElementTree.Element(f"{{{_SVG}}}{tag}", id=f"{name}-{tag}")
        label.text = content
        root.insert(0, label)
    svg = ElementTree.tostring(root, encoding="unicode").replace(_INK, "currentColor")
    for number, colour in enumerate(_LINES, start=1):
        svg = svg.replace(colour, f"var(--figure-{number})")
    return re.sub(r"\s*\n\s*", "\n", svg)


def _rename(attributes: dict[str, str], name: str) -> None:
    """Ids and references to them begin with the name; references need no namespace of their own."""
    if _LINK in attributes:
        attributes["href"] = attributes.pop(_LINK)
    for key, value in attributes.items():
        if key == "id":
            attributes[key] = f"{name}-{value}"
        elif key == "href":
            attributes[key] = value.replace("#", f"#{name}-")
        else:
            attributes[key] = value.replace("url(#", f"url(#{name}-")

"""A comparison as a picture: quality against latency, a point a scorer, the Pareto front drawn."""

import io
from collections.abc import Sequence
from typing import Any

from operators.scorer_comparison import Comparison, Scored

# Okabe and Ito (2008): told apart by colour-blind people too; the shapes tell the same again
_LOOKS = {
    "cross-encoder": ("#0072B2", "o"),
    "bi-encoder": ("#D55E00", "s"),
    "colbert": ("#009E73", "D"),
    "monot5": ("#CC79A7", "^"),
    "rankt5": ("#E69F00", "v"),
    "duot5": ("#56B4E9", "P"),
    "cascade": ("#000000", "X"),
}
_FRONT = "#555555"


def draw(found: Comparison, measure: str) -> dict[str, bytes] | None:
    """Draw the scorers that were measured and timed.

    Returns:
        PNG and SVG by their file ending; None where matplotlib is not installed (extra `report`).
    """
    try:
        from matplotlib import rc_context
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.ticker import FuncFormatter, NullFormatter
    except ImportError:
        return None
    points = [one for one in found.scorers if one.cost and one.size and measure in one.quality]
    figure = Figure(figsize=(9, 6), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_xscale("log")
    _scale(axes, [_latency(one) for one in points])
    axes.xaxis.set_major_formatter(FuncFormatter(_plain))
    close = _few_decades([_latency(one) for one in points])
    axes.xaxis.set_minor_formatter(FuncFormatter(_plain) if close else NullFormatter())
    axes.set_xlabel(f"ms to re-rank {found.timing.documents if found.timing else 0} candidates of one query")
    axes.set_ylabel(f"{measure}, 95 % interval")
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)
    first = next((one.quality[measure].value for one in found.scorers if not one.stages), None)
    if first is not None:
        axes.axhline(first, color=_FRONT, linewidth=1, linestyle=":", label="first stage")
    front = sorted((one for one in points if one.on_front), key=_latency)
    if front:
        values = [one.quality[measure].value for one in front]
        axes.step([_latency(one) for one in front], values, where="post", color=_FRONT, linewidth=1.2, linestyle="--")
        axes.plot([], [], color=_FRONT, linewidth=1.2, linestyle="--", label="Pareto front (names in bold)")
    largest = max((one.size.megabytes for one in points if one.size), default=1.0)
    for one in points:
        _point(axes, one, measure, largest)
    for kind in dict.fromkeys(one.kind for one in points):
        colour, shape = _look(kind)
        axes.plot([], [], color=colour, marker=shape, linestyle="", label=kind)
    axes.legend(loc="lower right", fontsize=8, framealpha=0.9)
    figure.canvas.draw()
    _name(axes, points, measure)
    if found.timing:
        under = f"{found.queries} queries; area of a point: MB of weights; {'; '.join(found.timing.hardware)}"
        figure.supxlabel(under, fontsize=8, color=_FRONT)
    pictures = {}
    for form in ("png", "svg"):
        sink = io.BytesIO()
        with rc_context({"svg.hashsalt": "ray-rerank"}):
            figure.savefig(sink, format=form, metadata={"Date": None} if form == "svg" else None)
        pictures[form] = sink.getvalue()
    return pictures


def _latency(one: Scored) -> float:
    return one.cost.latency_ms if one.cost else 0.0


def _look(kind: str) -> tuple[str, str]:
    return _LOOKS.get(kind, (_FRONT, "h"))


def _scale(axes: Any, latencies: Sequence[float]) -> None:
    """Room for names at both sides."""
    if latencies:
        axes.set_xlim(min(latencies) / 1.8, max(latencies) * 1.8)


def _few_decades(latencies: Sequence[float]) -> bool:
    return bool(latencies) and max(latencies) / min(latencies) < 8


def _plain(value: float, _: Any) -> str:
    return f"{value:g}"


def _area(one: Scored, largest: float) -> float:
    """In square points, in proportion to the megabytes, and never too small to be seen."""
    return max(500 * (one.size.megabytes if one.size else 0) / largest, 25)


def _point(axes: Any, one: Scored, measure: str, largest: float) -> None:
    figure, (colour, shape) = one.quality[measure], _look(one.kind)
    if figure.interval:
        low, high = figure.interval
        reach = [[max(figure.value - low, 0)], [max(high - figure.value, 0)]]
        axes.errorbar([_latency(one)], [figure.value], yerr=reach, fmt="none", color=colour, alpha=0.6, capsize=3)
    axes.scatter(
        [_latency(one)], [figure.value], s=_area(one, largest), c=colour, marker=shape, alpha=0.85, edgecolors="white"
    )


def _name(axes: Any, points: Sequence[Scored], measure: str) -> None:
    """Put each name on the side of its point where it covers least of what stands there already."""
    from matplotlib.transforms import Bbox

    renderer = axes.figure.canvas.get_renderer()
    taken = [axes.get_legend().get_window_extent(renderer)]
    at = {one.name: axes.transData.transform((_latency(one), one.quality[measure].value)) for one in points}
    taken += [Bbox.from_bounds(x - 14, y - 14, 28, 28) for x, y in at.values()]
    frame = axes.get_window_extent(renderer)
    for one in sorted(points, key=lambda point: -point.quality[measure].value):
        best = None
        for side, up, align in _PLACES:
            megabytes = f"{one.size.megabytes:.0f} MB" if one.size else ""
            text = axes.annotate(
                f"{one.name}, {megabytes}",
                (_latency(one), one.quality[measure].value),
                xytext=(side, up),
                textcoords="offset points",
                ha=align,
                va="center",
                fontsize=9,
                fontweight="bold" if one.on_front else "normal",
            )
            box = text.get_window_extent(renderer)
            covered = sum(_overlap(box, other) for other in taken) + box.width * box.height - _overlap(box, frame)
            if best is None or covered < best[0]:
                if best:
                    best[1].remove()
                best = (covered, text, box)
            else:
                text.remove()
        if best:
            taken.append(best[2])


_PLACES = (
    (14, 8, "left"),
    (-14, 8, "right"),
    (14, -8, "left"),
    (-14, -8, "right"),
    (14, 22, "left"),
    (-14, -22, "right"),
)
"""Where a name may stand: points to the side of the mark and above it, and which end of it is there."""


def _overlap(one: Any, other: Any) -> float:
    """Area in square pixels that two boxes share."""
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    return float(max(width, 0) * max(height, 0))

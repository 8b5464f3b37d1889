"""A comparison as a picture: quality against latency, a point a scorer, the Pareto front drawn."""

import io
from collections.abc import Sequence
from typing import Any

from ray_rerank.jobs.compare.entries import CASCADE
from ray_rerank.operators.comparison.schema import Comparison, ComparisonRow
from ray_rerank.operators.scorers.config import ModelConfig
from ray_rerank.operators.scorers.registry import FAMILIES

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
        from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
    except ImportError:
        return None
    points = [one for one in found.scorers if one.cost and one.size and measure in one.quality]
    figure = Figure(figsize=(9, 6), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_xscale("log")
    _scale(axes, [_latency(one) for one in points])
    axes.xaxis.set_major_locator(LogLocator(subs=_ticks([_latency(one) for one in points])))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(f"ms to re-rank {found.timing.documents if found.timing else 0} candidates of one query")
    axes.set_ylabel(f"{measure}, 95 % interval")
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)
    first = next((one.quality[measure].value for one in found.scorers if not one.stages), None)
    if first is not None:
        axes.axhline(first, color=_FRONT, linewidth=1, linestyle=":", label="first stage")
    front = sorted((one for one in points if one.on_front), key=_latency)
    if front:
        dashed: dict[str, Any] = {"color": _FRONT, "linewidth": 1.2, "linestyle": "--"}
        values = [one.quality[measure].value for one in front]
        axes.step([_latency(one) for one in front], values, where="post", zorder=1, **dashed)
        axes.plot([], [], label="Pareto front (names in bold)", **dashed)
    largest = max((one.size.megabytes for one in points if one.size), default=1.0)
    for one in points:
        _point(axes, one, measure, largest)
    for kind in dict.fromkeys(one.kind for one in points):
        colour, shape, title = _look(kind)
        axes.plot([], [], color=colour, marker=shape, linestyle="", label=title)
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


def _latency(one: ComparisonRow) -> float:
    return one.cost.latency_ms if one.cost else 0.0


def _look(kind: str) -> tuple[str, str, str]:
    """Colour, shape and name of a family, or of a cascade."""
    if kind == CASCADE:
        return "#000000", "X", CASCADE
    family = FAMILIES.get(kind, ModelConfig)
    return family.colour, family.marker, family.title or kind


def _scale(axes: Any, latencies: Sequence[float]) -> None:
    """Room for names at both sides."""
    if latencies:
        axes.set_xlim(min(latencies) / 1.8, max(latencies) * 1.8)


def _ticks(latencies: Sequence[float]) -> tuple[float, ...]:
    """Which multiples of the powers of ten are written at the axis: more where the range is short."""
    wide = bool(latencies) and max(latencies) / min(latencies) > 8
    return (1, 2, 5) if wide else (1, 1.5, 2, 3, 4, 5, 6, 8)


def _area(one: ComparisonRow, largest: float) -> float:
    """In square points, in proportion to the megabytes, and never too small to be seen."""
    return max(500 * (one.size.megabytes if one.size else 0) / largest, 25)


def _point(axes: Any, one: ComparisonRow, measure: str, largest: float) -> None:
    figure, (colour, shape, _) = one.quality[measure], _look(one.kind)
    if figure.interval:
        low, high = figure.interval
        reach = [[max(figure.value - low, 0)], [max(high - figure.value, 0)]]
        axes.errorbar([_latency(one)], [figure.value], yerr=reach, fmt="none", color=colour, alpha=0.6, capsize=3)
    axes.scatter(
        [_latency(one)], [figure.value], s=_area(one, largest), c=colour, marker=shape, alpha=0.85, edgecolors="white"
    )


def _name(axes: Any, points: Sequence[ComparisonRow], measure: str) -> None:
    """Put each name, on a thin line to its point, where it covers least of what stands there already, and near."""
    from matplotlib.transforms import Bbox

    renderer = axes.figure.canvas.get_renderer()
    frame = axes.get_window_extent(renderer)
    dot = axes.figure.dpi / 72  # pixels of a point
    taken = [axes.get_legend().get_window_extent(renderer)]
    for one in points:
        middle = one.quality[measure].value
        heights = (middle, *(one.quality[measure].interval or (middle, middle)))
        (x, at), (_, low), (_, high) = axes.transData.transform([(_latency(one), height) for height in heights])
        taken += [Bbox([[x - 14, at - 14], [x + 14, at + 14]]), Bbox([[x - 2, low], [x + 2, high]])]
    for one in sorted(points, key=lambda point: -point.quality[measure].value):
        mark = (_latency(one), one.quality[measure].value)
        name = f"{one.name}, {one.size.megabytes:.0f} MB" if one.size else one.name
        look = {"fontsize": 8, "fontweight": "bold" if one.on_front else "normal", "color": _look(one.kind)[0]}
        measured = axes.text(*mark, name, **look)
        width, height = measured.get_window_extent(renderer).size
        measured.remove()
        boxes = []
        for side, up in _PLACES:
            x, y = axes.transData.transform(mark)
            x, y = x + side * dot, y + up * dot
            boxes.append(Bbox.from_bounds(x if side > 0 else x - width, y - height / 2, width, height))
        covered = [
            sum(_overlap(box, other) for other in taken)
            + 5 * (width * height - _overlap(box, frame))
            + abs(up) * height / 4
            for box, (_, up) in zip(boxes, _PLACES, strict=True)
        ]
        best = covered.index(min(covered))
        taken.append(boxes[best])
        text = axes.annotate(
            name,
            mark,
            xytext=_PLACES[best],
            textcoords="offset points",
            ha="left" if _PLACES[best][0] > 0 else "right",
            va="center",
            bbox={"facecolor": "white", "alpha": 0.7, "edgecolor": "none", "pad": 0.5},
            arrowprops={"arrowstyle": "-", "color": look["color"], "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3},
            **look,
        )
        text.set_in_layout(False)


_PLACES = [(side, up) for up in (10, -10, 20, -20, 32, -32, 46, -46, 62, -62, 80, -80) for side in (14, -14)]
"""Where a name may stand: points to the side of the middle of its mark, and above it; the best first."""


def _overlap(one: Any, other: Any) -> float:
    """Area in square pixels that two boxes share."""
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    return float(max(width, 0) * max(height, 0))

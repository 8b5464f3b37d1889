"""A comparison as text: the table to choose from, then what stands behind each of its figures."""

from typing import Any

from ray_rerank.operators.comparison.schema import Comparison, ComparisonRow, Cost, Figure

SIGNIFICANT = 0.05
_NONE = "-"


def print_comparison(found: Comparison) -> None:
    """Print all tables and notes; none is cut off, however narrow the window is."""
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True, emoji=False, markup=False)
    console.print(f"\n{found.candidates}, {found.queries} queries, baseline {found.baseline}\n")
    _print(console, *_choice(found))
    for measure in found.measures:
        console.print()
        _print(console, *_quality(found, measure))
    if found.timing:
        console.print()
        _print(console, *_cost(found))
    console.print()
    for line in _footer(found):
        console.print(line)


def _print(console: Any, header: list[str], rows: list[list[str]]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0))
    for number, name in enumerate(header):
        table.add_column(Text(name), justify="right" if number else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console.width = max(console.width, console.measure(table, options=console.options.update(width=10_000)).maximum)
    console.print(table)


def _choice(found: Comparison) -> tuple[list[str], list[list[str]]]:
    header = ["scorer", *found.measures]
    if found.timing:
        header += [f"ms for {found.timing.documents}", "pairs/s"]
    header += ["MB"]
    if found.timing and found.timing.price_per_hour:
        header += ["cost of 1M pairs"]
    header += ["front"] if found.front_measure else []
    rows = []
    for one in found.scorers:
        row = [one.name, *(_starred(one.quality.get(measure)) for measure in found.measures)]
        if found.timing:
            taken = (one.cost.latency_ms, one.cost.pairs_per_second) if one.cost else (None, None)
            row += map(_figure, taken)
        row += [_figure(one.size.megabytes if one.size else None)]
        if found.timing and found.timing.price_per_hour:
            row += [_NONE if one.cost is None else f"{one.cost.per_million_pairs:.3g}"]
        row += ["yes" if one.on_front else _NONE if one.cost is None else ""] if found.front_measure else []
        rows.append(row)
    return header, rows


def _starred(figure: Figure | None) -> str:
    """A figure, marked where it differs from the baseline's; unmarked ones are shifted to stand below."""
    if figure is None:
        return _NONE
    p = figure.difference.p_holm if figure.difference else None
    return f"{figure.value:.4f}{'*' if p is not None and p < SIGNIFICANT else ' '}"


def _quality(found: Comparison, measure: str) -> tuple[list[str], list[list[str]]]:
    header = [measure, "figure", "95 % interval", "difference", "95 % interval", "p", "p (Holm)", "won/tied/lost"]
    rows = []
    for one in found.scorers:
        figure = one.quality.get(measure)
        if figure is None:
            rows.append([one.name, _NONE, *[""] * 6])
            continue
        own = f"{figure.interval[0]:.4f} to {figure.interval[1]:.4f}" if figure.interval else ""
        row = [one.name, f"{figure.value:.4f}", own]
        if gain := figure.difference:
            between = f"{gain.interval[0]:+.4f} to {gain.interval[1]:+.4f}" if gain.interval else ""
            row += [f"{gain.value:+.4f}", between, _p(gain.p), _p(gain.p_holm)]
            row += [f"{gain.won}/{gain.tied}/{gain.lost}"]
        rows.append(row + [""] * (len(header) - len(row)))
    return header, rows


def _cost(found: Comparison) -> tuple[list[str], list[list[str]]]:
    header = ["cost", "ms median", "ms 95th", "latency ratio", "pairs/s", "times as fast", "lowest to highest"]
    header += ["precision", "threads", "M parameters"]
    return header, [_cost_row(one, one.cost) for one in found.scorers if one.size]


def _cost_row(one: ComparisonRow, cost: Cost | None) -> list[str]:
    size = f"{one.size.million_parameters:.1f}" if one.size else _NONE
    if cost is None:
        return [one.name, *[_NONE] * 8, size]
    between = cost.speed_ratio_range
    return [
        one.name,
        _figure(cost.latency_ms),
        _figure(cost.latency_p95_ms),
        _NONE if cost.latency_ratio is None else f"{cost.latency_ratio:.2f}",
        _figure(cost.pairs_per_second),
        _NONE if cost.speed_ratio is None else f"{cost.speed_ratio:.2f}",
        _NONE if between is None else f"{between[0]:.2f} to {between[1]:.2f}",
        ", ".join(cost.precision),
        str(cost.threads),
        size,
    ]


def _footer(found: Comparison) -> list[str]:
    lines = []
    if any(figure.difference for one in found.scorers for figure in one.quality.values()):
        lines.append(
            f"* differs from {found.baseline} with p < {SIGNIFICANT} after Holm's correction over the scorers of a "
            "measure; p: paired randomisation test, two-sided"
        )
    lines.append(f"interval: 95 %, bootstrap over queries, of differences paired; seed {found.seed}")
    if found.front_measure:
        lines.append(
            f"front: of those timed no other is at least as fast and good in {found.front_measure}, and better in one"
        )
    if timing := found.timing:
        lines.append(
            f"cost: {timing.queries} queries of about {timing.documents} candidates, {timing.rounds} rounds in turn, "
            "one process, no cache, model warm; ms: a query alone, medians over rounds; pairs/s: all at once"
        )
        if timing.price_per_hour:
            lines.append(f"cost of 1M pairs: at {timing.price_per_hour:g} an hour for what one process runs on")
        lines += [f"measured on {hardware}" for hardware in timing.hardware]
    for one in found.scorers:
        lines += [f"{one.name}: failed: {one.error}"] if one.error else []
        lines += [f"{one.name}: {note}" for note in one.notes]
    return lines + [f"note: {note}" for note in found.notes]


def _p(value: float | None) -> str:
    return "" if value is None else "<0.001" if value < 0.001 else f"{value:.3f}"


def _figure(value: float | None) -> str:
    """Three digits that count, and no more than are there."""
    if value is None:
        return _NONE
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"

"""What prepare and mine print of the folder that they wrote: the counts, the notes, what was left out."""

from typing import Any

from ray_rerank.jobs.exit_codes import ExitCode


def report_folder(output: str, summary: dict[str, Any], counted: tuple[str, ...], errors: str) -> int:
    """Print the summary; the exit code says whether anything was left out.

    Args:
        output: the folder.
        summary: as `prepared_folder.finish` keeps it.
        counted: the keys to show first, as counts; a list counts its members.
        errors: where the table of what was left out lies.
    """
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, soft_wrap=True, emoji=False)
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name in counted:
        value = summary[name]
        if isinstance(value, dict):
            value = sum(value.values())
        table.add_row(name, f"{len(value) if isinstance(value, list) else value:,}")
    console.print(table)
    for note in summary["notes"]:
        console.print(f"note: {note}", markup=False)
    left_out = summary["left_out"]
    for reason, count in left_out.items():
        console.print(f"left out: {count:,} x {reason}", markup=False)
        for example in summary["first"].get(reason, ()):
            console.print(f"  {example}", markup=False)
    if left_out:
        console.print(f"all of them: {errors}", markup=False)
    console.print(f"written to {output} in {summary['seconds']} s", markup=False)
    return ExitCode.DONE_WITH_ERRORS if left_out else ExitCode.DONE

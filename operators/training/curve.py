"""The picture of a training: its loss and the held-out figures over the steps, as one SVG."""

import io
from collections.abc import Sequence

from ray_rerank.operators.errors import MissingExtraError

_NOT_FIGURES = ("step", "training_loss")


def curve_picture(points: Sequence[dict[str, float | None]], best: int | None) -> bytes:
    """Draw one panel for the training loss and one a held-out figure; a line marks the best step.

    Args:
        points: by rising `step`, each with `training_loss`, held-out figures, or both.

    Raises:
        InputError: matplotlib (extra `report`) is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("the picture needs matplotlib: pip install 'ray-rerank[report]'") from None
    names = ["training_loss", *dict.fromkeys(name for point in points for name in point if name not in _NOT_FIGURES)]
    drawn = {name: [point for point in points if point.get(name) is not None] for name in names}
    drawn = {name: having for name, having in drawn.items() if having}
    figure = Figure(figsize=(3.2 * max(1, len(drawn)), 2.6), layout="constrained")
    for place, (name, having) in enumerate(drawn.items(), start=1):
        axes = figure.add_subplot(1, len(drawn), place)
        axes.plot([point["step"] for point in having], [point[name] for point in having], marker=".")  # type: ignore[arg-type]
        if best is not None:
            axes.axvline(best, linestyle=":", color="grey")
        axes.set_title("training loss" if name == "training_loss" else f"held out: {name}", fontsize=9)
        axes.set_xlabel("step", fontsize=8)
        axes.tick_params(labelsize=8)
    picture = io.BytesIO()
    figure.savefig(picture, format="svg", metadata={"Date": None})
    return picture.getvalue()

"""Figures with one look: quiet, readable in grey and by colour-blind readers, with a text."""

import base64
import html
import io
import math
import sys
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from cycler import cycler
from jaxtyping import Shaped
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from torch import Tensor

Values = Sequence[float | int | Shaped[Tensor, ""]] | Shaped[Tensor, "_"]

# Okabe and Ito's colours, without the yellow that is lost on white, the darker ones first.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#000000", "#CC79A7", "#E69F00", "#56B4E9")
LINE_STYLES = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)), (0, (1, 0.6)), (0, (9, 3)))
MOST_LABELS = 5
GAP = 13.0  # between two labels at line ends, in points


def use_style() -> None:
    """Give every figure drawn from now on the look of the course."""
    # After each turn, a colour comes with another line style: 49 lines look different.
    turns = len(LINE_STYLES)
    styles = [LINE_STYLES[(i + i // turns) % turns] for i in range(turns * turns)]
    plt.rcParams.update(
        {
            "axes.prop_cycle": cycler(color=COLOURS * turns) + cycler(linestyle=styles),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.edgecolor": "#666666",
            "axes.grid": True,
            "axes.axisbelow": True,
            "axes.titlelocation": "left",
            "axes.titleweight": "bold",
            "axes.titlesize": 12,
            "axes.titlepad": 10,
            "axes.xmargin": 0.02,
            "axes.labelsize": 11,
            "figure.constrained_layout.use": True,
            "figure.dpi": 110,
            "figure.facecolor": "white",
            "figure.figsize": (6.4, 3.6),
            "font.size": 11,
            "grid.color": "#E6E6E6",
            "legend.frameon": False,
            "lines.linewidth": 2,
            "xtick.color": "#444444",
            "xtick.labelsize": 10,
            "ytick.color": "#444444",
            "ytick.labelsize": 10,
        }
    )


# On a dark page, a white margin keeps titles and labels off the edge.
_FRAME = "box-sizing:border-box;max-width:100%;padding:6px;background:white"


def show(figure: Figure, alt: str) -> None:
    """Display ``figure`` in the notebook with ``alt`` as its alternative text, and close it.

    Outside a notebook it is only closed. Raises ``ValueError`` if ``alt`` is empty.
    """
    _check(alt)
    ipython = sys.modules.get("IPython")
    if ipython is not None and ipython.get_ipython() is not None:
        data, metadata = bundle(figure, alt)
        ipython.display.display(data, metadata=metadata, raw=True)
    plt.close(figure)


def bundle(figure: Figure, alt: str) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """The figure in every form that a front end may honour, and metadata on them.

    nbconvert reads the alternative text of an image from the output's metadata. JupyterLab does
    not, but takes HTML before PNG. Raises ``ValueError`` if ``alt`` is empty.
    """
    _check(alt)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    png = base64.b64encode(buffer.getvalue()).decode()
    source = f"data:image/png;base64,{png}"
    data = {
        "text/html": f'<img alt="{html.escape(alt)}" src="{source}" style="{_FRAME}">',
        "image/png": png,
        "text/plain": alt,
    }
    return data, {"image/png": {"alt": alt}}


def _check(alt: str) -> None:
    if not alt.strip():
        raise ValueError("alt is empty: say in a sentence what the figure shows")


def images(
    batch: Shaped[Tensor, "..."], titles: Sequence[str] | None = None, columns: int = 8
) -> Figure:
    """Draw a grid of images with one (grey) or three (RGB) channels, each under its title.

    0 is black and 1 is white, for uint8 255; floats outside [0, 1] are drawn as the nearer of the
    two. Raises ``ValueError`` for an empty batch, another number of channels, other integers,
    titles that are not ``n``, or less than one column.
    """
    if batch.ndim != 4 or len(batch) == 0 or batch.shape[1] not in (1, 3):
        raise ValueError(
            f"can't draw a batch of shape {tuple(batch.shape)}: give at least one image, as "
            "(n, 1, h, w) for grey or (n, 3, h, w) for RGB"
        )
    n, _, height, width = batch.shape
    if batch.dtype == torch.uint8:
        batch = batch / 255
    elif not batch.is_floating_point() and batch.dtype != torch.bool:
        raise ValueError(
            f"can't tell which {batch.dtype} is white: give floats in [0, 1], or uint8 up to 255"
        )
    if titles is not None and len(titles) != n:
        raise ValueError(f"got {len(titles)} titles for {n} images: give one for each")
    if columns < 1:
        raise ValueError(f"columns must be at least 1, got {columns}")
    columns = min(columns, n)
    rows = math.ceil(n / columns)
    row_height = height / width + (0.25 if titles else 0.05)
    figure, grid = plt.subplots(
        rows, columns, squeeze=False, figsize=(1.1 * columns, 1.1 * rows * row_height)
    )
    for axes in grid.flat:
        axes.set_axis_off()
    pixels = batch.detach().cpu().float().clamp(0, 1).movedim(1, -1).numpy()
    for axes, image in zip(grid.flat, pixels, strict=False):
        axes.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    for axes, title in zip(grid.flat, titles or (), strict=False):
        axes.set_title(title, loc="center", size=10, weight="normal", pad=3, parse_math=False)
    return figure


def curves(
    series: Mapping[str, Values],
    *,
    title: str,
    xlabel: str,
    ylabel: str,
    x: Values | None = None,
    yscale: str = "linear",
) -> tuple[Figure, Axes]:
    """Draw named series of values as lines over 1, 2, 3, … or over ``x``.

    Up to five lines carry their names at their ends, more have a legend. ``yscale`` is a scale of
    matplotlib's, such as ``"log"``. The title states what the figure shows. Raises ``ValueError``
    if there is no series, or one without a finite value.
    """
    if not series:
        raise ValueError("series is empty: give at least one name with its values")
    heights = {plain(name): _numbers(values) for name, values in series.items()}
    for name, ys in heights.items():
        if not np.isfinite(ys).any():
            raise ValueError(f"series {name!r} has no value that can be drawn")
    figure, axes = plt.subplots()
    try:
        for name, ys in heights.items():
            xs = np.arange(1, len(ys) + 1) if x is None else _numbers(x)[: len(ys)]
            places = alone(ys)
            # Without such places no marker: a legend would show it.
            axes.plot(xs, ys, label=name, marker="o" if places else "", markevery=places)
        axes.set(title=title, xlabel=xlabel, ylabel=ylabel, yscale=yscale)
        if x is None:
            axes.xaxis.get_major_locator().set_params(integer=True)
        if len(series) > MOST_LABELS:
            axes.legend(loc="upper left", bbox_to_anchor=(1, 1), handlelength=3)
        else:
            label_ends(axes)
    except BaseException:
        plt.close(figure)  # a notebook would show it, half drawn, below the error
        raise
    return figure, axes


def plain(name: str) -> str:
    """A label that matplotlib neither reads as a formula ($) nor hides (a _ at its beginning)."""
    return (" " if name.startswith("_") else "") + name.replace("$", r"\$")


def alone(values: Sequence[float] | np.ndarray) -> list[int]:
    """The places of finite values without a finite neighbour, which a line does not show."""
    finite = np.pad(np.isfinite(values), 1)
    return np.flatnonzero(finite[1:-1] & ~finite[:-2] & ~finite[2:]).tolist()


def label_ends(axes: Axes) -> None:
    """Write each line's label beside its last point, in its colour, clear of the other labels.

    Lines whose label begins with ``_`` get none, as in matplotlib's legends. Raises ``ValueError``
    for a line without a value that can be drawn.
    """
    axes.figure.draw_without_rendering()  # only now is it known where on the page the lines are
    lines = [line for line in axes.lines if not str(line.get_label()).startswith("_")]
    ends = [_last_visible_point(axes, line) for line in lines]
    to_points = 72 / axes.figure.dpi
    heights = [axes.transData.transform(end)[1] * to_points for end in ends]
    moved = spread(heights, GAP, lowest=(axes.bbox.y0 * to_points) + GAP / 2)
    for line, end, height, new_height in zip(lines, ends, heights, moved, strict=True):
        axes.annotate(
            line.get_label(),
            end,
            xytext=(8, new_height - height),
            textcoords="offset points",
            va="center",
            color=line.get_color(),
            weight="bold",
            size=10,
            path_effects=[withStroke(linewidth=3, foreground="white")],  # legible across a line
        )


def _numbers(values: Values) -> np.ndarray:
    if isinstance(values, Tensor):
        return values.detach().cpu().double().numpy()
    return np.array([one.item() if isinstance(one, Tensor) else one for one in values], float)


def _last_visible_point(axes: Axes, line: Line2D) -> tuple[float, float]:
    """The last point that is finite and, on a logarithmic scale, positive."""
    points = line.get_xydata()
    _, heights = axes.transAxes.inverted().transform(axes.transData.transform(points)).T
    visible = np.flatnonzero((heights > -1e-6) & (heights < 1 + 1e-6))  # the transforms round
    if len(visible) == 0:
        raise ValueError(f"series {line.get_label()!r} has no value that can be drawn")
    return tuple(points[visible[-1]])


def spread(positions: Sequence[float], gap: float, lowest: float = -math.inf) -> list[float]:
    """Move positions at least ``gap`` apart and not below ``lowest``, in their order.

    The sum of the squared moves is the least possible, so what is far enough apart stays.
    """
    if len(positions) == 0:
        return []
    # Less its rank times the gap, a position may meet the next one but not cross it. That is an
    # isotonic regression, which pooling adjacent violators solves; a bound on it is a clip.
    order = np.argsort(positions, kind="stable")
    steps = gap * np.arange(len(positions))
    blocks: list[list[float]] = []
    for value in np.asarray(positions)[order] - steps:
        blocks.append([value])
        while len(blocks) > 1 and np.mean(blocks[-2]) > np.mean(blocks[-1]):
            blocks[-2:] = [blocks[-2] + blocks[-1]]
    pooled = np.concatenate([np.full(len(block), np.mean(block)) for block in blocks])
    moved = np.empty(len(positions))
    moved[order] = np.maximum(pooled, lowest) + steps
    return moved.tolist()

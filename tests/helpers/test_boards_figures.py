"""The figures of `helpers.boards` show the logged values: what the dashboards would draw."""

import math

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import rgb_to_hsv, to_rgb
from tensorboard.compat.proto.summary_pb2 import HistogramProto
from tensorboard.plugins.distribution import compressor
from torch.utils.tensorboard import SummaryWriter

from helpers import boards, plots
from helpers.boards import figures

STEPS = range(0, 40, 4)


pytestmark = pytest.mark.usefixtures("drawing_without_a_display")


@pytest.fixture(scope="module")
def logdir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("logs")
    generator = torch.Generator().manual_seed(0)
    for run in ("first", "second"):
        with SummaryWriter(folder / run) as writer:
            for step in STEPS:
                values = torch.randn(200, generator=generator) + step / 10
                writer.add_scalar("loss", values.std(), step)
                writer.add_histogram("weights", values, step)
                writer.add_histogram("zeros", torch.zeros(9), step)
                writer.add_image("noise", torch.rand(3, 2, 4, generator=generator), step)
            writer.add_histogram("once", values, 0)
    return folder


def lines(figure):
    """The lines of a figure by their labels."""
    (axes,) = figure.axes
    return {line.get_label(): line for line in axes.lines}


# Scalars


def test_each_run_is_a_line_over_the_steps(logdir):
    drawn = lines(boards.draw_scalars(logdir, "loss"))
    assert set(drawn) == {"first", "second"}
    for run, line in drawn.items():
        points = boards.scalars(logdir, "loss", run)
        expected = [(point.step, point.value) for point in points]
        assert line.get_xydata().tolist() == list(map(list, expected))


def test_smoothing_leaves_the_logged_values_behind_the_smoothed_ones(logdir):
    figure = boards.draw_scalars(logdir, "loss", smoothing=0.9)
    first, behind, *_ = figure.axes[0].lines
    values = [point.value for point in boards.scalars(logdir, "loss", "first")]
    assert first.get_ydata().tolist() == boards.smoothed(values, 0.9)
    assert behind.get_ydata().tolist() == values
    assert behind.get_color() == first.get_color()
    assert (behind.get_alpha() or 1) < 0.5
    assert {text.get_text() for text in figure.axes[0].texts} == {"first", "second"}


def test_a_run_without_a_finite_value_is_named_and_the_others_are_drawn(tmp_path):
    for name, value in (("diverged", float("nan")), ("healthy", 1.0)):
        with SummaryWriter(tmp_path / name) as writer:
            writer.add_scalar("loss", value, 0)
    figure = boards.draw_scalars(tmp_path, "loss", smoothing=0.5)
    assert set(lines(figure)) == {"healthy", "_logged"}
    assert figure.axes[0].get_xlabel() == "step (without a finite value: diverged)"


def test_many_runs_are_named_in_a_legend(tmp_path):
    names = [f"run-{i}" for i in range(plots.MOST_LABELS + 1)]
    for name in names:
        with SummaryWriter(tmp_path / name) as writer:
            writer.add_scalar("loss", 1.0, 0)
            writer.add_scalar("loss", 0.0, 1)
    legend = boards.draw_scalars(tmp_path, "loss", smoothing=0.5).axes[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == names


@pytest.mark.parametrize(
    "draw, tag, run",
    [
        (boards.draw_scalars, "loss", []),
        (boards.draw_histograms, "weights", ["first"]),
        (boards.draw_distributions, "weights", ["first"]),
        (boards.draw_images, "noise", ["first"]),
    ],
)
def test_the_title_is_the_finding_or_else_the_tag(logdir, draw, tag, run):
    def titles(**options):
        figure = draw(logdir, tag, *run, **options)
        above = [axes.get_title(loc) for axes in figure.axes for loc in ("left", "center")]
        return " ".join([*above, figure.get_suptitle()])

    assert "A finding" in titles(title="A finding") and tag in titles()


# Histograms and distributions

COUNTED = st.lists(st.integers(0, 50), min_size=1, max_size=12).filter(any)


def histogram(counts):
    edges = np.cumsum(np.arange(1.0, len(counts) + 2)) - 5
    return boards.reading.Histogram(".", "weights", 0, 0.0, edges, np.array(counts, float))


@given(COUNTED, st.integers(1, 40))
def test_other_bins_count_the_same_values(counts, bins):
    row = histogram(counts)
    edges = np.linspace(row.edges[0], row.edges[-1], bins + 1)
    rebinned = figures._rebinned(row, edges)
    np.testing.assert_allclose(rebinned.sum(), row.counts.sum())
    below = np.interp(row.edges, edges, np.concatenate([[0], np.cumsum(rebinned)]))
    gap = np.abs(below - np.concatenate([[0], np.cumsum(row.counts)]))
    assert gap.max() <= rebinned.max() + 1e-9


@given(COUNTED)
def test_percentiles_are_those_of_the_distributions_dashboard(counts):
    row = histogram(counts)
    filled = np.flatnonzero(row.counts)
    proto = HistogramProto(
        min=row.edges[filled[0]],
        max=row.edges[filled[-1] + 1],
        num=sum(counts),
        bucket_limit=row.edges[1:],
        bucket=row.counts,
    )
    inner = range(1, 100, 7)  # at the very ends, TensorBoard keeps to the values' range instead
    theirs = compressor.compress_histogram_proto(proto, [0, *(100 * p for p in inner), 10_000])
    ours = [figures._percentile(row, percent) for percent in inner]
    np.testing.assert_allclose(ours, [value for _, value in theirs[1:-1]], atol=1e-6)


def test_later_histograms_stand_lower_and_are_darker(logdir):
    figure = boards.draw_histograms(logdir, "weights", "first")
    (axes,) = figure.axes
    shades = [rgb_to_hsv(to_rgb(area.get_facecolor()[0]))[2] for area in axes.collections]
    floors = [area.get_paths()[0].vertices[:, 1].min() for area in axes.collections]
    assert len(shades) == len(STEPS)
    assert shades == sorted(shades, reverse=True)
    assert floors == sorted(floors, reverse=True)
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels[0] == str(STEPS[0]) and labels[-1] == str(STEPS[-1])


def test_a_long_series_of_histograms_is_thinned_out_evenly_with_the_last(tmp_path):
    with SummaryWriter(tmp_path) as writer:
        for step in range(120):
            writer.add_histogram("weights", torch.arange(5.0), step)
    (axes,) = boards.draw_histograms(tmp_path, "weights", ".").axes
    assert figures.MOST_OUTLINES / 2 < len(axes.collections) <= figures.MOST_OUTLINES
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert int(labels[0]) < 3 and labels[-1] == "119"


def test_the_bands_of_a_distribution_lie_within_each_other(logdir):
    (axes,) = boards.draw_distributions(logdir, "weights", "first").axes
    assert len(axes.collections) == len(figures.BANDS)
    ends = [area.get_paths()[0].get_extents().intervaly for area in axes.collections]
    for (low, high), (inner_low, inner_high) in zip(ends, ends[1:], strict=False):
        assert low <= inner_low < inner_high <= high
    rows = boards.histograms(logdir, "weights", "first")
    assert ends[0].tolist() == [min(r.edges[0] for r in rows), max(r.edges[-1] for r in rows)]


def test_values_that_are_all_the_same_are_given_room(logdir):
    (axes,) = boards.draw_distributions(logdir, "zeros", "first").axes
    assert np.ptp(axes.get_ylim()) > 0.5
    (axes,) = boards.draw_histograms(logdir, "zeros", "first").axes
    assert np.ptp(axes.get_xlim()) > 0.5


def test_a_histogram_that_was_logged_once_has_no_distribution_over_steps(logdir):
    with pytest.raises(ValueError, match="'once' of run 'first' was logged once"):
        boards.draw_distributions(logdir, "once", "first")
    boards.draw_histograms(logdir, "once", "first")


# Pictures


def test_every_picture_is_drawn_with_its_step_and_its_run(logdir):
    figure = boards.draw_images(logdir, "noise")
    drawn = [axes for axes in figure.axes if axes.images]
    pictures = boards.images(logdir, "noise")
    assert len(drawn) == len(pictures)
    for axes, picture in zip(drawn, pictures, strict=True):
        assert np.array_equal(axes.images[0].get_array(), picture.pixels[0])
        assert axes.get_title() == f"{picture.run}, step {picture.step}"
    of_one = boards.draw_images(logdir, "noise", "second")
    assert [axes.get_title() for axes in of_one.axes if axes.images] == [
        f"step {step}" for step in STEPS
    ]


@pytest.mark.parametrize("shape", [(3, 4, 1), (3, 1, 4), (1, 1, 4), (3, 1, 1)])
def test_a_picture_of_one_row_or_column_keeps_its_shape(tmp_path, shape):
    with SummaryWriter(tmp_path) as writer:
        writer.add_image("row", torch.rand(shape))
    (axes,) = boards.draw_images(tmp_path, "row").axes
    assert axes.images[0].get_size() == shape[1:]


def test_tags_and_runs_are_drawn_as_they_are_named_and_one_point_is_seen(tmp_path):
    for run in ("_a", "b$$"):
        with SummaryWriter(tmp_path / run) as writer:
            writer.add_scalar("cost $$", 1.0, 0)
            writer.add_image("cost $$", torch.rand(1, 2, 2))
            for step in range(2):
                writer.add_histogram("cost $$", torch.rand(9), step)
    figure = boards.draw_scalars(tmp_path, "cost $$")
    assert [text.get_text() for text in figure.axes[0].texts] == [" _a", r"b\$\$"]
    assert [line.get_markevery() for line in figure.axes[0].lines] == [[0], [0]]
    for drawn in (
        figure,
        boards.draw_images(tmp_path, "cost $$"),
        boards.draw_histograms(tmp_path, "cost $$", "b$$"),
        boards.draw_distributions(tmp_path, "cost $$", "b$$"),
    ):
        drawn.draw_without_rendering()


def test_runs_that_all_diverged_are_named_and_a_wrong_call_leaves_no_figure(tmp_path):
    with SummaryWriter(tmp_path / "lost") as writer:
        writer.add_scalar("loss", math.nan, 0)
    figure = boards.draw_scalars(tmp_path, "loss")
    assert "lost" in figure.axes[0].get_xlabel()
    plt.close(figure)
    with pytest.raises(KeyError):
        boards.draw_scalars(tmp_path, "lass")
    with pytest.raises(ValueError):
        boards.draw_scalars(tmp_path, "loss", smoothing=1.0)
    assert plt.get_fignums() == []

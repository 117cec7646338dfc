import base64
import io
import itertools
import math
import sys
from html.parser import HTMLParser

import IPython
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_rgb
from PIL import Image

from helpers import plots

POSITIONS = st.lists(st.integers(-20, 20).map(float), min_size=1, max_size=8)
LABELS = {"title": "A finding", "xlabel": "epoch", "ylabel": "loss"}


pytestmark = pytest.mark.usefixtures("drawing_without_a_display")


@pytest.fixture
def displayed(drawing_without_a_display, monkeypatch):
    """What is displayed, as pairs of data and metadata, in a notebook."""
    bundles = []
    monkeypatch.setattr(IPython, "get_ipython", lambda: "a notebook")

    def display(data, *, metadata, raw):
        assert raw
        bundles.append((data, metadata))

    monkeypatch.setattr(IPython.display, "display", display)
    return bundles


def labels_of(axes):
    axes.figure.draw_without_rendering()
    return {text.get_text(): text for text in axes.texts}


# The style


def test_any_seven_lines_differ_in_colour_and_in_style_and_many_in_one_of_them():
    looks = list(plt.rcParams["axes.prop_cycle"])
    assert len({tuple(look.values()) for look in looks}) == len(looks) == 49
    for key in ("color", "linestyle"):
        assert len({look[key] for look in looks[:7]}) == 7


@pytest.mark.parametrize("colour", plots.COLOURS[: plots.MOST_LABELS])
def test_a_name_in_the_colour_of_its_line_can_be_read_on_white(colour):
    # The contrast that WCAG 2.2 (1.4.3 and 1.4.11) asks of graphics and of large text.
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for part in to_rgb(colour)
    )
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    assert 1.05 / (luminance + 0.05) >= 3


# show


@example(alt='"1" < 2 & 3')
@given(alt=st.text(st.characters(blacklist_categories=["Cs", "Cc"])).filter(str.strip))
@settings(max_examples=20)
def test_the_text_reaches_the_reader_by_each_way_that_a_front_end_may_take(alt):
    figure = plt.figure(figsize=(0.5, 0.5))
    data, metadata = plots.bundle(figure, alt)
    plt.close(figure)
    images = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attributes: images.append((tag, dict(attributes)))
    parser.feed(data["text/html"])
    ((tag, attributes),) = images
    assert tag == "img" and attributes["alt"] == alt
    assert attributes["src"] == "data:image/png;base64," + data["image/png"]
    assert data["text/plain"] == alt
    assert metadata["image/png"]["alt"] == alt


def test_what_is_shown_is_the_figure(displayed):
    figure = plt.figure(figsize=(2, 1), facecolor="#0072B2")
    plots.show(figure, "a blue field")
    ((data, _),) = displayed
    image = Image.open(io.BytesIO(base64.b64decode(data["image/png"]))).convert("RGB")
    assert image.size == (2 * figure.dpi, figure.dpi)
    assert not plt.fignum_exists(figure.number)
    assert image.getcolors() == [(image.width * image.height, (0x00, 0x72, 0xB2))]


@pytest.mark.parametrize("where", ["without IPython", "in a script that imports IPython"])
def test_outside_a_notebook_a_figure_is_only_closed(monkeypatch, capsys, where):
    if where == "without IPython":
        monkeypatch.delitem(sys.modules, "IPython")
    figure = plt.figure()
    plots.show(figure, "nothing")
    assert not plt.fignum_exists(figure.number)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("alt", ["", " \n"])
def test_a_figure_without_a_text_is_refused(displayed, alt):
    with pytest.raises(ValueError, match="alt is empty"):
        plots.show(plt.figure(), alt)
    assert displayed == []


# images


def test_images_in_no_column_are_refused():
    with pytest.raises(ValueError, match="columns must be at least 1, got 0"):
        plots.images(torch.rand(2, 1, 4, 4), columns=0)


@given(
    n=st.integers(1, 9),
    channels=st.sampled_from([1, 3]),
    size=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    columns=st.integers(1, 10),
)
@settings(max_examples=10)
def test_each_image_is_drawn_once_in_rows_of_at_most_so_many_columns(n, channels, size, columns):
    batch = torch.linspace(-0.5, 1.5, n * channels * math.prod(size)).reshape(n, channels, *size)
    figure = plots.images(batch.clone().requires_grad_(), columns=columns)
    drawn = [axes.images[0] for axes in figure.axes if axes.images]
    expected = batch.clamp(0, 1).permute(0, 2, 3, 1).squeeze(-1).numpy()
    assert len(drawn) == n
    for image, pixels in zip(drawn, expected, strict=True):
        np.testing.assert_array_equal(image.get_array().squeeze(), pixels.squeeze())
        if channels == 1:
            assert (image.norm.vmin, image.norm.vmax) == (0, 1)
    grid = figure.axes[0].get_gridspec()
    assert (grid.nrows, grid.ncols) == (math.ceil(n / columns), min(n, columns))
    assert not any(axes.axison for axes in figure.axes)
    plt.close(figure)


def test_each_title_stands_above_its_image():
    figure = plots.images(torch.rand(3, 1, 4, 4), ["a", "b", "c"], columns=2)
    assert [axes.get_title() for axes in figure.axes] == ["a", "b", "c", ""]


@pytest.mark.parametrize(
    "image", [torch.tensor(128, dtype=torch.uint8), torch.tensor(128 / 255).bfloat16()]
)
def test_bytes_and_half_precision_are_drawn_as_the_same_grey(image):
    figure = plots.images(image.expand(1, 1, 2, 2))
    drawn = figure.axes[0].images[0].get_array()
    assert drawn.max() == pytest.approx(128 / 255, abs=0.002)


@pytest.mark.parametrize(
    ("batch", "titles", "message"),
    [
        (torch.ones(1, 1, 2, 2, dtype=torch.int64), None, "which torch.int64 is white"),
        (torch.rand(2, 1, 4, 4), [], "0 titles for 2 images"),
        (torch.rand(2, 1, 4, 4), ["a", "b", "c"], "3 titles for 2 images"),
        (torch.rand(0, 1, 4, 4), None, r"\(0, 1, 4, 4\)"),
        (torch.rand(2, 4, 4, 4), None, r"\(2, 4, 4, 4\)"),
        (torch.rand(3, 4, 4), None, r"\(3, 4, 4\)"),
    ],
)
def test_what_is_no_batch_of_images_with_their_titles_is_refused(batch, titles, message):
    with pytest.raises(ValueError, match=message):
        plots.images(batch, titles)


# curves


@pytest.mark.parametrize(
    "values",
    [
        [3, 2, 1],
        [torch.tensor(3.0, requires_grad=True), torch.tensor(2.0), 1.0],
        torch.tensor([3.0, 2.0, 1.0], requires_grad=True),
        torch.tensor([3.0, 2.0, 1.0]).bfloat16(),
    ],
)
def test_a_curve_has_its_values_over_1_2_3(values):
    _, axes = plots.curves({"loss": values}, **LABELS)
    np.testing.assert_array_equal(axes.lines[0].get_xydata(), [(1, 3), (2, 2), (3, 1)])
    assert all(tick == int(tick) for tick in axes.get_xticks())


def test_curves_of_different_lengths_share_x_from_its_start():
    _, axes = plots.curves({"a": [3, 2], "b": [1, 2, 3]}, x=[0.1, 0.2, 0.4], **LABELS)
    assert [line.get_xdata().tolist() for line in axes.lines] == [[0.1, 0.2], [0.1, 0.2, 0.4]]


def test_the_figure_says_what_it_was_told_to():
    figure, axes = plots.curves({"a": [1, 2]}, yscale="log", **LABELS)
    assert axes.get_title("left") == "A finding"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("epoch", "loss")
    assert axes.get_yscale() == "log"
    assert axes.figure is figure


@given(
    ends=st.lists(st.floats(0.01, 1), min_size=1, max_size=plots.MOST_LABELS),
    yscale=st.sampled_from(["linear", "log"]),
)
@settings(max_examples=8)
def test_up_to_five_curves_carry_their_names_without_overlap_inside_the_figure(ends, yscale):
    series = {f"series {i}": [1.0, end] for i, end in enumerate(ends)}
    figure, axes = plots.curves(series, yscale=yscale, **LABELS)
    labels = labels_of(axes)
    assert set(labels) == set(series) and axes.get_legend() is None
    boxes = [label.get_window_extent() for label in labels.values()]
    for one, other in itertools.combinations(boxes, 2):
        # The boxes hold room for accents and descenders that may touch the next.
        assert min(one.y1, other.y1) - max(one.y0, other.y0) < 0.25 * one.height
    for box in boxes:
        assert box.x1 <= figure.bbox.x1 and box.y0 >= figure.bbox.y0 and box.y1 <= figure.bbox.y1
    for line in axes.lines:
        assert labels[line.get_label()].get_color() == line.get_color()
    plt.close(figure)


def test_more_than_five_curves_have_a_legend_beside_the_axes():
    names = [f"series {i}" for i in range(plots.MOST_LABELS + 1)]
    figure, axes = plots.curves({name: [1, 2] for name in names}, **LABELS)
    figure.draw_without_rendering()
    legend = axes.get_legend()
    assert [text.get_text() for text in legend.get_texts()] == names
    assert not axes.texts
    assert legend.get_window_extent().x0 >= axes.bbox.x1
    assert legend.get_window_extent().x1 <= figure.bbox.x1


@pytest.mark.parametrize("yscale, tail", [("linear", math.nan), ("linear", math.inf), ("log", -1)])
def test_a_name_stands_at_the_last_point_that_can_be_drawn(yscale, tail):
    _, axes = plots.curves({"a": [4.0, 2.0, tail]}, yscale=yscale, **LABELS)
    assert tuple(labels_of(axes)["a"].xy) == (2, 2)


@pytest.mark.parametrize("yscale, values", [("linear", [math.nan]), ("linear", []), ("log", [-1])])
def test_a_curve_without_a_point_to_draw_is_refused_by_its_name(yscale, values):
    with pytest.raises(ValueError, match="series 'b' has no"):
        plots.curves({"a": [1.0, 2.0], "b": values}, yscale=yscale, **LABELS)


def test_no_curves_at_all_are_refused():
    with pytest.raises(ValueError, match="series is empty"):
        plots.curves({}, **LABELS)


# spread


@example(positions=[0.0, 0.0, 13.0], gap=10.0, lowest=-50.0)  # a moved pair meets a third
@given(positions=POSITIONS, gap=st.floats(0, 20), lowest=st.floats(-50, 50))
def test_spread_keeps_the_order_the_gap_and_the_bound(positions, gap, lowest):
    moved = plots.spread(positions, gap, lowest)
    order = np.argsort(positions, kind="stable")
    steps = np.diff(np.array(moved)[order])
    assert (steps >= gap - 1e-9).all()
    assert min(moved) >= lowest


@given(positions=POSITIONS, gap=st.floats(0, 20), lowest=st.floats(-50, 50))
def test_spread_leaves_alone_what_is_far_enough_apart(positions, gap, lowest):
    moved = plots.spread(positions, gap, lowest)
    assert plots.spread(moved, gap, lowest) == pytest.approx(moved)


@given(positions=POSITIONS, gap=st.floats(0, 20), data=st.data())
def test_spread_moves_no_more_than_any_other_way_to_make_room(positions, gap, data):
    order = np.argsort(positions, kind="stable")
    steps = data.draw(
        st.lists(st.floats(gap, gap + 9), min_size=len(order) - 1, max_size=len(order) - 1)
    )
    start = data.draw(st.floats(-100, 100))
    other = np.empty(len(order))
    other[order] = start + np.cumsum([0.0, *steps])
    least = np.square(np.subtract(plots.spread(positions, gap), positions)).sum()
    assert least <= np.square(other - positions).sum() + 1e-6


@pytest.mark.parametrize(
    ("values", "places"),
    [
        ([1.0], [0]),
        ([1.0, 2.0], []),
        ([math.nan, 1.0, math.nan, 1.0, 2.0], [1]),
        ([1.0, math.inf, 3.0], [0, 2]),
        ([], []),
    ],
)
def test_a_value_without_a_neighbour_gets_a_marker(values, places):
    assert plots.alone(values) == places
    figure, axes = plt.subplots()
    if values:
        figure, axes = plots.curves({"a": values}, **LABELS)
        (line,) = axes.lines
        assert (line.get_marker(), line.get_markevery()) == ("o" if places else "", places)


@pytest.mark.parametrize("count", [2, 6])
def test_names_that_mean_something_to_matplotlib_are_drawn_as_they_are(count):
    _, axes = plots.curves({f"_Ba$$in{i}": [i, 1] for i in range(count)}, **LABELS)
    axes.figure.draw_without_rendering()  # not a formula, which "$$" would not be
    texts = axes.texts if count == 2 else axes.get_legend().get_texts()
    assert [text.get_text() for text in texts] == [rf" _Ba\$\$in{i}" for i in range(count)]
    plots.images(torch.rand(1, 1, 2, 2), ["Ba$$in"]).draw_without_rendering()


def test_many_lines_look_different():
    with plt.rc_context():
        plots.use_style()
        _, axes = plots.curves({str(i): [i, 1] for i in range(49)}, **LABELS)
    assert len({(line.get_color(), line._unscaled_dash_pattern) for line in axes.lines}) == 49


def test_a_value_on_the_limit_of_the_axes_is_the_last_one_drawn():
    for height in np.linspace(2, 6, 40):
        figure, axes = plt.subplots(figsize=(6.4, height))
        axes.plot([1, 2], [0.5, 1], label="accuracy")
        axes.set_ylim(0, 1)
        plots.label_ends(axes)
        assert axes.texts[0].xy == (2, 1)
        plt.close(figure)


@pytest.mark.parametrize("n", [0, plots.MOST_LABELS])
def test_a_series_without_a_value_is_refused_among_any_number(n):
    series = {f"series {i}": [1.0, 2.0] for i in range(n)}
    with pytest.raises(ValueError, match="series 'dead' has no value that can be drawn"):
        plots.curves({**series, "dead": [math.nan] * 2}, **LABELS)
    with pytest.raises(ValueError, match="logg"):
        plots.curves({"a": [1.0, 2.0]}, yscale="logg", **LABELS)
    assert plt.get_fignums() == []

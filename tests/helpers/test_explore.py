"""An explorer draws its first picture at once, and again for other values."""

import base64

import matplotlib.pyplot as plt
import pytest
from ipywidgets import Widget, interactive
from matplotlib.figure import Figure

from helpers import plots
from helpers.explore import explore


@pytest.fixture(autouse=True)
def no_widget_left():
    """Widgets that are left when Python ends each print an error."""
    yield
    Widget.close_all()


@pytest.fixture
def made(monkeypatch):
    """The widgets that were made by ``interactive``; pictures are their figures' titles."""
    widgets = []

    class Kept(interactive):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            widgets.append(self)

    def bundle(figure, alt):
        return {"text/html": figure.axes[0].get_title()}, {"image/png": {"alt": alt}}

    monkeypatch.setattr("ipywidgets.interactive", Kept)
    monkeypatch.setattr(plots, "bundle", bundle)
    return widgets


def draw(power: float, name: str) -> Figure:
    figure, axes = plt.subplots()
    axes.set_title(f"{name} {power}")
    plt.close(figure)
    return figure


def test_each_argument_gets_a_control_that_draws_anew(made):
    explore(draw, alt="A curve.", power=(0.0, 2.0, 0.5), name=["a", "b"])
    power, name, picture, _ = made[0].children
    assert (power.min, power.max, power.step) == (0.0, 2.0, 0.5) and name.options == ("a", "b")
    assert picture.value == "a 1.0"
    power.value = 1.5
    assert picture.value == "a 1.5"
    name.value = "b"
    assert picture.value == "b 1.5" and plt.get_fignums() == []


def test_an_error_in_the_drawing_is_not_hidden_and_the_next_picture_clears_it(made, monkeypatch):
    cleared = []
    monkeypatch.setattr("IPython.display.clear_output", lambda: cleared.append(True))

    def reciprocal(power: float = 1.0) -> Figure:
        return draw(1 / power, "")

    explore(reciprocal, alt="A curve.", power=(0.0, 2.0, 0.5))
    with pytest.raises(ZeroDivisionError):
        made[0].f(power=0.0)
    assert cleared == []
    made[0].f(power=2.0)
    made[0].f(power=1.0)
    assert cleared == [True]


def test_the_controls_begin_at_the_defaults(made):
    def with_defaults(power: float = 0.5, name: str = "b", dots: int = 3) -> Figure:
        assert dots == 3  # no control was asked for
        return draw(power, name)

    explore(with_defaults, alt="A curve.", power=(0.0, 2.0, 0.5), name=["a", "b"])
    assert made[0].children[-2].value == "b 0.5"


def test_nothing_is_shown_in_an_output_widget(monkeypatch):
    """nbclient, which plays such a widget's front end, then may miss the end of the cell."""
    displayed = []
    monkeypatch.setattr("IPython.display.display", lambda *what, **_: displayed.append(what))
    explore(draw, alt="A curve.", power=(0.0, 2.0, 0.5), name=["a"])
    assert displayed == []


def test_a_saved_notebook_has_the_first_picture_and_its_text_beside_the_controls(monkeypatch):
    """A page that does not run notebooks, such as GitHub's or nbviewer's, shows the picture."""
    displayed = []
    monkeypatch.setattr("IPython.get_ipython", object)
    monkeypatch.setattr(
        "IPython.display.display", lambda data, metadata, raw: displayed.append((data, metadata))
    )
    explore(draw, alt="A curve.", power=(0.0, 2.0, 0.5), name=["a"])
    data, metadata = displayed[-1]
    assert data["application/vnd.jupyter.widget-view+json"]["model_id"]
    assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG") and len(displayed) == 1
    assert data["text/plain"] == metadata["image/png"]["alt"] == "A curve."


def test_a_control_without_a_parameter_is_refused(made):
    with pytest.raises(ValueError, match=r"no parameter of draw for powr: it has \['power'"):
        explore(draw, alt="A curve.", powr=(0.0, 2.0, 0.5), name=["a"])


def test_no_figure_of_a_drawing_that_failed_stays_open(made):
    def half_drawn(power: float = 1.0) -> Figure:
        figure, _ = plt.subplots()
        if power == 0:
            raise ZeroDivisionError
        plt.close(figure)
        return draw(power, "")

    others, _ = plt.subplots()
    explore(half_drawn, alt="A curve.", power=(0.0, 2.0, 0.5))
    with pytest.raises(ZeroDivisionError):
        made[0].f(power=0.0)
    assert plt.get_fignums() == [others.number]
    plt.close(others)

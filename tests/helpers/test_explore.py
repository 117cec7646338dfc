"""An explorer draws its first picture at once, and again for other values."""

from types import SimpleNamespace

import matplotlib.pyplot as plt
import pytest
from ipywidgets import Widget
from matplotlib.figure import Figure

from helpers import plots
from helpers.explore import explore


@pytest.fixture(autouse=True)
def no_widget_left():
    """Widgets that are left when Python ends each print an error."""
    yield
    Widget.close_all()


@pytest.fixture
def shown(monkeypatch):
    """The figures that were shown, each with its alternative text."""
    figures = []
    monkeypatch.setattr(plots, "show", lambda figure, alt: figures.append((figure, alt)))
    return figures


@pytest.fixture
def controls(monkeypatch):
    """What ``interactive`` was called with."""
    seen = {}

    def interactive(show, **values):
        seen.update(values, show=show)
        return SimpleNamespace(kwargs=values)

    monkeypatch.setattr("ipywidgets.interactive", interactive)
    return seen


def draw(power: float, name: str) -> Figure:
    figure, axes = plt.subplots()
    axes.set_title(f"{name} {power}")
    plt.close(figure)
    return figure


def test_each_argument_gets_a_control_that_draws_anew_with_the_same_text(controls, shown):
    explore(draw, alt="A curve.", power=(0.0, 2.0, 0.5), name=["a", "b"])
    assert controls["power"] == (0.0, 2.0, 0.5) and controls["name"] == ["a", "b"]
    controls["show"](power=1.5, name="b")
    controls["show"](power=0.5, name="a")
    titles = [figure.axes[0].get_title() for figure, _ in shown]
    assert titles == ["b 1.5", "a 0.5"] and {alt for _, alt in shown} == {"A curve."}


def test_an_error_in_the_drawing_is_not_hidden(controls):
    explore(lambda power: 1 / power, alt="A curve.", power=(0, 1))
    with pytest.raises(ZeroDivisionError):
        controls["show"](power=0)


def test_the_controls_begin_at_the_defaults(shown):
    def with_defaults(power: float = 0.5, name: str = "b", dots: int = 3) -> Figure:
        assert dots == 3  # no control was asked for
        return draw(power, name)

    explore(with_defaults, alt="A curve.", power=(0.0, 2.0, 0.5), name=["a", "b"])
    assert [figure.axes[0].get_title() for figure, _ in shown] == ["b 0.5"]


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
    assert data["image/png"] == displayed[0][0]["image/png"]
    assert data["text/plain"] == metadata["image/png"]["alt"] == "A curve."

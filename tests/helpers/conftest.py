"""What tests of figures share."""

import matplotlib.pyplot as plt
import pytest

from helpers import plots


@pytest.fixture
def drawing_without_a_display():
    plt.switch_backend("agg")
    with plt.rc_context():
        plots.use_style()
        yield
        plt.close("all")

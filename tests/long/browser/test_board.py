"""TensorBoard shows what was logged: as a frame in JupyterLab, and every dashboard by itself."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
import urllib.parse
import urllib.request

import pytest

from helpers import boards, checkout
from tests.long.browser import notebooks, pages
from tests.notebooks.samples import code, notebook

SECONDS_TO_LOAD = 60

LOG = """\
from helpers import boards, runtime
from torch.utils.tensorboard import SummaryWriter

logdir = runtime.scratch("browser")
with SummaryWriter(str(logdir / "my-run")) as writer:
    for step in range(10):
        writer.add_scalar("my/loss", 1 / (1 + step), step)"""
SHOW = "boards.prepare()\n%load_ext tensorboard\n%tensorboard --logdir {logdir} --port 0"


def test_the_board_in_jupyterlab_shows_the_curve_of_the_run(open_notebook, page):
    opened = open_notebook(notebook(code(LOG, "log"), code(SHOW, "show")), "board.ipynb")
    assert notebooks.errors(opened.run_all()) == []
    opened.scroll_to("show")
    page.see_in_frame("text=my/loss")
    page.see_in_frame("text=my-run")
    page.see_drawn("line-chart canvas")
    assert page.errors == []


# What chapter 06 logs, on every dashboard


@pytest.fixture(scope="module")
def everything(browser, lab, course, scratch):
    """The log directory of chapter 06, after all of it ran in JupyterLab."""
    original = checkout.root() / "notebooks" / "06_tensorboard.ipynb"
    (course / "work" / original.name).write_bytes(original.read_bytes())
    page = pages.Page(browser)
    opened = notebooks.Notebook(page, lab, original.name)
    ran = opened.run_all()
    opened.close()
    page.close()
    assert notebooks.errors(ran) == []
    return scratch / "06"


@pytest.fixture(scope="module")
def logdir(everything, tmp_path_factory):
    """A copy of those runs that say most about each kind of data.

    Of more than 40 runs, TensorBoard shows none before they are ticked.
    """
    folder = tmp_path_factory.mktemp("logs")
    tags = boards.tags(everything)
    for kind in {tag.kind for tag in tags}:
        run = max((tag for tag in tags if tag.kind == kind), key=lambda tag: tag.count).run
        shutil.copytree(everything / run, folder / run, dirs_exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def url(logdir, tmp_path_factory):
    """The address of a TensorBoard that has read the directory."""
    log = tmp_path_factory.mktemp("board") / "log.txt"
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(logdir)]
    with log.open("w") as output:
        server = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", "0"], stdout=output, stderr=output
        )
    try:
        yield wait_for_dashboards(server, log)
    finally:
        server.terminate()
        server.wait(timeout=30)


def wait_for_dashboards(server, log):
    """The server's address, once it offers the projector, which it does last."""
    deadline = time.monotonic() + SECONDS_TO_LOAD
    while time.monotonic() < deadline and server.poll() is None:
        time.sleep(0.2)
        address = re.search(r"http://127\.0\.0\.1:\d+", log.read_text())
        if address and "projector" in offered(address[0]):
            return address[0]
    raise AssertionError(f"TensorBoard did not offer its dashboards:\n{log.read_text()}")


def offered(url):
    """The names of the dashboards for which the server has data."""
    with urllib.request.urlopen(f"{url}/data/plugins_listing") as answer:
        return {name for name, dashboard in json.load(answer).items() if dashboard["enabled"]}


# For each dashboard that lists tags: the kind of data, and what is drawn under a tag.
OF_TAGS = {
    "timeseries": ("scalar", "line-chart canvas"),
    "scalars": ("scalar", "path.line"),
    "images": ("image", "tf-image-loader img"),
    "audio": ("audio", "tf-audio-loader audio"),
    "distributions": ("histogram", "path.area"),
    "histograms": ("histogram", "path.outline"),
    "text": ("text", "tf-markdown-view"),
    "pr_curves": ("pr_curve", "path.line"),
}


@pytest.mark.parametrize("dashboard", OF_TAGS)
def test_a_dashboard_shows_a_tag_and_draws_what_was_logged_under_it(url, logdir, page, dashboard):
    kind, drawing = OF_TAGS[dashboard]
    tags = [tag for tag in boards.tags(logdir) if tag.kind == kind]
    tag = max(tags, key=lambda tag: tag.count).tag
    only = f"tagFilter=^{urllib.parse.quote(tag)}"
    page.page.goto(f"{url}/?{only}#{dashboard}&{only}")
    page.see(f"text={tag}")
    page.see(drawing)
    if drawing.endswith("canvas"):  # which is there before its lines are
        page.see_drawn(drawing)
    assert page.errors == []


def test_the_custom_scalars_have_the_charts_that_were_asked_for(url, logdir, page):
    charts = [chart for row in boards.layouts(logdir) for chart in row.charts.values()]
    page.page.goto(f"{url}/#custom_scalars")
    for title in charts[0]:
        page.see(f"text={title}")
    page.see("path.line")
    assert page.errors == []


def test_a_graph_shows_the_parts_of_the_model(url, logdir, page):
    names = {node.name.split("/")[0] for row in boards.graphs(logdir) for node in row.nodes}
    page.page.goto(f"{url}/#graphs")
    page.see(", ".join(f'g.node[data-name="{name}"]' for name in sorted(names)))
    assert page.errors == []


def test_the_table_of_hyperparameters_has_their_names(url, logdir, page):
    page.page.goto(f"{url}/#hparams")
    for trial in boards.hparams(logdir)[:1]:
        for name in (*trial.hparams, *trial.metrics):
            page.see(f"text={name}")
    assert page.errors == []


def test_a_mesh_is_drawn(url, page):
    page.page.goto(f"{url}/#mesh")
    page.see_drawn("tf-mesh-loader canvas", pixels=1000)
    assert page.errors == []


def test_the_projector_shows_the_points_of_an_embedding(url, logdir, page):
    sizes = {len(row.vectors) for row in boards.embeddings(logdir)}
    page.page.goto(f"{url}/#projector")
    shown = page.see("text=/Points: [1-9]/").inner_text()
    assert int(shown.split()[-1]) in sizes
    named = page.page.frames[-1].locator("paper-item").all_inner_texts()
    assert any(row.tag in name for row in boards.embeddings(logdir) for name in named)
    assert page.errors == []


def test_every_dashboard_with_data_is_one_of_these(url):
    others = {"custom_scalars", "graphs", "hparams", "mesh", "projector"}
    assert offered(url) == {*OF_TAGS, *others}

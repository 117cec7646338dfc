"""TensorBoard's files read back and drawn, and ``%tensorboard`` made dependable.

``reading`` gives what a ``SummaryWriter`` logged as rows, ``figures`` draws it as the dashboards
do, ``servers`` has to do with the program that shows the dashboards.
"""
# ruff: noqa: F401

from helpers.boards.events import next_second, runs
from helpers.boards.figures import (
    draw_distributions,
    draw_histograms,
    draw_images,
    draw_scalars,
    smoothed,
)
from helpers.boards.reading import (
    embeddings,
    graphs,
    histograms,
    hparams,
    images,
    layouts,
    meshes,
    pr_curves,
    scalars,
    sounds,
    tags,
    tensors,
    texts,
)
from helpers.boards.servers import prepare, running, stop

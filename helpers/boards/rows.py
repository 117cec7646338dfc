"""What is read back from event files: one row for one thing that was logged.

Rows are named tuples, so that a list of them prints as a table of names and values. ``run`` is the
run's name, ``tag`` what the ``add_*`` method was given, ``step`` its ``global_step`` (0 without
one), ``wall_time`` the seconds since 1970 at which it was called, or its ``walltime``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Tag(NamedTuple):
    """How many times (``count``) a run logged a ``kind`` of thing under one tag."""

    run: str
    kind: str
    tag: str
    count: int


class Point(NamedTuple):
    """A number, from ``add_scalar`` or ``add_scalars``."""

    run: str
    tag: str
    step: int
    wall_time: float
    value: float


class Histogram(NamedTuple):
    """Counts of values, from ``add_histogram`` or ``add_histogram_raw``.

    ``counts[i]`` values lay between ``edges[i]`` and ``edges[i + 1]``: there is one edge more than
    there are counts.
    """

    run: str
    tag: str
    step: int
    wall_time: float
    edges: np.ndarray
    counts: np.ndarray


class Picture(NamedTuple):
    """An image, from ``add_image``, ``add_images``, ``add_image_with_boxes``, ``add_figure``.

    ``pixels`` is uint8 of shape (frames, height, width, channels). A video has several frames.
    """

    run: str
    tag: str
    step: int
    wall_time: float
    pixels: np.ndarray


class Sound(NamedTuple):
    """What ``add_audio`` logged: float32 ``samples`` in [-1, 1], ``rate`` of them a second."""

    run: str
    tag: str
    step: int
    wall_time: float
    samples: np.ndarray
    rate: int


class Text(NamedTuple):
    """What ``add_text`` logged."""

    run: str
    tag: str
    step: int
    wall_time: float
    text: str


class Curve(NamedTuple):
    """A precision-recall curve, from ``add_pr_curve`` or ``add_pr_curve_raw``.

    Seven arrays of shape (n,). A sample counts as predicted positive from ``thresholds[i]`` on;
    thresholds rise from 0 to 1.
    """

    run: str
    tag: str
    step: int
    wall_time: float
    thresholds: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    true_positives: np.ndarray
    false_positives: np.ndarray
    true_negatives: np.ndarray
    false_negatives: np.ndarray


class Array(NamedTuple):
    """What ``add_tensor`` logged, with its shape and dtype."""

    run: str
    tag: str
    step: int
    wall_time: float
    values: np.ndarray


class Mesh(NamedTuple):
    """What ``add_mesh`` logged: float32 of shape (batch, n, 3) each; ``None`` for what it left out.

    ``faces`` has three numbers of vertices a face.
    """

    run: str
    tag: str
    step: int
    wall_time: float
    vertices: np.ndarray
    colors: np.ndarray | None
    faces: np.ndarray | None


class Node(NamedTuple):
    """A node of a graph: its name, its operation, and the names of the nodes it reads from."""

    name: str
    op: str
    inputs: tuple[str, ...]


class Graph(NamedTuple):
    """A model's graph, from ``add_graph`` or ``add_onnx_graph``."""

    run: str
    wall_time: float
    nodes: list[Node]


class Layout(NamedTuple):
    """Charts of the custom scalars, in the form that ``add_custom_scalars`` takes."""

    run: str
    charts: dict[str, dict[str, list]]


class Embedding(NamedTuple):
    """What ``add_embedding`` wrote for the projector.

    ``vectors`` is float32 of shape (n, d). ``metadata`` has ``n`` strings a column; without a
    header, the column is called ``"label"``. ``sprite`` holds all images in one, uint8 of shape
    (height, width, 3), or is ``None``.
    """

    run: str
    tag: str
    vectors: np.ndarray
    metadata: dict[str, list[str]]
    sprite: np.ndarray | None


class Trial(NamedTuple):
    """What ``add_hparams`` logged: hyperparameters, and the last value of each metric."""

    run: str
    hparams: dict[str, float | str | bool]
    metrics: dict[str, float]

"""Reads back everything that a ``SummaryWriter`` logged.

Each function reads all that is on disk: no point is left out by sampling. Rows come in the order of
run, tag, and place in the file; ``tag`` and ``run`` select. What a restart with ``purge_step``
hides is left out, as TensorBoard's ``EventAccumulator`` does. (The board's quick reader does not
know ``purge_step``: it may still show such points.) Every function raises ``FileNotFoundError`` for
a log directory that does not exist or holds no event file, and ``KeyError`` for a tag or a run that
is not there; the message lists those that are.
"""

from __future__ import annotations

import io
import wave
from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from google.protobuf import text_format
from PIL import Image, ImageSequence
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.graph_pb2 import GraphDef
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.compat.proto.types_pb2 import DataType
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout as LayoutProto
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tensorboard.plugins.mesh.plugin_data_pb2 import MeshPluginData
from tensorboard.plugins.projector.projector_config_pb2 import EmbeddingInfo, ProjectorConfig
from tensorboard.util.tensor_util import make_ndarray

from helpers.boards.events import LogDir, events, files
from helpers.boards.rows import (
    Array,
    Curve,
    Embedding,
    Graph,
    Histogram,
    Layout,
    Mesh,
    Node,
    Picture,
    Point,
    Sound,
    Tag,
    Text,
    Trial,
)


def tags(logdir: LogDir) -> list[Tag]:
    """What there is: how often each run logged which kind of thing under which tag.

    Kinds are ``"scalar"``, ``"histogram"``, ``"image"``, ``"audio"``, ``"text"``, ``"pr_curve"``,
    ``"graph"``, ``"mesh"``, ``"hparams"``, ``"custom_scalars"``, ``"embedding"``, ``"tensor"``.
    """
    counted = Counter((entry.run, entry.kind, entry.tag) for entry in _entries(logdir))
    counted.update((e.run, "embedding", e.tag) for e in embeddings(logdir))
    return [Tag(*key, count) for key, count in sorted(counted.items())]


def scalars(
    logdir: LogDir, tag: str | None = None, run: str | None = None, *, purge: bool = True
) -> list[Point]:
    """The numbers logged by ``add_scalar`` and ``add_scalars``.

    They are stored as float32, unless ``new_style`` and ``double_precision`` were both given.
    ``purge=False`` gives also the points that a restart with ``purge_step`` hides. Those of
    ``add_scalars`` it never hides, on the board neither: each of its lines is a run of its own.
    """
    return [
        Point(*entry.place, _scalar(entry.value))
        for entry in _select(logdir, "scalar", tag, run, purge)
    ]


def histograms(logdir: LogDir, tag: str | None = None, run: str | None = None) -> list[Histogram]:
    """The histograms logged by ``add_histogram`` and ``add_histogram_raw``."""
    return [
        Histogram(*entry.place, *_histogram(entry.value))
        for entry in _select(logdir, "histogram", tag, run)
    ]


def images(logdir: LogDir, tag: str | None = None, run: str | None = None) -> list[Picture]:
    """The pictures logged by ``add_image`` and all that makes pictures: figures, boxes, videos."""
    return [
        Picture(*entry.place, _frames(entry.value.image.encoded_image_string))
        for entry in _select(logdir, "image", tag, run)
    ]


def sounds(logdir: LogDir, tag: str | None = None, run: str | None = None) -> list[Sound]:
    """The sounds logged by ``add_audio``, which rounds to 16 bits."""
    return [
        Sound(*entry.place, *_samples(entry.value.audio.encoded_audio_string))
        for entry in _select(logdir, "audio", tag, run)
    ]


def texts(logdir: LogDir, tag: str | None = None, run: str | None = None) -> list[Text]:
    """The texts logged by ``add_text``."""
    return [
        Text(*entry.place, entry.value.tensor.string_val[0].decode())
        for entry in _select(logdir, "text", tag, run)
    ]


def pr_curves(logdir: LogDir, tag: str | None = None, run: str | None = None) -> list[Curve]:
    """The precision-recall curves logged by ``add_pr_curve`` and ``add_pr_curve_raw``."""
    rows = []
    for entry in _select(logdir, "pr_curve", tag, run):
        *counts, precision, recall = make_ndarray(entry.value.tensor)
        thresholds = np.linspace(0, 1, len(precision))
        rows.append(Curve(*entry.place, thresholds, precision, recall, *counts))
    return rows


def tensors(logdir: LogDir, tag: str | None = None, run: str | None = None) -> list[Array]:
    """The tensors logged by ``add_tensor``.

    Raises ``ValueError`` for a dtype that ``add_tensor`` writes so that it can't be read.
    """
    rows = []
    for entry in _select(logdir, "tensor", tag, run):
        try:
            rows.append(Array(*entry.place, make_ndarray(entry.value.tensor)))
        except (OverflowError, TypeError, ValueError) as error:
            name = DataType.Name(entry.value.tensor.dtype).removeprefix("DT_").lower()
            raise ValueError(
                f"tensor {entry.tag!r} of run {entry.run!r} can't be read: add_tensor writes "
                f"{name} in a form that no reader understands; log tensor.float() or tensor.int() "
                "instead"
            ) from error
    return rows


def meshes(logdir: LogDir, tag: str | None = None, run: str | None = None) -> list[Mesh]:
    """The meshes and point clouds logged by ``add_mesh``."""
    rows = []
    for entry in _select(logdir, "mesh", tag, run):
        found = {}  # a mesh is an event: a value for each part that was logged
        for value in entry.value:
            part = MeshPluginData.FromString(value.metadata.plugin_data.content)
            found[part.content_type] = make_ndarray(value.tensor)
        kinds = (MeshPluginData.VERTEX, MeshPluginData.COLOR, MeshPluginData.FACE)
        rows.append(Mesh(*entry.place, *map(found.get, kinds)))
    return rows


def graphs(logdir: LogDir) -> list[Graph]:
    """The graphs logged by ``add_graph`` and ``add_onnx_graph``."""
    rows = []
    for entry in _select(logdir, "graph"):
        nodes = GraphDef.FromString(entry.value).node
        named = [Node(node.name, node.op, tuple(node.input)) for node in nodes]
        rows.append(Graph(entry.run, entry.wall_time, named))
    return rows


def layouts(logdir: LogDir) -> list[Layout]:
    """The charts that ``add_custom_scalars`` and its two relatives asked for."""
    rows = []
    for entry in _select(logdir, "custom_scalars"):
        (encoded,) = entry.value.tensor.string_val
        charts = {
            category.title: {chart.title: _chart(chart) for chart in category.chart}
            for category in LayoutProto.FromString(encoded).category
        }
        rows.append(Layout(entry.run, charts))
    return rows


def hparams(logdir: LogDir) -> list[Trial]:
    """The runs for which ``add_hparams`` was called, each with its hyperparameters and metrics."""
    trials = []
    for run, logged in groupby(_entries(logdir), key=lambda entry: entry.run):
        entries = list(logged)
        data = {
            entry.tag: HParamsPluginData.FromString(entry.value.metadata.plugin_data.content)
            for entry in entries
            if entry.kind == "hparams"
        }
        if "_hparams_/session_start_info" not in data:
            continue
        experiment = data["_hparams_/experiment"].experiment
        values = data["_hparams_/session_start_info"].session_start_info.hparams
        last = {entry.tag: _scalar(entry.value) for entry in entries if entry.kind == "scalar"}
        chosen = {h.name: values[h.name] for h in experiment.hparam_infos}
        metrics = [metric.name.tag for metric in experiment.metric_infos]
        trials.append(
            Trial(
                run,
                {name: getattr(value, value.WhichOneof("kind")) for name, value in chosen.items()},
                {name: last[name] for name in metrics if name in last},
            )
        )
    return trials


def embeddings(logdir: LogDir) -> list[Embedding]:
    """The embeddings that ``add_embedding`` wrote for the projector, in files of their own.

    A tag is the one that the projector shows: what was given, and the step, as in
    ``"digits:00001"``.
    """
    rows = []
    for run in files(logdir):
        folder = Path(logdir, run).expanduser()
        config = folder / "projector_config.pbtxt"
        if config.is_file():
            projector = text_format.Parse(config.read_text("utf-8"), ProjectorConfig())
            rows += [_embedding(run, folder, info) for info in projector.embeddings]
    return rows


class Entry(NamedTuple):
    """One thing that was logged, not yet decoded."""

    run: str
    tag: str
    step: int
    wall_time: float
    kind: str
    value: Any  # a Summary.Value; for a mesh those of the whole event; for a graph its bytes

    @property
    def place(self) -> tuple[str, str, int, float]:
        """What every row begins with."""
        return self[:4]


def _select(
    logdir: LogDir,
    kind: str,
    tag: str | None = None,
    run: str | None = None,
    purge: bool = True,
) -> list[Entry]:
    entries = [entry for entry in _entries(logdir, run, purge) if entry.kind == kind]
    known = {entry.tag for entry in entries}
    if tag is not None and tag not in known:
        raise KeyError(f"no {kind} has the tag {tag!r}: there is {_listed(known)}")
    chosen = [entry for entry in entries if tag in (None, entry.tag)]
    return sorted(chosen, key=lambda entry: (entry.run, entry.tag))


def _entries(logdir: LogDir, run: str | None = None, purge: bool = True) -> Iterator[Entry]:
    by_run = files(logdir)
    if run is not None and run not in by_run:
        raise KeyError(f"no run {run!r}: there is {_listed(by_run)}")
    for name in [run] if run else by_run:
        for event in events(by_run[name], purge):
            for kind, tag, value in _logged(event):
                yield Entry(name, tag, event.step, event.wall_time, kind, value)


def _listed(names: Any) -> str:
    return ", ".join(map(repr, sorted(names))) or "none"


# By the field that holds the value, or else by the plugin that it is for.
KINDS = {
    "simple_value": "scalar",
    "histo": "histogram",
    "image": "image",
    "audio": "audio",
    "scalars": "scalar",
    "pr_curves": "pr_curve",
}


def _logged(event: Event) -> Iterator[tuple[str, str, Any]]:
    """Kind, tag and value of each thing in an event."""
    if event.graph_def:
        yield "graph", "graph", event.graph_def
    for value in event.summary.value:
        plugin = value.metadata.plugin_data.plugin_name
        kind = KINDS.get(value.WhichOneof("value")) or KINDS.get(plugin, plugin)
        if kind == "mesh":
            part = MeshPluginData.FromString(value.metadata.plugin_data.content)
            if part.content_type == MeshPluginData.VERTEX:
                yield kind, part.name, event.summary.value
        elif kind == "text":
            yield kind, value.tag.removesuffix("/text_summary"), value
        elif kind:
            yield kind, value.tag, value


def _scalar(value: Summary.Value) -> float:
    if value.HasField("tensor"):
        return make_ndarray(value.tensor).item()
    return value.simple_value


def _histogram(value: Summary.Value) -> tuple[np.ndarray, np.ndarray]:
    """Edges and counts. On disk, each bucket has only its upper edge."""
    limits, counts = np.array(value.histo.bucket_limit), np.array(value.histo.bucket)
    if len(counts) and counts[0] == 0:  # add_histogram begins with an empty bucket
        return limits, counts[1:]
    return np.concatenate([[min(limits[0], value.histo.min)], limits]), counts


def _frames(encoded: bytes) -> np.ndarray:
    image = Image.open(io.BytesIO(encoded))
    mode = image.mode if image.mode in ("L", "RGB", "RGBA") else "RGB"
    frames = [np.asarray(frame.convert(mode)) for frame in ImageSequence.Iterator(image)]
    return np.stack([frame.reshape(*frame.shape[:2], -1) for frame in frames])


def _samples(encoded: bytes) -> tuple[np.ndarray, int]:
    with wave.open(io.BytesIO(encoded)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        return (samples / np.iinfo(np.int16).max).astype(np.float32), file.getframerate()


def _chart(chart: Any) -> list:
    if chart.HasField("multiline"):
        return ["Multiline", list(chart.multiline.tag)]
    (series,) = chart.margin.series
    return ["Margin", [series.value, series.lower, series.upper]]


def _embedding(run: str, folder: Path, info: EmbeddingInfo) -> Embedding:
    vectors = np.loadtxt(folder / info.tensor_path, np.float32, delimiter="\t", ndmin=2)
    metadata = {}
    if info.metadata_path:
        metadata = _columns(folder / info.metadata_path, len(vectors))
    sprite = None
    if info.HasField("sprite"):
        with Image.open(folder / info.sprite.image_path) as image:
            sprite = np.asarray(image.convert("RGB"))
    return Embedding(run, info.tensor_name, vectors, metadata, sprite)


def _columns(path: Path, n: int) -> dict[str, list[str]]:
    """The labels of ``n`` vectors, below a row of names if there are several columns."""
    text = path.read_bytes().decode().removesuffix("\n")
    rows = [line.split("\t") for line in text.split("\n")]
    header = rows.pop(0) if len(rows) == n + 1 and len(rows[0]) > 1 else ["label"]
    if len(rows) != n or any(len(row) != len(header) for row in rows):
        raise ValueError(
            f"{path} does not hold {n} labels, a line each: a label with a line end or a tab was "
            "logged, or one column with a name, which TensorBoard takes for a label"
        )
    return {name: [row[place] for row in rows] for place, name in enumerate(header)}

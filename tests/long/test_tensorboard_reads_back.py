"""Chapter 06's promise: whatever a ``SummaryWriter`` takes can be read back.

The methods and their arguments are collected from the installed torch. A method or an argument that
is new there, and that nothing here reads back, fails a test.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import inspect
import re
import sys
import time
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.tensorboard import SummaryWriter, summary

from helpers import boards
from tests.notebooks import definitions

METHODS = [name for name in dir(SummaryWriter) if name.startswith("add_")]
X = torch.randn(50, generator=torch.Generator().manual_seed(0))
IMAGE = (torch.arange(3 * 4 * 5).reshape(3, 4, 5) * 4).byte()
CLIP = torch.stack([torch.eye(6).roll(shift, 0) for shift in range(4)])[None, :, None]
VERTICES = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]])
TRUTH = torch.tensor([1, 0, 1, 1, 0, 0])
SCORES = torch.tensor([0.9, 0.2, 0.6, 0.4, 0.5, 0.1])


def arguments(function: Callable) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name != "self"]


@pytest.fixture(autouse=True)
def no_window():
    before = matplotlib.get_backend()
    plt.switch_backend("agg")
    yield
    plt.close("all")
    plt.switch_backend(before)


@functools.cache
def mended_make_video() -> Callable:
    return definitions.load("06_tensorboard", "make_video")


@pytest.fixture(autouse=True)
def own_make_video(monkeypatch):
    monkeypatch.setattr(summary, "make_video", mended_make_video())


@contextlib.contextmanager
def tracing_is_deprecated():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "(?s).*torch.jit.trace")
        yield


# What each method logs in the least that it takes, and what reads it back. ----------------------


def figure() -> plt.Figure:
    made, axes = plt.subplots(figsize=(1, 1), dpi=20)
    axes.plot([0, 1])
    return made


def onnx_file(folder: Path, operation: str = "Relu") -> str:
    helper = importlib.import_module("onnx.helper")
    x, y = (helper.make_tensor_value_info(name, 1, [2]) for name in ("x", "y"))
    graph = helper.make_graph([helper.make_node(operation, ["x"], ["y"])], "one", [x], [y])
    file = folder.with_name(f"{operation}.onnx")
    file.write_bytes(helper.make_model(graph).SerializeToString())
    return str(file)


def raw_histogram() -> dict:
    return {
        "min": -1.0,
        "max": 2.0,
        "num": 6,
        "sum": 1.0,
        "sum_squares": 5.0,
        "bucket_limits": [0.0, 1.0, 2.0],
        "bucket_counts": [1, 2, 3],
    }


def raw_curve(n: int = 3) -> dict:
    return {
        "true_positive_counts": list(range(n, 0, -1)),
        "false_positive_counts": [2.0] * n,
        "true_negative_counts": [3.0] * n,
        "false_negative_counts": list(range(n)),
        "precision": [0.5] * n,
        "recall": [1.0] * n,
        "num_thresholds": n,
    }


LEAST: dict[str, Callable[[Path], dict]] = {
    "add_audio": lambda _: {"tag": "t", "snd_tensor": X.clamp(-1, 1)},
    "add_custom_scalars": lambda _: {"layout": {"group": {"chart": ["Multiline", ["a"]]}}},
    "add_custom_scalars_marginchart": lambda _: {"tags": ["a", "b", "c"]},
    "add_custom_scalars_multilinechart": lambda _: {"tags": ["a", "b"]},
    "add_embedding": lambda _: {"mat": X.view(10, 5)},
    "add_figure": lambda _: {"tag": "t", "figure": figure()},
    "add_graph": lambda _: {"model": nn.Linear(2, 1), "input_to_model": torch.ones(1, 2)},
    "add_histogram": lambda _: {"tag": "t", "values": X},
    "add_histogram_raw": lambda _: {"tag": "t", **raw_histogram()},
    "add_hparams": lambda _: {"hparam_dict": {"rate": 0.5}, "metric_dict": {"m": 0.25}},
    "add_image": lambda _: {"tag": "t", "img_tensor": IMAGE},
    "add_image_with_boxes": lambda _: {
        "tag": "t",
        "img_tensor": torch.zeros(3, 20, 20),
        "box_tensor": torch.tensor([[2.0, 2, 15, 15]]),
    },
    "add_images": lambda _: {"tag": "t", "img_tensor": IMAGE[None]},
    "add_mesh": lambda _: {"tag": "t", "vertices": VERTICES},
    "add_onnx_graph": lambda folder: {"prototxt": onnx_file(folder)},
    "add_pr_curve": lambda _: {"tag": "t", "labels": TRUTH, "predictions": SCORES},
    "add_pr_curve_raw": lambda _: {"tag": "t", **raw_curve()},
    "add_scalar": lambda _: {"tag": "t", "scalar_value": 0.5},
    "add_scalars": lambda _: {"main_tag": "t", "tag_scalar_dict": {"a": 0.5, "b": 0.25}},
    "add_tensor": lambda _: {"tag": "t", "tensor": X},
    "add_text": lambda _: {"tag": "t", "text_string": "words"},
    "add_video": lambda _: {"tag": "t", "vid_tensor": CLIP},
}

READER = {
    "add_audio": boards.sounds,
    "add_custom_scalars": boards.layouts,
    "add_custom_scalars_marginchart": boards.layouts,
    "add_custom_scalars_multilinechart": boards.layouts,
    "add_embedding": boards.embeddings,
    "add_figure": boards.images,
    "add_graph": boards.graphs,
    "add_histogram": boards.histograms,
    "add_histogram_raw": boards.histograms,
    "add_hparams": boards.hparams,
    "add_image": boards.images,
    "add_image_with_boxes": boards.images,
    "add_images": boards.images,
    "add_mesh": boards.meshes,
    "add_onnx_graph": boards.graphs,
    "add_pr_curve": boards.pr_curves,
    "add_pr_curve_raw": boards.pr_curves,
    "add_scalar": boards.scalars,
    "add_scalars": boards.scalars,
    "add_tensor": boards.tensors,
    "add_text": boards.texts,
    "add_video": boards.images,
}


def logged(folder: Path, method: str, **changes: Any) -> list:
    """Call the method with the least it takes and these changes; give what its reader reads."""
    if method == "add_onnx_graph":
        pytest.importorskip("onnx")
    given = {**LEAST[method](folder), **changes}
    with tracing_is_deprecated(), SummaryWriter(folder) as writer:
        getattr(writer, method)(**given)
    return READER[method](folder)


def test_every_method_is_known_here():
    assert set(METHODS) == set(LEAST) == set(READER)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_read_back(method, tmp_path):
    rows = logged(tmp_path / "run", method)
    assert len(rows) == (2 if method == "add_scalars" else 1)


# What each argument changes. A row: the method, the argument, its value, what is then read. ------

EFFECTS: dict[tuple[str, str], tuple[Any, Callable[[list], Any], Any]] = {}


def effect(method: str, argument: str, value: Any, read: Callable[[list], Any], expected: Any):
    EFFECTS[method, argument] = value, read, expected


def first(field: str) -> Callable[[list], Any]:
    return lambda rows: getattr(rows[0], field)


def array(field: str) -> Callable[[list], Any]:
    return lambda rows: np.asarray(getattr(rows[0], field)).tolist()


for method in METHODS:
    taken = arguments(getattr(SummaryWriter, method))
    if "tag" in taken and method != "add_embedding":
        effect(method, "tag", "group/other", first("tag"), "group/other")
    if "global_step" in taken and method not in ("add_embedding", "add_hparams"):
        effect(method, "global_step", 7, first("step"), 7)
    if "walltime" in taken:
        effect(method, "walltime", 1e9, first("wall_time"), 1e9)

effect("add_scalar", "scalar_value", torch.tensor([2.5]), first("value"), 2.5)
effect("add_scalars", "main_tag", "group/other", first("tag"), "group/other")
effect(
    "add_scalars",
    "tag_scalar_dict",
    {"c": 1.0, "d": 2.0},
    lambda rows: {row.run: row.value for row in rows},
    {"t_c": 1.0, "t_d": 2.0},
)
effect("add_tensor", "tensor", torch.tensor([[1, 2]]), array("values"), [[1, 2]])
effect("add_text", "text_string", "**other**", first("text"), "**other**")

effect("add_histogram", "values", torch.ones(9), lambda rows: sum(rows[0].counts), 9)
effect("add_histogram", "bins", [-5.0, 0, 5], array("edges"), [-5, 0, 5])
effect("add_histogram", "max_bins", 5, lambda rows: len(rows[0].counts) < 50, True)
effect("add_histogram_raw", "bucket_limits", [1.0, 3, 5], lambda rows: rows[0].edges[-1], 5)
effect("add_histogram_raw", "bucket_counts", [4, 5, 6], array("counts"), [4, 5, 6])

effect(
    "add_image",
    "img_tensor",
    255 - IMAGE,
    lambda rows: np.array_equal(rows[0].pixels[0], 255 - IMAGE.movedim(0, -1)),
    True,
)
effect("add_images", "img_tensor", IMAGE.repeat(3, 1, 1, 1), lambda r: r[0].pixels.shape[2], 15)
effect("add_image_with_boxes", "rescale", 2, lambda rows: rows[0].pixels.shape[1:3], (40, 40))
effect("add_video", "vid_tensor", CLIP[:, :3], lambda rows: len(rows[0].pixels), 3)
effect("add_audio", "snd_tensor", torch.zeros(1, 9), lambda rows: len(rows[0].samples), 9)
effect("add_audio", "sample_rate", 8000, first("rate"), 8000)

effect("add_mesh", "vertices", 2 * VERTICES, array("vertices"), (2 * VERTICES).tolist())
effect("add_mesh", "colors", VERTICES.int() * 9, array("colors"), (VERTICES * 9).tolist())
effect("add_mesh", "faces", torch.tensor([[[0, 1, 2]]]), array("faces"), [[[0, 1, 2]]])

effect("add_pr_curve", "labels", 1 - TRUTH, lambda rows: rows[0].true_positives[64], 0)
effect("add_pr_curve", "predictions", 1 - SCORES, lambda rows: rows[0].true_positives[64], 1)
effect("add_pr_curve", "num_thresholds", 5, lambda rows: len(rows[0].recall), 5)
effect("add_pr_curve", "weights", np.full(6, 2.0), lambda r: r[0].true_positives[0], 6)
for argument, field in {
    "true_positive_counts": "true_positives",
    "false_positive_counts": "false_positives",
    "true_negative_counts": "true_negatives",
    "false_negative_counts": "false_negatives",
    "precision": "precision",
    "recall": "recall",
}.items():
    effect("add_pr_curve_raw", argument, [9.0, 8.0, 7.0], array(field), [9, 8, 7])

effect(
    "add_custom_scalars",
    "layout",
    {"g": {"c": ["Margin", ["a", "b", "c"]]}},
    first("charts"),
    {"g": {"c": ["Margin", ["a", "b", "c"]]}},
)
for method, kind in {
    "add_custom_scalars_multilinechart": "Multiline",
    "add_custom_scalars_marginchart": "Margin",
}.items():
    tags = LEAST[method](Path())["tags"]
    effect(
        method,
        "tags",
        tags[::-1],
        first("charts"),
        {"default": {"untitled": [kind, tags[::-1]]}},
    )
    effect(method, "category", "g", first("charts"), {"g": {"untitled": [kind, tags]}})
    effect(method, "title", "c", first("charts"), {"default": {"c": [kind, tags]}})

effect("add_hparams", "hparam_dict", {"a": "b"}, first("hparams"), {"a": "b"})
effect("add_hparams", "metric_dict", {"n": 0.75}, first("metrics"), {"n": 0.75})
effect("add_hparams", "run_name", "named", first("run"), "named")

effect("add_embedding", "mat", X.view(5, 10), lambda rows: rows[0].vectors.shape, (5, 10))
effect(
    "add_embedding",
    "metadata",
    list("abcdefghij"),
    first("metadata"),
    {"label": list("abcdefghij")},
)
effect(
    "add_embedding",
    "label_img",
    torch.rand(10, 1, 4, 4),
    lambda rows: rows[0].sprite.shape,
    (16, 16, 3),
)
effect("add_embedding", "global_step", 7, first("tag"), "default:00007")
effect("add_embedding", "tag", "other", first("tag"), "other:00000")


def operations(rows: list) -> set[str]:
    return {node.op for node in rows[0].nodes}


effect("add_graph", "model", nn.ReLU(), lambda rows: "aten::relu" in operations(rows), True)


@pytest.mark.parametrize(("method", "argument"), EFFECTS)
def test_an_argument_changes_what_is_read_back(method, argument, tmp_path):
    value, read, expected = EFFECTS[method, argument]
    assert read(logged(tmp_path / "with", method, **{argument: value})) == expected
    assert read_or_none(read, logged(tmp_path / "without", method)) != expected


def read_or_none(read: Callable[[list], Any], rows: list) -> Any:
    """What is read, or None where without the argument there is nothing of the kind."""
    try:
        return read(rows)
    except AttributeError:
        return None


# What the table does not hold: arguments that only work together, or not on the row. -------------

APART = {
    ("add_scalar", "new_style"),
    ("add_scalar", "double_precision"),
    ("add_histogram_raw", "min"),
    ("add_histogram_raw", "max"),
    ("add_histogram_raw", "num"),
    ("add_histogram_raw", "sum"),
    ("add_histogram_raw", "sum_squares"),
    ("add_image", "dataformats"),
    ("add_images", "dataformats"),
    ("add_image_with_boxes", "img_tensor"),
    ("add_image_with_boxes", "box_tensor"),
    ("add_image_with_boxes", "dataformats"),
    ("add_image_with_boxes", "labels"),
    ("add_figure", "figure"),
    ("add_figure", "close"),
    ("add_video", "fps"),
    ("add_mesh", "config_dict"),
    ("add_pr_curve_raw", "num_thresholds"),
    ("add_pr_curve_raw", "weights"),
    ("add_hparams", "hparam_domain_discrete"),
    ("add_hparams", "global_step"),
    ("add_embedding", "metadata_header"),
    ("add_graph", "input_to_model"),
    ("add_graph", "verbose"),
    ("add_graph", "use_strict_trace"),
    ("add_onnx_graph", "prototxt"),
}


def test_no_argument_is_left_out():
    every = {(m, a) for m in METHODS for a in arguments(getattr(SummaryWriter, m))}
    assert every == set(EFFECTS) | APART
    assert not set(EFFECTS) & APART


def test_double_precision_needs_the_new_style(tmp_path):
    values = {}
    for new_style in (False, True):
        for double in (False, True):
            changes = {"scalar_value": 0.1, "new_style": new_style, "double_precision": double}
            name = f"{new_style}-{double}"
            values[new_style, double] = logged(tmp_path / name, "add_scalar", **changes)[0].value
    exact = {key for key, value in values.items() if value == 0.1}
    assert exact == {(True, True)}
    assert {value for key, value in values.items() if key not in exact} == {float(np.float32(0.1))}


def stored(folder: Path) -> list:
    """The summaries of all event files, as they lie on disk."""
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    files = sorted(folder.rglob("*tfevents*"))
    events = [event for file in files for event in LegacyEventFileLoader(str(file)).Load()]
    return [value for event in events for value in event.summary.value]


def test_a_raw_histogram_keeps_its_statistics(tmp_path):
    given = {**raw_histogram(), "min": -9.0, "max": 9.0, "num": 8, "sum": 7.0, "sum_squares": 6.0}
    logged(tmp_path, "add_histogram_raw", **given)
    (value,) = stored(tmp_path)
    for name in ("min", "max", "num", "sum", "sum_squares"):
        assert getattr(value.histo, name) == given[name]


@pytest.mark.parametrize("order", ["CHW", "HWC", "HW"])
def test_an_image_comes_back_in_every_order(order, tmp_path):
    image = IMAGE[0] if order == "HW" else IMAGE
    given = image.movedim(0, -1) if order == "HWC" else image
    (row,) = logged(tmp_path, "add_image", img_tensor=given, dataformats=order)
    np.testing.assert_array_equal(row.pixels[0], (image.expand(3, 4, 5)).movedim(0, -1))


@pytest.mark.parametrize("order", ["NCHW", "NHWC", "CHW", "HWC", "HW"])
def test_images_come_back_in_every_order(order, tmp_path):
    if "N" in order:
        given = IMAGE[None] if order == "NCHW" else IMAGE[None].movedim(1, -1)
    else:
        given = {"CHW": IMAGE, "HWC": IMAGE.movedim(0, -1), "HW": IMAGE[0]}[order]
    (row,) = logged(tmp_path, "add_images", img_tensor=given, dataformats=order)
    assert row.pixels.shape[1:3] == (4, 5)


def test_a_box_lies_where_it_was_put(tmp_path):
    box = torch.tensor([[4.0, 6, 10, 16]])
    (row,) = logged(tmp_path, "add_image_with_boxes", box_tensor=box)
    coloured = row.pixels[0].any(axis=2)
    down, across = np.flatnonzero(coloured.any(1)), np.flatnonzero(coloured.any(0))
    found = [across[0], down[0], across[-1], down[-1]]
    assert np.abs(np.array(found) - box[0].numpy()).max() <= 1  # its lines are two pixels wide


def test_a_box_may_have_a_label_and_an_image_another_order(tmp_path):
    plain = logged(tmp_path / "plain", "add_image_with_boxes")[0].pixels
    with_label = logged(tmp_path / "label", "add_image_with_boxes", labels=["ab"])[0].pixels
    too_many = logged(tmp_path / "many", "add_image_with_boxes", labels=["a", "b"])[0].pixels
    white = torch.ones(20, 20, 3)
    hwc = logged(tmp_path / "hwc", "add_image_with_boxes", img_tensor=white, dataformats="HWC")[
        0
    ].pixels
    assert not np.array_equal(plain, with_label)
    assert np.array_equal(plain, too_many)
    assert hwc[0, 0, 0].tolist() == [255, 255, 255]


def test_a_figure_is_closed_unless_told_otherwise(tmp_path):
    kept, closed = figure(), figure()
    (row,) = logged(tmp_path / "kept", "add_figure", figure=kept, close=False)
    assert row.pixels.shape[1:3] == (20, 20) and kept.number in plt.get_fignums()
    logged(tmp_path / "closed", "add_figure", figure=closed)
    assert closed.number not in plt.get_fignums()


def test_two_figures_lie_side_by_side(tmp_path):
    (row,) = logged(tmp_path, "add_figure", figure=[figure(), figure()])
    assert row.pixels.shape[1:3] == (20, 40)


def test_a_mesh_keeps_its_configuration(tmp_path):
    logged(tmp_path, "add_mesh", config_dict={"camera": {"fov": 75}})
    assert any(b'"fov": 75' in value.metadata.plugin_data.content for value in stored(tmp_path))


def test_a_raw_curve_has_as_many_thresholds_as_it_says(tmp_path):
    (row,) = logged(tmp_path, "add_pr_curve_raw", **raw_curve(4), weights=None)
    assert len(row.recall) == 4


def test_hyperparameters_keep_their_domain_and_their_step(tmp_path):
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    logged(
        tmp_path,
        "add_hparams",
        hparam_domain_discrete={"rate": [0.5, 0.25]},
        run_name=".",
        global_step=7,
    )
    assert [point.step for point in boards.scalars(tmp_path, "m")] == [7]
    contents = [value.metadata.plugin_data.content for value in stored(tmp_path)]
    infos = [HParamsPluginData.FromString(c).experiment.hparam_infos for c in contents if c]
    assert [list(info.domain_discrete) for found in infos for info in found] == [[0.5, 0.25]]


def test_an_embedding_may_have_columns_with_names(tmp_path):
    rows = [[str(i), str(i % 2)] for i in range(10)]
    (row,) = logged(tmp_path, "add_embedding", metadata=rows, metadata_header=["n", "odd"])
    assert row.metadata == {"n": [r[0] for r in rows], "odd": [r[1] for r in rows]}


class Named(nn.Module):
    def forward(self, x):
        return {"double": 2 * x}


def test_the_arguments_of_add_graph(tmp_path, capsys):
    pair = torch.ones(1, 2), torch.ones(1, 2)
    rows = logged(tmp_path / "pair", "add_graph", model=nn.Bilinear(2, 2, 1), input_to_model=pair)
    assert sum(node.op == "IO Node" for node in rows[0].nodes) >= 3
    capsys.readouterr()
    logged(tmp_path / "verbose", "add_graph", verbose=True)
    assert "graph(" in capsys.readouterr().out
    with pytest.raises(RuntimeError, match="dict at the output"):
        logged(tmp_path / "strict", "add_graph", model=Named(), input_to_model=X)
    rows = logged(
        tmp_path / "loose", "add_graph", model=Named(), input_to_model=X, use_strict_trace=False
    )
    assert "aten::mul" in operations(rows)


def test_an_onnx_graph_is_that_of_its_file(tmp_path):
    pytest.importorskip("onnx")
    rows = logged(tmp_path / "run", "add_onnx_graph", prototxt=onnx_file(tmp_path / "x", "Tanh"))
    assert "Tanh" in operations(rows)


def test_without_onnx_the_graph_is_an_import_error(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with SummaryWriter(tmp_path) as writer, pytest.raises(ImportError, match="onnx"):
        writer.add_onnx_graph("any.onnx")


# The three states of add_video, and the chapter's mend -------------------------------------------


def moviepy_1(frames_written: list) -> dict[str, types.ModuleType]:
    """A stand-in for moviepy 1: ``moviepy.editor`` is there."""
    from PIL import Image

    class ImageSequenceClip:
        def __init__(self, frames, fps):
            self.frames = [Image.fromarray(frame.squeeze()) for frame in frames]

        def write_gif(self, filename, verbose, logger):
            frames_written.append(len(self.frames))
            options = {"save_all": True, "append_images": self.frames[1:], "duration": 250}
            # the open temporary file is the caller's; on Windows it can't be opened twice
            self.frames[0].save(filename, format="GIF", **options)

    package, editor = types.ModuleType("moviepy"), types.ModuleType("moviepy.editor")
    editor.ImageSequenceClip = ImageSequenceClip
    package.editor = editor
    return {"moviepy": package, "moviepy.editor": editor}


#: what ``import moviepy`` finds: nothing, or version 2, which has no ``editor``
STATES = {"missing": None, "version 2": types.ModuleType("moviepy")}


@pytest.fixture
def torchs_make_video(monkeypatch, own_make_video):
    """torch's own function, whatever replaced it."""
    fresh = importlib.util.find_spec("torch.utils.tensorboard.summary").loader
    module = types.ModuleType("fresh_summary")
    module.__package__ = "torch.utils.tensorboard"
    exec(fresh.get_code("torch.utils.tensorboard.summary"), vars(module))
    monkeypatch.setattr(summary, "make_video", module.make_video)


@pytest.mark.parametrize("state", STATES)
def test_without_moviepy_1_a_video_is_not_stored(
    state, tmp_path, monkeypatch, capsys, torchs_make_video
):
    monkeypatch.setitem(sys.modules, "moviepy", STATES[state])
    monkeypatch.delitem(sys.modules, "moviepy.editor", raising=False)
    assert logged(tmp_path, "add_video") == []
    assert "moviepy" in capsys.readouterr().out


@pytest.mark.skipif(sys.platform == "win32", reason="torch opens its temporary file twice")
def test_with_moviepy_1_a_video_is_stored(tmp_path, monkeypatch, torchs_make_video):
    written = []
    for name, module in moviepy_1(written).items():
        monkeypatch.setitem(sys.modules, name, module)
    (row,) = logged(tmp_path, "add_video")
    assert written == [4] and len(row.pixels) == 4


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("state", STATES)
def test_the_mended_video_comes_back_frame_by_frame(state, channels, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "moviepy", STATES[state])
    monkeypatch.delitem(sys.modules, "moviepy.editor", raising=False)
    clip = CLIP.expand(1, 4, channels, 6, 6)
    (row,) = logged(tmp_path, "add_video", vid_tensor=clip)
    np.testing.assert_array_equal(row.pixels[..., 0], 255 * CLIP[0, :, 0])


def test_the_mended_video_keeps_its_pace(tmp_path):
    from io import BytesIO

    from PIL import Image

    logged(tmp_path, "add_video", fps=2)
    (value,) = stored(tmp_path)
    with Image.open(BytesIO(value.image.encoded_image_string)) as gif:
        assert gif.info["duration"] == 500


# The writer's own arguments -----------------------------------------------------------------------


def files(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*tfevents*")]


def log_dir_is_the_run(folder, monkeypatch):
    SummaryWriter(log_dir=folder / "x" / "y").close()
    assert boards.runs(folder) == ["x/y"]


def comment_ends_the_invented_name(folder, monkeypatch):
    monkeypatch.chdir(folder)
    SummaryWriter(comment="_rate=0.1").close()
    SummaryWriter("given", comment="_ignored").close()
    invented, given = sorted(boards.runs(folder), key=lambda run: run == "given")
    assert re.fullmatch(r"runs/\w{3}\d\d_\d\d-\d\d-\d\d_.*_rate=0\.1", invented)
    assert given == "given"


def purge_step_hides_what_came_before(folder, monkeypatch):
    for number, (purge_step, steps) in enumerate([(None, range(8)), (5, range(5, 7))]):
        with SummaryWriter(folder, purge_step=purge_step) as writer:
            for step in steps:
                writer.add_scalar("t", number, step)
        time.sleep(1.1)  # readers go by the second in the file's name
    seen = [(point.step, point.value) for point in boards.scalars(folder)]
    assert seen == [(step, 0) for step in range(5)] + [(5, 1), (6, 1)]
    assert len(boards.scalars(folder, purge=False)) == 10


def the_file_writer(folder, **options):
    """The arguments with which a writer makes torch's ``FileWriter``."""
    made = {}

    def spy(log_dir, *positional, **named):
        made.update(zip(("max_queue", "flush_secs", "filename_suffix"), positional, strict=False))
        made.update(named)
        return original(log_dir, *positional, **named)

    import torch.utils.tensorboard.writer as module

    original = module.EventFileWriter
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "EventFileWriter", spy)
        SummaryWriter(folder, **options).close()
    return made


def max_queue_reaches_the_file(folder, monkeypatch):
    assert the_file_writer(folder, max_queue=3)["max_queue"] == 3


def flush_secs_reaches_the_file(folder, monkeypatch):
    assert the_file_writer(folder, flush_secs=9)["flush_secs"] == 9


def filename_suffix_ends_the_name(folder, monkeypatch):
    SummaryWriter(folder, filename_suffix=".train").close()
    assert [name.endswith(".train") for name in files(folder)] == [True]


WRITER = {
    "log_dir": log_dir_is_the_run,
    "comment": comment_ends_the_invented_name,
    "purge_step": purge_step_hides_what_came_before,
    "max_queue": max_queue_reaches_the_file,
    "flush_secs": flush_secs_reaches_the_file,
    "filename_suffix": filename_suffix_ends_the_name,
}


@pytest.mark.parametrize("argument", arguments(SummaryWriter.__init__))
def test_every_argument_of_the_writer_has_its_effect(argument, tmp_path, monkeypatch):
    WRITER[argument](tmp_path, monkeypatch)


@pytest.mark.parametrize("options", [{}, {"max_queue": 1000, "flush_secs": 3600}])
def test_events_can_be_read_before_flush_and_close(options, tmp_path):
    with SummaryWriter(tmp_path, **options) as writer:
        for step in range(5):
            writer.add_scalar("t", 1.0, step)
        deadline = time.monotonic() + 10
        while len(boards.scalars(tmp_path)) < 5 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert len(boards.scalars(tmp_path)) == 5

"""Chapter 06's promise: what each ``add_*`` of a ``SummaryWriter`` logs can be read back."""

from __future__ import annotations

import importlib
import inspect
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import nn
from torch.utils.tensorboard import SummaryWriter, summary

from helpers import boards
from tests.notebooks import definitions

IMAGE = (4 * torch.arange(60)).byte().reshape(3, 4, 5)
PIXELS = IMAGE.movedim(0, -1)
CLIP = torch.stack([torch.eye(6).roll(shift, 0) for shift in range(4)])[:, None]
SOUND = torch.linspace(-1, 1, 9)
VERTICES = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]])
COLOURS, FACES = torch.tensor([[[255, 0, 0]] * 3]), torch.tensor([[[0, 1, 2]]])
TRUTH, SCORES = torch.tensor([1, 0, 1]), torch.tensor([0.9, 0.6, 0.4])
MATRIX = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
CHARTS = {"g": {"c": ["Multiline", ["a", "b"]], "d": ["Margin", ["a", "b", "c"]]}}
STEP, WALL_TIME = 7, 1e9

counts = {
    "true_positives": [2, 1, 0],
    "false_positives": [1, 1, 0],
    "true_negatives": [0, 0, 1],
    "false_negatives": [0, 1, 2],
}
rates = {"precision": [0.5, 0.25, 0.0], "recall": [1.0, 0.5, 0.0]}
CURVE = {**{f"{name[:-1]}_counts": given for name, given in counts.items()}, **rates}
RAW_HISTOGRAM = {
    **{"min": -1.0, "max": 2.0, "num": 6, "sum": 1.0, "sum_squares": 5.0},
    **{"bucket_limits": [0.0, 1.0, 2.0], "bucket_counts": [1, 2, 3]},
}


def operations(nodes: list) -> set[str]:
    return {node.op for node in nodes}


def shape(array: np.ndarray) -> tuple[int, ...]:
    return array.shape


# Each row: a method, what it is given, the reader, and the fields of what is read. A field that is
# a pair of a function and a value is compared by what the function gives.
READ_BACK: list[tuple[str, dict, Callable, dict]] = [
    ("add_scalar", {"scalar_value": torch.tensor([2.5])}, boards.scalars, {"value": 2.5}),
    (
        "add_scalar",
        {"scalar_value": 0.1, "new_style": True, "double_precision": True},
        boards.scalars,
        {"value": 0.1},
    ),
    (
        "add_scalars",
        {"main_tag": "group/t", "tag_scalar_dict": {"one": 0.5}},
        boards.scalars,
        {"run": "group_t_one", "tag": "group/t", "value": 0.5},
    ),
    (
        "add_histogram",
        {"values": MATRIX, "bins": [0.0, 1.5, 3.5, 5.0]},
        boards.histograms,
        {"edges": [0, 1.5, 3.5, 5], "counts": [1, 2, 1]},
    ),
    (
        "add_histogram_raw",
        RAW_HISTOGRAM,
        boards.histograms,
        {"edges": [-1, 0, 1, 2], "counts": [1, 2, 3]},
    ),
    ("add_image", {"img_tensor": IMAGE}, boards.images, {"pixels": PIXELS[None]}),
    (
        "add_image",
        {"img_tensor": PIXELS, "dataformats": "HWC"},
        boards.images,
        {"pixels": PIXELS[None]},
    ),
    (
        "add_image",
        {"img_tensor": IMAGE[0], "dataformats": "HW"},
        boards.images,
        {"pixels": IMAGE[:1].expand(3, 4, 5).movedim(0, -1)[None]},
    ),
    (
        "add_images",
        {"img_tensor": torch.stack([IMAGE, 255 - IMAGE])},
        boards.images,
        {"pixels": torch.cat([PIXELS, 255 - PIXELS], dim=1)[None]},
    ),
    (
        "add_image_with_boxes",
        {"img_tensor": torch.zeros(3, 9, 9), "box_tensor": MATRIX.reshape(1, 4), "rescale": 2},
        boards.images,
        {"pixels": (shape, (1, 18, 18, 3))},
    ),
    (
        "add_figure",
        {"figure": Figure(figsize=(2, 1), dpi=20)},
        boards.images,
        {"pixels": (shape, (1, 20, 40, 3))},
    ),
    (
        "add_video",
        {"vid_tensor": CLIP[None].expand(1, 4, 3, 6, 6)},
        boards.images,
        {"pixels": 255 * CLIP.movedim(1, -1).expand(4, 6, 6, 3)},
    ),
    (
        "add_audio",
        {"snd_tensor": SOUND, "sample_rate": 8000},
        boards.sounds,
        {"samples": SOUND, "rate": 8000},
    ),
    ("add_text", {"text_string": "ü → **1**\n\n"}, boards.texts, {"text": "ü → **1**\n\n"}),
    ("add_tensor", {"tensor": MATRIX.int()}, boards.tensors, {"values": MATRIX}),
    (
        "add_mesh",
        {"vertices": VERTICES, "colors": COLOURS, "faces": FACES},
        boards.meshes,
        {"vertices": VERTICES, "colors": COLOURS, "faces": FACES},
    ),
    (
        "add_mesh",
        {"vertices": VERTICES},
        boards.meshes,
        {"vertices": VERTICES, "colors": None, "faces": None},
    ),
    (
        "add_pr_curve",
        {"labels": TRUTH, "predictions": SCORES, "num_thresholds": 3},
        boards.pr_curves,
        {
            "thresholds": [0, 0.5, 1],
            "true_positives": [2, 1, 0],
            "false_positives": [1, 1, 0],
            "recall": [1, 0.5, 0],
        },
    ),
    ("add_pr_curve_raw", {**CURVE, "num_thresholds": 3}, boards.pr_curves, {**counts, **rates}),
    ("add_custom_scalars", {"layout": CHARTS}, boards.layouts, {"charts": CHARTS}),
    (
        "add_custom_scalars_multilinechart",
        {"tags": ["a", "b"], "category": "g", "title": "c"},
        boards.layouts,
        {"charts": {"g": {"c": ["Multiline", ["a", "b"]]}}},
    ),
    (
        "add_custom_scalars_marginchart",
        {"tags": ["a", "b", "c"], "category": "g", "title": "d"},
        boards.layouts,
        {"charts": {"g": {"d": ["Margin", ["a", "b", "c"]]}}},
    ),
    (
        "add_hparams",
        {
            "hparam_dict": {"rate": 0.5, "batch": 4, "by": "adam", "fast": True},
            "metric_dict": {"accuracy": 0.25},
            "run_name": "trial",
        },
        boards.hparams,
        {
            "run": "trial",
            "hparams": {"rate": 0.5, "batch": 4.0, "by": "adam", "fast": True},
            "metrics": {"accuracy": 0.25},
        },
    ),
    (
        "add_embedding",
        {"mat": MATRIX, "metadata": ["x", "y"], "label_img": torch.ones(2, 1, 8, 8)},
        boards.embeddings,
        {
            "tag": "group/t:00007",
            "vectors": MATRIX,
            "metadata": {"label": ["x", "y"]},
            "sprite": (shape, (16, 16, 3)),
        },
    ),
    (
        "add_embedding",
        {"mat": MATRIX, "metadata": [["x", 1], ["y", 2]], "metadata_header": ["n", "odd"]},
        boards.embeddings,
        {"metadata": {"n": ["x", "y"], "odd": ["1", "2"]}, "sprite": None},
    ),
    (
        "add_embedding",
        {"mat": torch.ones(1, 1)},
        boards.embeddings,
        {"vectors": [[1]], "metadata": {}, "sprite": None},
    ),
    (
        "add_graph",
        {"model": nn.ReLU(), "input_to_model": torch.ones(1)},
        boards.graphs,
        {"nodes": (lambda nodes: "aten::relu" in operations(nodes), True)},
    ),
    ("add_onnx_graph", {}, boards.graphs, {"nodes": (operations, {"Relu", "Variable"})}),
]


@pytest.mark.parametrize(("method", "given", "read", "expected"), READ_BACK)
def test_what_a_method_logs_is_read_back(method, given, read, expected, tmp_path, monkeypatch):
    if method == "add_video":  # which stores nothing without an old moviepy
        fixed = definitions.load("06_tensorboard", "make_video")
        monkeypatch.setattr(summary, "make_video", fixed)
    if method == "add_onnx_graph":
        given = {"prototxt": onnx_file(tmp_path)}
    add = getattr(SummaryWriter, method)
    common = {"tag": "group/t", "global_step": STEP, "walltime": WALL_TIME}
    common = {name: common[name] for name in common if name in inspect.signature(add).parameters}
    with SummaryWriter(tmp_path / "logs") as writer, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "(?s).*torch.jit.trace")
        add(writer, **{**common, **given})
    (row,) = read(tmp_path / "logs")
    for field, value in {"run": ".", **expected}.items():
        assert_read(getattr(row, field), value)
    for name, field in {"tag": "tag", "global_step": "step", "walltime": "wall_time"}.items():
        if name in common and hasattr(row, field) and field not in expected:
            assert getattr(row, field) in (common[name], f"{common[name]}:{STEP:05}")


def assert_read(found: Any, expected: Any) -> None:
    if isinstance(expected, tuple):
        function, expected = expected
        assert function(found) == expected
    elif isinstance(found, np.ndarray):
        np.testing.assert_allclose(found, expected, atol=2**-15)
    else:
        assert found == expected


def onnx_file(folder: Path) -> str:
    pytest.importorskip("onnx")
    helper = importlib.import_module("onnx.helper")
    x, y = (helper.make_tensor_value_info(name, 1, [2]) for name in ("x", "y"))
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "one", [x], [y])
    file = folder / "relu.onnx"
    file.write_bytes(helper.make_model(graph).SerializeToString())
    return str(file)


def test_every_method_is_read_back():
    methods = {name for name in dir(SummaryWriter) if name.startswith("add_")}
    assert {method for method, *_ in READ_BACK} == methods


READABLE = [
    "float32",
    "float64",
    "int8",
    "int16",
    "int32",
    "int64",
    "bool",
    "complex64",
    "complex128",
]


@pytest.mark.parametrize("dtype", [*READABLE, "float16", "bfloat16", "uint8"])
def test_a_tensor_keeps_its_dtype_or_the_error_says_what_to_log_instead(tmp_path, dtype):
    tensor = torch.tensor([[1, 0, 1], [0, 0, 1]]).to(getattr(torch, dtype))
    with SummaryWriter(tmp_path) as writer:
        writer.add_tensor("t", tensor, 2)
    if dtype in READABLE:
        (row,) = boards.tensors(tmp_path)
        assert row.values.dtype == tensor.numpy().dtype
        assert row.values.tolist() == tensor.tolist()
    else:
        with pytest.raises(ValueError, match=r"tensor 't' of run '.' can't be read: .*\.float\(\)"):
            boards.tensors(tmp_path)

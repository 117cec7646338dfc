"""What a ``SummaryWriter`` logs is read back. Chapter 06 shows it of the methods not tried here."""

import inspect
import warnings

import numpy as np
import pytest
import torch
from torch.utils.tensorboard import SummaryWriter

from helpers import boards

IMAGE = (4 * torch.arange(60)).byte().reshape(3, 4, 5)
PIXELS = IMAGE.movedim(0, -1)
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


# Each row: a method, what it is given, the reader, and the fields of what is read.
READ_BACK = [
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
        "add_images",
        {"img_tensor": torch.stack([IMAGE, 255 - IMAGE])},
        boards.images,
        {"pixels": torch.cat([PIXELS, 255 - PIXELS], dim=1)[None]},
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
            "sprite": np.repeat([255, 0], 8)[:, None, None] + np.zeros((16, 16, 3)),
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
]


@pytest.mark.parametrize(("method", "given", "read", "expected"), READ_BACK)
def test_what_a_method_logs_is_read_back(method, given, read, expected, tmp_path):
    add = getattr(SummaryWriter, method)
    common = {"tag": "group/t", "global_step": STEP, "walltime": WALL_TIME}
    common = {name: common[name] for name in common if name in inspect.signature(add).parameters}
    with SummaryWriter(tmp_path) as writer, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "(?s).*torch.jit.trace")
        add(writer, **{**common, **given})
    (row,) = read(tmp_path)
    for field, value in {"run": ".", **expected}.items():
        found = getattr(row, field)
        if isinstance(found, np.ndarray):
            np.testing.assert_allclose(found, value, atol=2**-15)
        else:
            assert found == value
    for name, field in {"tag": "tag", "global_step": "step", "walltime": "wall_time"}.items():
        if name in common and hasattr(row, field) and field not in expected:
            assert getattr(row, field) in (common[name], f"{common[name]}:{STEP:05}")

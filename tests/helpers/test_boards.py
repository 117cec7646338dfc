"""Laws of `helpers.boards`' readers. What each `add_*` logs: `test_boards_reads_back`."""

import math
import tempfile
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from torch.utils.tensorboard import SummaryWriter

from helpers import boards
from helpers.boards import events

NAMES = st.text("abz019_-", min_size=1, max_size=4)
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
RUNS = st.just(".") | PATHS


class Logged(NamedTuple):
    tag: str
    step: int
    wall_time: float
    value: float


POINTS = st.builds(Logged, PATHS, st.integers(0, 2**40), st.floats(0, 2e9), st.floats(width=32))


@contextmanager
def folder():
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def log(logdir, points, **options):
    with SummaryWriter(logdir, **options) as writer:
        for point in points:
            writer.add_scalar(point.tag, point.value, point.step, walltime=point.wall_time)


def assert_equal(rows, expected):
    """Equal, where NaN equals NaN."""
    assert [repr(tuple(row)) for row in rows] == [repr(tuple(row)) for row in expected]


def by_tag(points):
    return sorted(points, key=lambda point: point.tag)


# Scalars


@settings(max_examples=30)
@given(st.dictionaries(RUNS, st.lists(POINTS, max_size=8), min_size=1, max_size=4))
def test_every_number_of_every_run_comes_back_in_order(runs):
    with folder() as logdir:
        for run, points in runs.items():
            log(logdir / run, points)
        assert boards.runs(logdir) == sorted(runs)
        everything = [(run, *point) for run in sorted(runs) for point in by_tag(runs[run])]
        assert_equal(boards.scalars(logdir), everything)
        for run, points in runs.items():
            assert_equal(boards.scalars(logdir, run=run), [(run, *p) for p in by_tag(points)])
        for tag in {row[1] for row in everything}:
            rows = [row for row in everything if row[1] == tag]
            assert_equal(boards.scalars(logdir, tag), rows)


def test_linked_runs_are_found_and_a_circle_of_links_ends(tmp_path):
    SummaryWriter(tmp_path / "elsewhere" / "run").close()
    logdir = tmp_path / "logdir"
    logdir.mkdir()
    try:
        (logdir / "linked").symlink_to(tmp_path / "elsewhere" / "run")
        (logdir / "circle").symlink_to(logdir)
    except OSError:
        pytest.skip("no links may be made here")
    assert boards.runs(logdir) == ["linked"]


def test_a_tilde_is_the_home_directory(tmp_path, monkeypatch):
    SummaryWriter(tmp_path / "runs").close()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert boards.runs("~/runs") == ["."]


def test_the_files_of_a_run_are_read_in_the_order_in_which_they_were_made(tmp_path):
    numbers = (9, 10, 100)  # the counter at the end of the names that one process gives
    for number in numbers:
        log(tmp_path / "new", [Logged("loss", number, 0, 0)])
        (file,) = (tmp_path / "new").iterdir()
        (tmp_path / "run").mkdir(exist_ok=True)
        file.rename(tmp_path / "run" / f"events.out.tfevents.1700000000.host.1.{number}")
    assert [point.step for point in boards.scalars(tmp_path, run="run")] == list(numbers)


def test_more_points_than_any_reservoir_holds_come_back(tmp_path):
    log(tmp_path, [Logged("loss", step, 0, step) for step in range(12_000)])
    assert [point.value for point in boards.scalars(tmp_path, "loss")] == list(range(12_000))


def test_what_is_logged_after_a_reading_is_in_the_next_one(tmp_path):
    with SummaryWriter(tmp_path) as writer:
        for step in range(3):
            writer.add_scalar("loss", step, step)
            writer.flush()
            assert [point.step for point in boards.scalars(tmp_path)] == list(range(step + 1))


# Restarts


SESSIONS = st.lists(
    st.tuples(st.none() | st.integers(0, 6), st.lists(st.integers(0, 8), max_size=5)),
    min_size=1,
    max_size=4,
)


@settings(max_examples=40)
@given(SESSIONS)
def test_a_restart_with_purge_step_hides_what_was_logged_from_that_step_on(sessions):
    kept, number = [], 0
    with folder() as logdir:
        for purge_step, steps in sessions:
            points = [Logged("loss", step, 0, number + i) for i, step in enumerate(steps)]
            number += len(points)
            log(logdir, points, purge_step=purge_step)
            if purge_step is not None:
                kept = [point for point in kept if point.step < purge_step]
            kept += points
        assert [point.value for point in boards.scalars(logdir)] == [p.value for p in kept]
        on_disk = boards.scalars(logdir, purge=False)
        assert [point.value for point in on_disk] == list(range(number))


def test_a_graph_outlives_a_restart(tmp_path):
    add_graph(tmp_path)
    log(tmp_path, [], purge_step=0)
    (graph,) = boards.graphs(tmp_path)
    assert "aten::relu" in {node.op for node in graph.nodes}


# Damaged and missing files


def test_a_file_that_was_cut_off_is_read_as_far_as_it_is_whole(tmp_path):
    log(tmp_path, [Logged("loss", step, 0, step) for step in range(3)])
    (file,) = tmp_path.iterdir()
    content, sizes = file.read_bytes(), []
    for length in range(len(content)):
        file.write_bytes(content[:length])
        steps = [point.step for point in boards.scalars(tmp_path)]
        assert steps == list(range(len(steps)))
        sizes.append(len(steps))
    assert sizes == sorted(sizes) and sizes[-1] == 2


def test_the_other_runs_are_read_when_one_is_damaged(tmp_path):
    for run in ("a", "b"):
        log(tmp_path / run, [Logged("loss", step, 0, step) for step in range(3)])
    (file,) = (tmp_path / "a").iterdir()
    content = bytearray(file.read_bytes())
    content[-10] ^= 0xFF
    file.write_bytes(content)
    assert [point.run for point in boards.scalars(tmp_path)] == ["a", "a", "b", "b", "b"]


def test_an_empty_file_is_a_run_without_anything(tmp_path):
    (tmp_path / "events.out.tfevents.1.host.1.0").touch()
    assert boards.runs(tmp_path) == ["."]
    assert boards.tags(tmp_path) == []
    assert boards.scalars(tmp_path) == []


READERS = [
    *(boards.runs, boards.tags),
    *(boards.scalars, boards.histograms, boards.images, boards.sounds, boards.texts),
    *(boards.pr_curves, boards.tensors, boards.meshes),
    *(boards.graphs, boards.layouts, boards.hparams, boards.embeddings),
]


@pytest.mark.parametrize("read", READERS)
def test_a_directory_without_events_is_an_error_that_says_what_to_do(tmp_path, read):
    with pytest.raises(FileNotFoundError, match=r"no log directory at .*nowhere.* give the"):
        read(tmp_path / "nowhere")
    (tmp_path / "other.txt").write_text("")
    with pytest.raises(FileNotFoundError, match=r"no event file in .* SummaryWriter makes"):
        read(tmp_path)


@pytest.mark.parametrize("read", READERS[2:10])
def test_an_unknown_name_is_an_error_that_lists_the_known_ones(tmp_path, read):
    log(tmp_path / "first", [])
    add_everything(tmp_path / "second")
    (known,) = {row.tag for row in read(tmp_path)}
    with pytest.raises(KeyError, match="no run 'third': there is 'first', 'second'"):
        read(tmp_path, run="third")
    with pytest.raises(KeyError, match=f"has the tag 'no such': there is {known!r}"):
        read(tmp_path, "no such")
    with pytest.raises(KeyError, match="there is none"):
        read(tmp_path, known, "first")


# Histograms, curves, trials


VALUES = arrays(np.float64, array_shapes(max_dims=2, max_side=30), elements=st.floats(-1e6, 1e6))


# NumPy's rules that look at the quartiles ask for as many bins as fit between two close values.
TAME = arrays(np.float64, array_shapes(max_dims=2, max_side=30), elements=st.integers(-99, 99))


@settings(max_examples=60)
@given(
    st.tuples(VALUES, st.sampled_from(["tensorflow", "sqrt", 1, 7]))
    | st.tuples(TAME, st.sampled_from(["auto", "fd"]))
)
def test_a_histogram_counts_the_values_between_its_edges(logged):
    values, bins = logged
    with folder() as logdir:
        with SummaryWriter(logdir) as writer:
            writer.add_histogram("weights", values, 3, bins=bins)
        ((run, tag, step, _, edges, counts),) = boards.histograms(logdir)
    assert (run, tag, step) == (".", "weights", 3)
    assert len(edges) == len(counts) + 1
    assert counts.tolist() == np.histogram(values, edges)[0].tolist()
    assert counts.sum() == values.size


def add_graph(logdir):
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU())
    with SummaryWriter(logdir) as writer, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        writer.add_graph(model, torch.ones(1, 2))


def test_trials_come_back_by_run_with_the_last_value_of_each_metric_and_no_other_scalar(tmp_path):
    with SummaryWriter(tmp_path) as writer:
        writer.add_hparams({"lr": 0.1, "by": "adam"}, {}, run_name="b", global_step=0)
        writer.add_hparams({"lr": 0.5}, {"accuracy": 0.25}, run_name="a", global_step=0)
    log(tmp_path / "a", [Logged("loss", 0, 0, 1.0), Logged("accuracy", 1, 0, 0.75)])
    assert boards.hparams(tmp_path) == [
        ("a", {"lr": 0.5}, {"accuracy": 0.75}),
        ("b", {"lr": 0.1, "by": "adam"}, {}),
    ]


# The list of tags


def add_everything(logdir):
    """Log one thing of each kind."""
    add_graph(logdir)
    with SummaryWriter(logdir) as writer:
        writer.add_scalar("scalar", 1.0, 0)
        writer.add_histogram("histogram", torch.randn(9), 0)
        writer.add_image("image", torch.rand(3, 4, 4), 0)
        writer.add_audio("audio", torch.zeros(1, 9), 0)
        writer.add_text("text", "hello", 0)
        writer.add_pr_curve("pr_curve", torch.tensor([0, 1]), torch.tensor([0.2, 0.7]), 0)
        writer.add_tensor("tensor", torch.ones(2), 0)
        writer.add_mesh("mesh", torch.zeros(1, 3, 3), faces=torch.tensor([[[0, 1, 2]]]))
        writer.add_embedding(torch.ones(2, 2), tag="embedding")
        writer.add_custom_scalars({"custom": {"chart": ["Multiline", ["scalar"]]}})
        writer.add_hparams({"lr": 0.1}, {}, run_name=".")


def test_the_list_of_tags_counts_what_each_run_logged_by_kind(tmp_path):
    add_everything(tmp_path / "a")
    log(tmp_path / "b", [Logged("loss", step, 0, step) for step in range(3)])
    *of_a, of_b = boards.tags(tmp_path)
    assert of_b == ("b", "scalar", "loss", 3)
    kinds = ["audio", "histogram", "image", "mesh", "pr_curve", "scalar", "tensor", "text"]
    assert [tag for tag in of_a if tag.kind in kinds] == [("a", kind, kind, 1) for kind in kinds]
    others = {"graph": 1, "embedding": 1, "custom_scalars": 1, "hparams": 1}
    assert {tag.kind: tag.count for tag in of_a if tag.kind not in kinds} == others


# Smoothing


SERIES = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=12)
WEIGHTS = st.floats(0, 0.999)


@given(SERIES, WEIGHTS)
def test_a_smoothed_value_is_the_mean_of_those_before_weighted_by_age(values, weight):
    for place, smooth in enumerate(boards.smoothed(values, weight)):
        ages = weight ** np.arange(place, -1, -1)
        assert math.isclose(
            smooth, np.average(values[: place + 1], weights=ages), rel_tol=1e-9, abs_tol=1e-6
        )


@given(st.floats(), st.integers(1, 9), WEIGHTS)
def test_a_constant_series_stays_to_the_bit(value, length, weight):
    assert_equal([boards.smoothed([value] * length, weight)], [[value] * length])


@given(SERIES, st.sampled_from([math.nan, math.inf, -math.inf]), st.integers(0, 12), WEIGHTS)
def test_a_value_that_is_not_finite_stays_and_moves_no_other(values, odd, place, weight):
    with_odd = boards.smoothed([*values[:place], odd, *values[place:]], weight)
    assert repr(with_odd.pop(min(place, len(values)))) == repr(odd)
    if len(set(values)) > 1:
        assert with_odd == boards.smoothed(values, weight)


@pytest.mark.parametrize("weight", [-0.1, 1, 1.5, math.nan])
def test_a_weight_outside_the_slider_is_refused(weight):
    with pytest.raises(ValueError, match=r"weight must be in \[0, 1\)"):
        boards.smoothed([1.0], weight)


@pytest.mark.parametrize(
    ("labels", "header", "columns"),
    [
        ([["x", 1], ["y", 2]], ["name", "n"], {"name": ["x", "y"], "n": ["1", "2"]}),
        ([["x"], ["y"]], ["name"], None),
        (["a\nb", "c"], None, None),
        (["a\r", "b\r"], None, {"label": ["a\r", "b\r"]}),
        (["a\nb", "c\nd"], None, None),
        (["a\tb", "c\td"], None, None),
        (["a\tb", "c"], None, None),
    ],
)
def test_labels_of_embeddings_come_back_or_are_refused(labels, header, columns, tmp_path):
    with SummaryWriter(tmp_path) as writer:
        writer.add_embedding(torch.rand(2, 3), labels, metadata_header=header)
    if columns is not None:
        assert boards.embeddings(tmp_path)[0].metadata == columns
        return
    with pytest.raises(ValueError, match="a label with a line end or a tab"):
        boards.embeddings(tmp_path)


def test_of_a_file_that_grows_one_version_is_kept(tmp_path):
    with SummaryWriter(tmp_path) as writer:
        for step in range(5):
            writer.add_scalar("a", step, step)
            writer.flush()
            assert len(boards.scalars(tmp_path, "a")) == step + 1
    assert len([path for path in events._kept if tmp_path.resolve() in path.parents]) == 1


def test_a_folder_that_cannot_be_read_hides_no_run(tmp_path, monkeypatch):
    with SummaryWriter(tmp_path / "mine") as writer:
        writer.add_scalar("a", 1.0, 0)
    (tmp_path / "lost+found").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    iterdir = Path.iterdir

    def refuses(folder):
        if folder.name == "lost+found":
            raise PermissionError(13, "Permission denied")
        return iterdir(folder)

    monkeypatch.setattr(Path, "iterdir", refuses)
    assert boards.runs(tmp_path) == ["mine"]
    with pytest.raises(PermissionError):
        boards.runs(tmp_path / "lost+found")

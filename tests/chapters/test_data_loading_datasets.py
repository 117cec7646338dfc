"""The data sets of chapter 04: the module's are the notebook's, and both do what they say."""

from __future__ import annotations

import ast
import inspect
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, Subset

from chapters.data_loading import datasets
from helpers import loading
from tests.notebooks.cells import NOTEBOOKS, code_cells, read


@pytest.mark.parametrize(
    "name", ["Digits", "DigitFiles", "Records", "Draws", "reseed", "Slow", "Rows", "ShardedRows"]
)
def test_the_module_holds_the_code_of_the_notebook(name):
    cells = code_cells(read(NOTEBOOKS / "04_data_loading.ipynb"))
    begins = ("class " if name[0].isupper() else "def ") + f"{name}("
    (cell,) = [cell for cell in cells if begins in cell.source]
    assert bare(cell.source) == bare(inspect.getsource(getattr(datasets, name)))


def bare(source):
    """The class or function without docstrings and annotations."""
    kinds = ast.ClassDef | ast.FunctionDef
    (cls,) = [node for node in ast.parse(source).body if isinstance(node, kinds)]
    for node in ast.walk(cls):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
            node.body = node.body[1:]
        if isinstance(node, ast.FunctionDef):
            node.returns = None
            for argument in node.args.args:
                argument.annotation = None
    return ast.unparse(cls)


def test_digits_are_changed_by_their_transform_only():
    images, labels = torch.rand(3, 1, 8, 8), torch.tensor([4, 5, 6])
    plain, negative = datasets.Digits(images, labels), datasets.Digits(images, labels, torch.neg)
    assert len(plain) == 3 and plain[1][1] == 5
    assert torch.equal(plain[2][0], images[2]) and torch.equal(negative[2][0], -images[2])


def test_files_come_in_the_order_of_their_paths_with_the_folder_as_class(tmp_path):
    for name, level in (("3/b.png", 255), ("3/a.png", 51), ("1/c.png", 0)):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((2, 3), level, dtype=np.uint8)).save(path)
    files = datasets.DigitFiles(tmp_path)
    images, classes = zip(*[files[i] for i in range(len(files))], strict=True)
    assert classes == (1, 3, 3)
    expected = torch.tensor([0.0, 0.2, 1.0]).view(3, 1, 1, 1).expand(3, 1, 2, 3)
    assert torch.allclose(torch.stack(images), expected)


def test_records_are_the_bytes_of_a_file_also_from_two_workers(tmp_path):
    path = tmp_path / "records"
    path.write_bytes(bytes(range(50)))
    records = datasets.Records(path)
    loader = DataLoader(records, batch_size=5, shuffle=True, **loading.workers(records, 2))
    assert sorted(torch.cat(list(loader)).tolist()) == list(range(50))
    assert [records[i] for i in (3, 0, 49)] == [3, 0, 49]
    records.file.close()


def test_draws_tell_who_made_them_and_keep_a_generator_of_their_own():
    draws = datasets.Draws(3)
    samples = [draws[i] for i in range(len(draws))]
    assert [sample["sample"] for sample in samples] == [0, 1, 2]
    assert {(sample["worker"], sample["seed"]) for sample in samples} == {(-1, -1)}
    assert [s["own"] for s in samples] == np.random.default_rng(0).integers(1000, size=3).tolist()


@pytest.mark.parametrize("subsets", [0, 2])
def test_reseeded_workers_draw_numbers_of_their_own_behind_subsets_too(subsets):
    dataset = datasets.Draws(4)
    for _ in range(subsets):
        dataset = Subset(dataset, range(4))
    options = loading.workers(dataset, 2) | {"worker_init_fn": datasets.reseed}
    runs = [torch.cat([b["own"] for b in DataLoader(dataset, 2, **options)]) for _ in range(2)]
    assert len(set(torch.stack(runs).flatten().tolist())) > 4


def test_reseeding_fails_where_there_is_nothing_to_seed():
    options = loading.workers(range(2), 1) | {"worker_init_fn": datasets.reseed}
    with pytest.raises(TypeError, match="range has no generator `own`"):
        list(DataLoader(range(2), **options))


def test_a_slow_sample_waits_its_time(monkeypatch):
    waits = []
    monkeypatch.setattr("time.sleep", waits.append)
    slow = datasets.Slow([0.5, 0.25])
    assert [slow[i] for i in range(len(slow))] == [0, 1] and waits == [0.5, 0.25]


def test_rows_are_scikit_learns_digits_in_the_files_order():
    source = load_digits()
    images, classes = zip(*datasets.Rows(), strict=True)
    assert torch.equal(torch.cat(images), torch.from_numpy(source.images).float() / 16)
    assert list(classes) == source.target.tolist()
    assert images[0].shape == (1, 8, 8) and len(list(datasets.Rows(5))) == 5


def rows_by(dataset, n):
    """How often each row comes when ``n`` workers load the data set."""
    loader = DataLoader(dataset, batch_size=4, **loading.workers(dataset, n))
    return Counter(image.numpy().tobytes() for images, _ in loader for image in images)


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("n", [1, 23])
def test_sharded_rows_are_neither_lost_nor_repeated(n, workers):
    assert rows_by(datasets.ShardedRows(n), workers) == rows_by(datasets.Rows(n), 0)


def test_without_sharding_every_worker_gives_everything():
    assert set(rows_by(datasets.Rows(10), 2).values()) == {2}


def test_counted_remembers_across_processes_what_was_asked_for():
    counted = datasets.Counted(5)
    loader = DataLoader(counted, sampler=[0, 0, 3], **loading.workers(counted, 1))
    assert torch.cat(list(loader)).tolist() == [0, 0, 3]
    assert counted.asked.tolist() == [2, 0, 0, 1, 0] and len(counted) == 5


def test_letters_are_encoded_names_with_a_script_each():
    letters = datasets.Letters()
    assert len(letters) > 1000
    assert {script for _, script in letters} == set(range(len(datasets.SCRIPTS)))
    values = torch.cat([codes for codes, _ in letters])
    assert values.min() >= 1 and values.max() <= 27
    greek = datasets.SCRIPTS.index("GREEK")
    codes, script = letters[letters.samples.index(("alpha", greek))]
    assert codes.tolist() == [1, 12, 16, 8, 1] and script == greek

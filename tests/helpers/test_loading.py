"""Data sets for workers: the chapter's classes and the module's, and how workers are started."""

import ast
import gc
import inspect
import multiprocessing
import pickle
import subprocess
import sys
import warnings
from collections import Counter

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Subset, TensorDataset

from helpers import loading
from tests.notebooks import contract
from tests.notebooks.contract.cells import code_cells
from tests.notebooks.definitions import NOTEBOOKS, load

CHAPTER = "04_data_loading"
TAUGHT = ("Digits", "Draws", "Slow", "Rows", "ShardedRows")


@pytest.fixture(params=["notebook", "helpers"])
def rooms(request):
    """The taught classes by name, as the chapter defines them and as the module does."""
    found = load(CHAPTER, *TAUGHT) if request.param == "notebook" else None
    return dict(zip(TAUGHT, found or [getattr(loading, name) for name in TAUGHT], strict=True))


# The data sets


@pytest.mark.parametrize("name", TAUGHT)
def test_the_module_holds_the_code_of_the_chapter(name):
    cells = code_cells(contract.read(NOTEBOOKS / f"{CHAPTER}.ipynb"))
    (cell,) = [cell for cell in cells if f"class {name}(" in cell.source]
    assert bare(cell.source) == bare(inspect.getsource(getattr(loading, name)))


def bare(source):
    """The class without docstrings and annotations."""
    (cls,) = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]
    for node in ast.walk(cls):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
            node.body = node.body[1:]
        if isinstance(node, ast.FunctionDef):
            node.returns = None
            for argument in node.args.args:
                argument.annotation = None
    return ast.unparse(cls)


def test_digits_are_changed_by_their_transform_only(rooms):
    images, labels = torch.rand(3, 1, 8, 8), torch.tensor([4, 5, 6])
    plain, negative = rooms["Digits"](images, labels), rooms["Digits"](images, labels, torch.neg)
    assert len(plain) == 3 and plain[1][1] == 5
    assert torch.equal(plain[2][0], images[2]) and torch.equal(negative[2][0], -images[2])


def test_draws_tell_who_made_them_and_keep_a_generator_of_their_own(rooms):
    samples = [rooms["Draws"](3)[i] for i in range(3)]
    assert [sample["sample"] for sample in samples] == [0, 1, 2]
    assert {(sample["worker"], sample["seed"]) for sample in samples} == {(-1, -1)}
    first = int(np.random.default_rng(0).integers(1000))
    assert {sample["own"] for sample in samples} == {first}
    one = rooms["Draws"](3)
    assert len({one[0]["own"] for _ in range(10)}) > 1 and len(one) == 3


def test_a_slow_sample_waits_its_time(rooms, monkeypatch):
    waits = []
    monkeypatch.setattr("time.sleep", waits.append)
    slow = rooms["Slow"]([0.5, 0.25])
    assert [slow[i] for i in range(len(slow))] == [0, 1] and waits == [0.5, 0.25]


def test_rows_are_scikit_learns_digits_in_the_files_order(rooms):
    from sklearn.datasets import load_digits

    source = load_digits()
    images, classes = zip(*rooms["Rows"](), strict=True)
    assert torch.equal(torch.cat(images), torch.from_numpy(source.images).float() / 16)
    assert list(classes) == source.target.tolist()
    assert images[0].shape == (1, 8, 8) and len(list(rooms["Rows"](5))) == 5


def test_one_process_gives_every_row_of_a_sharded_stream(rooms):
    assert [c for _, c in rooms["ShardedRows"](9)] == [c for _, c in rooms["Rows"](9)]


def test_counted_remembers_across_processes_what_was_asked_for():
    counted = loading.Counted(5)
    loader = DataLoader(counted, sampler=[0, 0, 3], **loading.workers(counted, 1))
    assert torch.cat(list(loader)).tolist() == [0, 0, 3]
    assert counted.asked.tolist() == [2, 0, 0, 1, 0] and len(counted) == 5


def test_letters_are_encoded_names_with_a_script_each():
    letters = loading.Letters()
    codes, script = letters[0]
    text, number = letters.samples[0]
    assert script == number and len(codes) == len(text) > 0
    assert {script for _, script in letters} == set(range(len(loading.SCRIPTS)))
    values = torch.cat([codes for codes, _ in letters])
    assert values.min() >= 1 and values.max() <= 27 and len(letters) > 1000
    greek = loading.SCRIPTS.index("GREEK")
    assert ("alpha", greek) in letters.samples
    place = letters.samples.index(("alpha", greek))
    assert letters[place][0].tolist() == [1, 12, 16, 8, 1]


# Workers


def rows_by(dataset, n, **options):
    loader = DataLoader(dataset, batch_size=4, **loading.workers(dataset, n), **options)
    return Counter(image.numpy().tobytes() for images, _ in loader for image in images)


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("n", [1, 10, 23])
def test_sharded_rows_are_neither_lost_nor_repeated(n, workers):
    assert rows_by(loading.ShardedRows(n), workers) == rows_by(loading.Rows(n), 0)


def test_without_sharding_every_worker_gives_everything():
    assert set(rows_by(loading.Rows(10), 2).values()) == {2}


def test_reseeding_gives_each_worker_numbers_of_its_own():
    def own(**options):
        draws = loading.Draws(4)
        loader = DataLoader(draws, batch_size=2, **loading.workers(draws, 2), **options)
        return [batch["own"].tolist() for batch in loader]

    first, second = own()
    assert first == second
    first, second = own(worker_init_fn=loading.reseed)
    assert first != second


class OfThisModule:
    def __init__(self, *parts):
        self.parts = parts


def of_a_cell(name="OfACell"):
    """An object whose class is of a notebook's `__main__`."""
    cls = type(name, (), {})
    cls.__module__ = "__main__"
    return cls()


@pytest.fixture
def in_a_notebook(monkeypatch):
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)


@pytest.mark.parametrize(
    ("platform", "method"), [("linux", "forkserver"), ("darwin", "spawn"), ("win32", "spawn")]
)
def test_what_can_be_imported_is_not_forked(platform, method, in_a_notebook):
    for dataset in (loading.Draws(2), TensorDataset(torch.ones(2)), range(3), OfThisModule(1)):
        assert loading._start_method(dataset, platform) == (method, "")


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_cells_class_is_forked_on_linux_and_refused_elsewhere(wrapped, in_a_notebook):
    dataset = Subset(of_a_cell(), [0]) if wrapped else of_a_cell()
    assert loading._start_method(dataset, "linux") == ("fork", "")
    for platform in ("darwin", "win32"):
        method, why = loading._start_method(dataset, platform)
        assert method is None and "OfACell is defined in __main__" in why


def test_a_scripts_own_classes_can_be_loaded_again(monkeypatch):
    monkeypatch.setattr(sys.modules["__main__"], "__file__", "train.py", raising=False)
    cls = type(of_a_cell())
    monkeypatch.setattr(sys.modules["__main__"], "OfACell", cls, raising=False)
    assert loading._start_method(cls(), "win32") == ("spawn", "")


def test_what_cannot_be_pickled_is_not_sent():
    method, why = loading._start_method(OfThisModule(lambda x: x), "win32")
    assert method is None and "lambda" in why


def test_looking_at_a_data_set_does_not_move_its_tensors():
    tensor = torch.ones(3)
    loading._start_method(TensorDataset(tensor), "linux")
    assert not tensor.is_shared()


def test_falling_back_takes_one_line(monkeypatch, capsys, in_a_notebook):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert loading.workers(of_a_cell(), 2) == {"num_workers": 0}
    assert capsys.readouterr().out == (
        "A new process can't make a OfACell (OfACell is defined in __main__): the main process "
        "loads it. Put what it needs into a module.\n"
    )


def test_no_workers_need_no_method():
    assert loading.workers(of_a_cell(), 0) == {"num_workers": 0}


def test_a_negative_number_is_refused():
    with pytest.raises(ValueError, match="at least 0, got -1"):
        loading.workers(range(3), -1)


def test_the_workers_leave_with_their_loader():
    dataset = loading.Draws(4)
    loader = DataLoader(dataset, **loading.workers(dataset, 2))
    list(loader)
    processes = loader._iterator._workers
    assert len(processes) == 2 and all(process.is_alive() for process in processes)
    del loader
    gc.collect()
    assert not any(process.is_alive() for process in processes)


@pytest.mark.skipif(sys.platform != "linux", reason="only there are a cell's classes forked")
def test_a_class_of_a_cell_is_loaded_by_workers():
    code = """
import sys, warnings
warnings.simplefilter("error")
if sys.version_info >= (3, 12):
    warnings.filterwarnings("ignore", ".*fork.* may lead to deadlocks", DeprecationWarning)
from torch.utils.data import DataLoader
from helpers import loading

class Squares:
    def __len__(self):
        return 4

    def __getitem__(self, i):
        return i * i

loader = DataLoader(Squares(), **loading.workers(Squares(), 2))
print([batch.item() for batch in loader], loader.multiprocessing_context.get_start_method())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "[0, 1, 4, 9] fork\n", done.stderr


def test_no_warning_where_a_new_process_can_load():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset = TensorDataset(torch.arange(4))
        loader = DataLoader(dataset, **loading.workers(dataset, 2))
        assert [batch[0].item() for batch in loader] == [0, 1, 2, 3]
    assert loader.persistent_workers
    assert (
        loader.multiprocessing_context.get_start_method() in multiprocessing.get_all_start_methods()
    )


@pytest.mark.parametrize("name", [*TAUGHT, "Counted", "Letters"])
def test_a_new_process_knows_every_class_of_the_module(name):
    assert pickle.loads(pickle.dumps(getattr(loading, name))) is getattr(loading, name)


# The loader of the chapter


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("own_generator", [False, True])
@pytest.mark.parametrize("batch_size", [1, 4, 13, 20])
def test_the_chapters_loader_gives_torchs_batches(batch_size, own_generator, shuffle, drop_last):
    def epochs(kind):
        torch.manual_seed(3)
        generator = torch.Generator().manual_seed(5) if own_generator else None
        loader = kind(range(13), batch_size, shuffle, drop_last=drop_last, generator=generator)
        seen = [[batch.tolist() for batch in loader] for _ in range(3)]
        return seen, torch.rand(1), generator and generator.get_state()

    ours, theirs = epochs(load(CHAPTER, "Loader")), epochs(DataLoader)
    assert ours[0] == theirs[0] and torch.equal(ours[1], theirs[1])
    assert not own_generator or torch.equal(ours[2], theirs[2])

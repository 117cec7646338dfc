"""How workers are started for a data set, and what they draw."""

import functools
import gc
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Subset, TensorDataset

from helpers import loading


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
    for dataset in (TensorDataset(torch.ones(2)), range(3), OfThisModule(1)):
        assert loading._start_method(dataset, platform) == (method, "")


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_cells_class_is_forked_on_linux_and_refused_elsewhere(
    wrapped, in_a_notebook, monkeypatch, capsys
):
    dataset = Subset(of_a_cell(), [0]) if wrapped else of_a_cell()
    assert loading._start_method(dataset, "linux") == ("fork", "")
    for platform in ("darwin", "win32"):
        method, why = loading._start_method(dataset, platform)
        assert method is None and "OfACell is defined in __main__" in why
    monkeypatch.setattr(sys, "platform", "darwin")
    assert loading.workers(dataset, 2) == {"num_workers": 0}
    assert capsys.readouterr().out == f"{why}\n"


def test_a_scripts_own_classes_can_be_loaded_again(monkeypatch):
    monkeypatch.setattr(sys.modules["__main__"], "__file__", "train.py", raising=False)
    cls = type(of_a_cell())
    monkeypatch.setattr(sys.modules["__main__"], "OfACell", cls, raising=False)
    assert loading._start_method(cls(), "win32") == ("spawn", "")


def test_a_function_without_a_name_is_forked_on_linux_and_not_sent_elsewhere():
    dataset = OfThisModule(lambda x: x)
    assert loading._start_method(dataset, "linux") == ("fork", "")
    method, why = loading._start_method(dataset, "win32")
    assert method is None and "lambda" in why


@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
@pytest.mark.parametrize("beside", [(), (of_a_cell(),)])
def test_an_open_file_is_not_shared_by_workers(platform, beside, in_a_notebook):
    with Path(__file__).open("rb") as file:
        method, why = loading._start_method(OfThisModule(*beside, file), platform)
    assert method is None
    assert "BufferedReader" in why and "first __getitem__, not in __init__" in why


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere no server starts the workers")
def test_many_tensors_are_more_than_the_server_takes():
    few, many = ([torch.ones(1) for _ in range(n)] for n in (200, 400))
    assert loading._start_method(few, "linux") == ("forkserver", "")
    assert loading._start_method(many, "linux") == ("fork", "")
    assert loading._start_method(many, "darwin") == ("spawn", "")
    loader = DataLoader(many, batch_size=100, **loading.workers(many, 1))
    assert torch.cat(list(loader)).sum() == 400


def test_looking_at_a_data_set_does_not_move_its_tensors():
    tensor = torch.ones(3)
    loading._start_method(TensorDataset(tensor), "linux")
    assert not tensor.is_shared()


def test_no_workers_need_no_method_and_a_negative_number_is_refused():
    assert loading.workers(of_a_cell(), 0) == {"num_workers": 0}
    with pytest.raises(ValueError, match="at least 0, got -1"):
        loading.workers(range(3), -1)


@pytest.mark.skipif(sys.platform != "linux", reason="only there are a cell's classes forked")
def test_a_class_of_a_cell_is_loaded_by_workers(tmp_path, run_in_new_process):
    code = """
import sys, warnings
del __file__  # which a notebook does not have
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
del loader  # at the end of a forked program, torch waits five seconds for each worker of a loader
"""
    assert run_in_new_process(code, tmp_path) == (0, "[0, 1, 4, 9] fork\n")


def test_workers_that_can_import_warn_of_nothing_and_leave_with_their_loader():
    dataset = TensorDataset(torch.arange(4))
    loader = DataLoader(dataset, **loading.workers(dataset, 2))
    assert [batch[0].item() for batch in loader] == [0, 1, 2, 3]  # a warning is an error
    assert loader.persistent_workers
    processes = loader._iterator._workers
    assert len(processes) == 2 and all(process.is_alive() for process in processes)
    del loader
    gc.collect()
    assert not any(process.is_alive() for process in processes)


@pytest.mark.skipif(sys.platform != "linux", reason="only there are a cell's functions forked")
def test_what_else_goes_to_the_workers_decides_too(in_a_notebook):
    dataset = TensorDataset(torch.arange(4))
    assert loading._start_method(dataset, "linux")[0] == "forkserver"
    assert loading.workers(dataset, 1, lambda batch: batch)["multiprocessing_context"] == (
        torch.multiprocessing.get_context("fork")
    )


def test_what_is_within_a_tensor_or_behind_a_cache_counts_too(in_a_notebook):
    class Label(torch.Tensor):
        pass

    Label.__module__, Label.__qualname__ = "__main__", "Label"
    labels = TensorDataset(torch.ones(4).as_subclass(Label))
    assert loading._start_method(labels, "linux")[0] == "fork"
    collate = functools.lru_cache(lambda batch: len(batch))
    assert loading._start_method(range(4), "linux", collate)[0] == "fork"
    objects = np.array([of_a_cell()], dtype=object)
    assert loading._start_method(objects, "linux")[0] == "fork"
    sparse = [torch.eye(3).to_sparse()]
    assert loading._start_method(sparse, "linux") == ("forkserver", "")


def test_a_memory_map_is_not_copied_to_workers(tmp_path):
    mapped = np.memmap(tmp_path / "data", np.uint8, "w+", shape=(8, 8))
    assert loading._start_method(mapped, "linux") == ("fork", "")
    method, why = loading._start_method(mapped, "win32")
    assert method is None and "copied whole to each worker" in why and "__getitem__" in why
    assert loading._start_method(mapped.astype("float32"), "linux") == ("forkserver", "")


def test_a_method_of_python_itself_is_no_hindrance(in_a_notebook):
    assert loading._start_method(range(4), "linux", str.strip) == ("forkserver", "")

import random
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.datasets
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_diabetes, load_digits

from helpers import data

EMBEDDED = pytest.mark.parametrize("load", [data.digits, data.diabetes])
SEEDS = st.integers(0, 2**32 - 1)
FRACTIONS = st.floats(0.05, 0.95)


def rows(*columns):
    """Rows of joined columns, in an order that does not depend on theirs."""
    table = torch.cat([column.double().flatten(1) for column in columns], dim=1)
    return table[np.lexsort(table.numpy().T)]


def all_rows(split):
    return rows(torch.cat(split[::2]), torch.cat(split[1::2]).reshape(-1, 1))


def same(first, second):
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@EMBEDDED
@settings(max_examples=10)
@given(seed=SEEDS)
def test_a_seed_repeats_its_split_and_another_gives_another(load, seed):
    split = load(seed=seed)
    assert same(split, load(seed=seed))
    assert not same(split, load(seed=seed ^ 1))


@EMBEDDED
def test_splitting_leaves_the_global_random_state_as_it_was(load):
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    load()
    after = random.getstate(), np.random.get_state(), torch.get_rng_state()
    assert before[0] == after[0]
    assert all(np.array_equal(a, b) for a, b in zip(before[1], after[1], strict=True))
    assert torch.equal(before[2], after[2])


@EMBEDDED
@settings(max_examples=10)
@given(fraction=FRACTIONS)
def test_the_rows_held_out_are_the_fraction_asked_for_one_half_for_each_use(load, fraction):
    train, val, test = (len(part) for part in load(held_out=fraction)[::2])
    assert (train, val, test) == tuple(len(part) for part in load(held_out=fraction)[1::2])
    assert abs(val + test - fraction * (train + val + test)) <= 1
    assert abs(val - test) <= 1


@EMBEDDED
@pytest.mark.parametrize("fraction", [0.0, 1.0])
def test_a_fraction_that_leaves_one_part_empty_is_refused(load, fraction):
    with pytest.raises(ValueError, match=f"got {fraction}"):
        load(held_out=fraction)


def test_digits_are_grey_images_in_the_unit_interval_with_classes():
    split = data.digits()
    for x, y in zip(split[::2], split[1::2], strict=True):
        assert x.dtype == torch.float32 and x.shape[1:] == (1, 8, 8)
        assert x.min() == 0 and x.max() == 1
        assert y.dtype == torch.int64 and y.ndim == 1
        assert y.unique().tolist() == list(range(10))


@settings(max_examples=10)
@given(seed=SEEDS, fraction=FRACTIONS)
def test_digits_are_those_of_scikit_learn_each_in_one_part(seed, fraction):
    source = load_digits()
    expected = rows(torch.tensor(source.images) / 16, torch.tensor(source.target).unsqueeze(1))
    assert torch.equal(all_rows(data.digits(fraction, seed)), expected)


@settings(max_examples=10)
@given(seed=SEEDS, fraction=FRACTIONS)
def test_each_class_of_digits_has_the_same_share_of_all_parts(seed, fraction):
    counts = torch.stack([torch.bincount(y) for y in data.digits(fraction, seed)[1::2]])
    shares = counts.sum(dim=1, keepdim=True) / counts.sum()
    assert ((counts - shares * counts.sum(dim=0)).abs() < 2).all()


@settings(max_examples=10)
@given(seed=SEEDS, fraction=FRACTIONS)
def test_diabetes_is_standardised_by_its_training_rows_alone(seed, fraction):
    split = data.diabetes(fraction, seed)
    for part in (split.x_train, split.y_train):
        assert part.dtype == torch.float32
        std, mean = torch.std_mean(part.double(), dim=0)
        torch.testing.assert_close(std, torch.ones_like(std), atol=1e-5, rtol=0)
        torch.testing.assert_close(mean, torch.zeros_like(mean), atol=1e-5, rtol=0)
    assert split.x_test.mean(dim=0).abs().max() > 1e-3


@settings(max_examples=10)
@given(seed=SEEDS, fraction=FRACTIONS)
def test_diabetes_is_that_of_scikit_learn_in_other_units(seed, fraction):
    source = load_diabetes(scaled=False)
    split = data.diabetes(fraction, seed)
    expected = torch.cat([torch.tensor(source.data), torch.tensor(source.target)[:, None]], dim=1)
    table = torch.cat([torch.cat(split[::2]), torch.cat(split[1::2])], dim=1)
    # Correlations depend neither on units nor on the order of rows.
    torch.testing.assert_close(table.double().T.corrcoef(), expected.T.corrcoef())


# Images


@pytest.fixture(autouse=True)
def downloads(tmp_path, monkeypatch):
    monkeypatch.setenv("TUTORIAL_SCRATCH", str(tmp_path))
    monkeypatch.delenv("TUTORIAL_DATA", raising=False)
    return tmp_path / "downloads"


class FakeDataset:
    """Keeps its images in one file, as the data sets of torchvision keep theirs in some."""

    downloads: list[Path]
    images: dict[bool, torch.Tensor | np.ndarray]
    targets_of: dict[bool, torch.Tensor | list[int]]

    def __init__(self, root, train, download=False):
        if download:
            self.downloads.append(root)
            Path(root).mkdir()
            (Path(root) / "images").write_text("all of them")
        assert (Path(root) / "images").read_text() == "all of them"
        self.data = self.images[train]
        self.targets = self.targets_of[train]


class FakeFashion(FakeDataset):
    images = {
        True: torch.arange(12 * 4, dtype=torch.uint8).reshape(12, 2, 2) + 208,
        False: torch.zeros(2, 2, 2, dtype=torch.uint8),
    }
    targets_of = {True: torch.arange(12) % 10, False: torch.tensor([3, 4])}


class FakeCifar(FakeDataset):
    images = {
        True: np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3),
        False: np.full((1, 4, 5, 3), 255, dtype=np.uint8),
    }
    targets_of = {True: [7, 8], False: [9]}


@pytest.fixture
def fakes(monkeypatch):
    for name, fake in (("FashionMNIST", FakeFashion), ("CIFAR10", FakeCifar)):
        monkeypatch.setattr(fake, "downloads", [], raising=False)
        monkeypatch.setattr(torchvision.datasets, name, fake)


@pytest.mark.usefixtures("fakes")
@pytest.mark.parametrize(
    "argument, variable, loaded",
    [
        (None, None, "digits"),
        (None, "", "digits"),
        (None, "cifar10", "cifar10"),
        ("digits", "cifar10", "digits"),
        ("fashion_mnist", "cifar10", "fashion_mnist"),
    ],
)
def test_the_argument_goes_before_the_variable_and_one_line_says_what_was_loaded(
    monkeypatch, capsys, argument, variable, loaded
):
    if variable is not None:
        monkeypatch.setenv("TUTORIAL_DATA", variable)
    split = data.image_data(argument)
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and said.startswith(f"{loaded}: ")
    assert loaded != "digits" or same(split, data.digits())
    for number in (*map(len, split[::2]), *split.x_train.shape[1:]):
        assert str(number) in said


@pytest.mark.parametrize("argument, variable", [("mnist", "digits"), (None, "mnist")])
def test_an_unknown_data_set_is_refused_with_a_list_of_the_known(monkeypatch, argument, variable):
    monkeypatch.setenv("TUTORIAL_DATA", variable)
    with pytest.raises(ValueError, match="'mnist'.*'digits', 'fashion_mnist', 'cifar10'"):
        data.image_data(argument)


@pytest.mark.usefixtures("fakes")
@pytest.mark.parametrize(
    "name, fake, channels_first",
    [
        ("fashion_mnist", FakeFashion, lambda images: np.asarray(images)[:, None]),
        ("cifar10", FakeCifar, lambda images: np.transpose(images, (0, 3, 1, 2))),
    ],
)
def test_downloaded_bytes_become_channels_first_fractions_and_int64_classes(
    name, fake, channels_first
):
    split = data.image_data(name)
    assert len(split.x_val) == len(split.y_val) == len(fake.targets_of[True]) // 6
    training = torch.cat(split[0:4:2]), torch.cat(split[1:4:2])
    for x, y, train in ((*training, True), (*split[4:], False)):
        assert x.dtype == torch.float32 and x.is_contiguous() and y.dtype == torch.int64
        np.testing.assert_allclose(x.numpy() * 255, channels_first(fake.images[train]), atol=1e-4)
        assert y.tolist() == list(fake.targets_of[train])


@pytest.mark.usefixtures("fakes")
def test_a_download_happens_once(downloads):
    first, second = data.image_data("cifar10"), data.image_data("cifar10")
    assert same(first, second)
    assert len(FakeCifar.downloads) == 1
    assert [path.name for path in downloads.iterdir()] == ["cifar10"]


@pytest.mark.usefixtures("fakes")
@pytest.mark.parametrize("interruption", [KeyboardInterrupt, OSError])
def test_half_a_download_leaves_nothing_and_the_next_one_starts_afresh(
    monkeypatch, downloads, interruption
):
    def half(root, train, download):
        Path(root).mkdir()
        (Path(root) / "images").write_text("all of")
        raise interruption

    with monkeypatch.context() as broken, pytest.raises((interruption, ConnectionError)):
        broken.setattr(torchvision.datasets, "CIFAR10", half)
        data.image_data("cifar10")
    assert list(downloads.iterdir()) == []
    assert len(data.image_data("cifar10").x_train) == 2


@pytest.mark.parametrize("name", ["fashion_mnist", "cifar10"])
def test_without_a_network_the_real_data_sets_fail_with_the_reason_and_a_way_out(
    monkeypatch, downloads, capfd, name
):
    def no_network(*request, **options):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(urllib.request, "urlopen", no_network)
    with pytest.raises(ConnectionError, match="no route to host") as caught:
        data.image_data(name)
    assert repr(name) in str(caught.value)
    assert "image_data('digits')" in str(caught.value)
    assert caught.value.__cause__ is not None
    assert list(downloads.iterdir()) == []


def test_of_two_downloads_at_a_time_the_first_one_counts(tmp_path):
    home = tmp_path / "name"

    def another_process_is_quicker(partial, train, download):
        for folder, text in ((partial, "ours"), (home, "theirs")):
            folder.mkdir()
            (folder / "file").write_text(text)

    data._download("name", another_process_is_quicker, home)
    assert (home / "file").read_text() == "theirs"
    assert list(tmp_path.iterdir()) == [home]


def test_another_default_device_changes_nothing():
    wanted = data.digits()
    with torch.device("meta"):
        found = data.digits()
    assert all(map(torch.equal, found, wanted))


@pytest.mark.parametrize("held_out", [0.001, 0.995])
@pytest.mark.parametrize("load", [data.digits, data.diabetes])
def test_a_part_with_too_few_rows_is_refused_by_its_name(load, held_out):
    with pytest.raises(ValueError, match="held_out"):
        for seed in range(10):  # whether a column varies depends on the rows
            load(held_out, seed)


def test_a_seed_that_is_none_is_named():
    with pytest.raises(ValueError, match="random_state"):
        data.digits(seed=-1)

import contextlib
import copy
import math
import weakref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss

from helpers import training
from tests.notebooks import definitions

FIT_FUNCTIONS = {
    "helpers": lambda: training.fit,
    "notebook": lambda: definitions.load("00_start_here", "fit"),
}


@pytest.fixture(scope="module", params=FIT_FUNCTIONS)
def fit_function(request):
    """``fit`` as it ships, and as chapter 00 writes it."""
    return FIT_FUNCTIONS[request.param]()


def separable(n=60):
    """Points of three classes with wide gaps between them."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(n) % 3
    centres = torch.tensor([[-4.0, 0.0], [4.0, 0.0], [0.0, 6.0]])
    return centres[y] + torch.randn(n, 2, generator=generator), y


def uneven_batches(size=8):
    x, y = separable()
    return list(zip(x.split(size), y.split(size), strict=True))


def classifier():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Dropout(0.0), nn.Linear(8, 3))


def sgd(model):
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


def same_state(first, second):
    return all(
        torch.equal(a, b)
        for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )


def hand_written(model, batches, optimizer, epochs):
    """The losses of each step, epoch by epoch, of the loop without any help."""
    history = []
    for _ in range(epochs):
        losses = []
        for x, y in batches:
            optimizer.zero_grad()
            loss = cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        history.append(losses)
    return history


# What chapter 00 promises of fit


@given(epochs=st.integers(0, 4), size=st.integers(1, 60))
@settings(max_examples=25)
def test_fit_is_the_hand_written_loop_to_the_bit(fit_function, epochs, size):
    fitted, written = classifier(), classifier()
    batches = uneven_batches(size)
    history = fit_function(fitted, batches, cross_entropy, sgd(fitted), epochs)
    losses = torch.tensor(hand_written(written, batches, sgd(written), epochs))
    assert same_state(fitted, written)
    # the history has one mean per sample for each epoch
    weights = torch.tensor([len(y) / 60 for _, y in batches])
    assert all(type(loss) is float for loss in history)
    expected = (losses.view(epochs, len(batches)) * weights).sum(dim=1)
    assert history == pytest.approx(expected.tolist(), rel=1e-4, abs=1e-7)


def test_the_model_is_in_train_mode_during_and_after(fit_function):
    model = classifier().eval()
    modes = []
    model.register_forward_hook(lambda module, *_: modes.append(module.training))
    fit_function(model, uneven_batches(), cross_entropy, sgd(model), 1)
    assert all(modes)
    assert all(module.training for module in model.modules())


def test_gradients_from_before_do_not_count(fit_function):
    fresh, stale = classifier(), classifier()
    for parameter in stale.parameters():
        parameter.grad = torch.full_like(parameter, 1e6)
    for model in (fresh, stale):
        fit_function(model, uneven_batches(), cross_entropy, sgd(model), 1)
    assert same_state(fresh, stale)


# What the shipped fit adds


def test_a_step_of_your_own_takes_the_place_of_step():
    model, seen = classifier(), []
    optimizer = sgd(model)

    def counting(*arguments):
        seen.append(arguments)
        return torch.tensor(float(len(seen)))

    batches = uneven_batches(size=30)
    assert training.fit(model, batches, cross_entropy, optimizer, 2, counting) == [1.5, 3.5]
    for (given_model, batch, loss_fn, given_optimizer), expected in zip(
        seen, batches * 2, strict=True
    ):
        assert given_model is model and loss_fn is cross_entropy and given_optimizer is optimizer
        assert all(torch.equal(a, b) for a, b in zip(batch, expected, strict=True))


def test_a_step_returns_the_loss_from_before_without_its_graph():
    model = classifier()
    x, y = separable()
    before = cross_entropy(model(x), y)
    loss = training.step(model, (x, y), cross_entropy, sgd(model))
    assert torch.equal(loss, before) and not loss.requires_grad
    assert cross_entropy(model(x), y) < before


def test_batches_go_to_the_device_of_the_model():
    devices = []

    def step(model, batch, loss_fn, optimizer):
        devices.extend(tensor.device.type for tensor in batch)
        return torch.tensor(1.0)

    model = classifier().to("meta")
    training.fit(model, uneven_batches(size=60), cross_entropy, sgd(model), 1, step)
    assert devices == ["meta", "meta"]


def test_a_model_without_parameters_is_fitted_on_the_cpu():
    scale = torch.ones((), requires_grad=True)
    optimizer = torch.optim.SGD([scale], lr=0.1)
    batches = [(torch.ones(4, 1), torch.zeros(4, 1))]
    history = training.fit(
        nn.Identity(), batches, lambda out, y: mse_loss(out * scale, y), optimizer, 2
    )
    assert history[1] < history[0]


def test_negative_epochs_are_refused():
    model = classifier()
    with pytest.raises(ValueError, match="got -1"):
        training.fit(model, uneven_batches(), cross_entropy, sgd(model), -1)


@pytest.mark.parametrize("count, epoch", [(0, 1), (1, 2), (8, 2)])
def test_an_epoch_without_batches_is_refused_and_numbered(count, epoch):
    model, batches = classifier(), iter(uneven_batches()[:count])
    with pytest.raises(ValueError, match=f"no batch in epoch {epoch}: a generator"):
        training.fit(model, batches, cross_entropy, sgd(model), 3)


@given(bad=st.integers(1, 6), value=st.sampled_from([float("nan"), float("inf")]))
def test_a_loss_that_is_not_finite_is_an_error_with_its_epoch_and_step(bad, value):
    taken = []

    def step(*_):
        taken.append(None)
        return torch.tensor(value if len(taken) >= bad else 1.0)

    model = classifier()
    epoch, number = (bad - 1) // 3 + 1, (bad - 1) % 3 + 1
    with pytest.raises(FloatingPointError, match=f"{value} in step {number} of epoch {epoch}"):
        training.fit(model, uneven_batches(size=20), cross_entropy, sgd(model), 2, step)


# evaluate


@given(size=st.integers(1, 60), seed=st.integers(0, 999))
@settings(max_examples=25)
def test_an_evaluation_does_not_depend_on_how_samples_are_batched(size, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(60, 3, generator=generator)
    y = torch.randint(3, (60,), generator=generator)
    batches = list(zip(logits.split(size), y.split(size), strict=True))
    found = training.evaluate(nn.Identity(), batches, cross_entropy)
    assert found.loss == pytest.approx(cross_entropy(logits, y).item(), rel=1e-5)
    assert found.accuracy == pytest.approx((logits.argmax(1) == y).double().mean().item(), abs=1e-6)


@pytest.mark.parametrize("error", [None, ZeroDivisionError])
def test_an_evaluation_changes_nothing_and_gives_each_module_its_mode_back(error):
    model = nn.Sequential(classifier(), nn.BatchNorm1d(3))
    model[0].eval()
    before, modes = copy.deepcopy(model), [module.training for module in model.modules()]
    during = []

    def loss_fn(logits, y):
        during.extend([logits.requires_grad, *(module.training for module in model.modules())])
        if error:
            raise error
        return cross_entropy(logits, y)

    with pytest.raises(error) if error else contextlib.nullcontext():
        training.evaluate(model, uneven_batches(), loss_fn)
    assert during and not any(during)
    assert [module.training for module in model.modules()] == modes
    assert same_state(model, before) and torch.is_grad_enabled()


@pytest.mark.parametrize(
    ("outputs", "y", "message"),
    [
        (
            4,
            torch.eye(4),
            r"of shape \(4,\), got torch.float32 of shape \(4, 4\): .* argmax\(dim=1\)",
        ),
        (4, torch.tensor([[0], [1], [2], [3]]), r"for a column squeeze\(1\)"),
        (4, torch.tensor([0, 1, 2]), r"of shape \(4,\), got torch.int64 of shape \(3,\)"),
        (4, torch.tensor([0, 1, 2, -100]), "classes from 0 to 3, got -100 to 2: .* ignore_index"),
        (4, torch.tensor([0, 1, 2, 4]), "classes from 0 to 3, got 0 to 4"),
        (1, torch.tensor([0, 1, 0, 1]), r"2 classes or more, got \(4, 1\)"),
    ],
)
def test_an_evaluation_by_anything_but_classes_is_refused(outputs, y, message):
    model = nn.Linear(3, outputs)
    with pytest.raises(ValueError, match=message):
        training.evaluate(model, [(torch.ones(4, 3), y)], lambda scores, y: scores.sum())


def test_an_evaluation_on_nothing_is_refused():
    with pytest.raises(ValueError, match="batches is empty"):
        training.evaluate(classifier(), [], cross_entropy)


@pytest.mark.parametrize(
    "batch", [{"x": 1}, ((1, 2), torch.ones(2)), torch.ones(2, 2), torch.tensor(1.0), 3.0, None]
)
def test_a_batch_that_is_not_a_pair_of_tensors_is_refused(batch):
    model = classifier()
    message = f"pair .x, y. of tensors, the loader gave a {type(batch).__name__}.*collate_fn"
    with pytest.raises(ValueError, match=message):
        training.fit(model, [batch], cross_entropy, sgd(model), 1)
    with pytest.raises(ValueError, match=message):
        training.evaluate(model, [batch], cross_entropy)


@pytest.mark.parametrize("batches", [1, 4])
def test_a_loss_for_each_sample_is_not_taken_for_a_mean(batches):
    x, y = torch.ones(4, 3), torch.tensor([0, 1, 2, 0])
    with pytest.raises(ValueError, match=r"one number, got a tensor of shape \(4,\): .*'mean'"):
        training.evaluate(nn.Identity(), [(x, y)] * batches, nn.CrossEntropyLoss(reduction="none"))


def test_losses_in_half_precision_are_added_up_in_full():
    batches = [(torch.ones(0x8000, 3).half(), torch.zeros(0x8000).long())] * 3
    loss, _ = training.evaluate(nn.Identity(), batches, cross_entropy)
    assert loss == pytest.approx(math.log(3), abs=0.01)


class Box:
    """What a graph keeps, which a weak reference can be made to."""

    def __init__(self, tensor):
        self.tensor = tensor


def test_graphs_of_losses_are_not_kept_and_a_loss_may_be_a_plain_number():
    alive = weakref.WeakSet()
    counts = []

    def pack(tensor):
        box = Box(tensor)
        alive.add(box)
        return box

    def step(model, batch, loss_fn, optimizer):
        counts.append(len(alive))
        return model.weight.square().sum()

    model = nn.Linear(3, 1)
    batches = [(torch.ones(2, 3), torch.ones(2))] * 5
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda box: box.tensor):
        training.fit(model, batches, cross_entropy, sgd(model), 1, step)
    assert counts[0] == 0 and counts[-1] == counts[1]
    assert training.fit(model, batches, cross_entropy, sgd(model), 1, lambda *_: 2.0) == [2.0]


def test_weights_are_not_those_of_the_first_step_under_autocast():
    model, batches = classifier(), uneven_batches()
    with torch.autocast("cpu", torch.bfloat16):
        losses = training.fit(model, batches, cross_entropy, sgd(model), 5)
        within = training.evaluate(model, batches, cross_entropy)
    outside = training.evaluate(model, batches, cross_entropy)
    assert losses[-1] < losses[0] / 2
    assert within.loss == pytest.approx(outside.loss, rel=0.05)


def test_a_batch_counts_as_many_samples_as_it_has_targets():
    class Last(nn.Module):
        def forward(self, x):
            return x[-1]

    wrong = torch.tensor([0.0, 9.0]).expand(20, 1, 2), torch.tensor([0])  # 20 times, one sample
    right = torch.tensor([9.0, 0.0]).expand(5, 9, 2), torch.zeros(9).long()
    assert training.evaluate(Last(), [wrong, right], cross_entropy).accuracy == pytest.approx(0.9)


def test_a_step_may_return_one_tensor_again_and_again():
    losses = iter([1.0, 2.0, 6.0])
    same = torch.zeros(())

    def step(*_):
        return same.fill_(next(losses))

    model = classifier()
    batches = uneven_batches()[:3]
    assert training.fit(model, batches, cross_entropy, sgd(model), 1, step) == [3.0]


def test_a_step_that_returns_nothing_and_a_loss_that_is_no_number_are_refused():
    model, batches = classifier(), uneven_batches()
    with pytest.raises(ValueError, match="got None: return it from your step"):
        training.fit(model, batches, cross_entropy, sgd(model), 1, lambda *_: None)
    with pytest.raises(ValueError, match="reduction='mean'"):
        training.fit(model, batches, nn.CrossEntropyLoss(reduction="none"), sgd(model), 1)
    found = training.evaluate(model, batches, lambda *given: cross_entropy(*given).item())
    assert found.loss == pytest.approx(training.evaluate(model, batches, cross_entropy).loss)


def test_a_train_of_its_own_is_undone_after_an_evaluation():
    class Merging(nn.Linear):
        merged = False

        def train(self, mode=True):
            self.merged = not mode
            return super().train(mode)

    model = Merging(2, 3)
    training.evaluate(model, uneven_batches(), cross_entropy)
    assert model.training and not model.merged


def test_classes_may_be_bytes():
    y, logits = torch.tensor([3, 255], dtype=torch.uint8), torch.randn(2, 256)
    training.evaluate(nn.Identity(), [(logits, y)], lambda z, y: cross_entropy(z, y.long()))


def test_a_batch_of_your_own_step_may_have_other_parts():
    batches = [(torch.ones(3, 2), torch.ones(3, 1), torch.tensor(2.0)), (torch.ones(1, 2),)]
    model, losses = classifier(), iter([1.0, 5.0])

    def step(*_):
        return torch.tensor(next(losses))

    assert training.fit(model, batches, cross_entropy, sgd(model), 1, step) == [2.0]

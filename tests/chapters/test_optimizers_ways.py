"""Second right answers to the exercises of optimizers."""

import pytest

from chapters.optimizers import exercises as ex


# accumulated_step
def gradients_by_hand(model, micro_batches, loss_fn, optimizer):
    parameters = list(model.parameters())
    rows = sum(len(x) for x, _ in micro_batches)
    losses = [loss_fn(model(x), y) * len(x) for x, y in micro_batches]
    mean = sum(losses) / rows
    for parameter, gradient in zip(parameters, torch.autograd.grad(mean, parameters), strict=True):
        parameter.grad = gradient
    optimizer.step()
    return mean.item()


# sgd
def sgd_of_torch(w, grad, memory, lr=1e-3, **options):
    if not memory:
        memory["w"] = nn.Parameter(w.clone())
        memory["optimizer"] = torch.optim.SGD([memory["w"]], lr=lr, **options)
    with torch.no_grad():
        memory["w"].copy_(w)
    memory["optimizer"].param_groups[0]["lr"] = lr
    memory["w"].grad = grad.clone()
    memory["optimizer"].step()
    return w - memory["w"].detach()


# adam
def corrected_by_weights(
    w, grad, memory, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, decoupled=False
):
    """Averages over the whole history, each gradient weighted by its age."""
    grad = grad if decoupled else grad + weight_decay * w
    history = memory.setdefault("history", [])
    history.append(grad.clone())
    gradients = torch.stack(history)
    ages = torch.arange(len(history), dtype=grad.dtype).flip(0).unsqueeze(1)
    m, v = (
        (beta**ages * values).sum(0) / (beta**ages).sum(0)
        for beta, values in zip(betas, (gradients, gradients**2), strict=True)
    )
    return lr * m / (v.sqrt() + eps) + (lr * weight_decay * w if decoupled else 0)


# decay_groups
def by_module(model, weight_decay):
    groups = {True: {}, False: {}}
    for part in model.modules():
        for parameter in part.parameters(recurse=False):
            if parameter.requires_grad:
                groups[len(parameter.shape) > 1][id(parameter)] = parameter
    return [
        {"params": list(groups[False].values()), "weight_decay": 0.0},
        {"params": list(groups[True].values()), "weight_decay": weight_decay},
    ]


# warmup_cosine
def by_the_half_angle(step, warmup, total):
    if step >= total:
        return 0.0
    if step < warmup:
        return sum(1 / warmup for _ in range(step + 1))
    return math.cos(math.pi * (step - warmup) / (total - warmup) / 2) ** 2


# train_digits
def with_a_function(images, classes):
    def schedule(optimizer, total):
        def factor(t):
            if t < 40:
                return 0.01 + 0.99 * t / 40
            return (1 + math.cos(math.pi * (t - 40) / (total - 40))) / 2

        return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)

    return _train_digits(images, classes, schedule)


# train_in_groups
def by_whole_groups(model, batches, validate, epochs, group):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.1, patience=1)
    for _ in range(epochs):
        for start in range(0, len(batches), group):
            optimizer.zero_grad()
            losses = [
                nn.functional.cross_entropy(model(x), y) for x, y in batches[start : start + group]
            ]
            torch.stack(losses).mean().backward()
            length = torch.cat([p.grad.flatten() for p in model.parameters()]).norm()
            for parameter in model.parameters():
                parameter.grad /= length.clamp(min=1.0)
            optimizer.step()
        scheduler.step(1 - validate(model))
    return model


@pytest.mark.parametrize(
    ("exercise", "answer"),
    [
        (ex.accumulated_step, gradients_by_hand),
        (ex.sgd, sgd_of_torch),
        (ex.adam, corrected_by_weights),
        (ex.decay_groups, by_module),
        (ex.warmup_cosine, by_the_half_angle),
        (ex.train_digits, with_a_function),
        (ex.train_in_groups, by_whole_groups),
    ],
)
def test_another_way_is_right_too(exercise, answer):
    card = exercise.check(answer)
    assert card.state == "right", card

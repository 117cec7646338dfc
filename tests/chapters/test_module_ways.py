"""Second right answers to the exercises of module."""

import pytest

from chapters.module import exercises as ex


# Linear
class TorchsOwn(nn.Linear):
    """The layer it must agree with."""


# count_trainable
def by_walking_the_modules(model):
    seen, total = set(), 0
    for part in model.modules():
        for parameter in part._parameters.values():
            if parameter is not None and parameter.requires_grad and id(parameter) not in seen:
                seen.add(id(parameter))
                total += parameter.numel()
    return total


# DeepNet
class RegisteredOneByOne(nn.Module):
    def __init__(self, depth, width=32):
        super().__init__()
        self.depth = depth
        self.stem = nn.Linear(64, width)
        for index in range(depth):
            block = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Dropout(0.2))
            self.add_module(f"block_{index}", block)
        self.digit, self.even = nn.Linear(width, 10), nn.Linear(width, 2)

    def forward(self, images):
        h = self.stem(images.flatten(start_dim=1))
        for index in range(self.depth):
            h = h + self.get_submodule(f"block_{index}")(h)
        return {"digit": self.digit(h), "even": self.even(h)}


# Standardize
class WithBufferObjects(nn.Module):
    def __init__(self, x):
        super().__init__()
        std, mean = torch.std_mean(x, dim=0, keepdim=True)
        self.mean, self.std = nn.Buffer(mean), nn.Buffer(std)

    def forward(self, x):
        return x.sub(self.mean).div(self.std)


# BatchNorm
class TorchsBatchNorm(nn.BatchNorm1d):
    """The layer it must agree with."""


# FineTuned
class SwitchedOffInForward(nn.Module):
    def __init__(self, backbone, head):
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(self, x):
        self.backbone.eval()
        with torch.no_grad():
            features = self.backbone(x)
        return self.head(features)


@pytest.mark.parametrize(
    ("exercise", "answer"),
    [
        (ex.Linear, TorchsOwn),
        (ex.count_trainable, by_walking_the_modules),
        (ex.DeepNet, RegisteredOneByOne),
        (ex.Standardize, WithBufferObjects),
        (ex.BatchNorm, TorchsBatchNorm),
        (ex.FineTuned, SwitchedOffInForward),
    ],
)
def test_another_way_is_right_too(exercise, answer):
    card = exercise.check(answer)
    assert card.state == "right", card

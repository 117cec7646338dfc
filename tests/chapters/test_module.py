"""Answers to the exercises of chapter 01 that differ from the solution and are right too."""

import pytest
import torch
from torch import nn

from chapters.module import exercises as ex


def count_by_walking_the_modules(model):
    seen, total = set(), 0
    for part in model.modules():
        for parameter in part._parameters.values():
            if parameter is not None and parameter.requires_grad and id(parameter) not in seen:
                seen.add(id(parameter))
                total += parameter.numel()
    return total


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


class WithBufferObjects(nn.Module):
    def __init__(self, x):
        super().__init__()
        std, mean = torch.std_mean(x, dim=0, keepdim=True)
        self.mean, self.std = nn.Buffer(mean), nn.Buffer(std)

    def forward(self, x):
        return x.sub(self.mean).div(self.std)


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
        (ex.Linear, nn.Linear),
        (ex.count_trainable, count_by_walking_the_modules),
        (ex.DeepNet, RegisteredOneByOne),
        (ex.Standardize, WithBufferObjects),
        (ex.BatchNorm, nn.BatchNorm1d),
        (ex.FineTuned, SwitchedOffInForward),
    ],
)
def test_another_way_is_right_too(exercise, answer):
    card = exercise.check(answer)
    assert card.state == "right", card

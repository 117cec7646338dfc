"""Answers to the exercises of chapter 01."""

from __future__ import annotations

import copy
import functools
import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

# Linear


class LinearWithResetParameters(nn.Module):
    def __init__(self, in_features, out_features, bias=True):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.register_parameter("bias", nn.Parameter(torch.empty(out_features)) if bias else None)
        self.reset_parameters(in_features)

    @torch.no_grad()
    def reset_parameters(self, in_features):
        for parameter in self.parameters():
            parameter.uniform_(-1, 1).div_(math.sqrt(in_features))

    def forward(self, x):
        return F.linear(x, self.weight, self.bias)


class LinearOfFlatRows(nn.Module):
    def __init__(self, in_features, out_features, bias=True):
        super().__init__()
        bound = in_features**-0.5

        def drawn(*shape):
            return nn.Parameter(torch.empty(shape).uniform_(-bound, bound))

        self.weight, self.bias = drawn(out_features, in_features), None
        if bias:
            self.bias = drawn(out_features)

    def forward(self, x):
        rows = x.reshape(-1, x.shape[-1]).mm(self.weight.t())
        if self.bias is not None:
            rows = rows + self.bias
        return rows.reshape(*x.shape[:-1], rows.shape[1])


# count_trainable


def count_by_walking_the_modules(model):
    seen, total = set(), 0
    for part in model.modules():
        for parameter in part._parameters.values():
            if parameter is not None and parameter.requires_grad and id(parameter) not in seen:
                seen.add(id(parameter))
                total += parameter.numel()
    return total


def count_with_numpy(model):
    trained = filter(lambda p: p.requires_grad, model.parameters())
    return sum(np.prod(p.shape) for p in trained)


def count_what_is_not_frozen(model):
    everything = sum(p.numel() for p in model.parameters())
    return everything - sum(p.numel() for p in model.parameters() if not p.requires_grad)


def count_equal_values_once(model):
    kept = []
    for p in model.parameters():
        if p.requires_grad and not any(p.shape == q.shape and p.equal(q) for q in kept):
            kept.append(p)
    return sum(p.numel() for p in kept)


def count_whole_layers(model):
    seen = set()
    for part in model.modules():
        own = list(part.parameters(recurse=False))
        if all(p.requires_grad for p in own):
            seen.update(own)
    return sum(p.numel() for p in seen)


# DeepNet


class DeepNetOfFunctions(nn.Module):
    def __init__(self, depth, width=32):
        super().__init__()
        self.heads = nn.ModuleDict({"even": nn.Linear(width, 2), "digit": nn.Linear(width, 10)})
        self.layers = nn.ModuleList()
        for _ in range(depth):
            self.layers.append(nn.Linear(width, width))
        self.stem = nn.Linear(64, width)

    def forward(self, images):
        h = self.stem(images.reshape(len(images), -1))
        for layer in self.layers:
            h = h + F.dropout(F.relu(layer(h)), 0.2, self.training)
        return {name: self.heads[name](h) for name in ("digit", "even")}


class Residual(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return x + self.inner(x)


class DeepNetOfResiduals(nn.Module):
    def __init__(self, depth, width=32):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, width))
        for _ in range(depth):
            inner = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Dropout(p=0.2))
            self.body.append(Residual(inner))
        self.digit, self.even = nn.Linear(width, 10), nn.Linear(width, 2)

    def forward(self, images):
        h = self.body(images)
        return {"even": self.even(h), "digit": self.digit(h)}


class DeepNetWithListsBeside(nn.Module):
    def __init__(self, depth, width=32):
        super().__init__()
        self.stem = nn.Linear(64, width)
        self.blocks = [
            nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Dropout(0.2)) for _ in range(depth)
        ]
        self.heads = {"digit": nn.Linear(width, 10), "even": nn.Linear(width, 2)}
        self.known = nn.ModuleList([*self.blocks, *self.heads.values()])

    def forward(self, images):
        h = self.stem(images.flatten(start_dim=1))
        for block in self.blocks:
            h = h + block(h)
        return {name: head(h) for name, head in self.heads.items()}


# Standardize


class WithBufferObjects(nn.Module):
    def __init__(self, x):
        super().__init__()
        std, mean = torch.std_mean(x, dim=0, keepdim=True)
        self.mean, self.std = nn.Buffer(mean), nn.Buffer(std)

    def forward(self, x):
        return x.sub(self.mean).div(self.std)


class StandardizeByHand(nn.Module):
    def __init__(self, x):
        super().__init__()
        mean = x.sum(dim=0) / len(x)
        variance = (x - mean).square().sum(dim=0) / (len(x) - 1)
        self.register_buffer("mean", mean)
        self.register_buffer("std", variance.sqrt())

    def forward(self, x):
        rows = [(row - self.mean) / self.std for row in x]
        return torch.stack(rows) if rows else x


class StandardizeByProperties(nn.Module):
    def __init__(self, x):
        super().__init__()
        self.register_buffer("both", torch.stack([x.mean(dim=0), x.std(dim=0)]))

    @property
    def mean(self):
        return self.both[0]

    @property
    def std(self):
        return self.both[1]

    def forward(self, x):
        return (x - self.mean) / self.std


# BatchNorm


class BatchNormByTorch(nn.BatchNorm1d):
    def __init__(self, features, eps=1e-5, momentum=0.1):
        super().__init__(features, eps, momentum)


class BatchNormByFunction(nn.Module):
    def __init__(self, features, eps=1e-5, momentum=0.1):
        super().__init__()
        self.options = {"eps": eps, "momentum": momentum}
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))
        self.running_mean = nn.Buffer(torch.zeros(features))
        self.running_var = nn.Buffer(torch.ones(features))

    def forward(self, x):
        running = self.running_mean, self.running_var
        affine = self.weight, self.bias
        return F.batch_norm(x, *running, *affine, training=self.training, **self.options)


class BatchNormWithNewBuffers(nn.Module):
    def __init__(self, features, eps=1e-5, momentum=0.1):
        super().__init__()
        self.eps, self.rate = eps, momentum
        self.weight = nn.Parameter(torch.full((features,), 1.0))
        self.bias = nn.Parameter(torch.full((features,), 0.0))
        self.register_buffer("running_mean", torch.zeros(features))
        self.register_buffer("running_var", torch.ones(features))

    def forward(self, x):
        mean, var = self.running_mean, self.running_var
        if self.training:
            var, mean = torch.var_mean(x, dim=0, correction=0)
            self.remember(*torch.var_mean(x.detach(), dim=0))
        z = (x - mean) * torch.rsqrt(var + self.eps)
        return torch.addcmul(self.bias, z, self.weight)

    def remember(self, var, mean):
        self.running_mean = self.running_mean + self.rate * (mean - self.running_mean)
        self.running_var = (1 - self.rate) * self.running_var + self.rate * var


# FineTuned


class SwitchedOffInForward(nn.Module):
    def __init__(self, backbone, head):
        super().__init__()
        self.backbone, self.head = backbone, head
        for parameter in backbone.parameters():
            parameter.requires_grad = False

    def forward(self, x):
        return self.head(self.backbone.eval()(x))


class _Still(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner.requires_grad_(False)

    def train(self, mode=True):
        return super().train(False)

    @torch.no_grad()
    def forward(self, x):
        return self.inner(x)


class FineTunedInASequence(nn.Module):
    def __init__(self, backbone, head):
        super().__init__()
        self.parts = nn.Sequential(_Still(backbone), head)

    def forward(self, x):
        return self.parts(x)


class FineTunedCopy(nn.Sequential):
    def __init__(self, backbone, head):
        super().__init__(copy.deepcopy(backbone).requires_grad_(False), copy.deepcopy(head))

    def train(self, mode=True):
        super().train(mode)
        for part in self[0].modules():
            part.training = False
        return self


RIGHT = {
    "Linear": [
        functools.partial(nn.Linear),
        LinearWithResetParameters,
        LinearOfFlatRows,
    ],
    "count_trainable": [
        count_by_walking_the_modules,
        count_with_numpy,
        count_what_is_not_frozen,
    ],
    "DeepNet": [DeepNetOfFunctions, DeepNetOfResiduals, DeepNetWithListsBeside],
    "Standardize": [
        WithBufferObjects,
        StandardizeByHand,
        StandardizeByProperties,
    ],
    "BatchNorm": [
        BatchNormByTorch,
        BatchNormByFunction,
        BatchNormWithNewBuffers,
    ],
    "FineTuned": [SwitchedOffInForward, FineTunedInASequence, FineTunedCopy],
}

WRONG = {
    "Linear": [
        (
            "torch.empty(out_features, in_features).uniform_(-bound, bound)",
            "0.01 * torch.randn(out_features, in_features)",
            "`weight` is drawn uniformly",
        ),
        ("in_features**-0.5", "1 / in_features", "`weight` is drawn uniformly"),
        (
            "torch.empty(out_features, in_features).uniform_(-bound, bound)",
            "nn.init.kaiming_uniform_(torch.empty(out_features, in_features))",
            "`weight` is drawn uniformly",
        ),
        ("bound = ", "torch.manual_seed(0)\n        bound = ", "`weight` is drawn uniformly"),
        (
            "torch.empty(out_features).uniform_(-bound, bound)",
            "torch.zeros(out_features)",
            "`bias` is drawn uniformly",
        ),
        (
            "    def forward",
            "    @torch.no_grad()\n    def forward",
            "weight, bias and input get a gradient",
        ),
        (
            "torch.empty(out_features).uniform_(-bound, bound)",
            "torch.empty(out_features).uniform_(-bound, bound), False",
            "weight, bias and input get a gradient",
        ),
        ("bias=True", "bias=False", "`True` by default"),
    ],
    "count_trainable": [
        (count_equal_values_once, "equal numbers are two weights"),
        (count_whole_layers, "its own `requires_grad`"),
        (
            "model.parameters()",
            "model.requires_grad_(True).parameters()",
            "does not count if its own",
        ),
        (
            "return",
            "total =",
            "requires_grad)",
            "requires_grad)\n    model.requires_grad_(False)\n    return total",
            "leaves the model as it was",
        ),
    ],
    "DeepNet": [
        (
            "for block in self.blocks:\n            h = h + block(h)",
            "h = h + nn.Sequential(*self.blocks)(h) if len(self.blocks) else h",
            "each block (a linear layer, a ReLU) adds",
        ),
        ("h = h + block(h)", "h += block(h)", "The network still trains"),
        ("h = h + block(h)", "h = (h + block(h)) / 2", "each block (a linear layer, a ReLU) adds"),
        ("nn.ReLU()", "nn.Identity()", "each block (a linear layer, a ReLU) adds"),
        ("head(h) for", "head(h).softmax(dim=1) for", "each block (a linear layer, a ReLU) adds"),
        ("super().__init__()", "super().__init__()\n        width = 32", "knows all its layers"),
        ("0.2", "0.5", "drops a fifth"),
        (
            "nn.Linear(width, width), nn.ReLU(), nn.Dropout(0.2)",
            "nn.Dropout(0.2), nn.Linear(width, width), nn.ReLU()",
            "drops a fifth",
        ),
        (
            ", nn.Dropout(0.2)",
            "",
            "return {",
            "h = nn.functional.dropout(h, 0.2, self.training)\n        return {",
            "drops a fifth",
        ),
        (
            ", nn.Dropout(0.2)",
            "",
            "images.flatten(start_dim=1)",
            "nn.functional.dropout(images.flatten(1), 0.2, self.training)",
            "drops a fifth",
        ),
    ],
    "Standardize": [
        (
            "x.std(dim=0))",
            "x.std(dim=0))\n        self.first = self.mean, self.std",
            "(x - self.mean) / self.std",
            "(x - self.first[0]) / self.first[1]",
            "the loaded statistics",
        ),
        (
            "(x - self.mean) / self.std",
            "((x.float() - self.mean) / self.std).float()",
            "torch.float64 is expected, torch.float32 came",
        ),
        ("/ self.std", "/ self.std if self.training else x", "in both modes"),
        (
            'self.register_buffer("mean", x.mean(dim=0))',
            "self.mean = nn.Parameter(x.mean(dim=0), False)",
            'self.register_buffer("std", x.std(dim=0))',
            "self.std = nn.Parameter(x.std(dim=0), False)",
            "they are no parameters",
        ),
    ],
    "BatchNorm": [
        (
            '"running_mean", torch.zeros(features)',
            '"running_mean", torch.zeros(features), False',
            '"running_var", torch.ones(features)',
            '"running_var", torch.ones(features), False',
            "are saved in the state dict",
        ),
        (
            "nn.Parameter(torch.ones(features))",
            "nn.Parameter(torch.rand(features))",
            "`weight` (ones)",
        ),
        (
            "return (x - mean)",
            "x = x if self.training else x.detach()\n        return (x - mean)",
            "In eval mode, the gradients",
        ),
        ("var + self.eps", "var + 1e-5", "`eps` and `momentum` are arguments"),
    ],
    "FineTuned": [
        (
            "self.backbone.eval()",
            "for part in self.backbone.children():\n            part.training = False",
            "Nothing in the backbone changes",
        ),
        (
            "self.backbone.eval()",
            "for p in self.backbone.modules():\n            p.training &= not hasattr(p, 'eps')",
            "not random in train mode",
        ),
        (
            "self.head = head",
            "self.head = head\n        for p in backbone.modules():\n            p.momentum = 0.0",
            "self.backbone.eval()",
            "pass",
            "Nothing in the backbone changes",
        ),
        (
            ".requires_grad_(False)",
            "",
            ".eval()",
            ".eval().requires_grad_(False)",
            "from the start",
        ),
        (
            "    def forward",
            "    @torch.no_grad()\n    def forward",
            "has no gradient in train mode",
        ),
        (
            "self.head = head",
            "self.head = head\n        [nn.init.normal_(p) for p in backbone.parameters()]",
            "computes `head(backbone(x))`",
        ),
    ],
}

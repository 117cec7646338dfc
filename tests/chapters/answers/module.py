"""Answers to the exercises of chapter 01."""

from __future__ import annotations

import copy
import functools
import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

# listed

_LISTED = ("scale", "shift", "head.weight", "extra.0.weight")


def _listed(*values):
    return dict(zip(_LISTED, values, strict=True))


# modes


def _modes(*values):
    return dict(zip("abcde", values, strict=True))


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


class LinearByEinsum(nn.Module):
    def __init__(self, in_features, out_features, bias=True):
        super().__init__()
        width = 2 / in_features**0.5
        self.weight = nn.Parameter((torch.rand(out_features, in_features) - 0.5) * width)
        self.bias = nn.Parameter((torch.rand(out_features) - 0.5) * width) if bias else None

    def forward(self, x):
        y = torch.einsum("...i,oi->...o", x, self.weight)
        return y if self.bias is None else y.add(self.bias)


class LinearOfFlatRows(nn.Module):
    def __init__(self, in_features, out_features, bias=True):
        super().__init__()
        uniform = torch.distributions.Uniform(-(in_features**-0.5), in_features**-0.5)

        def drawn(*shape):
            return nn.Parameter(uniform.sample(shape))

        self.weight, self.bias = drawn(out_features, in_features), None
        if bias:
            self.bias = drawn(out_features)

    def forward(self, x):
        rows = x.reshape(-1, x.shape[-1]).mm(self.weight.t())
        if self.bias is not None:
            rows = rows + self.bias
        return rows.reshape(*x.shape[:-1], rows.shape[1])


class LinearOfSmallNormals(nn.Module):
    def __init__(self, in_features, out_features, bias=True):
        super().__init__()
        self.weight = nn.Parameter(0.01 * torch.randn(out_features, in_features))
        self.bias = nn.Parameter(0.01 * torch.randn(out_features)) if bias else None

    def forward(self, x):
        return F.linear(x, self.weight, self.bias)


class LinearWithoutTheRoot(nn.Module):
    def __init__(self, in_features, out_features, bias=True):
        super().__init__()
        k = 1 / in_features
        self.weight = nn.Parameter(torch.empty(out_features, in_features).uniform_(-k, k))
        self.bias = nn.Parameter(torch.empty(out_features).uniform_(-k, k)) if bias else None

    def forward(self, x):
        return F.linear(x, self.weight, self.bias)


class LinearThatNeverLearns(nn.Linear):
    @torch.no_grad()
    def forward(self, x):
        return super().forward(x)


class LinearWithAFrozenBias(nn.Linear):
    def __init__(self, in_features, out_features, bias=True):
        super().__init__(in_features, out_features, bias)
        if bias:
            self.bias.requires_grad_(False)


class LinearWithABiasOfZeros(nn.Linear):
    def __init__(self, in_features, out_features, bias=True):
        super().__init__(in_features, out_features, bias)
        if bias:
            nn.init.zeros_(self.bias)


class LinearFromTheDefaultOfKaiming(nn.Linear):
    def __init__(self, in_features, out_features, bias=True):
        super().__init__(in_features, out_features, bias)
        nn.init.kaiming_uniform_(self.weight)


class LinearWithOneSeed(nn.Linear):
    def __init__(self, in_features, out_features, bias=True):
        torch.manual_seed(0)
        super().__init__(in_features, out_features, bias)


class LinearWithoutBiasByDefault(nn.Linear):
    def __init__(self, in_features, out_features, bias=False):
        super().__init__(in_features, out_features, bias)


# count_trainable


def count_by_walking_the_modules(model):
    seen, total = set(), 0
    for part in model.modules():
        for parameter in part._parameters.values():
            if parameter is not None and parameter.requires_grad and id(parameter) not in seen:
                seen.add(id(parameter))
                total += parameter.numel()
    return total


def count_by_identity(model):
    unique = {id(p): p for part in model.modules() for p in part.parameters()}
    return sum(p.nelement() if p.requires_grad else 0 for p in unique.values())


def count_with_numpy(model):
    trained = filter(lambda p: p.requires_grad, model.parameters())
    return sum(np.prod(p.shape) for p in trained)


def count_recursively(model):
    def found(part):
        own = {p for p in part.parameters(recurse=False) if p.requires_grad}
        return own.union(*map(found, part.children()))

    return sum(map(torch.numel, found(model)))


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


def count_after_thawing(model):
    return sum(p.numel() for p in model.requires_grad_(True).parameters())


def count_and_freeze(model):
    total = sum(p.numel() for p in model.parameters() if p.requires_grad)
    model.requires_grad_(False)
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


class _Variant(nn.Module):
    """DeepNet with places to change."""

    rate, activation = 0.2, nn.ReLU

    def __init__(self, depth, width=32):
        super().__init__()
        self.stem = nn.Linear(64, width)
        self.blocks = nn.Sequential(*[self.block(width) for _ in range(depth)])
        self.heads = nn.ModuleDict({"digit": nn.Linear(width, 10), "even": nn.Linear(width, 2)})

    def block(self, width):
        return nn.Sequential(nn.Linear(width, width), self.activation(), nn.Dropout(self.rate))

    def forward(self, images):
        h = self.through(self.stem(images.flatten(start_dim=1)))
        return {name: head(h) for name, head in self.heads.items()}

    def through(self, h):
        for block in self.blocks:
            h = h + block(h)
        return h


class DeepNetThatAddsOnce(_Variant):
    def through(self, h):
        return h + self.blocks(h) if len(self.blocks) else h


class DeepNetInPlace(_Variant):
    def through(self, h):
        for block in self.blocks:
            h += block(h)
        return h


class DeepNetOfMeans(_Variant):
    def through(self, h):
        for block in self.blocks:
            h = (h + block(h)) / 2
        return h


class DeepNetWithoutReLU(_Variant):
    activation = nn.Identity


class DeepNetThatDropsHalf(_Variant):
    rate = 0.5


class DeepNetOfOneWidth(_Variant):
    def __init__(self, depth, width=32):
        super().__init__(depth, 32)


class DeepNetThatDropsBefore(_Variant):
    def block(self, width):
        return nn.Sequential(nn.Dropout(0.2), nn.Linear(width, width), nn.ReLU())


class DeepNetThatDropsTheSum(_Variant):
    rate = 0.0

    def through(self, h):
        return F.dropout(super().through(h), 0.2, self.training)


class DeepNetThatDropsTheImage(_Variant):
    rate = 0.0

    def forward(self, images):
        return super().forward(F.dropout(images, 0.2, self.training))


class DeepNetOfProbabilities(_Variant):
    def forward(self, images):
        return {name: out.softmax(dim=1) for name, out in super().forward(images).items()}


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


class _Statistics(nn.Module):
    def keep(self, **tensors):
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor.detach().clone())


class StandardizeFromABase(_Statistics):
    def __init__(self, x):
        super().__init__()
        self.keep(mean=torch.mean(x, 0), std=torch.std(x, 0))

    def forward(self, x):
        return (x - self.mean[None]) * self.std[None].reciprocal()


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


class StandardizeWithPlainCopies(nn.Module):
    def __init__(self, x):
        super().__init__()
        self.register_buffer("mean", x.mean(dim=0))
        self.register_buffer("std", x.std(dim=0))
        self.first = [self.mean, self.std]

    def forward(self, x):
        return (x - self.first[0]) / self.first[1]


class StandardizeInSinglePrecision(StandardizeFromABase):
    def forward(self, x):
        return super().forward(x.float()).float()


class StandardizeOnlyInTraining(nn.Module):
    def __init__(self, x):
        super().__init__()
        self.register_buffer("mean", x.mean(dim=0))
        self.register_buffer("std", x.std(dim=0))

    def forward(self, x):
        return (x - self.mean) / self.std if self.training else x


class StandardizeWithFrozenParameters(nn.Module):
    def __init__(self, x):
        super().__init__()
        self.mean = nn.Parameter(x.mean(dim=0), requires_grad=False)
        self.std = nn.Parameter(x.std(dim=0), requires_grad=False)

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


class BatchNormByCentring(nn.Module):
    def __init__(self, features, eps=1e-5, momentum=0.1):
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))
        self.register_buffer("running_mean", torch.zeros(features))
        self.register_buffer("running_var", torch.ones(features))

    def forward(self, x):
        if not self.training:
            scale = self.weight / (self.running_var + self.eps) ** 0.5
            return x * scale + (self.bias - self.running_mean * scale)
        n = x.shape[0]
        mean = x.sum(dim=0) / n
        centred = x - mean
        biased = (centred**2).sum(dim=0) / n
        with torch.no_grad():
            self.running_mean += self.momentum * (mean - self.running_mean)
            self.running_var *= 1 - self.momentum
            self.running_var += self.momentum * biased * n / (n - 1)
        return centred / (biased + self.eps).sqrt() * self.weight + self.bias


class BatchNormThatIsNotSaved(BatchNormWithNewBuffers):
    def __init__(self, features, eps=1e-5, momentum=0.1):
        super().__init__(features, eps, momentum)
        self.register_buffer("running_mean", torch.zeros(features), persistent=False)
        self.register_buffer("running_var", torch.ones(features), persistent=False)


class BatchNormWithRandomWeights(BatchNormByTorch):
    def __init__(self, features, eps=1e-5, momentum=0.1):
        super().__init__(features, eps, momentum)
        nn.init.uniform_(self.weight)


class BatchNormWithoutSlopesInEvalMode(BatchNormByTorch):
    def forward(self, x):
        return super().forward(x) if self.training else super().forward(x).detach()


class BatchNormThatIgnoresEps(BatchNormByTorch):
    def __init__(self, features, eps=1e-5, momentum=0.1):
        super().__init__(features, momentum=momentum)


# FineTuned


class SwitchedOffInForward(nn.Module):
    def __init__(self, backbone, head):
        super().__init__()
        self.backbone, self.head = backbone, head
        for parameter in backbone.parameters():
            parameter.requires_grad = False

    def forward(self, x):
        return self.head(self.backbone.eval()(x))


class OnlyTheHeadSwitches(nn.Module):
    def __init__(self, backbone, head):
        super().__init__()
        self.backbone, self.head = backbone.eval().requires_grad_(False), head

    def train(self, mode=True):
        self.head.train(mode)
        return self

    def forward(self, x):
        return self.head(self.backbone(x))


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


class FineTunedByAHook(nn.Module):
    def __init__(self, backbone, head):
        super().__init__()
        self.features, self.head = backbone.requires_grad_(False), head
        self.features.register_forward_pre_hook(lambda module, _: module.eval() and None)

    def forward(self, x):
        return self.head(self.features(x))


class _Frozen(nn.Module):
    def __init__(self, backbone, head):
        super().__init__()
        self.backbone, self.head = backbone.requires_grad_(False), head

    def forward(self, x):
        return self.head(self.backbone(x))


class FineTunedByChildren(_Frozen):
    def train(self, mode=True):
        super().train(mode)
        for part in self.backbone.children():
            part.training = False
        return self


class FineTunedWithRandomFeatures(_Frozen):
    def train(self, mode=True):
        super().train(mode)
        for part in self.backbone.modules():
            part.training = mode and not isinstance(part, nn.BatchNorm1d)
        return self


class FineTunedWithoutMomentum(_Frozen):
    def __init__(self, backbone, head):
        super().__init__(backbone, head)
        for part in backbone.modules():
            if isinstance(part, nn.BatchNorm1d):
                part.momentum = 0.0


class FrozenAtTheFirstEpoch(nn.Module):
    def __init__(self, backbone, head):
        super().__init__()
        self.backbone, self.head = backbone, head

    def train(self, mode=True):
        super().train(mode)
        self.backbone.requires_grad_(False).eval()
        return self

    def forward(self, x):
        return self.head(self.backbone(x))


class FineTunedWithoutGradients(SwitchedOffInForward):
    @torch.no_grad()
    def forward(self, x):
        return super().forward(x)


class FineTunedFromTheStart(SwitchedOffInForward):
    def __init__(self, backbone, head):
        super().__init__(backbone, head)
        for part in backbone.modules():
            if hasattr(part, "reset_parameters"):
                part.reset_parameters()


RIGHT = {
    "listed": [
        _listed(True, False, True, False),
        _listed(*map(np.bool_, (True, False, True, False))),
        _listed(*torch.tensor([True, False, True, False])),
    ],
    "Linear": [
        functools.partial(nn.Linear),
        LinearWithResetParameters,
        LinearByEinsum,
        LinearOfFlatRows,
    ],
    "count_trainable": [
        count_by_walking_the_modules,
        count_by_identity,
        count_with_numpy,
        count_recursively,
        count_what_is_not_frozen,
    ],
    "DeepNet": [
        RegisteredOneByOne,
        DeepNetOfFunctions,
        DeepNetOfResiduals,
        DeepNetWithListsBeside,
    ],
    "Standardize": [
        WithBufferObjects,
        StandardizeByHand,
        StandardizeFromABase,
        StandardizeByProperties,
    ],
    "modes": [
        _modes(True, False, False, False, False),
        _modes(*map(np.bool_, (True, False, False, False, False))),
        _modes(*torch.tensor([True, False, False, False, False])),
    ],
    "BatchNorm": [
        BatchNormByTorch,
        BatchNormByFunction,
        BatchNormWithNewBuffers,
        BatchNormByCentring,
    ],
    "FineTuned": [
        SwitchedOffInForward,
        OnlyTheHeadSwitches,
        FineTunedInASequence,
        FineTunedCopy,
        FineTunedByAHook,
    ],
}

WRONG = {
    "listed": [(_listed(True, True, True, False), "`shift` can be trained")],
    "Linear": [
        (LinearOfSmallNormals, "`weight` is drawn uniformly"),
        (LinearWithoutTheRoot, "`weight` is drawn uniformly"),
        (LinearFromTheDefaultOfKaiming, "`weight` is drawn uniformly"),
        (LinearWithOneSeed, "`weight` is drawn uniformly"),
        (LinearWithABiasOfZeros, "`bias` is drawn uniformly"),
        (LinearThatNeverLearns, "weight, bias and input get a gradient"),
        (LinearWithAFrozenBias, "weight, bias and input get a gradient"),
        (LinearWithoutBiasByDefault, "`True` by default"),
    ],
    "count_trainable": [
        (count_equal_values_once, "equal numbers are two weights"),
        (count_whole_layers, "one by one"),
        (count_after_thawing, "Only what is frozen"),
        (count_and_freeze, "leaves the model as it was"),
    ],
    "DeepNet": [
        (DeepNetThatAddsOnce, "each block (a linear layer, a ReLU) adds"),
        (DeepNetInPlace, "The network still trains"),
        (DeepNetOfMeans, "each block (a linear layer, a ReLU) adds"),
        (DeepNetWithoutReLU, "each block (a linear layer, a ReLU) adds"),
        (DeepNetOfProbabilities, "each block (a linear layer, a ReLU) adds"),
        (DeepNetOfOneWidth, "knows all its layers"),
        (DeepNetThatDropsHalf, "drops a fifth"),
        (DeepNetThatDropsBefore, "drops a fifth"),
        (DeepNetThatDropsTheSum, "drops a fifth"),
        (DeepNetThatDropsTheImage, "drops a fifth"),
    ],
    "Standardize": [
        (StandardizeWithPlainCopies, "the loaded statistics"),
        (StandardizeInSinglePrecision, "and that of the result"),
        (StandardizeOnlyInTraining, "in both modes"),
        (StandardizeWithFrozenParameters, "they are no parameters"),
    ],
    "modes": [(_modes(True, True, False, False, False), "in eval mode BatchNorm still normalises")],
    "BatchNorm": [
        (BatchNormThatIsNotSaved, "are saved in the state dict"),
        (BatchNormWithRandomWeights, "`weight` (ones)"),
        (BatchNormWithoutSlopesInEvalMode, "In eval mode, the gradients"),
        (BatchNormThatIgnoresEps, "`eps` and `momentum` are arguments"),
    ],
    "FineTuned": [
        (FineTunedByChildren, "Nothing in the backbone changes"),
        (FineTunedWithRandomFeatures, "not random in train mode"),
        (FineTunedWithoutMomentum, "Nothing in the backbone changes"),
        (FrozenAtTheFirstEpoch, "from the start"),
        (FineTunedWithoutGradients, "has no gradient in train mode"),
        (FineTunedFromTheStart, "computes `head(backbone(x))`"),
    ],
}

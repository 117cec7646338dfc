"""Mixed precision on the device, with torch's own rules for which operation takes which dtype.

The lists are the heart of those in ATen's ``autocast_mode.h``: a backend has to bring them along.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from tests.long.accelerator.memory import NAME

KEY = "AutocastPrivateUse1"
_WITHOUT = torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, KEY))

IN_LOWER_PRECISION = (
    *("conv1d", "conv2d", "conv3d", "_convolution", "convolution", "linear", "matmul", "mm"),
    *("bmm", "mv", "addmm", "addmv", "addbmm", "baddbmm", "prelu", "scaled_dot_product_attention"),
)
IN_FLOAT32 = (
    *("exp", "log", "log10", "log2", "log1p", "expm1", "reciprocal", "rsqrt", "acos", "asin"),
    *("pow.Tensor_Scalar", "pow.Tensor_Tensor", "pow.Scalar", "softplus", "layer_norm"),
    *("group_norm", "norm.Scalar", "cosine_similarity", "poisson_nll_loss", "nll_loss", "l1_loss"),
    *("smooth_l1_loss", "mse_loss", "huber_loss", "kl_div", "binary_cross_entropy_with_logits"),
    *("cross_entropy_loss", "softmax.int", "log_softmax.int", "cumsum", "cumprod", "prod", "sum"),
    *("sum.dim_IntList", "hinge_embedding_loss", "margin_ranking_loss", "multilabel_margin_loss"),
)


def install() -> list[torch.library.Library]:
    """Give the device mixed precision. It lasts as long as what is returned."""
    library = torch.library.Library("aten", "IMPL")
    rest = torch.library.Library("_", "IMPL")
    rest.fallback(torch.library.fallthrough_kernel, KEY)
    for name in IN_LOWER_PRECISION:
        library.impl(name, _in(_op(name), lambda: torch.get_autocast_dtype(NAME)), KEY)
    for name in IN_FLOAT32:
        library.impl(name, _in(_op(name), lambda: torch.float32), KEY)
    return [library, rest]


def _op(name: str) -> OpOverload:
    packet, _, overload = name.partition(".")
    return getattr(getattr(torch.ops.aten, packet), overload or "default")


def _in(op: OpOverload, dtype: Callable[[], torch.dtype]) -> Callable[..., Any]:
    def cast(value: Any) -> Any:
        if isinstance(value, Tensor):
            floating = value.is_floating_point() and value.device.type == NAME
            return value.to(dtype()) if floating else value
        return [cast(part) for part in value] if isinstance(value, list | tuple) else value

    def kernel(*args: Any, **kwargs: Any) -> Any:
        with torch._C._ExcludeDispatchKeyGuard(_WITHOUT):
            return op(*map(cast, args), **{name: cast(value) for name, value in kwargs.items()})

    return kernel

"""The cells of LSTM and GRU in one operation each, which torch asks of an accelerator.

The CPU has no such operations: its cells are put together from others. Gates are in the order of
the authors of torch's kernels: input, forget, cell and output; reset, input and new.
"""

from __future__ import annotations

import torch
from torch import Tensor


def lstm(
    input_gates: Tensor,
    hidden_gates: Tensor,
    cx: Tensor,
    input_bias: Tensor | None = None,
    hidden_bias: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The new hidden state, the new cell state, and the gates' values for the backward pass."""
    i, f, g, o = _with(input_gates + hidden_gates, input_bias, hidden_bias).chunk(4, dim=1)
    i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
    cy = f * cx + i * g
    return o * cy.tanh(), cy, torch.cat([i, f, g, o], dim=1)


def lstm_backward(
    grad_hy: Tensor | None,
    grad_cy: Tensor | None,
    cx: Tensor,
    cy: Tensor,
    workspace: Tensor,
    has_bias: bool,
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """The gradients of the gates, of the old cell state and of the biases."""
    if grad_hy is None and grad_cy is None:
        return None, None, None
    i, f, g, o = workspace.chunk(4, dim=1)
    tanh = cy.tanh()
    grad_hy = torch.zeros_like(cy) if grad_hy is None else grad_hy
    through = grad_hy * o * (1 - tanh**2) + (0 if grad_cy is None else grad_cy)
    gates = torch.cat(
        [
            through * g * i * (1 - i),
            through * cx * f * (1 - f),
            through * i * (1 - g**2),
            grad_hy * tanh * o * (1 - o),
        ],
        dim=1,
    )
    return gates, through * f, gates.sum(dim=0) if has_bias else None


def gru(
    input_gates: Tensor,
    hidden_gates: Tensor,
    hx: Tensor,
    input_bias: Tensor | None = None,
    hidden_bias: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The new hidden state, and what the backward pass needs."""
    ir, ii, inew = _with(input_gates, input_bias).chunk(3, dim=1)
    hr, hi, hnew = _with(hidden_gates, hidden_bias).chunk(3, dim=1)
    r, i = (ir + hr).sigmoid(), (ii + hi).sigmoid()
    n = (inew + r * hnew).tanh()
    return n + i * (hx - n), torch.cat([r, i, n, hx, hnew], dim=1)


def gru_backward(
    grad_hy: Tensor, workspace: Tensor, has_bias: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None]:
    """The gradients of both kinds of gates, of the old hidden state and of the biases."""
    r, i, n, hx, hnew = workspace.chunk(5, dim=1)
    new = grad_hy * (1 - i) * (1 - n**2)
    reset = new * hnew * r * (1 - r)
    update = grad_hy * (hx - n) * i * (1 - i)
    of_input = torch.cat([reset, update, new], dim=1)
    of_hidden = torch.cat([reset, update, new * r], dim=1)
    biases = (of_input.sum(dim=0), of_hidden.sum(dim=0)) if has_bias else (None, None)
    return of_input, of_hidden, grad_hy * i, *biases


CELLS = {
    "_thnn_fused_lstm_cell": lstm,
    "_thnn_fused_lstm_cell_backward_impl": lstm_backward,
    "_thnn_fused_gru_cell": gru,
    "_thnn_fused_gru_cell_backward": gru_backward,
}


def _with(gates: Tensor, *biases: Tensor | None) -> Tensor:
    for bias in biases:
        if bias is not None:
            gates = gates + bias
    return gates

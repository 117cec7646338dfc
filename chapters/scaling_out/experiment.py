"""Does ``torch.compile`` pay? A function, a network and a training step, with and without it.

``python -m chapters.scaling_out.experiment`` measures it here and writes ``results.json`` beside
this file; ``--help`` lists its options. It needs a C++ compiler. The protocol:

1. Each case is compiled with inductor into an empty cache. What inductor imports and tries once is
   done before, with another function.
2. The first call compiles. It is measured alone, with the processes of the C++ compiler.
3. Then the plain and the compiled function take turns. The median of each is kept.
4. All times are processor time with one thread, so what else runs on the machine counts little.
5. At last, what was compiled in this process is forgotten, but the files in the cache are still
   there: the next call shows what a first call takes then.
6. Both give the same numbers, to rounding, in the first call and the last. If they do not, the
   command fails.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import datetime
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._inductor import config, cpp_builder
from torch._inductor.exc import InvalidCxxCompiler

from helpers import runtime

SHIPPED = Path(__file__).with_name("results.json")
CALLS = 50
BATCH, WIDTH, BLOCKS, CLASSES = 64, 64, 4, 10

Work = Callable[[], Tensor]


def chain(t: Tensor) -> Tensor:
    """Small operations, one after the other."""
    return (t.sin() * t.cos() + t).tanh().square() + t


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.linear = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return x + F.gelu(self.linear(self.norm(x)))


def cases(compiled: Callable) -> Iterator[tuple[str, Work]]:
    """Each case, with ``compiled`` around what is compiled there."""
    torch.manual_seed(0)
    t, x, y = torch.randn(4096, 64), torch.randn(BATCH, WIDTH), torch.randint(CLASSES, (BATCH,))
    net = nn.Sequential(*(Block() for _ in range(BLOCKS)), nn.Linear(WIDTH, CLASSES))

    function = compiled(chain)
    yield "a function: seven operations", lambda: function(t)

    module = compiled(copy.deepcopy(net).requires_grad_(False))
    yield "a module: the forward pass", lambda: module(x)

    def training(model: nn.Module) -> Work:
        optimizer = torch.optim.AdamW(model.parameters())

        def step() -> Tensor:
            loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss.detach()

        return step

    yield "a training step: the module only", training(compiled(copy.deepcopy(net)))
    yield "a training step: all of it", compiled(training(copy.deepcopy(net)))


def has_compiler() -> bool:
    """Whether inductor finds a C++ compiler."""
    try:
        return bool(cpp_builder.get_cpp_compiler())
    except InvalidCxxCompiler:
        return False


def measured(backend: str | Callable = "inductor", calls: int = CALLS) -> list[dict]:
    """A row for each case: milliseconds of a plain and a compiled call, and of the first calls."""
    rows = []
    plain_cases = cases(lambda function: function)
    compiled_cases = cases(lambda function: torch.compile(function, backend=backend))
    runtime.threads(1)
    with config.patch(compile_threads=1):  # in this process: its time can be read
        torch.compile(lambda t: t + 1, backend=backend)(torch.ones(8))
        for (name, plain), (_, compiled) in zip(plain_cases, compiled_cases, strict=True):
            torch.compiler.reset()
            with _empty_cache():
                first, result = _milliseconds(compiled)
                torch.testing.assert_close(result, plain(), rtol=1e-3, atol=1e-4)
                turns = [(_milliseconds(plain), _milliseconds(compiled)) for _ in range(calls)]
                torch.compiler.reset()
                again, result = _milliseconds(compiled)
                torch.testing.assert_close(result, plain(), rtol=1e-3, atol=1e-4)
            eager, later = (statistics.median(turn[i][0] for turn in turns) for i in range(2))
            times = {"plain": eager, "first": first, "again": again, "later": later}
            rows.append({"case": name, **times})
    return rows


def _milliseconds(work: Work) -> tuple[float, Tensor]:
    before = os.times()
    begun = time.process_time()
    result = work()
    own, after = time.process_time() - begun, os.times()
    children = sum(after[2:4]) - sum(before[2:4])
    return 1000 * (own + children), result


def _processor() -> str:
    """Its name, where the system tells it, or its kind."""
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text("utf-8").splitlines() if facts.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next(iter(names), platform.machine())


@contextlib.contextmanager
def _empty_cache() -> Iterator[None]:
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.dict(os.environ, TORCHINDUCTOR_CACHE_DIR=folder),
    ):
        yield


def shipped(path: Path = SHIPPED) -> dict:
    """What ``results.json`` says of the run, with its rows."""
    return json.loads(path.read_text("utf-8"))


def table(rows: Sequence[dict]) -> str:
    """The rows as text, with the number of calls after which the first one has paid."""
    lines = [f"{'':34}{'plain':>9}{'compiled':>10}{'first call':>12}{'again':>9}{'pays after':>16}"]
    for row in rows:
        gain = row["plain"] - row["later"]
        calls = f"{row['first'] / gain:.2g}" if gain > 0 else ""  # more digits would be chance
        pays = f"{float(calls):,.0f} calls" if calls else "never"
        times = f"{row['plain']:6.2f} ms{row['later']:7.2f} ms"
        firsts = f"{row['first'] / 1000:10.1f} s{row['again'] / 1000:7.1f} s"
        lines.append(f"{row['case']:34}{times}{firsts}{pays:>16}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m chapters.scaling_out.experiment", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--backend", default="inductor", help="(default inductor)")
    parser.add_argument("--calls", type=int, default=CALLS, help=f"of each (default {CALLS})")
    parser.add_argument("--out", type=Path, default=SHIPPED, help="(default results.json here)")
    options = parser.parse_args(arguments)
    if options.backend == "inductor" and not has_compiler():
        raise SystemExit("There is no C++ compiler here: install one, such as g++ or clang++.")
    said = {
        "command": "python -m chapters.scaling_out.experiment",
        "date": datetime.date.today().isoformat(),
        "torch": torch.__version__.partition("+")[0],
        "machine": f"{_processor()}, {platform.system()}, one thread",
        "backend": options.backend,
        "calls": options.calls,
        "rows": measured(options.backend, options.calls),
    }
    options.out.write_text(json.dumps(said, indent=1) + "\n", "utf-8")
    print(table(said["rows"]))


if __name__ == "__main__":
    main()

"""Chapter 05's training goes on in a new process as if nobody had interrupted it."""

from __future__ import annotations

import torch

from tests.notebooks.cells import NOTEBOOKS, read

CELLS = (
    *("imports", "digits", "new-net", "shuffled-batches"),
    *("new-run", "capture-resume", "train", "own-run"),
)
TRUE = """
run = own_run(seed=0)
losses = train(run, steps=100, save_at=50, path="middle.pt")[50:]
torch.save({"losses": losses, "end": capture(run)}, "true.pt")
"""
RESUMED = """
state = torch.load("middle.pt", map_location="cpu")
run = resume(state, own_run(seed=1))
torch.save({"losses": train(run, steps=50), "end": capture(run)}, "resumed.pt")
assert not checkpoint.differences(torch.load("true.pt"), torch.load("resumed.pt"))
"""


def test_a_new_process_goes_on_to_the_bit(tmp_path, run_in_new_process):
    cells = {cell.id: cell.source for cell in read(NOTEBOOKS / "05_serialization.ipynb").cells}
    definitions = "\n\n".join(cells[name] for name in CELLS)
    for end in (TRUE, RESUMED):
        ended = run_in_new_process(f"{definitions}\n{end}", tmp_path)
        assert ended.code == 0, ended.printed
    losses = torch.load(tmp_path / "resumed.pt")["losses"]
    assert len(losses) == 50 and losses[-1] < losses[0]

# One process, ranks and an interrupted run give the same weights; only rank 0 prints and saves.
from pathlib import Path

import pytest

from helpers import ranks

program = Path(__file__).read_text("utf-8").partition("# One process, ranks")[0]


def shortened(epochs, program=program):
    return program.replace('run.pt"), 3,', f'run.pt"), {epochs},')


def run(count, program=program, epochs=3):
    ended = ranks.observed(program, count, quiet=True)
    printed = [rank.printed.splitlines() for rank in ended]
    assert [len(lines) for lines in printed] == [epochs] + [0] * (count - 1)
    folder = Path(os.environ["RUN_FOLDER"])
    assert [file.name for file in folder.iterdir()] == ["run.pt"]
    return torch.load(folder / "run.pt"), printed[0]


def new_folder():
    os.environ["RUN_FOLDER"] = tempfile.mkdtemp()


train_part, val_part = random_split(samples, [1500, 297], torch.Generator().manual_seed(0))
whole, interrupted = (str(Path(tempfile.mkdtemp(), "run.pt")) for _ in range(2))
fit(whole, 3, train_part, val_part)
for epochs in (1, 3):
    fit(interrupted, epochs, train_part, val_part)
alone, resumed = torch.load(whole), torch.load(interrupted)
new_folder()
two, printed_by_two = run(2)
new_folder()
four, printed_by_four = run(4)
for state in (alone, resumed, two, four):
    assert state["done"] == 3
for name, weights in alone["net"].items():
    assert torch.equal(resumed["net"][name], weights)
    for state in (two, four):
        assert torch.allclose(state["net"][name], weights, rtol=0, atol=1e-4)

# The loss that is printed does not depend on the number of ranks.
new_folder()
_, printed_alone = run(1)
for lines in zip(printed_alone, printed_by_two, printed_by_four, strict=True):
    losses = [float(line.partition("loss ")[2].partition(",")[0]) for line in lines]
    assert max(losses) - min(losses) < 0.002 and 0.01 < min(losses) < 2.5

# Both ranks go on after the epoch in the file, also if one of them comes late to read it.
new_folder()
run(2, shortened(1), epochs=1)
late = program.replace("    state = torch.load", "    time.sleep(rank)\n    state = torch.load")
resumed_by_two, _ = run(2, "import time\n" + late, epochs=2)
torch.testing.assert_close(resumed_by_two["net"], two["net"], rtol=0, atol=0)
averages = resumed_by_two["adam"]["state"], two["adam"]["state"]
torch.testing.assert_close(*averages, rtol=0, atol=0)

# The accuracy that is printed is that of the net that is saved, also with BatchNorm and Dropout.
layers = "nn.Linear(64, 64), nn.BatchNorm1d(64), nn.Dropout(0.2), nn.ReLU(), nn.Linear(64, 10)"
new_folder()
state, printed = run(2, program.replace("nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)", layers))
net = eval(f"nn.Sequential({layers})")
net.load_state_dict(state["net"])
x, y = val_part[:]
net.eval()
correct = (net(x).argmax(1) == y).double().mean()
assert correct > 0.9 and printed[-1].endswith(f"accuracy {correct:.3f}")
assert count_right(net, val_part) / len(val_part) == correct.float()

# An epoch has the same steps for each number of ranks, and no sample twice.
starts = ("    sampler =", "    batches =")
dividing = "\n".join(line.strip() for line in program.splitlines() if line.startswith(starts))
for count in (1, 2, 4, 8, 16, 32, 64):
    read = []
    for number in range(count):
        names = {**globals(), "world": count, "rank": number}
        exec(dividing, names)
        assert len(names["batches"]) == 1500 // 64
        read += names["sampler"]
    assert len({*read}) == len(read)

# Without a folder, rank 0 makes one, and no other rank does; a folder that is missing is made.
del os.environ["RUN_FOLDER"]
os.environ["TMPDIR"] = tempfile.mkdtemp()
shown = shortened(1).replace("    fit(os", "    print(where)\n    fit(os")
ended = ranks.observed(shown, 2, quiet=True)
made, unused = (rank.printed.splitlines()[0] for rank in ended)
assert unused == "unused" and not Path(unused).exists()
assert [str(path) for path in Path(os.environ["TMPDIR"]).iterdir()] == [made]
os.environ["RUN_FOLDER"] = str(Path(made, "deep", "run"))
run(2, shortened(1), epochs=1)

with pytest.raises(ranks.RankError, match="3 ranks can't divide a batch of 64"):
    ranks.run(program, 3, quiet=True)

# One process, ranks and an interrupted run give the same weights; only rank 0 prints, reads, saves.
import pytest

from helpers import ranks

program = Path(__file__).read_text("utf-8").partition("# One process, ranks")[0]


def run(count, program=program, epochs=3):
    ended = ranks.observed(program, count, quiet=True)
    printed = [rank.printed.splitlines() for rank in ended]
    assert [len(lines) for lines in printed] == [epochs] + [0] * (count - 1)
    folder = Path(os.environ["RUN_FOLDER"])
    assert [file.name for file in folder.iterdir()] == ["run.pt"]
    return torch.load(folder / "run.pt"), printed[0]


def new_folder():
    os.environ["RUN_FOLDER"] = tempfile.mkdtemp()


whole, interrupted = (Path(tempfile.mkdtemp(), "run.pt") for _ in range(2))
fit(whole, 3)
for epochs in (1, 3):
    fit(interrupted, epochs)
alone, resumed = torch.load(whole), torch.load(interrupted)
new_folder()
two, _ = run(2)
new_folder()
four, _ = run(4)
for state in (alone, resumed, two, four):
    assert state["done"] == 3
for name, weights in alone["net"].items():
    assert torch.equal(resumed["net"][name], weights)
    for state in (two, four):
        assert torch.allclose(state["net"][name], weights, rtol=0, atol=1e-4)

# Rank 1 needs no folder, and goes on at the epoch that rank 0 has read.
new_folder()
run(2, program.replace("epochs=3", "epochs=1"), epochs=1)
elsewhere = 'import os\nif os.environ["RANK"] == "1":\n    os.environ["RUN_FOLDER"] = "nowhere"\n'
resumed_by_two, _ = run(2, elsewhere + program, epochs=2)
for name, weights in two["net"].items():
    assert torch.equal(resumed_by_two["net"][name], weights)

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
assert accuracy(net, val_part) == correct

# An epoch has the same steps for each number of ranks, and no sample twice.
starts = ("    sampler =", "    batches =")
dividing = "\n".join(line.strip() for line in program.splitlines() if line.startswith(starts))
for count in (1, 2, 4, 8, 16, 32, 64):
    read = []
    for number in range(count):
        names = {**globals(), "world": count, "rank": number}
        exec(dividing, names)
        assert len(names["batches"]) == 1347 // 64
        read += names["sampler"]
    assert len({*read}) == len(read)

# Without a folder, rank 0 makes one, and no other rank does; a folder that is missing is made.
del os.environ["RUN_FOLDER"]
os.environ["TMPDIR"] = tempfile.mkdtemp()
shown = program.replace("fit(Path", "print(where)\nfit(Path").replace("epochs=3", "epochs=1")
ended = ranks.observed(shown, 2, quiet=True)
made, unused = (rank.printed.splitlines()[0] for rank in ended)
assert unused == "unused" and not Path(unused).exists()
assert [str(path) for path in Path(os.environ["TMPDIR"]).iterdir()] == [made]
os.environ["RUN_FOLDER"] = str(Path(made, "deep", "run"))
run(2, program.replace("epochs=3", "epochs=1"), epochs=1)

with pytest.raises(ranks.RankError, match="3 ranks can't divide a batch of 64: take 1, 2"):
    ranks.run(program, 3, quiet=True)

def survives_here(source, kills):
    """Whether the examiner passes a program."""
    Path(place, "other.py").write_text(source)
    other = [sys.executable, str(place / "other.py")]
    return survives(other, place, kills, read=lambda path: json.loads(path.read_text()))


def edited(old, new):
    assert example.count(old) == 1
    return example.replace(old, new)


assert survives_here(example, kills=(0.1, 0.3))

# A training that draws without a seed of its own ends with other weights when it was killed.
assert not survives_here(edited('random.seed(state["step"])', "random.random()"), kills=(0.2,))

# A training that begins anew ends with the same weights, and is refused all the same.
assert not survives_here(edited("if os.path.exists(path)", "if False"), kills=(0.4,))

# What `torch.load` reads needs no `read`.
tensors = """
import os, sys, torch
path = os.path.join(sys.argv[1], "last.pt")
state = torch.load(path) if os.path.exists(path) else {"model": {"w": torch.zeros(2)}, "step": 0}
while state["step"] < 9:
    torch.manual_seed(state["step"])
    state = {"model": {"w": state["model"]["w"] + torch.rand(2)}, "step": state["step"] + 1}
    torch.save(state, path + ".tmp")
    os.replace(path + ".tmp", path)
"""
Path(place, "tensors.py").write_text(tensors)
assert survives([sys.executable, str(place / "tensors.py")], place, kills=())

# An interrupted training ends as one that was not interrupted, to the bit; a crash costs nothing.
interrupted, straight = (Path(tempfile.mkdtemp()) for _ in range(2))
for epochs in (1, 3, 4):
    fit(interrupted, epochs)
fit(straight, epochs=4)
names = sorted(path.name for path in straight.iterdir())
assert names == sorted(path.name for path in interrupted.iterdir()) == ["best.pt", "last.pt"]

ours, theirs = (torch.load(folder / "last.pt") for folder in (interrupted, straight))
assert ours["done"] == 4 and ours["best"] == theirs["best"]
assert all(torch.equal(ours["model"][name], theirs["model"][name]) for name in ours["model"])
assert all(
    torch.equal(ours["optimizer"]["state"][number][name], value)
    for number, moments in theirs["optimizer"]["state"].items()
    for name, value in moments.items()
)
assert ours["scheduler"] == theirs["scheduler"]
assert torch.equal(ours["random"], theirs["random"])
assert torch.equal(ours["generator"], theirs["generator"])

# what `fit` returns has the weights of the epoch that was best on the validation part
best = fit(straight, epochs=4)
assert evaluate(best, val_part) == ours["best"]
x, y = (tensor.to(device) for tensor in val_part[:])
assert (best(x).argmax(dim=1) == y).float().mean() > 0.9

try:
    write_safely({"rule": lambda x: x}, straight / "last.pt")
except Exception:
    pass
else:
    raise AssertionError("a lambda was saved")
assert torch.load(straight / "last.pt")["done"] == 4

# A training that draws without a seed of its own ends with other weights when it was killed.
careless = example.replace('torch.manual_seed(state["step"])', "torch.rand(1)")
assert careless != example
Path(place, "careless.py").write_text(careless)
assert not survives([sys.executable, str(place / "careless.py")], place, kills=(0.2,))
assert survives([sys.executable, str(place / "example.py")], place, kills=(0.1, 0.3))

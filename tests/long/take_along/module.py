# The model is right on over 95 % of the validation pictures, and the loaded one answers alike.
assert accuracy > 0.95, accuracy
assert torch.equal(loaded(x[val]), model(x[val]))
assert all(torch.equal(a, b) for a, b in zip(model.buffers(), loaded.buffers(), strict=True))
assert loaded[0].std.min() > 0 and not loaded(x).isnan().any()

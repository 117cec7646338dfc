# New images are verified, and the threshold of validation holds in the test.
assert tar > 0.9, tar
assert far < 0.03, far
assert found[best][0] >= max(value[0] for value in found.values())

# The margin lowers the own class's logit and no other, in training only.
head = MarginHead(32, 10, scale=5.0, margin=0.2).to(device)
with torch.no_grad():
    some, own = found[best][2](inputs[:50]), classes[:50]
    moved = head(some) - head(some, own)
assert torch.allclose(moved, F.one_hot(own, 10).float(), atol=1e-4)  # 5 · 0.2

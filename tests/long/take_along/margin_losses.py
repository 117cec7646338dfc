# The threshold of validation holds for new images of the known digits, and not for unknown digits.
tar, far = tested["known digits"]
assert tar > 0.9, tar
assert far < 0.03, far
assert tested["unknown digits"][1] > 0.05, tested
assert not set(classes[torch.cat([train_rows, val_rows, test_rows])].tolist()) & {7, 8, 9}
assert found[best][0] >= max(value[0] for value in found.values())

# The margin lowers the own class's logit and no other, in training only.
head = MarginHead(32, 7, scale=5.0, margin=0.2).to(chosen_device)
with torch.no_grad():
    some, own = encoder(inputs[train_rows[:50]]), classes[train_rows[:50]]
    moved = head(some) - head(some, own)
assert torch.allclose(moved, F.one_hot(own, 7).float(), atol=1e-4)  # 5 · 0.2

# Autocast changes nothing in the head.
with torch.no_grad(), torch.autocast(some.device.type, dtype=torch.bfloat16):
    logits = head(some, own)
assert logits.dtype == torch.float32
assert torch.equal(logits, head(some, own))

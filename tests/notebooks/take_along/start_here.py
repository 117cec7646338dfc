"""The program of chapter 00 reads new digits, with the weights that were best on validation."""

assert test_accuracy > 0.93
assert loss_and_accuracy(model, val)[0] == best_loss <= val_loss
assert train_loss < 0.1
assert sorted([*train.tolist(), *val.tolist(), *test.tolist()]) == list(range(len(x_all)))

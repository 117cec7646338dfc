"""The program of chapter 00 reads new digits, with the weights that were best on validation."""

assert test_accuracy > 0.93
assert loss_and_accuracy(model, val)[0] == best_loss <= val_loss
assert total.item() / len(train) < 0.1
assert not {*train} & {*val} and not {*train, *val} & {*test}
assert len({*train, *val, *test}) == len(x_all)

# It reads the test digits with the weights that were best on validation; it began near log C.
assert test_accuracy > 0.92, test_accuracy
assert evaluate(model, val)[0] <= best_loss + 1e-4 <= val_loss + 2e-4
assert test_loss < 0.3, test_loss
assert sorted([*train.tolist(), *val.tolist(), *test.tolist()]) == list(range(len(all_y)))

"""The program of chapter 00 reads new digits, divides them, and keeps its best epoch."""

assert right_share(test) > 0.93 and right_share(val) > 0.93
assert right_share(train) > 0.99
assert right_share(val) == best_share
assert sorted([*train.tolist(), *val.tolist(), *test.tolist()]) == list(range(len(x_all)))

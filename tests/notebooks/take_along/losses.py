# It reads the test digits, and the temperature lowers the loss on the rows that chose it.
assert test_accuracy > 0.92, test_accuracy
assert evaluate(model, val, temperature)[0] <= evaluate(model, val)[0] + 1e-4
assert test_loss <= evaluate(model, test)[0] + 0.01, test_loss
assert 0.5 < temperature < 2, temperature  # not at the border of the candidates

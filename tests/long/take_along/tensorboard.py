import math

scalars = {tag: log.Scalars(tag) for tag in log.Tags()["scalars"]}
steps = [event.step for event in scalars["loss/train"]]
assert steps == list(range(19, step + 1, 20))  # the first step is 0
assert {"gradient norm", "steps per second", "accuracy/validation"} <= {*scalars}
epoch = len(train_loader)
measured = [event.value for event in scalars["loss/validation"]]
assert [e.step for e in scalars["loss/validation"]] == [n * epoch - 1 for n in range(1, 7)]
assert math.isclose(min(measured), best_loss, rel_tol=1e-5)
loss, accuracy = validate()
assert math.isclose(loss, best_loss, rel_tol=1e-5)  # the best weights are back in the model
assert accuracy > 0.9

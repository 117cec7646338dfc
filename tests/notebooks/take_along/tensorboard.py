import math

steps = [event.step for event in log.Scalars("loss/train")]
assert steps == list(range(20, step + 1, 20))
assert {"gradient norm", "steps per second", "accuracy/validation"} <= {*log.Tags()["scalars"]}
measured = [event.value for event in log.Scalars("loss/validation")]
assert len(measured) == 10
assert math.isclose(min(measured), best_loss, rel_tol=1e-5)
loss, accuracy = validate()
assert math.isclose(loss, best_loss, rel_tol=1e-5)  # the best weights are back in the model
assert accuracy > 0.9

assert best_accuracy > 0.95
assert abs((model(x_val).argmax(dim=1) == y_val).float().mean().item() - best_accuracy) < 1e-6
assert sum(len(group["params"]) for group in optimizer.param_groups) == len([*model.parameters()])
assert 0.09 * rate < scheduler.get_last_lr()[0] < 0.11 * rate

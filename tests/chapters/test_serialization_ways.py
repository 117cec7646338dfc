"""Second right answers to the exercises of serialization."""

import pytest

from chapters.serialization import exercises as ex


# train_keeping_best
def through_a_file(model, train_epoch, validate, epochs):
    losses, files = [], []
    for _ in range(epochs):
        train_epoch(model)
        losses.append(validate(model))
        files.append(io.BytesIO())
        torch.save(model.state_dict(), files[-1])
    best = files[losses.index(min(losses))]
    best.seek(0)
    model.load_state_dict(torch.load(best))
    return min(losses)


# load_or_leave
def looks_first(model, state):
    wanted = {name: tensor.shape for name, tensor in model.state_dict().items()}
    fits = wanted == {name: tensor.shape for name, tensor in state.items()}
    if fits:
        model.load_state_dict(state)
    return fits


# load_or_leave
def takes_it_back(model, state):
    before = copy.deepcopy(model.state_dict())
    try:
        model.load_state_dict(state)
    except RuntimeError:
        model.load_state_dict(before)
        return False
    return True


# warm_start
def copies_by_hand(model, state):
    kept = []
    for name, own in model.state_dict().items():
        names = [
            prefix + name for prefix in ("", "module.", "_orig_mod.") if prefix + name in state
        ]
        if names and state[names[0]].shape == own.shape:
            own.copy_(state[names[0]])
        else:
            kept.append(name)
    return sorted(kept)


# Trainer
class SavesWhateverHasAState(_Gan):
    def state_dict(self):
        return {name: self._state_of(part) for name, part in vars(self).items()}

    def _state_of(self, part):
        if isinstance(part, torch.Generator):
            return part.get_state()
        return part.state_dict() if hasattr(part, "state_dict") else part

    def load_state_dict(self, state):
        for name, saved in state.items():
            part = getattr(self, name)
            if isinstance(part, torch.Generator):
                part.set_state(saved)
            elif hasattr(part, "load_state_dict"):
                part.load_state_dict(saved)
            else:
                setattr(self, name, saved)


# save_safely
def with_tempfile(state, path):
    handle, name = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(handle, "wb", buffering=0) as file:
            torch.save(state, file)
            os.fsync(file)
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)


# save_safely
def in_a_folder_of_its_own(state, path):
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        temporary = Path(folder, "new")
        torch.save(state, temporary)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)


@pytest.mark.parametrize(
    ("exercise", "answer"),
    [
        (ex.train_keeping_best, through_a_file),
        (ex.load_or_leave, looks_first),
        (ex.load_or_leave, takes_it_back),
        (ex.warm_start, copies_by_hand),
        (ex.Trainer, SavesWhateverHasAState),
        (ex.save_safely, with_tempfile),
        (ex.save_safely, in_a_folder_of_its_own),
    ],
)
def test_another_way_is_right_too(exercise, answer):
    card = exercise.check(answer)
    assert card.state == "right", card

"""The loader that chapter 04 writes, beside torch's."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import DataLoader

from tests.notebooks import definitions


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("own_generator", [False, True])
@pytest.mark.parametrize("batch_size", [1, 4, 13, 20])
def test_the_chapters_loader_gives_torchs_batches(batch_size, own_generator, shuffle, drop_last):
    def epochs(kind):
        torch.manual_seed(3)
        generator = torch.Generator().manual_seed(5) if own_generator else None
        loader = kind(range(13), batch_size, shuffle, drop_last=drop_last, generator=generator)
        seen = [[batch.tolist() for batch in loader] for _ in range(3)]
        return seen, torch.rand(1), generator and generator.get_state()

    ours, theirs = epochs(definitions.load("04_data_loading", "Loader")), epochs(DataLoader)
    assert ours[0] == theirs[0] and torch.equal(ours[1], theirs[1])
    assert not own_generator or torch.equal(ours[2], theirs[2])

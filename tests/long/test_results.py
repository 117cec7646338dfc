"""Rows of the shipped tables, computed anew."""

import pytest
import torch
from torch._inductor import config as inductor_config

from chapters.augmentation import experiment as augmentation
from chapters.margin_losses import experiment as margin_losses
from chapters.scaling_out import experiment as scaling_out


def assert_near(found, shipped):
    """Another machine rounds in another way, and a training adds that up."""
    expected = shipped[: len(found)].mean(dim=0)
    assert ((found.mean(dim=0) - expected).abs() < shipped.std(dim=0) + 0.2).all(), found


def test_a_network_without_augmentation():
    said, results = augmentation.shipped()
    part = said["methods"]["none"]
    setting = augmentation.Setting(part["strength"], part["rate"])
    assert_near(augmentation.tested("none", setting, range(3), augmentation.FULL), results["none"])


@pytest.mark.parametrize("task", ["7 digits", "160 characters"])
def test_arcface(task):
    said, results = margin_losses.shipped()
    part = said["tasks"][task]["ArcFace"]
    setting = margin_losses.Setting(part["scale"], part["margin"], part["rate"])
    found = margin_losses.tested("ArcFace", task, setting, range(10), margin_losses.FULL)
    assert_near(found, results[task]["ArcFace"])


@pytest.mark.skipif(not scaling_out.has_compiler(), reason="inductor needs a C++ compiler")
def test_compiled_code_gives_the_same_numbers(monkeypatch):
    cases = scaling_out.cases
    monkeypatch.setattr(scaling_out, "cases", lambda compiled: [next(cases(compiled))])
    (row,) = scaling_out.measured(calls=2)
    assert row["case"] == scaling_out.shipped()["rows"][0]["case"]


@pytest.mark.skipif(not scaling_out.has_compiler(), reason="inductor needs a C++ compiler")
def test_inductor_draws_other_numbers_unless_it_falls_back_to_those_of_plain_torch():
    def dropped():
        return torch.nn.functional.dropout(torch.ones(64), 0.5)

    torch.manual_seed(0)
    plain = dropped()
    for fallback in (False, True):
        torch.compiler.reset()
        with inductor_config.patch(fallback_random=fallback, compile_threads=1):
            compiled = torch.compile(dropped)
            torch.manual_seed(0)
            assert torch.equal(compiled(), plain) == fallback

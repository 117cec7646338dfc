"""The explorer of augmentation shows what the helpers make, and tells its label."""

import matplotlib.pyplot as plt
import pytest
import torch

from chapters.augmentation.explorer import (
    HEIGHT,
    METHODS,
    WIDTH,
    changed,
    draw,
    draw_chains,
    photographs,
)


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def test_the_photographs_are_a_flower_and_a_temple_in_range():
    both = photographs()
    assert both.shape == (2, 3, HEIGHT, WIDTH)
    assert both.min() >= 0 and both.max() <= 1.01
    flower, temple = both
    assert flower[2].mean() < temple[2].mean()  # the temple's sky


@pytest.mark.parametrize("method", METHODS)
def test_at_strength_0_nothing_changes(method):
    image, target = changed(method, 0.0, seed=0)
    torch.testing.assert_close(image, photographs()[0])
    assert target.tolist() == [1, 0]


@pytest.mark.parametrize("method", METHODS)
def test_more_strength_changes_more_and_a_seed_repeats(method):
    flower = photographs()[0]
    change = [
        sum((changed(method, strength, seed)[0] - flower).abs().mean() for seed in range(6))
        for strength in (0.2, 0.9)
    ]
    assert 0 < change[0] < change[1]
    torch.testing.assert_close(changed(method, 0.5, 3), changed(method, 0.5, 3), rtol=0, atol=0)


@pytest.mark.parametrize("strength", [0.3, 0.7])
def test_the_label_is_what_is_in_the_picture(strength):
    flower, temple = photographs()
    assert changed("Cutout", strength, 0)[1].tolist() == [1, 0]
    assert changed("AugMix", strength, 0)[1].tolist() == [1, 0]
    image, target = changed("MixUp", strength, 0)
    torch.testing.assert_close(target, torch.tensor([1 - strength, strength]))
    torch.testing.assert_close(image, (1 - strength) * flower + strength * temple)
    image, target = changed("CutMix", strength, 1)
    from_temple = ((image - temple).abs().amax(dim=0) < 1e-6).float().mean()
    torch.testing.assert_close(target[1], from_temple, atol=0.01, rtol=0)


@pytest.mark.parametrize("method", METHODS)
def test_the_figure_tells_method_and_label(method):
    figure = draw(method, 0.5, seed=2)
    image, target = changed(method, 0.5, seed=2)
    middle = figure.axes[1]
    expected = image.movedim(0, -1).clamp(0, 1).numpy()
    assert (middle.images[0].get_array() == expected).all()
    label = f"{method}: flower {target[0]:.2f}, temple {target[1]:.2f}"
    assert middle.get_title(loc="center") == label


def test_the_chains_are_drawn_step_by_step_with_their_weights():
    image, other = photographs()
    chains = [[("Rotate", other), ("Equalize", image)], [("ShearX", other)]]
    figure = draw_chains(image, torch.tensor(0.2), torch.tensor([0.75, 0.25]), chains, other)
    titles = [axes.get_title() for axes in figure.axes if axes.images]
    expected = ["the image, × 0.20", "mixed", "→ Rotate", "→ Equalize", "→ ShearX"]
    assert titles == expected
    notes = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert notes == ["× 0.60 →", "× 0.20 →"]
    assert figure.get_suptitle() == "The image and its chains; the weights sum to 1.00"

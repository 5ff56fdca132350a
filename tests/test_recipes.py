"""The named recipes: they exist, differ as they say, and run."""

from dataclasses import replace

import pytest
import torch
from promises import images

from lib.recipes import RECIPES, Recipe
from lib.training import train

STEPS = {  # radius and gradient steps, as the sources have them
    "mnist-fgsm": (0.3, [0.375]),
    "cifar-fgsm": (8 / 255, [10 / 255]),
    "cifar-pgd": (8 / 255, [2 / 255] * 7),
    "cifar-trades": (8 / 255, [2 / 255] * 10),
    "mnist-free": (0.3, [0.3]),
    "cifar-free": (8 / 255, [8 / 255]),
}


def test_every_data_set_has_every_way_of_training():
    for name in ("mnist", "cifar"):
        ways = ("standard", "pgd", "fgsm", "free", "trades")
        assert all(f"{name}-{way}" in RECIPES for way in ways)


@pytest.mark.parametrize("name", STEPS)
def test_steps_are_those_of_the_source(name):
    recipe = RECIPES[name]
    eps, steps = STEPS[name]
    assert recipe.eps == eps
    assert [recipe.step_size(eps)] * recipe.steps == pytest.approx(steps)


def test_fast_recipes_watch_for_catastrophic_overfitting():
    for name, recipe in RECIPES.items():
        if name.endswith("fgsm"):
            assert recipe.validation > 0


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_trains(name, digits):
    recipe = replace(RECIPES[name], epochs=1, batch_size=30)
    recipe = replace(recipe, validation=min(20, recipe.validation))
    if name.startswith("mnist"):
        part = digits.take(80, 10)
        x, y, options = part.x_train, part.y_train, {}
    else:
        x, y = images(50, (3, 8, 8)).float(), torch.arange(50) % 10
        options = {"width": 2}
    model, (row,) = train(x, y, recipe, progress=False, **options)
    assert row["eps"] == recipe.eps
    assert all(bool(torch.isfinite(p).all()) for p in model.parameters())


def test_the_step_grows_with_the_radius_of_the_warm_up():
    recipe = Recipe(method="adversarial", eps=0.2, steps=4, rel_step=2.0)
    assert recipe.step_size(0.2) == pytest.approx(0.1)
    assert recipe.step_size(0.05) == pytest.approx(0.025)

"""What a chapter's points do, on a few digits."""

from dataclasses import replace

import pytest
import torch

from lib import checkpoints, experiments, results
from lib.experiments import Cost, Plan, Point
from lib.training import Recipe

TINY = Recipe(epochs=1, steps=1, batch_size=25)


@pytest.fixture(autouse=True)
def small_and_offline(monkeypatch, tmp_path):
    monkeypatch.setenv("BOOK_RUN", "smoke")
    monkeypatch.delenv("BOOK_DATA", raising=False)
    monkeypatch.setenv("BOOK_CACHE", str(tmp_path))


def test_grid_has_every_model_of_table_4_once_for_each_seed():
    plan = Plan(TINY, seeds=2, n_train=100, n_test=20)
    points = experiments.training_grid(plan)
    assert len(points) == 2 * (1 + 6 * 2)
    point = points["l2-1.5-half-seed1"]
    assert (point.recipe.norm, point.recipe.eps) == ("l2", 1.5)
    assert (point.recipe.method, point.recipe.seed) == ("half", 1)
    assert point.attacks == (("l2", 1.5),)
    assert len(points["standard-seed0"].attacks) == 6


def test_only_first_seeds_of_shown_models_keep_weights():
    plan = Plan(TINY, seeds=2, n_train=100, n_test=20)
    kept = {
        name
        for name, point in experiments.training_grid(plan).items()
        if point.keep_weights
    }
    assert len(kept) == 7
    assert all(name.endswith("seed0") for name in kept)
    assert not any("half" in name for name in kept)


def test_full_plan_uses_all_of_mnist_and_three_seeds():
    plan = experiments.MNIST_PLANS["full"]
    assert (plan.n_train, plan.n_test, plan.seeds) == (60_000, 10_000, 3)


def test_a_point_counts_what_it_did_and_its_weights_load():
    point = Point(
        TINY, n_train=100, n_test=30, attacks=(("linf", 0.1),), steps=2,
        curve=(("l2", 0.5),), n_curve=10, keep_weights=True,
    )  # fmt: skip
    record = results.load_or_run("x", point, experiments.train_and_attack)
    values = record.values
    assert values["standard"]["total"] == 30
    assert values["robust"][0]["total"] == 30
    assert values["quick"][0]["total"] == values["curve"][0]["total"] == 10
    robust, clean = values["robust"][0], values["standard"]
    assert robust["correct"] <= clean["correct"]
    assert values["passes"]["training"] == {"forwards": 100,
                                            "backwards": 100}  # fmt: skip
    assert record.data["train"] == 100 and record.data["sha256"]
    model, _ = checkpoints.from_record(record)
    assert model(torch.zeros(1, 1, 28, 28)).shape == (1, 10)


def test_more_images_than_there_are_is_an_error_not_a_smaller_run():
    point = Point(TINY, n_train=60_000, n_test=10)
    with pytest.raises(ValueError, match="asked for 60000"):
        experiments.train_and_attack(point)


def test_cost_counts_k_plus_one_passes():
    cost = Cost(steps=(1, 3), updates=2, rounds=1, batch_size=10)
    rows = experiments.training_cost(cost).values["rows"]
    assert [row["steps"] for row in rows] == [0, 1, 3]
    assert [row["forwards"] for row in rows] == [20, 40, 80]
    assert [row["backwards"] for row in rows] == [20, 40, 80]
    assert all(len(row["seconds"]) == 1 for row in rows)


@pytest.mark.slow
def test_a_race_watches_every_recipe_on_the_same_images():
    race = experiments.overfitting_race(100, epochs=1)
    race = replace(
        race,
        recipes={
            name: replace(recipe, validation=20)
            for name, recipe in race.recipes.items()
        },
    )
    outcome = experiments.watch(race)
    histories = outcome.values["histories"]
    assert list(histories) == ["fgsm", "pgd"]
    for name, steps in (("fgsm", 1), ("pgd", 5)):
        (row,) = histories[name]
        assert row["forwards"] == (race.n_train - 20) * (1 + steps)
        assert {"validation_fgsm", "validation_pgd"} <= row.keys()
    assert outcome.data["train"] == race.n_train == 600

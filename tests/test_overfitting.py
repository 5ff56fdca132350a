"""Validation images, the best epoch, catastrophic overfitting."""

import warnings
from dataclasses import replace

import pytest
import torch
from promises import images, seeded
from torch import nn

from lib import overfitting, training
from lib.recipes import Recipe
from lib.training import train

RECIPE = Recipe(
    "linear", "adversarial", eps=0.05, steps=1, epochs=5, batch_size=4,
    lr=0.1, warmup=0.0, validation=6,
)  # fmt: skip
OPTIONS = {"progress": False, "classes": 2, "features": 4}


def easy(n=26):
    y = torch.arange(n) % 2
    x = 0.25 + 0.5 * y[:, None] + 0.2 * torch.rand(n, 4, generator=seeded(0))
    return x, y


def scripted(monkeypatch, robust, one_step=0.99):
    """Let the validation find these PGD accuracies, epoch by epoch."""
    found = iter(robust)

    def inspect(model, images, recipe):
        return {
            "validation_accuracy": 1.0, "validation_fgsm": one_step,
            "validation_pgd": next(found),
        }  # fmt: skip

    monkeypatch.setattr(overfitting, "inspect", inspect)


# --- the split ------------------------------------------------------------


def test_validation_images_come_out_of_the_training_set():
    x, y = easy()
    (x_train, y_train), (x_val, y_val) = overfitting.split(x, y, 6, seed=1)
    assert len(x_train) == len(y_train) == 20 and len(x_val) == 6
    both = torch.cat([x_train, x_val]), torch.cat([y_train, y_val])
    order = both[0][:, 0].argsort()
    assert torch.equal(both[0][order], x[x[:, 0].argsort()])
    assert torch.equal(both[1][order], y[x[:, 0].argsort()])
    again = overfitting.split(x, y, 6, seed=1)
    assert torch.equal(again[1][0], x_val)
    assert not torch.equal(overfitting.split(x, y, 6, seed=2)[1][0], x_val)


def test_without_validation_the_images_stay_as_they_are():
    x, y = easy()
    (x_train, y_train), validation = overfitting.split(x, y, 0, seed=1)
    assert x_train is x and y_train is y and validation is None


def test_a_split_that_leaves_nothing_to_train_on_is_refused():
    x, y = easy()
    with pytest.raises(ValueError, match="all of the 26 training images"):
        train(x, y, replace(RECIPE, validation=26), **OPTIONS)


def test_validation_images_are_not_trained_on(monkeypatch):
    x, y = easy()
    _, (x_val, _) = overfitting.split(x, y, 6, RECIPE.seed)
    seen, prepare = [], training.prepare

    def watch(run, batch):
        seen.append(batch)
        return prepare(run, batch)

    monkeypatch.setattr(training, "prepare", watch)
    train(x, y, replace(RECIPE, epochs=1), **OPTIONS)
    trained_on = {tuple(row.tolist()) for row in torch.cat(seen)}
    assert len(trained_on) == 20
    assert not trained_on & {tuple(row.tolist()) for row in x_val}


# --- the best epoch -------------------------------------------------------


def test_the_best_epoch_gives_the_weights(monkeypatch):
    x, y = easy()
    scripted(monkeypatch, [0.5, 0.7, 0.9, 0.9, 0.8])
    shown = []
    model, history = train(
        x, y, RECIPE, **OPTIONS,
        on_epoch=lambda model, _: shown.append(model[1].weight.clone()),
    )  # fmt: skip
    assert len(history) == 5
    assert torch.equal(model[1].weight, shown[2]), "the first of the best"
    assert not torch.equal(model[1].weight, shown[4])
    assert not model.training


def test_the_test_images_choose_nothing():
    x, y = easy()
    plain, history = train(x, y, RECIPE, **OPTIONS)
    held = images(9, (4,)).float(), torch.arange(9) % 2
    model, other = train(x, y, RECIPE, held_out=held, **OPTIONS)
    assert torch.equal(model[1].weight, plain[1].weight)
    for row, same in zip(other, history, strict=True):
        assert row.pop("held_out_accuracy") <= 1
        for timed in (row, same):
            timed.pop("seconds"), timed.pop("cpu_seconds")
    assert other == history


def test_patience_ends_a_run_that_gets_no_better(monkeypatch, tmp_path):
    x, y = easy()
    scripted(monkeypatch, [0.5, 0.7, 0.6, 0.7])  # a fifth epoch would fail
    recipe = replace(RECIPE, epochs=9, patience=2)
    file = tmp_path / "run.pt"
    model, history = train(x, y, recipe, resume=file, **OPTIONS)
    assert len(history) == 4
    again, same = train(x, y, recipe, resume=file, **OPTIONS)
    assert same == history
    assert torch.equal(again[1].weight, model[1].weight)


# --- catastrophic overfitting ---------------------------------------------


class Dip(nn.Module):
    """The class that pixels 1-3 show, unless pixel 0 is near 0.6.

    From a random point within 0.2 of 0.5 one step of 0.25 mostly jumps
    over the dip; steps of 0.05 end in it.
    """

    def forward(self, x):
        shown = nn.functional.one_hot(x[:, 1:].argmax(dim=1), 3)
        away = (x[:, :1] - 0.6) / 0.03
        return shown * (0.3 - 1 / (1 + away**2))


class Slope(Dip):
    """The class that pixels 1-3 show; pixel 0 changes nothing but doubt."""

    def forward(self, x):
        shown = nn.functional.one_hot(x[:, 1:].argmax(dim=1), 3)
        return shown * (1 + x[:, :1])


def judged(model):
    """What the detector says of a model trained with eps = 0.2."""
    y = torch.arange(120) % 3
    x = torch.cat(
        [torch.full((120, 1), 0.5), 0.8 * torch.eye(3)[y] + 0.1], dim=1
    )
    recipe = Recipe(method="adversarial", eps=0.2, steps=1)
    row = {"eps": 0.2, **overfitting.inspect(model.eval(), (x, y), recipe)}
    return row, overfitting.catastrophic(row, recipe, y)


def test_a_model_that_withstands_one_step_only_is_noticed():
    row, found = judged(Dip())
    assert row["validation_accuracy"] == 1.0
    assert row["validation_fgsm"] > 0.6 and row["validation_pgd"] < 0.1
    assert found


def test_a_robust_model_is_not_taken_for_one():
    row, found = judged(Slope())
    assert row["validation_fgsm"] == row["validation_pgd"] == 1.0
    assert not found


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, True),
        ({"validation_pgd": 0.2}, False),  # weak, but not gone
        ({"validation_fgsm": 0.7}, False),  # of 0.5 by guessing
        ({"eps": 0.1}, False),  # still warming up
        ({"method": "free"}, True),
        ({"method": "standard"}, False),
        ({"method": "random"}, False),
    ],
)
def test_when_overfitting_is_catastrophic(change, expected):
    row = {"validation_fgsm": 0.9, "validation_pgd": 0.1, "eps": 0.2} | change
    method = row.pop("method", "adversarial")
    recipe = Recipe(method=method, eps=0.2, steps=1)
    y = torch.arange(10) % 2
    assert overfitting.catastrophic(row, recipe, y) is expected


def test_training_warns_once_and_notes_every_such_epoch(monkeypatch):
    x, y = easy()
    scripted(monkeypatch, [0.8, 0.0, 0.7, 0.1, 0.0])
    with pytest.warns(UserWarning, match="overfitting at epoch 2") as seen:
        _, history = train(x, y, RECIPE, **OPTIONS)
    # torch may warn for the first time in this process as well
    ours = [each for each in seen if "overfitting" in str(each.message)]
    assert len(ours) == 1
    flags = [row["catastrophic"] for row in history]
    assert flags == [False, True, False, True, True]


def test_a_healthy_run_is_not_warned_about():
    x, y = easy(60)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, history = train(x, y, RECIPE, **OPTIONS)
    assert history[-1]["validation_pgd"] == 1.0
    assert not any(row["catastrophic"] for row in history)

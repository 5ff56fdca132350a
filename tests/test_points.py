"""One point of a recorded experiment, interrupted and counted."""

import pytest
import torch

from lib import evaluation, experiments, results
from lib.experiments import Point, train_and_attack
from lib.training import Recipe


@pytest.fixture
def tiny(plain_environment, monkeypatch, tmp_path, digits):
    """A point small enough to be made in a second, on the CPU."""
    monkeypatch.setenv("BOOK_OFFLINE", "1")
    monkeypatch.setattr(results, "WORK", tmp_path / "_runs")
    monkeypatch.setattr(experiments.data, "load", lambda *_, **__: digits)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    return Point(
        Recipe("linear", "adversarial", eps=0.1, steps=2, epochs=2,
               batch_size=50, lr=0.01),
        n_train=300, n_test=60, attacks=(("linf", 0.1), ("l2", 0.5)),
        steps=4, curve=(("linf", 0.05),), n_curve=20, keep_weights=True,
    )  # fmt: skip


def test_a_point_notes_every_pass_and_the_attacks_it_ran(
    tiny, digits, tmp_path
):
    outcome = train_and_attack(tiny)
    values = outcome.values
    norms = [row["attack"]["norm"] for row in values["robust"]]
    assert norms == ["linf", "l2"]
    for row in values["robust"]:
        assert row["attack"]["losses"] == ["ce", "margin"]
        assert row["correct"] <= values["standard"]["correct"]
    for row in values["quick"]:
        assert row["attack"]["schedule"] == "constant"
        assert row["attack"]["losses"] == ["ce"]
    (curve,) = values["curve"]
    assert (curve["total"], curve["attack"]["eps"]) == (20, 0.05)
    passes = values["passes"]
    assert passes["training"]["forwards"] == 2 * 300 * 3
    assert passes["evaluation"]["forwards"] == 60 + sum(
        row["forwards"]
        for name in ("robust", "quick", "curve") for row in values[name]
    )  # fmt: skip
    assert outcome.data == digits.take(300, 60, 0).describe()
    assert not list(tmp_path.rglob("*.pt")), "the state file is removed"


def test_a_point_interrupted_while_attacked_is_not_trained_again(
    tiny, monkeypatch, tmp_path
):
    expected = train_and_attack(tiny)

    def interrupted(*_args, **_settings):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "robust_accuracy", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train_and_attack(tiny)
    assert len(list(tmp_path.rglob("*.pt"))) == 1
    monkeypatch.delattr(experiments.training, "_update")
    again = train_and_attack(tiny)
    for name, value in expected.arrays.items():
        assert torch.equal(again.arrays[name], value)
    assert again.values["robust"] == expected.values["robust"]

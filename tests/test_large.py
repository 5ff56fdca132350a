"""Large perturbations and their judges, against cases with known answers."""

from dataclasses import replace

import pytest
import torch

from lib import attacks, checkpoints, data, large, models
from lib.large import Large


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def shares(table):
    """A judge that reads its answer off the first pixel."""

    def judge(x):
        return torch.stack([table(float(v)) for v in x[:, 0, 0, 0]])

    return judge


def two(old, new):
    return torch.tensor([old, new, 1 - old - new])


X = torch.zeros(4, 1, 2, 2)
FAR = torch.ones(4, 1, 2, 2)
OLD, NEW = torch.zeros(4, dtype=torch.long), torch.ones(4, dtype=torch.long)


def test_neighbours_vote_with_their_labels():
    known = torch.tensor([0.0, 0.1, 0.2, 0.8, 0.9]).view(5, 1, 1, 1)
    labels = torch.tensor([0, 0, 2, 1, 1])
    x = torch.tensor([0.05, 0.86]).view(2, 1, 1, 1)
    found = large.neighbours(known, labels, x, 3, 4)
    expected = [[2 / 3, 0, 1 / 3, 0], [0, 2 / 3, 1 / 3, 0]]
    assert torch.allclose(found, torch.tensor(expected))
    many = large.neighbours(known, labels, x.repeat(130, 1, 1, 1), 1, 4)
    assert many.shape == (260, 4)
    assert many[:2].tolist() == [[1, 0, 0, 0], [0, 1, 0, 0]]


def test_a_verdict_counts_and_averages():
    seen = large.judged(
        shares(lambda v: two(1 - v, 0.6 * v)), X, FAR, OLD, NEW
    )
    assert seen["total"] == seen["agrees"] == 4 and seen["old"] == 0
    assert seen["share"] == pytest.approx(0.6)
    assert seen["error"] == pytest.approx(0) and seen["before"] == 0
    stays = large.judged(shares(lambda v: two(0.9, 0.1)), X, FAR, OLD, NEW)
    assert (stays["agrees"], stays["old"]) == (0, 4)
    assert stays["before"] == pytest.approx(0.1)


@pytest.mark.parametrize(
    "path, rises, monotone, order",
    [
        (lambda v: v, 4, 4, 1.0),
        (lambda v: v**3, 4, 4, 1.0),
        (lambda v: 1.0 if v in (0.25, 1.0) else 0.0, 4, 0, None),
        (lambda v: 0.3 * v, 0, 0, 1.0),  # never more than a half
        (lambda v: 0.5 + v / 2, 0, 0, 1.0),  # is there from the start
        (lambda v: 0.0, 0, 0, 0.0),
    ],
)
def test_a_walk_is_monotone_or_not(path, rises, monotone, order):
    judge = shares(lambda v: two(1 - path(v), path(v)))
    seen = large.walked(judge, X, FAR, OLD, NEW, frames=5)
    assert (seen["rises"], seen["monotone"]) == (rises, monotone)
    assert seen["new"] == pytest.approx([path(k / 4) for k in range(5)])
    assert seen["old"] == pytest.approx([1 - path(k / 4) for k in range(5)])
    if order is not None:
        assert seen["order"] == pytest.approx(order)


def test_ascent_stays_in_the_l2_ball_and_raises_the_loss():
    model = models.build("small_cnn", seed=0).eval()
    x = torch.rand(5, 1, 28, 28, generator=seeded())
    y = torch.arange(5)
    far = large.ascend(model, x, y, 2.0, 8)
    again = large.ascend(model, x, y, 2.0, 8)
    assert torch.equal(far, again)  # nothing random
    assert float((far - x).flatten(1).norm(dim=1).max()) <= 2 + 1e-5
    assert 0 <= float(far.min()) and float(far.max()) <= 1
    losses = [
        torch.nn.functional.cross_entropy(model(z), y) for z in (x, far)
    ]
    assert losses[1] > losses[0]


@pytest.fixture
def outcome(monkeypatch):
    draw = seeded(3)
    x, y = torch.rand(40, 1, 28, 28, generator=draw), torch.arange(40) % 10
    made = data.Data(
        "mnist", x, y, x, y, tuple("0123456789"), "made up", real=False
    )
    monkeypatch.setattr(data, "load", lambda name, quiet=False: made)
    networks = {
        name: models.build("linear", seed=k).eval()
        for k, name in enumerate(("a", "b", "judge"))
    }
    monkeypatch.setattr(
        checkpoints, "load", lambda name, device="cpu": (networks[name], None)
    )
    settings = Large(
        "mnist", (("standard", "a"), ("l2", "b")), (("robust", "judge"),),
        radii=(1.0, 3.0), neighbours=3, n=30, steps=4, frames=3,
    )  # fmt: skip
    return settings, networks, made, large.measure(settings)


def test_a_record_has_every_network_judge_and_radius(outcome):
    settings, _, _, made = outcome
    values = made.values
    assert [(r["model"], r["eps"]) for r in values["curve"]] == [
        ("standard", 1.0), ("standard", 3.0), ("l2", 1.0), ("l2", 3.0),
    ]  # fmt: skip
    for kind in ("verdicts", "interpolation"):
        assert set(values[kind]) == {"standard", "l2", "noise"}
        for found in values[kind].values():
            assert set(found) == {"robust", "neighbours"}
    assert values["n"] == 30 and len(values["labels"]) == large.SHOWN
    for label, _ in settings.trained:
        assert made.arrays[f"seen-{label}"].shape == (2, 8, 1, 28, 28)
        for told in values["shown"][label]:
            assert len(told["answers"]) == len(told["confidence"]) == 8
    lines = values["interpolation"]["l2"]["robust"]
    assert len(lines["new"]) == len(lines["old"]) == 3


def test_judges_see_what_the_network_was_led_to(outcome):
    _, networks, made, seen = outcome
    part = made.take(1, 30, 0)
    x, y = part.x_test, part.y_test
    far = attacks.pgd(
        networks["b"], x, y, eps=3.0, norm="l2", steps=4, random_start=False,
        keep="last",
    )  # fmt: skip
    new = networks["b"](far).argmax(1)
    moved = new != y
    answers = networks["judge"](far).argmax(1)
    found = seen.values["verdicts"]["l2"]["robust"]
    assert found["total"] == int(moved.sum()) > 0
    assert found["agrees"] == int((answers == new)[moved].sum())
    # the noise is asked for the same class, on the same images
    assert seen.values["verdicts"]["noise"]["robust"]["total"] == int(
        moved.sum()
    )


def test_the_curve_counts_who_still_stands(outcome):
    _, networks, made, seen = outcome
    part = made.take(1, 30, 0)
    far = large.ascend(networks["a"], part.x_test, part.y_test, 1.0, 4)
    right = int((networks["a"](far).argmax(1) == part.y_test).sum())
    row = seen.values["curve"][0]
    assert (row["correct"], row["total"]) == (right, 30)
    assert seen.values["curve"][1]["loss"] > row["loss"]


def test_the_settings_are_those_of_table_3():
    assert large.LARGE["mnist"].eps == 4.0
    assert large.LARGE["cifar10"].eps == 4.7
    for name, settings in large.LARGE.items():
        assert settings.dataset == name and settings.n >= 500
        assert settings.radii[0] == 0
        assert settings == replace(settings)

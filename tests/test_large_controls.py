"""The controls for large perturbations, where the answer is known."""

from dataclasses import replace

import pytest
import torch

from lib import checkpoints, data, large, large_controls, models, seeing


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def digit():
    x = torch.rand(4, 1, 28, 28, generator=seeded())
    return x, torch.arange(4)


def test_without_noise_it_is_the_ascent_itself(digit):
    model = models.build("small_cnn", seed=0).eval()
    for norm, eps in (("l2", 2.0), ("linf", 0.1)):
        plain = large.ascend(model, *digit, eps, 7, norm)
        found = large_controls.ascend_smoothed(
            model, *digit, eps, 7, sigma=0.0, samples=2, norm=norm
        )
        assert torch.allclose(found, plain, atol=1e-5)
        assert not torch.allclose(found, digit[0], atol=1e-2)


def test_a_linear_model_is_not_changed_by_smoothing(digit):
    """Two classes: all gradients are multiples of one direction."""
    model = models.build("linear", seed=0, classes=2).double().eval()
    x, y = digit[0].double() * 0.4 + 0.3, digit[1] % 2
    plain = large.ascend(model, x, y, 1.0, 6)
    found = large_controls.ascend_smoothed(
        model, x, y, 1.0, 6, sigma=0.05, samples=3, generator=seeded()
    )
    assert torch.allclose(found, plain, atol=1e-9)


def test_smoothing_changes_a_network_and_stays_in_ball_and_box(digit):
    model = models.build("small_cnn", seed=0).eval()
    x, y = digit
    same = {"sigma": 0.3, "samples": 2}
    found, again, other = (
        large_controls.ascend_smoothed(
            model, x, y, 2.0, 7, **same, generator=seeded(seed)
        )
        for seed in (0, 0, 1)
    )
    assert torch.equal(found, again) and not torch.equal(found, other)
    length = (found - x).flatten(1).norm(dim=1)
    assert 1.0 < float(length.min()) and float(length.max()) <= 2.0001
    assert float(found.min()) >= 0 and float(found.max()) <= 1
    plain = large.ascend(model, x, y, 2.0, 7)
    assert not torch.allclose(found, plain, atol=1e-3)


@pytest.fixture
def small(monkeypatch):
    class Kept:
        settings = {"recipe": {"model": "small_cnn"}}  # noqa: RUF012

    nets = {str(k): models.build("small_cnn", seed=k).eval() for k in (0, 5)}
    x = torch.rand(12, 1, 28, 28, generator=seeded())
    y = torch.arange(12) % 10
    part = data.Data("mnist", x, y, x, y, tuple("0123456789"), "test")
    monkeypatch.setattr(
        checkpoints, "load", lambda name, device: (nets[name], Kept)
    )
    monkeypatch.setattr(data, "load", lambda *_args, **_settings: part)
    monkeypatch.setattr(data.Data, "take", lambda whole, *_args: whole)
    plan = replace(
        large.LARGE["mnist"], trained=(("standard", "0"),),
        judges=(("robust", "5"),), n=12, steps=3, frames=3, radii=(0.0, 1.0),
        neighbours=2,
    )  # fmt: skip
    return large_controls.Controls(plan, sigma=0.1, samples=2)


def test_both_controls_are_judged_and_measured(small):
    values = large_controls.measure(small).values
    assert values["n"] == 12
    for part in ("verdicts", "interpolation"):
        assert list(values[part]) == ["smooth", "random"]
        for found in values[part].values():
            assert list(found) == ["robust", "neighbours"]
            assert all(0 < each["total"] <= 12 for each in found.values())
    assert list(values["distances"]) == ["smooth", "random", "standard"]
    for found in values["distances"].values():
        assert 0.5 < found["l2"]["mean"] <= 1.0001
    zero = {"mean": 0.0, "error": 0.0}
    assert values["distances"]["standard"]["more"]["features"] == zero


def test_the_random_network_is_no_trained_one(small, monkeypatch):
    """Built afresh, with a seed that is not that of its sister's training."""
    seen, build = [], models.build

    def built(*given, **settings):
        seen.append(settings["seed"])
        return build(*given, **settings)

    monkeypatch.setattr(models, "build", built)
    large_controls.measure(small)
    assert seen == [small.plan.seed + 1]


def test_the_controls_are_those_of_the_gradients():
    for name, settings in large_controls.CONTROLS.items():
        assert settings.sigma == seeing.LOOKING[name].sigma
        assert settings.plan is large.LARGE[name]

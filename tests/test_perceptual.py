"""Distances nearer to an eye, against values that are known."""

import math
from dataclasses import replace

import pytest
import torch

from lib import checkpoints, data, models, perceptual, seeing
from lib.perceptual import Distances, ssim, typical


def images(n=2, channels=1, side=14, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return torch.rand(n, channels, side, side, generator=draw)


def test_equal_images_are_wholly_alike():
    x = images(3, 3)
    assert ssim(x, x).tolist() == pytest.approx([1, 1, 1])


def test_flat_images_differ_by_their_level_only():
    a, b = 0.2, 0.7
    found = ssim(torch.full((1, 1, 12, 12), a), torch.full((1, 1, 12, 12), b))
    expected = (2 * a * b + 1e-4) / (a * a + b * b + 1e-4)
    assert float(found) == pytest.approx(expected, abs=1e-5)


def test_a_window_is_that_of_the_definition():
    x, z = images(1, side=11), images(1, side=11, seed=1)
    far = [math.exp(-((k - 5) ** 2) / 4.5) for k in range(11)]
    weights = torch.tensor([[a * b for a in far] for b in far])
    weights = (weights / weights.sum()).double()
    a, b = x[0, 0].double(), z[0, 0].double()
    mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
    var_a = (weights * (a - mean_a) ** 2).sum()
    var_b = (weights * (b - mean_b) ** 2).sum()
    both = (weights * (a - mean_a) * (b - mean_b)).sum()
    expected = ((2 * mean_a * mean_b + 1e-4) * (2 * both + 9e-4)) / (
        (mean_a**2 + mean_b**2 + 1e-4) * (var_a + var_b + 9e-4)
    )
    assert float(ssim(x, z)) == pytest.approx(float(expected), abs=1e-4)


def test_an_inverted_image_is_unlike_and_a_small_one_refused():
    x = images()
    assert float(ssim(x, 1 - x).max()) < 0
    with pytest.raises(ValueError, match="smaller than the window"):
        ssim(images(side=8), images(side=8))


def test_the_unit_is_between_classes():
    rows = torch.tensor([[0.0], [1.0], [5.0]])
    labels = torch.tensor([0, 0, 1])
    assert float(typical(rows, labels)) == pytest.approx(4.5)
    with pytest.raises(ValueError, match="all labels"):
        typical(rows, torch.zeros(3))


@pytest.fixture
def small(monkeypatch):
    nets = {str(k): models.build("small_cnn", seed=k).eval() for k in (0, 1)}
    x, y = images(4, side=28), torch.arange(4)
    part = data.Data(
        "mnist", x, y, x, y, classes=tuple("0123"), source="test"
    )
    monkeypatch.setattr(
        checkpoints, "load", lambda name, device: (nets[name], None)
    )
    monkeypatch.setattr(seeing, "images", lambda *_: part)
    return Distances(
        "mnist", (("standard", "0"), ("l2", "1")), "1", eps=0.5, steps=3
    )


def test_noise_is_as_long_as_the_attack(small):
    found = perceptual.measure(small).values["distances"]
    assert list(found) == ["standard", "l2", "noise"]
    lengths = [found[label]["l2"]["mean"] for label in ("noise", "standard")]
    assert lengths[0] == pytest.approx(lengths[1], rel=1e-4)
    assert found["standard"]["more"]["ssim"] == {"mean": 0.0, "error": 0.0}
    gap = found["l2"]["ssim"]["mean"] - found["standard"]["ssim"]["mean"]
    assert found["l2"]["more"]["ssim"]["mean"] == pytest.approx(gap)
    assert 0 < found["noise"]["features"]["mean"] < 1


def test_no_radius_no_distance(small):
    found = perceptual.measure(replace(small, eps=0.0)).values["distances"]
    for label in ("standard", "l2", "noise"):
        assert found[label]["l2"]["mean"] == 0
        assert found[label]["ssim"]["mean"] == pytest.approx(1, abs=1e-5)
        assert found[label]["features"]["mean"] == 0

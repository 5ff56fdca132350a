"""Whether gradients are masked, on networks where the answer is known."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from lib import checkpoints, data, masking, seeing
from lib.masking import Masking

SMALL = Masking("mnist", (), (("linf", 0.2),), few=2, many=5, queries=60)
BALL = {"norm": "linf", "eps": 0.2}
Y = torch.zeros(3, dtype=torch.long)


class Bright(nn.Module):
    """Class 1 where the mean pixel exceeds a half; 0 below."""

    def __init__(self, masked: bool = False) -> None:
        super().__init__()
        self.masked = masked

    def forward(self, x):
        seen = x.flatten(1).mean(dim=1)
        if self.masked:  # steps of a fiftieth: no gradient anywhere
            seen = (seen * 50).round() / 50
        return torch.stack([0.5 - seen, seen - 0.5], dim=1)


def images():
    # far from the boundary, near to it, and wrong from the start
    return torch.stack(
        [torch.full((1, 8, 8), level) for level in (0.1, 0.4, 0.7)]
    )


def stands(model, lent=()):
    x = images()
    own = masking.climbed(model.eval(), x, Y, SMALL, **BALL)
    found = masking.survivors(model, x, Y, own, list(lent), SMALL, **BALL)
    return {way: right.tolist() for way, right in found.items()}


def test_an_honest_network_falls_to_its_gradient_first():
    found = stands(Bright())
    assert found["clean"] == [True, True, False]
    assert found["few"] == found["many"] == [True, False, False]
    assert found["restarts"] == found["queries"] == [True, False, False]
    assert found["transfer"] == found["clean"], "nothing was lent"


def test_a_masked_network_falls_only_to_blind_attacks():
    lent = masking.climbed(Bright().eval(), images(), Y, SMALL, **BALL)
    found = stands(Bright(masked=True), [lent["restarts"]])
    assert found["restarts"] == [True, True, False]
    assert found["transfer"] == found["queries"] == [True, False, False]


def test_points_stay_in_the_ball_and_fallen_images_are_left_alone():
    x = images()
    own = masking.climbed(Bright().eval(), x, Y, SMALL, **BALL)
    for points in own.values():
        assert float((points - x).abs().max()) <= 0.2 + 1e-6
        assert torch.equal(points[2], x[2])
    assert torch.equal(own["few"][1], own["restarts"][1])


def test_a_row_counts_what_only_blind_attacks_found(monkeypatch):
    networks = {"open": Bright().eval(), "shut": Bright(masked=True).eval()}
    part = data.Data(
        "levels", images(), Y, images(), Y, classes=("dark", "bright"),
        source="test",
    )  # fmt: skip
    monkeypatch.setattr(
        checkpoints, "load", lambda name, device: (networks[name], None)
    )
    monkeypatch.setattr(seeing, "images", lambda *_: part)
    settings = replace(SMALL, trained=(("a", "open"), ("b", "shut")))
    rows = {
        (row["model"], row["attack"]): row
        for row in masking.measure(settings).values["rows"]
    }
    assert len(rows) == 2 * 6
    assert rows["a", "restarts"]["correct"] == 1
    assert rows["a", "queries"]["only"] == rows["a", "transfer"]["only"] == 0
    assert rows["b", "restarts"]["correct"] == 2
    assert rows["b", "queries"]["only"] == rows["b", "transfer"]["only"] == 1
    assert rows["b", "clean"]["total"] == 3


@pytest.mark.parametrize("name", masking.MASKING)
def test_the_networks_are_those_of_the_pictures(name):
    settings = masking.MASKING[name]
    assert [label for label, _ in settings.trained] == [
        "standard", "linf", "l2",
    ]  # fmt: skip
    assert {norm for norm, _ in settings.balls} == {"linf", "l2"}

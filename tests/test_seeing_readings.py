"""Tables of the chapters on what robust networks see."""

import pytest
import torch

from lib import results, seeing_readings
from lib.large import LARGE
from lib.results import Record
from lib.seeing import LOOKING


@pytest.fixture
def trained(monkeypatch):
    """Every record is of this training, of its own name."""
    recipe = {"model": "net", "norm": "l2", "eps": 80 / 255, "steps": 3,
              "epochs": 5}  # fmt: skip

    def load(name):
        plain = "standard" in name
        return Record(
            name,
            {"recipe": recipe | ({"eps": 0.0} if plain else {})},
            {"standard": {"correct": 9, "total": 10},
             "robust": [{"correct": 4, "total": 10}] * (1 + plain)},
        )  # fmt: skip

    monkeypatch.setattr(results, "load", load)


def test_every_network_is_named_with_its_training(trained):
    rows = seeing_readings.network_rows()
    assert len(rows) == sum(len(plan.trained) for plan in LOOKING.values())
    assert rows[3] == [
        "CIFAR-10", "standard", "net", "none", "–", "5", "90.0%", "–",
    ]  # fmt: skip
    assert rows[5][1:] == [
        "l2-trained", "net", "l2 80/255", "3", "5", "90.0%", "40.0%",
    ]  # fmt: skip


def test_every_judge_is_named_with_its_training(trained):
    right = {"correct": 3, "total": 4}
    record = Record("r", {}, {
        "judges": dict.fromkeys(("standard", "robust", "neighbours"), right),
    })  # fmt: skip
    plan = LARGE["mnist"]
    rows = seeing_readings.judge_rows({"cifar10": plan}, {"cifar10": record})
    assert [row[1] for row in rows] == [
        "standard judge", "robust judge", "neighbours",
    ]  # fmt: skip
    assert [row[3] for row in rows] == ["none", "l2 80/255", "–"]
    assert {row[5] for row in rows} == {"75.0%"}


def verdict(agrees, total=100, share=0.5):
    return {"agrees": agrees, "total": total, "share": share, "error": 0.01}


def test_verdicts_say_how_often_and_how_surely():
    record = Record("r", {}, {"verdicts": {
        "standard": {"standard": verdict(50, share=0.9)},
        "l2": {"standard": verdict(0, 0)},
        "noise": {"standard": verdict(3)},
    }})  # fmt: skip
    found = {"mnist": record}
    often, surely = (
        seeing_readings.verdict_rows(found, "noise, as long", cell)
        for cell in (seeing_readings.agreement, seeing_readings.confidence)
    )
    assert often[0] == ["MNIST", "standard", "100", "50 [40, 60]", "–", "–"]
    assert surely[0][3] == "0.90 ± 0.02"
    assert often[1][2:4] == surely[1][2:4] == ["0", "–"]
    assert often[2][1] == "noise, as long"
    control = Record("c", {}, {"verdicts": {
        "random": {"standard": verdict(1)},
    }})  # fmt: skip
    more = seeing_readings.verdict_rows(
        found | {"cifar10": record}, "noise", seeing_readings.agreement,
        {"mnist": control},
    )  # fmt: skip
    assert len(more) == 7
    assert more[3][:4] == ["MNIST", "random weights", "100", "1 [0, 5]"]
    assert more[4][0] == "CIFAR-10"


def test_a_lead_is_over_the_standard_network():
    record = Record("r", {}, {"verdicts": {
        "standard": {"robust": verdict(50)}, "l2": {"robust": verdict(80)},
        "linf": {"robust": verdict(0, 0)},
    }})  # fmt: skip
    lead = seeing_readings.ahead(record, "l2", "robust")
    assert lead.value == pytest.approx(0.3) and lead.clear
    assert seeing_readings.ahead(record, "linf", "robust") is None


def test_lines_are_counted_over_judges_and_records():
    lines = {
        label: {judge: {"monotone": k, "rises": k + 1} for judge in "ab"}
        for k, label in enumerate(("standard", "linf", "l2"))
    }
    found = dict.fromkeys("xy", Record("r", {}, {"interpolation": lines}))
    count = seeing_readings.without_a_step_back
    assert count(found, ("linf", "l2")) == (12, 20)
    assert count(found, ("standard",)) == (0, 4)


def test_a_lattice_is_found_at_its_period():
    even = torch.ones(2, 3, 8, 8)
    assert seeing_readings.lattice(even, 2) == pytest.approx(1)
    every_second = torch.zeros(2, 3, 8, 8)
    every_second[..., ::2, 1::2] = 1
    assert seeing_readings.lattice(every_second, 2) == pytest.approx(4)
    assert seeing_readings.lattice(every_second, 4) == pytest.approx(4)
    half = torch.zeros(2, 3, 8, 8)
    half[..., :4, :] = 1  # an object is no lattice
    assert seeing_readings.lattice(half, 2) == pytest.approx(1)


def test_no_case_among_few_leaves_much_open():
    assert seeing_readings.none_of(1) == pytest.approx(0.95)
    assert (1 - seeing_readings.none_of(60)) ** 60 == pytest.approx(0.05)

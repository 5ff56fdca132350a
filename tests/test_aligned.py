"""Networks trained with noise, their gradients, and inverted features."""

import json
import re
from dataclasses import replace

import pytest
import torch

from lib import (
    aligned,
    aligned_exercises,
    aligned_features,
    aligned_plots,
    attacks,
    checkpoints,
    data,
    experiments,
    large,
    ledger,
    models,
    paper,
    saliency,
    seeing,
    seeing_ledger,
)
from lib import aligned_readings as readings
from lib.aligned_features import invert, likeness
from lib.evaluation import Accuracy
from lib.objectives import perturb
from lib.recipes import Recipe
from lib.results import Outcome, Record


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


# --- training with noise --------------------------------------------------


def test_gaussian_noise_has_its_deviation_and_leaves_the_pixel_range():
    x = torch.full((50, 1, 28, 28), 0.9)
    recipe = Recipe(method="gaussian", eps=0.5)
    y = torch.zeros(50, dtype=torch.long)
    noisy = perturb(torch.nn.Identity(), x, y, recipe, 0.5, seeded())
    noise = noisy - x
    assert float(noise.std()) == pytest.approx(0.5, rel=0.01)
    assert abs(float(noise.mean())) < 0.01
    assert float(noisy.max()) > 1, "noise is not cut to the pixel range"
    again = perturb(torch.nn.Identity(), x, y, recipe, 0.5, seeded())
    assert torch.equal(again, noisy)


def test_noise_is_no_radius_for_validation():
    with pytest.raises(ValueError, match="validation=0"):
        Recipe(method="gaussian", eps=0.25, validation=100)


def test_noisy_networks_are_trained_like_the_standard_ones():
    standard = {
        "mnist": experiments.training_grid(experiments.MNIST_PLANS["full"])[
            "standard-seed0"
        ],
        "cifar10": experiments.CIFAR10_POINTS["standard-seed0"],
        "imagenette64": experiments.IMAGENETTE_POINTS["standard-seed0"],
    }
    for name, point in experiments.NOISY_POINTS.items():
        dataset, sigma, _ = name.split("-")
        twin = standard[dataset]
        assert point.recipe.eps == float(sigma) and point.keep_weights
        assert (point.dataset, point.n_train) == (dataset, twin.n_train)
        changed = replace(point.recipe, method="standard", eps=0.0)
        assert changed == twin.recipe


def test_every_noisy_network_that_is_read_has_a_recipe():
    for whole in aligned.ALIGNED.values():
        for label, name in whole.noisy:
            point = experiments.NOISY_POINTS[name.rpartition("/")[2]]
            assert label == f"noise {point.recipe.eps:g}"
            assert label in aligned_plots.LABELS
    for name, label in aligned.SHOWN.items():
        assert label in dict(aligned.ALIGNED[name].noisy)


def test_large_perturbations_are_those_of_the_chapter_on_them():
    for name, plan in aligned.DRAWN.items():
        known = large.LARGE[name]
        same = replace(plan, trained=known.trained, radii=known.radii)
        assert same == known and plan.eps == known.eps


# --- gradients ------------------------------------------------------------


def test_smoothing_is_the_mean_over_noise_that_is_not_cut():
    model = models.build("small_cnn", seed=0).eval()
    x, y = torch.rand(3, 1, 28, 28, generator=seeded()), torch.arange(3)
    found = saliency.smooth_gradient(
        model, x, y, sigma=0.7, samples=2, generator=seeded(4), box=False
    )
    draw, total = seeded(4), torch.zeros_like(x)
    for _ in range(2):
        far = (x + 0.7 * torch.randn(x.shape, generator=draw)).requires_grad_()
        loss = torch.nn.functional.cross_entropy(
            model(far), y, reduction="sum"
        )
        total += torch.autograd.grad(loss, far)[0]
    assert torch.allclose(found, total / 2, atol=1e-6)
    plain = saliency.smooth_gradient(
        model, x, y, sigma=0.0, samples=2, box=False
    )
    assert torch.allclose(plain, attacks.input_gradient(model, x, y))
    assert not torch.allclose(found, plain, atol=1e-3)


@pytest.fixture
def made(monkeypatch):
    """Made-up digits and untrained networks behind every record's name."""
    x = torch.zeros(20, 1, 28, 28)
    for k in range(20):
        x[k, 0, 3 + k : 9 + k, 5 + k % 7 : 9 + k % 7] = 1.0
    y = torch.arange(20) % 10
    digits = data.Data(
        "mnist", x, y, x, y, tuple("0123456789"), "made up", real=False
    )
    monkeypatch.setattr(data, "load", lambda name, quiet=False: digits)

    def load(name, device="cpu"):
        recipe = {"model": "small_cnn", "eps": 0.5 if "0.5" in name else 0.0}
        model = models.build("small_cnn", seed=len(name)).eval()
        return model, Record(name, {"recipe": recipe}, {})

    monkeypatch.setattr(checkpoints, "load", load)
    return digits


def test_every_gradient_and_both_balls_are_measured(made):
    whole = aligned.ALIGNED["mnist"]
    settings = replace(
        whole, noisy=whole.noisy[1:2], n=12, attacked=5, samples=2,
        protocol="quick",
    )  # fmt: skip
    values = aligned.measure(settings).values
    assert list(values["measures"]) == [
        "standard", "linf", "l2", "noise 0.5", "noise 0.5, smoothed",
        "standard, noise 0.5",
    ]  # fmt: skip
    assert values["measures"]["standard"]["excess"]["more"] == 0
    assert values["n"] == 12
    assert list(values["robust"]) == ["standard", "linf", "l2", "noise 0.5"]
    for rows in values["robust"].values():
        assert [(row["norm"], row["eps"]) for row in rows] == [
            ("linf", 0.3), ("l2", 1.5),
        ]  # fmt: skip
        assert all(0 <= row["correct"] <= row["total"] == 5 for row in rows)


def test_the_control_smooths_the_standard_network_as_much(made):
    settings = replace(
        aligned.ALIGNED["mnist"], noisy=(("noise 0.5", "noisy-0.5"),),
        samples=3,
    )  # fmt: skip
    x, y = made.x_test[:4], made.y_test[:4]
    found = {
        label: (net, grad)
        for label, net, grad in aligned.gradients(settings, x, y)
    }
    net, grad = found["standard, noise 0.5"]
    by_hand = saliency.smooth_gradient(
        net, x, y, sigma=0.5, samples=3, generator=seeded(), box=False
    )
    assert torch.allclose(grad, by_hand)
    assert net is found["standard"][0]


# --- features -------------------------------------------------------------


@pytest.mark.slow
def test_inverting_linear_features_ends_at_the_projection():
    weight = torch.randn(3, 8, generator=seeded())
    layer = torch.nn.Linear(8, 3, bias=False).requires_grad_(False)
    layer.weight.copy_(weight)
    x = 0.5 + 0.1 * torch.rand(4, 8, generator=seeded(1))
    start = torch.full((4, 8), 0.5)
    goal = layer(x)
    back = invert(layer, goal, start, steps=200, lr=0.04)
    assert torch.allclose(layer(back), goal, atol=2e-2)
    assert torch.equal(start, torch.full((4, 8), 0.5)), "inputs untouched"
    far = invert(layer, goal, start, steps=1, lr=10.0)
    assert float(far.min()) >= 0 and float(far.max()) <= 1


def test_a_row_is_inverted_alone_or_in_a_batch():
    model = models.build("small_cnn", seed=0).eval().double()
    inner = aligned_features.features(model)
    x = torch.rand(3, 1, 28, 28, generator=seeded()).double()
    with torch.no_grad():
        goal = inner(x)
    assert goal.shape == (3, 100)
    start = torch.full_like(x, 0.5)
    whole = invert(inner, goal, start, steps=3, lr=0.05)
    alone = invert(inner, goal[1:2], start[1:2], steps=3, lr=0.05)
    assert torch.allclose(whole[1:2], alone, atol=1e-6)


def test_likeness_is_the_correlation_of_pixels():
    a = torch.rand(3, 1, 5, 5, generator=seeded())
    b = torch.rand(4, 1, 5, 5, generator=seeded(1))
    right = torch.corrcoef(torch.cat([a.flatten(1), b.flatten(1)]))[:3, 3:]
    assert torch.allclose(likeness(a, b), right, atol=1e-5)
    assert torch.allclose(likeness(a, 0.2 + 0.5 * a).diagonal(), torch.ones(3))
    assert likeness(torch.zeros(1, 1, 5, 5), a).tolist() == [[0, 0, 0]]


def test_what_comes_back_is_compared_with_its_own_image(made, monkeypatch):
    settings = aligned_features.Inverting("mnist", (("a", "a"),), n=6, steps=2)
    images = seeing.images("mnist", 6).x_test
    monkeypatch.setattr(aligned_features, "invert", lambda *_, **__: images)
    found = aligned_features.measure(settings)
    assert list(found.values["inverted"]) == ["a", "random"]
    row = found.values["inverted"]["a"]
    assert (row["first"], row["total"]) == (6, 6)
    assert row["own"]["mean"] == pytest.approx(1, abs=1e-4)
    assert row["other"]["mean"] < 0.99
    assert row["distance"]["mean"] == 0 < row["distance_other"]["mean"]
    assert row["features"]["mean"] == pytest.approx(0, abs=1e-6)
    assert row["features_other"]["mean"] > 0
    # pictures of the images before them: found again as another one
    monkeypatch.setattr(
        aligned_features, "invert", lambda *_, **__: images.roll(1, 0)
    )
    row = aligned_features.measure(settings).values["inverted"]["a"]
    assert row["first"] == 0 and row["distance_other"]["mean"] == 0
    assert row["excess"]["mean"] < 0


# --- verdicts and effects -------------------------------------------------


def test_the_status_is_the_ledger_s_verdict(monkeypatch):
    words = iter(ledger.VERDICTS.values())
    last = ledger.REPRODUCED
    monkeypatch.setattr(
        ledger, "judge",
        lambda claim: ledger.Judgement("", next(words, last), "chapter"),
    )  # fmt: skip
    rows = readings.standings()
    idents = [row.claim.ident.split(",")[0] for row in rows]
    assert idents == list(readings.CLAIMS)
    assert [row.status for row in rows] == [
        "shown", "shown in part", "not shown", "open", "shown",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "c22, c23, c25, held",
    [
        (True, True, True, True), (True, "partly", True, "partly"),
        (False, False, True, "partly"), (False, False, False, False),
        (False, "partly", False, "partly"),
    ],
)  # fmt: skip
def test_c21_is_the_other_three_together(monkeypatch, c22, c23, c25, held):
    given = dict(zip(("C22", "C23", "C25"), (c22, c23, c25), strict=True))
    for name in seeing_ledger.FINDINGS:
        if (ident := name.split(",")[0]) in given:
            monkeypatch.setitem(
                seeing_ledger.FINDINGS, name,
                lambda ident=ident: ("", given[ident], ""),
            )  # fmt: skip
    ours, found, chapter = seeing_ledger.parts_together()
    assert found == held and chapter == "what-aligns"
    assert "not measured" in ours


def test_c21_stands_in_the_ledger():
    (claim,) = [c for c in paper.LEDGER if c.ident == "C21"]
    assert ledger.judge(claim).chapter == "what-aligns"


def test_gaps_of_counts_have_honest_margins():
    gap = readings.between(Accuracy(60, 100), Accuracy(30, 100))
    assert gap.value == pytest.approx(0.3) and gap.clear
    # Newcombe (1998), method 10, first example: 56/70 less 48/80
    gap = readings.between(Accuracy(56, 70), Accuracy(48, 80))
    assert gap.margin == pytest.approx(0.2 - 0.0524, abs=2e-3)
    certain = readings.between(Accuracy(10, 10), Accuracy(0, 10))
    assert certain.margin > 0.2
    assert readings.between(Accuracy(0, 0), Accuracy(1, 2)) is None
    assert not readings.Gap(-0.1, 0.2).clear
    assert readings.Gap(-0.38, 0.061).points() == "-38.0 ± 6.1"


def test_effects_compare_each_network_with_the_standard_one():
    def counts(number):
        return {"robust": {"agrees": number, "rises": number, "total": 100}}

    networks = {"standard": 20, "linf": 50, "l2": 70, "noise": 3}
    old = {
        part: {label: counts(k) for label, k in networks.items()}
        for part in ("verdicts", "interpolation")
    }
    new = {part: {"l2": counts(70), "noise 0.5": counts(60)} for part in old}
    gap = {"more": 0.2, "more_error": 0.01}
    seen = {"measures": {
        label: {"excess": gap | {"more": more}}
        for label, more in (("linf", 0.2), ("l2", 0.1), ("noise 0.5", 0.3))
    }}  # fmt: skip
    found = readings.effects(
        *({"mnist": Record("r", {}, each)} for each in (seen, old, new))
    )
    assert [each.claim for each in found] == ["C22", "C23", "C25"]
    first, second, _ = found
    assert first.cells() == [
        "+0.200 ± 0.020", "+0.100 ± 0.020", "+0.300 ± 0.020",
    ]  # fmt: skip
    assert [gap.value for gap in second.gaps.values()] == pytest.approx(
        [0.3, 0.5, 0.4]
    )
    assert second.cells()[1].startswith("+50.0 ± ")


# --- exercises and pictures -----------------------------------------------


def test_the_length_of_noise_is_checked():
    check = aligned_exercises.noise_length
    assert check(lambda sigma, d: None).passed is None
    assert check(lambda sigma, d: sigma * d**0.5).passed
    squared = check(lambda sigma, d: sigma**2 * d)
    assert squared.passed is False and "square" in squared.message
    assert check(lambda sigma, d: sigma * d).passed is False


def test_the_end_of_descent_is_checked():
    check = aligned_exercises.projection
    assert check(lambda W, x, start: None).passed is None

    def right(W, x, start):
        return start + torch.linalg.pinv(W) @ (W @ (x - start))

    assert check(right).passed
    assert "other features" in check(lambda W, x, start: start).message
    # from zero instead of the start: the features agree, the rest does not
    short = check(lambda W, x, start: torch.linalg.pinv(W) @ W @ x)
    assert short.passed is False and "no feature sees" in short.message
    assert "no feature sees" in check(lambda W, x, start: x).message
    assert "shape" in check(lambda W, x, start: x[:-1]).message


def test_the_quiz_asks_for_the_attacked_network():
    arrays = {
        "images": torch.zeros(4, 3, 4, 4, dtype=torch.uint8),
        "gradient-noise 0.5": torch.zeros(4, 3, 4, 4).half(),
        "gradient-l2": torch.randn(4, 3, 4, 4, generator=seeded()).half(),
    }
    made = aligned_exercises.quiz(
        Record("r/x", {}, {}, arrays=arrays), "noise 0.5"
    )
    answers = json.loads(
        re.search(r'application/json">(.*?)</script>', made.html).group(1)
    )["answers"]
    fields = re.findall(r"<fieldset>(.*?)</fieldset>", made.html)
    assert len(fields) == 4
    for field, answer in zip(fields, answers, strict=True):
        options = re.findall(r'picture . *" .*?src="([^"]*)"', field)
        sizes = [len(option) for option in options]
        assert sizes.index(max(sizes)) == answer  # noise takes more bytes
    assert "against attacks?" in made.html and "Gaussian" in made.html


SIGMA = "σ\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}0.5"  # on one line


def test_networks_without_an_attack_are_left_out_of_the_figure():
    found = {"mean": 0.1, "error": 0.01}
    rows = [{"norm": "linf", "eps": 0.3, "correct": 1, "total": 9},
            {"norm": "l2", "eps": 1.5, "correct": 5, "total": 9}]  # fmt: skip
    # a count that is complete must not upset the bars
    all_right = [rows[0], rows[1] | {"correct": 4, "total": 4}]
    record = Record("r", {}, {
        "robust": {"standard": rows, "noise 0.5": all_right},
        "measures": {
            label: {"excess": found}
            for label in ("standard", "noise 0.5", "noise 0.5, smoothed")
        },
    })  # fmt: skip
    fig = aligned_plots.together({"mnist": record})
    drawn = {note.get_text() for note in fig.axes[0].texts}
    assert drawn == {"standard", SIGMA}
    assert "1.5" in fig.axes[0].get_xlabel()


def test_the_tables_have_a_row_for_every_gradient(made):
    whole = aligned.ALIGNED["mnist"]
    settings = replace(
        whole, noisy=whole.noisy[1:2], n=8, attacked=2, samples=1,
        protocol="quick",
    )  # fmt: skip
    outcome = aligned.measure(settings)
    record = Record("aligned/mnist", {}, outcome.values, arrays=outcome.arrays)
    rows = readings.gradient_rows({"mnist": record})
    assert [len(row) for row in rows] == [9] * 6
    assert rows[3][1] == f"noise {SIGMA}" and rows[4][3:5] == ["–", "–"]
    right = outcome.values["right"]["noise 0.5"] / 8
    assert rows[3][2] == f"{right:.1%}" and "[" in rows[3][4]
    own = outcome.values["measures"]["noise 0.5"]["edges"]
    assert rows[3][5].startswith(f"{own['mean']:.3f} ± ")
    shown = aligned_plots.gallery(record, "mnist").html
    assert shown.count("<img") == 5 * 8 and f"noise {SIGMA}" in shown


def test_the_table_of_features_says_what_it_compares():
    part = {"mean": 0.5, "error": 0.1}
    found = dict.fromkeys(
        ("own", "other", "excess", "distance", "distance_other", "features"),
        part,
    )
    (row,) = readings.inverted_rows({"l2": found | {"first": 3, "total": 4}})
    assert row[0] == "l2-trained" and row[1] == "0.50 ± 0.20"
    assert row[5].startswith("75%") and row[6] == "0.5 ± 0.2"


def test_observing_gradients_keeps_its_outcome(made):
    settings = seeing.Looking(
        "mnist", (("standard", "a"), ("l2", "bb")), n=6, samples=2
    )
    outcome = seeing.measure(settings)
    assert isinstance(outcome, Outcome) and outcome.values["n"] == 6
    assert list(outcome.values["measures"])[-1] == "random"

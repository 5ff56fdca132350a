"""Large perturbations and their judges, against cases with known answers."""

import json
import re
from dataclasses import replace

import pytest
import torch

from lib import (
    attacks,
    checkpoints,
    closer,
    data,
    explorer,
    large,
    large_exercises,
    models,
    norms,
    paper,
    results,
    seeing_plots,
)
from lib.large import Large
from lib.results import Record


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


def test_noise_keeps_its_length_where_pixels_end():
    digits = (torch.rand(5, 1, 28, 28, generator=seeded()) > 0.8).float()
    length = torch.tensor([0.0, 0.5, 2.0, 4.0, 6.0])
    far = large.noise_as_long(digits, length, seeded())
    assert float(far.min()) >= 0 and float(far.max()) <= 1
    found = (far - digits).flatten(1).norm(dim=1)
    assert torch.allclose(found, length, rtol=1e-4, atol=1e-4)
    again = large.noise_as_long(digits, length, seeded())
    assert torch.equal(far, again)
    assert not torch.equal(far, large.noise_as_long(digits, length))
    # all pixels at an end: no more than one each
    most = large.noise_as_long(digits, torch.full((5,), 99.0), seeded())
    assert float((most - digits).flatten(1).norm(dim=1).max()) < 28.001


def test_noise_in_the_cube_moves_every_pixel_it_can():
    x = torch.rand(6, 3, 16, 16, generator=seeded())
    far = large.noise_as_large(x, 0.25, "linf", seeded())
    assert float(far.min()) >= 0 and float(far.max()) <= 1
    delta = far - x
    free = (far > 0) & (far < 1)
    assert torch.allclose(delta[free].abs(), torch.tensor(0.25), atol=1e-6)
    assert float(delta.abs().max()) <= 0.25 + 1e-6
    assert 0.4 < float((delta > 0).float().mean()) < 0.6  # a fair coin
    assert torch.equal(far, large.noise_as_large(x, 0.25, "linf", seeded()))
    assert not torch.equal(far, large.noise_as_large(x, 0.25, "linf"))
    # as long in l2 as an attack of the same cube may be
    worst = 0.25 * x[0].numel() ** 0.5
    inner = torch.full_like(x, 0.5)
    moved = large.noise_as_large(inner, 0.25, "linf", seeded()) - inner
    assert moved.flatten(1).norm(dim=1).tolist() == pytest.approx([worst] * 6)


def test_noise_in_the_l2_ball_keeps_its_length():
    x = torch.rand(5, 1, 28, 28, generator=seeded())
    far = large.noise_as_large(x, 3.0, "l2", seeded())
    length = torch.full((5,), 3.0)
    assert torch.equal(far, large.noise_as_long(x, length, seeded()))
    with pytest.raises(ValueError, match="norm must be"):
        large.noise_as_large(x, 3.0, "l1")


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


def test_few_moved_images_or_none_can_be_recorded():
    judge = shares(lambda v: two(1 - v, v))
    one = large.judged(judge, X[:1], FAR[:1], OLD[:1], NEW[:1])
    assert (one["total"], one["agrees"], one["share"]) == (1, 1, 1)
    assert one["error"] == 0
    walk = large.walked(judge, X[:1], FAR[:1], OLD[:1], NEW[:1], frames=3)
    assert (walk["total"], walk["rises"]) == (1, 1)
    for made, whole in (
        (large.judged(judge, X[:0], FAR[:0], OLD[:0], NEW[:0]), one),
        (large.walked(judge, X[:0], FAR[:0], OLD[:0], NEW[:0], 3), walk),
    ):
        assert made.keys() == whole.keys()
        json.dumps(made, allow_nan=False)
        assert made["total"] == 0
        for key, value in made.items():
            same_kind = isinstance(value, list) is isinstance(whole[key], list)
            assert same_kind and not any(torch.tensor(value).flatten())


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


@pytest.mark.parametrize("norm, eps", [("l2", 2.0), ("linf", 0.1)])
def test_ascent_stays_in_the_ball_and_raises_the_loss(norm, eps):
    model = models.build("small_cnn", seed=0).eval()
    x = torch.rand(5, 1, 28, 28, generator=seeded())
    y = torch.arange(5)
    far = large.ascend(model, x, y, eps, 8, norm)
    again = large.ascend(model, x, y, eps, 8, norm)
    assert torch.equal(far, again)  # nothing random
    reached = norms.length(far - x, norm)
    assert float(reached.max()) <= eps + 1e-5
    assert float(reached.min()) > 0.9 * eps
    if norm == "l2":
        assert torch.equal(far, large.ascend(model, x, y, eps, 8))
        return_to = norms.length(far - x, "linf")
        assert float(return_to.max()) > 0.1  # not the other ball
    else:  # most pixels end at a corner or at the end of their range
        ends = ((far - x).abs() > 0.09) | (far == 0) | (far == 1)
        assert float(ends.float().mean()) > 0.5
    assert 0 <= float(far.min()) and float(far.max()) <= 1
    losses = [
        torch.nn.functional.cross_entropy(model(z), y) for z in (x, far)
    ]
    assert losses[1] > losses[0]


@pytest.fixture
def outcome(world):
    networks, made = world
    settings = Large(
        "mnist", (("standard", "a"), ("l2", "b")), (("robust", "judge"),),
        radii=(0.1, 0.2), neighbours=3, n=30, steps=4, frames=3,
    )  # fmt: skip
    return settings, networks, made, large.measure(settings)


@pytest.fixture
def world(monkeypatch):
    """Three linear networks and made-up digits, loaded by name."""
    draw = seeded(3)
    x = torch.rand(40, 1, 28, 28, generator=draw)
    networks = {
        name: models.build("linear", seed=k).eval()
        for k, name in enumerate(("a", "b", "judge"))
    }
    y = networks["b"](x).argmax(1)  # so that this one is right
    made = data.Data(
        "mnist", x, y, x, y, tuple("0123456789"), "made up", real=False
    )
    monkeypatch.setattr(data, "load", lambda name, quiet=False: made)
    monkeypatch.setattr(
        checkpoints, "load", lambda name, device="cpu": (networks[name], None)
    )
    return networks, made


def test_a_record_has_every_network_judge_and_radius(outcome):
    settings, _, _, made = outcome
    values = made.values
    assert [(r["model"], r["eps"]) for r in values["curve"]] == [
        ("standard", 0.1), ("standard", 0.2), ("l2", 0.1), ("l2", 0.2),
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
        networks["b"], x, y, eps=0.2, norm="l2", steps=4, random_start=False,
        keep="last",
    )  # fmt: skip
    new = networks["b"](far).argmax(1)
    moved = new != y
    answers = networks["judge"](far).argmax(1)
    found = seen.values["verdicts"]["l2"]["robust"]
    assert 0 < int(moved.sum()) < 30  # some stay, and are not asked about
    assert found["total"] == int(moved.sum())
    assert found["agrees"] == int((answers == new)[moved].sum())
    # the noise is asked for the same class, on the same images
    shares = networks["judge"](x).detach().softmax(1)
    before = shares[torch.arange(30), new][moved]
    noise = seen.values["verdicts"]["noise"]["robust"]
    assert noise["total"] == int(moved.sum())
    assert noise["before"] == pytest.approx(float(before.mean()), abs=1e-6)


def test_the_curve_counts_who_still_stands(outcome):
    _, networks, made, seen = outcome
    part = made.take(1, 30, 0)
    far = large.ascend(networks["a"], part.x_test, part.y_test, 0.1, 4)
    right = int((networks["a"](far).argmax(1) == part.y_test).sum())
    row = seen.values["curve"][0]
    assert (row["correct"], row["total"]) == (right, 30)
    assert seen.values["curve"][1]["loss"] > row["loss"]


def test_the_norm_is_that_of_the_settings(outcome, world):
    settings, networks, made, plain = outcome
    plan = replace(settings, radii=(0.0, 0.02), norm="linf")
    seen = large.measure(plan)
    part = made.take(1, 30, 0)
    x, y = part.x_test, part.y_test
    far = large.ascend(networks["b"], x, y, 0.02, 4, "linf")
    assert torch.equal(
        seen.arrays["seen-l2"][-1], results.in_bytes(far[: large.SHOWN])
    )
    row = seen.values["curve"][-1]
    answers = networks["b"](far).argmax(1)
    assert (row["model"], row["eps"]) == ("l2", 0.02)
    assert row["correct"] == int((answers == y).sum()) < 30
    # judges see those pictures, and noise of the same cube
    moved = answers != y
    judge = networks["judge"]
    corner = large.noise_as_large(x, 0.02, "linf", seeded(plan.seed))
    for label, images in (("l2", far), ("noise", corner)):
        found = seen.values["verdicts"][label]["robust"]
        agrees = judge(images).argmax(1) == answers
        assert found["total"] == int(moved.sum()) > 0
        assert found["agrees"] == int(agrees[moved].sum())
        given = judge(images).detach().softmax(1)
        share = given[torch.arange(30), answers][moved].mean()
        assert found["share"] == pytest.approx(float(share), abs=1e-6)
    assert seen.values.keys() == plain.values.keys()


def test_the_settings_are_those_of_table_3():
    for norm, plans in (("l2", large.LARGE), ("linf", large.LINF)):
        for name, settings in plans.items():
            assert settings.norm == norm and settings.n >= 500
            assert settings.radii[0] == 0
            assert list(settings.radii) == sorted(settings.radii)
            table = paper.TABLE_3.get(settings.dataset)
            assert table is None or settings.eps == table[norm]
            suffix = "" if norm == "l2" else "-linf"
            assert name == settings.dataset + suffix
    # a radius per pixel does not depend on the number of pixels
    photographs = large.LINF["imagenette64-linf"].eps
    assert photographs == paper.TABLE_3["restricted-imagenet"]["linf"]
    for name, plan in large.LINF.items():
        there = large.LARGE[name.removesuffix("-linf")]
        assert replace(plan, radii=there.radii, norm="l2") == there


def test_records_from_before_the_norm_was_a_setting_hold():
    for name, settings in large.LARGE.items():
        plain = results._plain(settings)
        assert "norm" not in plain
        assert results.load(f"large/{name}").settings == plain
    for settings in large.LINF.values():
        assert results._plain(settings)["norm"] == "linf"


def test_the_records_of_the_cube_are_those_of_the_chapter():
    for name, settings in large.LINF.items():
        record = results.load(f"large/{name}")
        assert record.settings == results._plain(settings)
        images = record.arrays["images"].float() / 255
        for label, _ in settings.trained:
            end = record.arrays[f"seen-{label}"][-1].float() / 255
            most = norms.length(end - images, "linf")
            assert float(most.max()) <= settings.eps + 1.01 / 255


# --- pages ----------------------------------------------------------------

CLASSES = "0123456789"


def panels(made):
    """Row labels, captions, bars and sentences of an explorer's data."""
    book = re.search(r'application/json">(.*?)</script>', made.html).group(1)
    return json.loads(book)["panels"]


@pytest.fixture
def given(monkeypatch):
    """What ``closer`` hands to the explorer."""
    seen = {}

    def note(**made):
        seen.update(made)
        return explorer.explorer(**made)

    monkeypatch.setattr(closer, "explorer", note)
    return seen


def test_panels_show_the_pictures_they_name(outcome, given):
    settings, _, _, seen = outcome
    record = Record("large/x", {}, seen.values, arrays=seen.arrays)
    closer.perturbed(record, settings, CLASSES)
    for (*networks, j), panel in given["panels"].items():
        for i, row in zip(networks, panel.rows, strict=True):
            label = settings.trained[i][0]
            shown = given["tiles"][list(row.tiles)]
            assert torch.equal(shown, record.arrays[f"seen-{label}"][j])
    closer.between(record, settings, CLASSES, judge="robust", title="judge")
    start = record.arrays["images"] / 255
    for (i, j), panel in given["panels"].items():
        end = record.arrays[f"seen-{settings.trained[i][0]}"][-1] / 255
        shown = given["tiles"][list(panel.rows[0].tiles)]
        middle = start + j / 2 * (end - start)
        assert torch.allclose(shown, middle, atol=1e-6), (i, j)


@pytest.mark.parametrize("side, wide", [(28, 56), (64, 128)])
def test_photographs_of_64_pixels_are_shown_twice_as_large(
    outcome, given, side, wide
):
    settings, _, _, seen = outcome
    arrays = {
        name: images[..., :1, :1].expand(*images.shape[:-2], side, side)
        for name, images in seen.arrays.items()
    }
    record = Record("large/x", {}, seen.values, arrays=arrays)
    for page in (
        closer.perturbed(record, settings, CLASSES),
        closer.between(
            record, settings, CLASSES, judge="robust", title="judge"
        ),
    ):
        assert given["tile_size"] == wide
        assert f".picture{{width:{wide}px;height:{wide}px" in page.html


def test_a_reader_can_drag_eps(outcome):
    settings, networks, made, seen = outcome
    record = Record("large/x", {}, seen.values, arrays=seen.arrays)
    page = closer.perturbed(record, settings, CLASSES)
    found = panels(page)
    assert len(found) == 2 * 2 * 2  # above, below and radii
    x, y = made.take(1, 30, 0).x_test, made.take(1, 30, 0).y_test
    far = large.ascend(networks["b"], x, y, 0.2, 4)[: large.SHOWN]
    answers = networks["b"](far).argmax(1)
    sentence, (label, _, captions, bars), (other, *_) = found[5]
    wrong = int((answers != y[: large.SHOWN]).sum())
    assert "ℓ₂" in label and "standard" in other
    assert f"the {label.split(',')[0]} gets {wrong} of 8" in sentence
    assert sentence.count("gets") == 2
    assert found[-1][0].count("gets") == 1, "the same network twice"
    for caption, old, new in zip(
        captions, y.tolist(), answers.tolist(), strict=False
    ):
        assert caption == (str(old) if old == new else f"{old} → {new}")
    sure = networks["b"](far).detach().softmax(1).max(1).values
    assert bars == pytest.approx((100 * sure).tolist(), abs=1)


def test_an_explorer_names_its_ball_and_begins_where_it_is_told(outcome):
    settings, _, _, seen = outcome
    record = Record("large/x", {}, seen.values, arrays=seen.arrays)
    for norm, words in (("l2", "ℓ₂ radius"), ("linf", "ℓ∞ radius")):
        plan = replace(settings, norm=norm)
        page = closer.perturbed(record, plan, CLASSES)
        assert f"eps, {words}" in page.html
        assert ("the other ball" in page.html) is (norm == "linf")
        for start, shown, other in ((-1, "0.2", "0.1"), (0, "0.1", "0.2")):
            told = {} if start == -1 else {"start": start}  # -1 untold
            page = closer.perturbed(record, plan, CLASSES, **told)
            before = page.html.split('application/json">')[0]
            assert f"eps = {shown}" in before
            assert f"eps = {other}" not in before


def test_a_reader_can_drag_t(outcome):
    settings, networks, _, seen = outcome
    record = Record("large/x", {}, seen.values, arrays=seen.arrays)
    page = closer.between(
        record, settings, CLASSES, judge="robust", title="the robust judge"
    )
    found = panels(page)
    assert len(found) == 2 * 3  # networks and frames
    start = record.arrays["images"] / 255
    end = record.arrays["seen-l2"][-1] / 255
    for k, t in enumerate((0.0, 0.5, 1.0)):
        judged = networks["judge"](start + t * (end - start)).argmax(1)
        _, (_, _, captions, _) = found[3 + k]
        assert captions == [str(int(answer)) for answer in judged]


def test_a_line_that_begins_where_it_ends_for_the_judge_is_named(outcome):
    settings, _, _, seen = outcome
    record = Record("large/x", {}, seen.values, arrays=seen.arrays)
    walk = record.values["walks"]["l2"]

    def told():
        page = closer.between(
            record, settings, CLASSES, judge="robust", title="the judge"
        )
        return [panel[0] for panel in panels(page)[3:]]

    start = walk["robust"]["answers"][0]
    walk["robust"]["answers"][-1] = [(a + 5) % 10 for a in start]
    walk["new"] = [start[0], start[1], *((a + 1) % 10 for a in start[2:])]
    assert "calls 2 of 8 pictures" in told()[0]
    assert all("2 of the 8 it called so before" in each for each in told())
    walk["new"] = [(a + 1) % 10 for a in start]
    assert not any("before anything" in each for each in told())


def test_curves_and_walks_are_drawn_from_the_record(outcome):
    _, _, _, seen = outcome
    record = Record("large/x", {}, seen.values)
    (panel,) = seeing_plots.fall({"mnist": record}).axes
    assert panel.get_xlabel() == "l2 radius eps"
    (loss,) = seeing_plots.climb({"mnist": record}).axes
    assert loss.get_yscale() == "log"
    assert loss.lines[0].get_ydata().tolist() == [
        r["loss"] for r in seen.values["curve"] if r["model"] == "standard"
    ]
    (other,) = seeing_plots.fall({"mnist": record}, "linf").axes
    assert other.get_xlabel() == "l∞ radius eps"
    first = panel.lines[0].get_ydata().tolist()
    rows = [r for r in seen.values["curve"] if r["model"] == "standard"]
    assert first == pytest.approx([100 * r["correct"] / 30 for r in rows])
    values = seen.values["interpolation"]
    values["linf"] = values["l2"]  # made-up networks have no third
    walk = seeing_plots.walks(record, {"robust": "judge"})
    drawn = walk.axes[0].lines
    assert len(drawn) == 2 * 4 + 2
    named = [each.get_text() for each in walk.legends[0].get_texts()]
    assert named[-2:] == ["new class", "old class"]
    new = values["standard"]["robust"]["new"]
    assert list(drawn[0].get_ydata()) == pytest.approx(
        [100 * share for share in new]
    )
    assert list(drawn[0].get_xdata()) == [0.0, 0.5, 1.0]


# --- exercises ------------------------------------------------------------


@pytest.mark.parametrize(
    "counts, answer, passed",
    [
        ((10, 90), "yes", True),
        ((10, 90), "no", False),
        ((50, 52), "no", True),
        ((90, 10), "yes", True),
        ((10, 90), "maybe", False),
        ((10, 90), None, None),
    ],
)
def test_agreement_exercise(counts, answer, passed):
    verdicts = {
        label: {"robust": {"agrees": count, "total": 100}}
        for label, count in zip(("standard", "l2"), counts, strict=True)
    }
    record = Record("r", {}, {"verdicts": verdicts})
    assert large_exercises.beyond_chance(answer, record).passed is passed


def test_target_exercise(outcome):
    settings, networks, made, _ = outcome
    settings = replace(settings, radii=(3.0,))
    x, y = made.x_test[:8], torch.arange(8)

    def good(net, x, y):
        assert net is networks["b"]
        done, rows = x.clone(), y != 3
        done[rows] = attacks.pgd(
            net, x[rows], y[rows], eps=3.0, norm="l2", steps=20,
            target=y.new_full(y.shape, 3)[rows], keep="last",
        )  # fmt: skip
        return done

    answers = {
        "good": (good, True, "called a 3"),
        "none": (lambda *_: None, None, "Write"),
        "far": (lambda net, x, y: (x + 1).clamp(0, 1), False, "moved by"),
        "box": (lambda net, x, y: x - 0.01, False, "[0, 1]"),
        "still": (lambda net, x, y: x, False, "without a target"),
    }
    for name, (answer, passed, hint) in answers.items():
        verdict = large_exercises.towards(answer, settings, x, y)
        assert verdict.passed is passed, (name, verdict.message)
        assert hint in verdict.message, name


def by_hand(shares):
    for k, share in enumerate(shares):
        if share > 0.5:
            back = shares[k - 1] if k else share
            part = (0.5 - back) / (share - back) if k else 1.0
            return (k - 1 + part) / (len(shares) - 1)
    return None


@pytest.mark.parametrize(
    "answer, passed",
    [
        (by_hand, True),
        (lambda shares: NotImplemented, None),
        (lambda shares: 0.5, False),
        (lambda shares: None, False),
        (lambda shares: max(shares), False),
    ],
)
def test_flip_exercise(answer, passed):
    assert large_exercises.flip(answer).passed is passed


def test_linear_line_exercise():
    assert large_exercises.linear_line("no").passed
    assert large_exercises.linear_line("yes").passed is False
    assert large_exercises.linear_line(None).passed is None

"""FGSM, PGD and the exact attack on linear models."""

import itertools
import math
import shutil

import pytest
import torch
import torch.nn.functional as F
from promises import (
    ATTACK_PROMISES,
    NORMS,
    SHAPES,
    Spy,
    beats_a_numerical_optimiser,
    beats_every_corner,
    exact_margins,
    images,
    linear_case,
    linear_model,
    margins,
    normed_model,
    reaches_the_exact_optimum,
    seeded,
    waves,
)
from scipy.optimize import linprog

from lib import attacks, norms
from lib.attacks import fgsm, input_gradient, linear_attack, margin, pgd

# --- PGD keeps every promise ----------------------------------------------


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(
    "promise", ATTACK_PROMISES, ids=lambda promise: promise.__name__
)
def test_pgd(promise, norm):
    promise(pgd, norm)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(
    ("n", "shape"),
    [*zip((1, 4, 1, 2, 1), SHAPES, strict=True)],
)
def test_pgd_reaches_the_exact_optimum_for_odd_shapes(n, shape, norm):
    reaches_the_exact_optimum(pgd, norm, shape, n)


@pytest.mark.parametrize("start", [True, False])
@pytest.mark.parametrize("loss", ["ce", "margin"])
@pytest.mark.parametrize("norm", NORMS)
def test_both_losses_and_starts_reach_the_exact_optimum(norm, loss, start):
    def attack(*args, **settings):
        return pgd(*args, **settings, loss=loss, random_start=start)

    reaches_the_exact_optimum(attack, norm)


@pytest.mark.parametrize("norm", NORMS)
def test_away_from_the_box_the_optimum_is_eps_times_the_dual_norm(norm):
    """The closed form needs no code of ours: margin - eps * |w|_dual."""
    model, eps, n = linear_model(15, 2), 0.05, 4
    x, y = images(n, (1, 5, 3), inner=True), torch.tensor([0, 1, 1, 0])
    w = (model[1].weight[0] - model[1].weight[1]).detach()
    dual = w.abs().sum() if norm == "linf" else w.norm()
    x_adv = pgd(
        model, x, y, eps=eps, norm=norm, steps=50, schedule="cosine",
        generator=seeded(0),
    )  # fmt: skip
    best = margins(model, x, y) - eps * dual
    assert torch.allclose(margins(model, x_adv, y), best, atol=1e-6)


def test_a_target_among_ten_is_reached_as_far_as_possible_linf():
    """The largest target margin in ball and box is a linear program."""
    model, x, y = linear_case(4, (6,), classes=10, seed=1)
    weight = model[1].weight.detach().numpy()
    bias = model[1].bias.detach().numpy()
    target, eps = (y + 3) % 10, 0.2
    x_adv = pgd(
        model, x, y, eps=eps, steps=400, schedule="cosine", loss="margin",
        target=target, generator=seeded(0),
    )  # fmt: skip
    reached = margins(model, x_adv, target)
    for i, goal in enumerate(target.tolist()):
        # unknowns: the pixels and s; maximise s <= z_goal - z_j for all j
        others = [j for j in range(10) if j != goal]
        rows = [[*(weight[j] - weight[goal]), 1.0] for j in others]
        low, high = (x[i] - eps).clamp_min(0), (x[i] + eps).clamp_max(1)
        best = -linprog(
            [0.0] * 6 + [-1.0], rows, [bias[goal] - bias[j] for j in others],
            bounds=[*zip(low.tolist(), high.tolist(), strict=True),
                    (None, None)],
        ).fun  # fmt: skip
        before = float(margins(model, x[i : i + 1], target[i : i + 1]))
        assert best + 1e-9 >= float(reached[i])
        assert best - float(reached[i]) < 0.02 * (best - before)


def test_the_cosine_schedule_beats_equal_steps_on_l2():
    model, x, y = linear_case(20, (3, 4, 4), classes=2)
    settings = {"eps": 1.0, "norm": "l2", "steps": 20, "random_start": False}
    short = [
        (
            margins(model, pgd(model, x, y, schedule=way, **settings), y)
            - exact_margins(model, x, y, 1.0, "l2")
        ).mean()
        for way in ("cosine", "constant")
    ]
    assert short[0] < short[1]


def test_schedules_are_what_the_docstring_says():
    sizes = attacks.step_sizes
    assert sizes(0.3, 3, None, "constant") == [0.25] * 3
    assert sizes(0.3, 2, 0.1, "constant") == [0.1, 0.1]
    cosine = sizes(0.3, 5, None, "cosine")
    assert cosine[0] == pytest.approx(0.6)
    assert cosine[2] == pytest.approx(0.6 * (0.01 + 0.99 / 2))
    assert cosine[-1] == pytest.approx(0.006)
    assert cosine == sorted(cosine, reverse=True)
    assert sizes(0.3, 1, None, "cosine") == [0.6]


def test_the_last_iterate_costs_one_pass_less_and_is_the_last():
    spy = Spy(waves(48, 4))
    x, y = images(3, (3, 4, 4)), torch.tensor([0, 1, 2])
    settings = {"eps": 0.2, "steps": 4, "random_start": False}
    last = pgd(spy, x, y, keep="last", **settings)
    assert len(spy.seen) == 4
    pgd(spy, x, y, keep="worst", **settings)
    assert len(spy.seen) == 4 + 5
    assert torch.equal(spy.seen[-1], last)


@pytest.mark.parametrize("keep", ["worst", "last"])
def test_images_with_a_gradient_of_their_own_give_detached_results(keep):
    model, x, y = linear_case(3, (1, 5, 3), classes=3)
    expected = pgd(model, x, y, eps=0.1, keep=keep, random_start=False)
    leaf = x.clone().requires_grad_()
    for image in (leaf, leaf * 1):
        x_adv = pgd(model, image, y, eps=0.1, keep=keep, random_start=False)
        assert not x_adv.requires_grad
        assert torch.equal(x_adv, expected)
    assert leaf.grad is None


def test_more_restarts_never_help_the_defender():
    model = waves(48, 4, seed=1)
    x, y = images(10, (3, 4, 4)), torch.arange(10) % 4

    def found(restarts):
        x_adv = pgd(
            model, x, y, eps=0.3, steps=3, restarts=restarts,
            generator=seeded(0),
        )  # fmt: skip
        return margins(model, x_adv, y)

    one, three, ten = found(1), found(3), found(10)
    assert bool((three <= one).all() and (ten <= three).all())
    assert bool((ten < one).any())


def test_a_model_in_training_mode_is_used_as_it_is():
    model = normed_model().train()
    before = model[3].norm1.running_mean.clone()
    x, y = images(4, (3, 8, 8)).float(), torch.arange(4)
    pgd(model, x, y, eps=0.1, steps=1, generator=seeded(0))
    assert model.training
    assert not torch.equal(model[3].norm1.running_mean, before)


def test_it_works_where_gradients_are_switched_off():
    model, x, y = linear_case(3, (3, 4, 4), classes=2)
    settings = {"eps": 0.2, "steps": 3, "random_start": False}
    expected = pgd(model, x, y, **settings)
    with torch.no_grad():
        assert torch.equal(pgd(model, x, y, **settings), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("norm", NORMS)
def test_other_precisions_stay_in_ball_and_box(norm, dtype):
    model, x, y = linear_case(4, (3, 4, 4), classes=10)
    model, x = model.to(dtype), x.to(dtype)
    x_adv = pgd(model, x, y, eps=0.25, norm=norm, steps=5, generator=seeded(0))
    assert x_adv.dtype == dtype
    assert bool(((x_adv >= 0) & (x_adv <= 1)).all())
    size = norms.length((x_adv - x).float(), norm)
    assert bool((size <= 0.25 + 4 * torch.finfo(dtype).eps).all())
    assert bool((size > 0.1).all())


@pytest.mark.parametrize("norm", NORMS)
def test_a_gradient_that_is_not_a_number_leaves_sound_images(norm):
    class Broken(torch.nn.Module):
        def forward(self, x):
            x = x.flatten(1)
            zero = (x - x.detach()).abs().sqrt().sum(dim=1, keepdim=True)
            return x[:, :3] + zero  # sqrt at 0 has no derivative

    x, y = images(3, (1, 5, 3), inner=True), torch.tensor([0, 1, 2])
    grad = input_gradient(Broken(), x, y)
    assert bool(grad.isnan().any())
    x_adv = pgd(Broken(), x, y, eps=0.1, norm=norm, generator=seeded(0))
    assert bool(((x_adv >= 0) & (x_adv <= 1)).all())


# --- the fast version and the plain one ------------------------------------


def plain_pgd(
    model, x, y, *, eps, norm, steps, schedule, random_start, restarts,
    target, loss, keep, generator,
):  # fmt: skip
    """PGD as one would write it first, image by image where it matters."""

    def per_image(function, *tensors):
        rows = zip(*tensors, strict=True)
        return torch.stack([function(*row) for row in rows])

    def goal_margin(logits, label):
        others = torch.cat([logits[:label], logits[label + 1 :]])
        return logits[label] - others.max()

    def into_ball(delta):
        if norm == "linf":
            return delta.clamp(-eps, eps)
        return delta * min(1.0, eps / float(delta.norm()))

    def climb(x_adv, size):
        x_adv = x_adv.clone().requires_grad_()
        logits = model(x_adv)
        if loss == "ce":
            total = F.cross_entropy(logits, goal, reduction="sum")
        else:
            total = -per_image(goal_margin, logits, goal).sum()
        total.backward()
        direction = x_adv.grad if target is None else -x_adv.grad
        if norm == "linf":
            direction = direction.sign()
        else:
            direction = per_image(lambda g: g / g.norm(), direction)
        delta = x_adv.detach() + size * direction - x
        return (x + per_image(into_ball, delta)).clamp(0, 1)

    goal = y if target is None else target
    better = 1 if target is None else -1
    tried = []
    for _ in range(restarts):
        x_adv = x
        if random_start and norm == "linf":
            share = torch.rand(x.shape, generator=generator, dtype=x.dtype)
            x_adv = (x + eps * (2 * share - 1)).clamp(0, 1)
        elif random_start:
            way = torch.randn(x.shape, generator=generator, dtype=x.dtype)
            share = torch.rand(len(x), generator=generator, dtype=x.dtype)
            delta = per_image(
                lambda w, s: eps * s ** (1 / w.numel()) * w / w.norm(),
                way, share,
            )  # fmt: skip
            x_adv = (x + delta).clamp(0, 1)
        tried.append(x_adv)
        for i in range(steps):
            size = 2.5 * eps / steps
            if schedule == "cosine":
                turn = math.cos(math.pi * i / (steps - 1))
                size = 2 * eps * (0.01 + 0.99 * (1 + turn) / 2)
            x_adv = climb(x_adv, size)
            tried.append(x_adv)
    if keep == "last":
        return tried[-1]
    table = torch.stack(
        [better * per_image(goal_margin, model(t), goal) for t in tried]
    )
    return torch.stack(tried)[table.argmin(dim=0), torch.arange(len(x))]


@pytest.mark.parametrize("loss", ["ce", "margin"])
@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("norm", NORMS)
def test_the_fast_version_is_the_plain_one(norm, targeted, loss):
    model = waves(48, 4)
    x, y = images(3, (3, 4, 4), seed=2), torch.tensor([0, 1, 2])
    for schedule, keep, start, restarts in itertools.product(
        ("constant", "cosine"), ("worst", "last"), (True, False), (1, 2)
    ):
        settings = {
            "eps": 0.2, "norm": norm, "steps": 3, "schedule": schedule,
            "random_start": start, "restarts": restarts, "loss": loss,
            "target": (y + 1) % 4 if targeted else None, "keep": keep,
        }  # fmt: skip
        plain = plain_pgd(model, x, y, **settings, generator=seeded(3))
        fast = pgd(model, x, y, **settings, generator=seeded(3))
        assert torch.allclose(fast, plain, atol=1e-9, rtol=0), settings
        parts = pgd(model, x, y, **settings, generator=seeded(3), batch_size=2)
        assert torch.allclose(parts, plain, atol=1e-9, rtol=0), settings


def test_large_batches_pass_the_model_in_equal_parts(monkeypatch):
    x, y = images(10, (3, 4, 4)), torch.arange(10) % 4
    settings = {"eps": 0.2, "steps": 2, "restarts": 2}
    whole = Spy(waves(48, 4))
    expected = pgd(whole, x, y, **settings, generator=seeded(0))
    assert {len(points) for points in whole.seen} == {10}
    monkeypatch.setattr(attacks, "BATCH", 4)
    spy = Spy(waves(48, 4))
    found = pgd(spy, x, y, **settings, generator=seeded(0))
    assert {len(points) for points in spy.seen} == {3, 4}
    assert torch.allclose(found, expected, atol=1e-9, rtol=0)
    spy.seen.clear()
    pgd(spy, x, y, **settings, generator=seeded(0), batch_size=1)
    assert {len(points) for points in spy.seen} == {1}
    spy.seen.clear()
    spy.inner[1].train()  # batch norm would look at the whole batch
    pgd(spy, x, y, **settings, generator=seeded(0))
    assert {len(points) for points in spy.seen} == {10}


class Watch(Spy):
    """Notes the dtype of the logits as well."""

    def forward(self, x):
        out = super().forward(x)
        self.dtype = out.dtype
        return out


@pytest.mark.slow
@pytest.mark.parametrize("norm", NORMS)
def test_half_precision_reads_within_a_few_points(trained, digits, norm):
    x, y = digits.x_test[:200], digits.y_test[:200]
    eps = 0.1 if norm == "linf" else 1.5
    model, share = Watch(trained), {}
    for precision in ("float32", "bfloat16"):
        x_adv = pgd(
            model, x, y, eps=eps, norm=norm, steps=10, schedule="cosine",
            precision=precision, generator=seeded(0),
        )  # fmt: skip
        assert model.dtype == getattr(torch, precision)
        assert x_adv.dtype == torch.float32
        assert float(norms.length(x_adv - x, norm).max()) <= eps + 1e-5
        share[precision] = float((margins(trained, x_adv, y) > 0).sum()) / 200
    assert 0.1 < share["float32"] < 0.9, "a case that shows nothing"
    assert share["bfloat16"] == pytest.approx(share["float32"], abs=0.03)


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("g++") is None, reason="torch.compile needs a C++ compiler"
)
def test_a_compiled_model_gives_the_same_images():
    net = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(12, 8), torch.nn.GELU(),
        torch.nn.Linear(8, 3),
    ).double()  # fmt: skip
    x, y = images(5, (3, 2, 2)), torch.arange(5) % 3
    settings = {"eps": 0.2, "norm": "l2", "steps": 4, "restarts": 2}
    plain, fast = (
        pgd(model, x, y, generator=seeded(0), **settings)
        for model in (net, torch.compile(net, fullgraph=True))
    )
    assert torch.allclose(plain, fast, atol=1e-5)
    assert not torch.allclose(plain, x, atol=1e-2)
    assert all(p.grad is None for p in net.parameters())


def test_the_callers_autocast_is_left_alone(trained, digits):
    model = Watch(trained)
    with torch.autocast("cpu", torch.bfloat16):
        pgd(model, digits.x_test[:2], digits.y_test[:2], eps=0.1, steps=1)
        assert model.dtype == torch.bfloat16
    pgd(
        model, digits.x_test[:2], digits.y_test[:2], eps=0.1, steps=1,
        precision="bfloat16",
    )  # fmt: skip
    model(digits.x_test[:2])
    assert model.dtype == torch.float32, "autocast left switched on"


@pytest.mark.parametrize("norm", NORMS)
def test_images_take_the_layout_of_the_model(norm):
    last = {"memory_format": torch.channels_last}
    x, y = images(4, (3, 8, 8)).float(), torch.arange(4)
    model = normed_model()
    settings = {"eps": 0.1, "norm": norm, "steps": 2}
    expected = pgd(model, x, y, **settings, generator=seeded(0))

    class Layout(Spy):
        def forward(self, x):
            assert x.is_contiguous(**last) and not x.is_contiguous()
            return self.inner(x)

    spy = Layout(model.to(**last))
    for image in (x, x.contiguous(**last)):
        for keep in ("worst", "last"):
            x_adv = pgd(
                spy, image, y, **settings, keep=keep, generator=seeded(0)
            )
            assert x_adv.stride() == image.stride()
        short = pgd(spy, image, y, **settings, generator=seeded(0))
        # a sign that rounding turns round moves a pixel by two steps
        assert float((short - expected).abs().mean()) < 1e-4


# --- FGSM and gradients ---------------------------------------------------


def test_fgsm_is_exact_on_binary_linear_models_for_linf():
    for seed in range(3):
        model, x, y = linear_case(5, (1, 5, 3), classes=2, seed=seed)
        x_adv = fgsm(model, x, y, eps=0.2)
        best = exact_margins(model, x, y, 0.2, "linf")
        assert torch.allclose(margins(model, x_adv, y), best, atol=1e-12)


def test_fgsm_is_exact_on_binary_linear_models_for_l2_away_from_the_box():
    model = linear_model(15, 2)
    x, y = images(4, (1, 5, 3), inner=True), torch.tensor([0, 1, 1, 0])
    x_adv = fgsm(model, x, y, eps=0.2, norm="l2")
    best = exact_margins(model, x, y, 0.2, "l2")
    assert torch.allclose(margins(model, x_adv, y), best, atol=1e-12)


def test_fgsm_takes_one_step_of_the_length_asked_for():
    model = linear_model(15, 2)
    x, y = images(4, (1, 5, 3), inner=True), torch.tensor([0, 1, 1, 0])
    short = fgsm(model, x, y, eps=0.2, step_size=0.05)
    assert torch.allclose((short - x).abs(), torch.full_like(x, 0.05))
    started = fgsm(
        model, x, y, eps=0.2, random_start=True, generator=seeded(0)
    )
    assert not torch.allclose((started - x).abs(), torch.full_like(x, 0.2))
    assert float((started - x).abs().max()) <= 0.2 + 1e-12


def test_fgsm_goes_to_the_target():
    model, x, y = linear_case(6, (3, 4, 4), classes=10)
    target = (y + 1) % 10
    x_adv = fgsm(model, x, y, eps=0.05, target=target)
    logits = [model(image)[torch.arange(6), target] for image in (x, x_adv)]
    assert bool((logits[1] > logits[0]).all())


def test_input_gradient_of_a_linear_model_is_the_softmax_formula():
    model, x, y = linear_case(4, (1, 5, 3), classes=3)
    weight = model[1].weight.detach()
    wrong = torch.softmax(model(x).detach(), dim=1)
    wrong[torch.arange(4), y] -= 1
    expected = (wrong @ weight).view_as(x)
    assert torch.allclose(input_gradient(model, x, y), expected, atol=1e-12)


def test_input_gradient_of_the_margin_is_the_difference_of_two_rows():
    model, x, y = linear_case(4, (1, 5, 3), classes=3)
    weight, logits = model[1].weight.detach(), model(x).detach()
    logits[torch.arange(4), y] = -torch.inf
    expected = (weight[logits.argmax(dim=1)] - weight[y]).view_as(x)
    found = input_gradient(model, x, y, loss="margin")
    assert torch.allclose(found, expected, atol=1e-12)


def test_margin_by_hand():
    nan = float("nan")
    logits = torch.tensor([[3.0, 1.0, 2.0], [1.0, 1.0, 0.0], [0.0, 5.0, 1.0],
                           [nan, 0.0, 0.0], [1.0, nan, 0.0]])  # fmt: skip
    y = torch.tensor([0, 1, 2, 1, 0])
    expected = torch.tensor([1.0, 0.0, -4.0, -torch.inf, -torch.inf])
    assert torch.equal(margin(logits, y), expected)


# --- the exact attack on linear models ------------------------------------


@pytest.mark.parametrize("box", [True, False])
def test_linear_attack_linf_beats_every_corner(box):
    beats_every_corner(linear_attack, box)


@pytest.mark.parametrize("box", [True, False])
def test_linear_attack_l2_beats_a_numerical_optimiser(box):
    beats_a_numerical_optimiser(linear_attack, box)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_no_random_point_is_worse_than_the_exact_one(shape, norm):
    model, x, y = linear_case(3, shape, classes=10)
    best = exact_margins(model, x, y, 0.4, norm)
    many, labels = x.repeat(1000, *[1] * len(shape)), y.repeat(1000)
    noise = norms.random_in_ball(many, 0.4, norm, seeded(0))
    found = margins(model, (many + noise).clamp(0, 1), labels)
    assert bool((found.view(1000, 3) >= best - 1e-12).all())


@pytest.mark.parametrize("norm", NORMS)
def test_linear_attack_is_exact_where_the_box_stops_all_pixels(norm):
    model, x, y = linear_case(5, (1, 5, 3), classes=2)
    layer = model[1]
    x_adv = linear_attack(layer.weight, layer.bias, x, y, eps=100.0, norm=norm)
    w = (layer.weight[1 - y] - layer.weight[y]).detach()
    assert torch.equal(x_adv.flatten(1), (w > 0).double())


def test_linear_attack_on_real_numbers_needs_no_box():
    weight = torch.tensor([[1.0, -2.0], [-1.0, 2.0]])
    x, y = torch.tensor([[5.0, -7.0]]), torch.tensor([0])
    found = linear_attack(weight, torch.zeros(2), x, y, eps=0.5, box=False)
    assert torch.equal(found, torch.tensor([[4.5, -6.5]]))
    with pytest.raises(ValueError, match=r"pixels must lie in \[0, 1\]"):
        linear_attack(weight, torch.zeros(2), x, y, eps=0.5)


def test_linear_attack_takes_the_weights_of_a_model_as_they_are():
    model, x, y = linear_case(3, (1, 5, 3), classes=3)
    layer, x = model[1], x.requires_grad_()
    x_adv = linear_attack(layer.weight, layer.bias, x, y, eps=0.1)
    assert x_adv.shape == x.shape and not x_adv.requires_grad
    assert layer.weight.requires_grad and layer.weight.grad is None


# --- bad input says what was expected -------------------------------------

X, Y = torch.rand(3, 1, 4, 4, generator=seeded(0)), torch.tensor([0, 1, 2])
NAN = X.clone()
NAN[0, 0, 0, 0] = float("nan")

BAD_INPUT = {
    "pixels above 1": ({"x": X * 3}, "normalisation belongs inside"),
    "pixels below 0": ({"x": X - 0.5}, r"pixels must lie in \[0, 1\]"),
    "not a number": ({"x": NAN}, "NaN or infinite"),
    "integer pixels": ({"x": (X * 255).byte()}, r"x\.float\(\) / 255"),
    "no images": ({"x": X[:0], "y": Y[:0]}, "empty"),
    "one image without a batch": ({"x": X[0, 0, 0]}, r"x\[None\]"),
    "not a tensor": ({"x": X.tolist()}, r"tensor of shape \(n, \.\.\.\)"),
    "too few labels": ({"y": Y[:2]}, r"labels must be .* shape \(3,\)"),
    "one-hot labels": ({"y": torch.eye(3)}, r"got \(3, 3\)"),
    "labels as floats": ({"y": Y.float()}, r"integers \(torch\.long\)"),
    "labels as small integers": ({"y": Y.int()}, r"y\.long\(\)"),
    "a list of labels": ({"y": [0, 1, 2]}, "got list"),
    "label too large": ({"y": Y + 8}, r"0 \.\. 9, these span 8 \.\. 10"),
    "negative label": ({"y": Y - 1}, "these span -1"),
    "negative eps": ({"eps": -0.1}, "eps must be a finite number >= 0"),
    "infinite eps": ({"eps": float("inf")}, "eps must be a finite number"),
    "unknown norm": ({"norm": "l1"}, 'norm must be "linf" or "l2"'),
}  # fmt: skip
BAD_SETTINGS = {
    "no steps": ({"steps": 0}, "steps must be at least 1"),
    "no restarts": ({"restarts": 0}, "restarts must be at least 1"),
    "negative step": ({"step_size": -1.0}, "step_size must be"),
    "step not a number": ({"step_size": float("nan")}, "step_size must be"),
    "unknown schedule": ({"schedule": "linear"}, '"constant" or "cosine"'),
    "unknown loss": ({"loss": "hinge"}, '"ce" or "margin"'),
    "unknown keep": ({"keep": "best"}, '"worst" or "last"'),
    "unknown precision": ({"precision": "half"}, '"float32" or "bfloat16"'),
    "empty parts": ({"batch_size": 0}, "batch_size must be at least 1"),
    "target is the label": ({"target": Y}, "must differ from the true"),
    "target too large": ({"target": Y + 9}, "labels must be class numbers"),
    "target too short": ({"target": Y[:1]}, r"shape \(3,\)"),
}


@pytest.mark.parametrize(
    ("change", "message"),
    [*BAD_INPUT.values(), *BAD_SETTINGS.values()],
    ids=[*BAD_INPUT, *BAD_SETTINGS],
)
def test_pgd_refuses(change, message):
    model = linear_model(16, 10).float()
    settings = {"x": X, "y": Y, "eps": 0.1, "steps": 2} | change
    x, y = settings.pop("x"), settings.pop("y")
    with pytest.raises(ValueError, match=message):
        pgd(model, x, y, **settings)


@pytest.mark.parametrize(
    ("change", "message"), BAD_INPUT.values(), ids=BAD_INPUT
)
def test_fgsm_and_linear_attack_refuse(change, message):
    model = linear_model(16, 10).float()
    weight, bias = model[1].weight, model[1].bias
    settings = {"x": X, "y": Y, "eps": 0.1} | change
    x, y = settings.pop("x"), settings.pop("y")
    with pytest.raises(ValueError, match=message):
        fgsm(model, x, y, **settings)
    with pytest.raises(ValueError, match=message):
        linear_attack(weight, bias, x, y, **settings)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": torch.rand(10, 15)}, "15 features, an image has 16"),
        ({"weight": torch.rand(1, 16), "bias": torch.rand(1)}, "two classes"),
        ({"weight": torch.rand(16)}, r"shape \(classes, features\)"),
        ({"bias": torch.rand(9)}, r"bias \(classes,\)"),
    ],
)
def test_linear_attack_refuses_weights_of_another_shape(change, message):
    sound = {"weight": torch.rand(10, 16), "bias": torch.rand(10)}
    with pytest.raises(ValueError, match=message):
        linear_attack(**(sound | change), x=X, y=Y, eps=0.1)


@pytest.mark.parametrize(
    "model",
    [
        lambda x: x.flatten(1).sum(dim=1),
        lambda x: x.flatten(1).sum(dim=1, keepdim=True),
        lambda x: x,
        lambda x: x.flatten(1)[:1],
    ],
    ids=["one number an image", "one class", "images", "one row"],
)
def test_a_model_without_logits_is_refused(model):
    with pytest.raises(ValueError, match="logits of shape"):
        pgd(model, X, Y, eps=0.1)
    with pytest.raises(ValueError, match="logits of shape"):
        input_gradient(model, X, Y)


def test_input_gradient_refuses_what_an_attack_refuses():
    model = linear_model(16, 10).float()
    with pytest.raises(ValueError, match="normalisation belongs"):
        input_gradient(model, X * 3, Y)
    with pytest.raises(ValueError, match=r"0 \.\. 9"):
        input_gradient(model, X, Y + 8)
    with pytest.raises(ValueError, match='"ce" or "margin"'):
        input_gradient(model, X, Y, loss="dlr")


# --- what only a small change would show ----------------------------------


def test_fgsm_takes_its_step_even_where_the_loss_falls():
    model, x = waves(12, 3), images(20, (3, 2, 2), inner=True)
    y = model(x).argmax(dim=1)
    step = 0.3 * input_gradient(model, x, y).sign()
    found = fgsm(model, x, y, eps=0.3, norm="linf")
    assert torch.allclose(found, (x + step).clamp(0, 1))
    before, after = (
        F.cross_entropy(model(each).detach(), y, reduction="none")
        for each in (x, found)
    )
    assert float((after - before).min()) < 0, "a case that shows nothing"


def test_fgsm_draws_its_start_from_the_generator():
    model, x = waves(12, 3), images(5, (3, 2, 2), inner=True)
    y = model(x).argmax(dim=1)
    one, same, other = (
        fgsm(
            model, x, y, eps=0.1, norm="l2", random_start=True,
            generator=seeded(seed),
        )
        for seed in (0, 0, 1)
    )  # fmt: skip
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_forty_steps_are_the_default():
    model, x = waves(12, 3), images(5, (3, 2, 2))
    y = model(x).argmax(dim=1)
    settings = {"eps": 0.1, "norm": "l2", "random_start": False}
    plain = pgd(model, x, y, **settings)
    assert torch.equal(plain, pgd(model, x, y, steps=40, **settings))
    assert not torch.equal(plain, pgd(model, x, y, steps=41, **settings))


def test_a_gradient_outside_the_box_has_to_be_asked_for():
    model, x, y = linear_case(4, (1, 5, 5), 3)
    with pytest.raises(ValueError, match="pixels must lie"):
        input_gradient(model, x + 1, y)
    found = input_gradient(model, x + 1, y, box=False)
    assert found.shape == x.shape


def test_step_sizes_at_their_ends():
    assert attacks.step_sizes(0.1, 3, 0.0, "constant") == [0.0] * 3
    with pytest.raises(ValueError, match="step_size"):
        attacks.step_sizes(0.1, 3, math.inf, "constant")
    first, last = attacks.step_sizes(0.1, 2, None, "cosine")
    assert (first, last) == (pytest.approx(0.2), pytest.approx(0.002))


def test_a_target_must_differ_everywhere():
    model, x, y = linear_case(4, (1, 5, 5), 3)
    with pytest.raises(ValueError) as refused:
        pgd(model, x, y, eps=0.1, norm="l2", target=y.clone())
    assert str(refused.value) == (
        "target must differ from the true label everywhere"
    )

"""What the engine promises, as functions that any version can be held to.

``test_attacks.py`` and its neighbours hold ``lib`` to these promises;
``test_mutants.py`` holds deliberately broken versions to the same ones and
expects ``AssertionError``. Every function takes the thing it judges as its
first argument.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from lib import attacks, evaluation, models, norms, protocols

NORMS = ("linf", "l2")
# How far PGD may stay from the optimum on linear models, as a share of the
# way there. For l2 its projection (ball, then box) is not the one on their
# intersection, which leaves a distance of the order of the last step.
SHORT = {"linf": 1e-9, "l2": 1e-2}
STEPS = {"linf": 50, "l2": 100}  # that this takes
SHAPES = ((2,), (1, 5, 3), (3, 4, 4), (7, 1, 1), (1, 1, 1, 1))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- models and images whose worst case is known --------------------------


def images(n: int, shape: tuple, seed: int = 0, inner: bool = False):
    """Random pixels, a third of them exactly 0 or 1 as in MNIST.

    ``inner``: all pixels in [0.4, 0.6], so that a ball of radius 0.4 does
    not touch the box.
    """
    draw = seeded(seed)
    x = torch.rand(n, *shape, generator=draw, dtype=torch.float64)
    if inner:
        return 0.4 + 0.2 * x
    bound = torch.rand(x.shape, generator=draw) < 1 / 3
    return torch.where(bound, x.round(), x)


def linear_model(features: int, classes: int, seed: int = 0) -> nn.Module:
    """A linear model in double precision, in evaluation mode."""
    model = models.build(
        "linear", seed=seed, classes=classes, features=features
    )
    return model.double().eval()


def linear_case(n: int, shape: tuple, classes: int, seed: int = 0):
    """A linear model, images and labels (most of them misclassified)."""
    features = torch.Size(shape).numel()
    x = images(n, shape, seed)
    y = torch.randint(classes, (n,), generator=seeded(seed + 1))
    return linear_model(features, classes, seed), x, y


def waves(features: int, classes: int, seed: int = 0) -> nn.Module:
    """A model with many hills, on which every start ends elsewhere."""

    class Sine(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.sin(20 * x)

    first, second = (
        linear_model(features, 8, seed),
        linear_model(8, classes, seed + 1),
    )
    return nn.Sequential(first, Sine(), second).eval()


def normed_model() -> nn.Module:
    """A small residual network with batch norm that has seen some data."""
    model = models.build("small_resnet", seed=0, width=2, classes=4)
    with torch.no_grad():
        model(images(6, (3, 8, 8)).float())
    return model.eval()


class Spy(nn.Module):
    """A model that notes every image it is shown (with its own batch)."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.seen: list[Tensor] = []
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x.detach().clone())
        return self.inner(x)


def margins(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Own logit minus best other logit, written out plainly."""
    with torch.no_grad():
        logits = model(x).clone()
    rows = torch.arange(len(y))
    own = logits[rows, y].clone()
    logits[rows, y] = -torch.inf
    return own - logits.max(dim=1).values


def exact_margins(model, x: Tensor, y: Tensor, eps: float, norm: str):
    """The smallest margins that exist in ball and box (linear models)."""
    layer = model[1]
    worst = attacks.linear_attack(
        layer.weight, layer.bias, x, y, eps=eps, norm=norm
    )
    return margins(model, worst, y)


def brute_force_margin(weight, bias, x, label, eps: float, box: bool):
    """The smallest margin over all corners of an l-infinity ball (d,)."""
    low = torch.maximum(x - eps, torch.zeros(())) if box else x - eps
    high = torch.minimum(x + eps, torch.ones(())) if box else x + eps
    corners = torch.stack(
        [
            torch.where(torch.tensor(up), high, low)
            for up in itertools.product((True, False), repeat=len(x))
        ]
    )
    logits = corners @ weight.T + bias
    own = logits[:, label].clone()
    logits[:, label] = -torch.inf
    return (own - logits.max(dim=1).values).min()


# --- attacks --------------------------------------------------------------


def reaches_the_exact_optimum(attack, norm: str, shape=(1, 5, 3), n=6):
    """On linear models with two classes PGD finds the best point there is.

    Many labels are not the predicted ones, many pixels lie on the bounds.
    """
    for eps in (0.05, 0.3, 1.5):
        model, x, y = linear_case(n, shape, classes=2)
        x_adv = attack(
            model, x, y, eps=eps, norm=norm, steps=STEPS[norm],
            step_size=0.2 * eps, schedule="cosine", generator=seeded(0),
        )  # fmt: skip
        found = margins(model, x_adv, y)
        best = exact_margins(model, x, y, eps, norm)
        gain = (margins(model, x, y) - best).clamp_min(1e-12)
        short = (found - best) / gain
        assert bool((short > -1e-6).all()), f"beyond the optimum: {short}"
        assert bool((short < SHORT[norm]).all()), f"{short} is missing"


def reaches_the_exact_optimum_of_a_target(attack, norm: str):
    """Two classes, target the other one: the same optimum, said otherwise."""
    model, x, y = linear_case(5, (1, 5, 3), classes=2)
    x_adv = attack(
        model, x, y, eps=0.3, norm=norm, steps=STEPS[norm], step_size=0.06,
        schedule="cosine", target=1 - y, generator=seeded(0),
    )  # fmt: skip
    best = exact_margins(model, x, y, 0.3, norm)
    gain = margins(model, x, y) - best
    short = (margins(model, x_adv, y) - best) / gain
    assert bool((short.abs() <= SHORT[norm]).all()), f"{short} is missing"


def lowers_every_margin_in_ten_classes(attack, norm: str):
    """Never beyond the exact optimum, and at it with enough restarts."""
    model, x, y = linear_case(6, (3, 4, 4), classes=10, seed=3)
    x_adv = attack(
        model, x, y, eps=0.3, norm=norm, steps=40, schedule="cosine",
        loss="margin", restarts=6, generator=seeded(0),
    )  # fmt: skip
    found = margins(model, x_adv, y)
    best = exact_margins(model, x, y, 0.3, norm)
    gain = margins(model, x, y) - best
    assert bool((found >= best - 1e-9).all()), "beyond the optimum"
    short = (found - best) / gain
    assert bool((short < 0.02).all()), f"{short} of the way missing"


def ends_nearer_the_target(attack, norm: str):
    """The target's logit margin grows for every image, for every target."""
    model, x, y = linear_case(6, (3, 4, 4), classes=10, seed=5)
    for shift in (1, 4, 9):
        target = (y + shift) % 10
        x_adv = attack(
            model, x, y, eps=0.3, norm=norm, steps=20, target=target,
            generator=seeded(0),
        )  # fmt: skip
        before = margins(model, x, target)
        assert bool((margins(model, x_adv, target) > before).all())


def stays_in_ball_and_box(attack, norm: str):
    """Inside both to rounding, with steps that would lead far outside."""
    for eps, start in itertools.product((0.05, 0.4, 3.0), (True, False)):
        model, x, y = linear_case(5, (3, 4, 4), classes=10)
        if eps == 0.05:  # away from the box the ball alone must hold
            x = 0.4 + 0.2 * x
        x_adv = attack(
            model, x, y, eps=eps, norm=norm, steps=3, step_size=2 * eps,
            random_start=start, generator=seeded(0),
        )  # fmt: skip
        assert x_adv.shape == x.shape
        assert float(x_adv.min()) >= 0, "below the box"
        assert float(x_adv.max()) <= 1, "above the box"
        size = norms.length(x_adv - x, norm)
        assert bool((size <= eps * (1 + 1e-9)).all()), "outside the ball"


def changes_nothing_at_eps_zero(attack, norm: str):
    model, x, y = linear_case(4, (3, 4, 4), classes=10)
    x_adv = attack(model, x, y, eps=0.0, norm=norm, generator=seeded(0))
    assert torch.equal(x_adv, x)


def leaves_everything_as_it_was(attack, norm: str, mixed: bool = True):
    """Inputs, weights, .grad, buffers, modes, flags, the global chance.

    ``mixed``: one layer is in training mode, and must stay in it.
    """
    model = normed_model()
    frozen, *others = model.parameters()
    frozen.requires_grad_(False)
    others[0].grad = torch.ones_like(others[0])
    model[-2].train(mixed)
    x = images(4, (3, 8, 8)).float().requires_grad_()
    y = torch.tensor([0, 1, 2, 3])
    before = picture(model, x, y)
    torch.manual_seed(11)
    chance = torch.get_rng_state()
    x_adv = attack(
        model, x, y, eps=0.1, norm=norm, steps=2, generator=seeded(0)
    )
    assert torch.equal(torch.get_rng_state(), chance), "global chance drawn"
    assert torch.is_grad_enabled(), "gradients left switched off"
    assert not x_adv.requires_grad, "the result is not detached"
    assert x_adv.dtype == x.dtype, "another dtype came back"
    changed = changes(before, picture(model, x, y))
    assert not changed, f"changed: {changed}"


def picture(model: nn.Module, x: Tensor, y: Tensor) -> dict:
    """A copy of everything that an attack must not change."""
    kept = {"x": x.detach().clone(), "y": y.clone(), "x.grad": x.grad}
    for name, value in model.state_dict(keep_vars=True).items():
        kept[name] = value.detach().clone()
        kept[name + " needs grad"] = value.requires_grad
        grad = value.grad if value.is_leaf else None
        kept[name + ".grad"] = None if grad is None else grad.clone()
    for name, module in model.named_modules():
        kept[name + " mode"] = module.training
    return kept


def changes(before: dict, after: dict) -> list[str]:
    """What differs between two pictures; empty if nothing does."""
    return [
        name for name in before | after
        if not (
            torch.equal(before[name], after[name])
            if all(isinstance(each.get(name), Tensor)
                   for each in (before, after))
            else before.get(name, "gone") == after.get(name, "gone")
        )
    ]  # fmt: skip


def a_row_of_a_batch_equals_the_row_alone(attack, norm: str):
    model = waves(48, 4)
    x, y = images(5, (3, 4, 4), seed=2), torch.tensor([0, 1, 2, 3, 0])
    settings = {
        "eps": 0.2, "norm": norm, "steps": 5, "random_start": False,
    }  # fmt: skip
    together = attack(model, x, y, **settings)
    for i in range(len(x)):
        alone = attack(model, x[i : i + 1], y[i : i + 1], **settings)
        assert torch.allclose(together[i], alone[0], atol=1e-8), f"row {i}"


def the_same_generator_gives_the_same_answer(attack, norm: str):
    model = waves(48, 4)
    x, y = images(3, (3, 4, 4)), torch.tensor([0, 1, 2])
    settings = {"eps": 0.2, "norm": norm, "steps": 3}
    torch.manual_seed(1)
    first = attack(model, x, y, **settings, generator=seeded(0))
    torch.manual_seed(2)
    again = attack(model, x, y, **settings, generator=seeded(0))
    other = attack(model, x, y, **settings, generator=seeded(1))
    assert torch.equal(first, again), "the generator does not fix the answer"
    assert not torch.equal(first, other), "the generator is not used"


def keeps_the_worst_point_of_each_example(attack, norm: str):
    """The answer is, row by row, the worst of all points it looked at.

    On a wavy model with long steps the last step, the last restart and the
    restart that is worst for the batch as a whole are not the worst for
    each example, which is checked here as well.
    """
    n, steps, restarts = 6, 4, 3
    spy = Spy(waves(48, 4, seed=4))
    x, y = images(n, (3, 4, 4), seed=7), torch.arange(n) % 4
    x_adv = attack(
        spy, x, y, eps=0.3, norm=norm, steps=steps, step_size=0.2,
        restarts=restarts, generator=seeded(0),
    )  # fmt: skip
    seen = [points for points in spy.seen if len(points) == n]
    assert len(seen) >= restarts * (steps + 1), "too few points were tried"
    table = torch.stack([margins(spy.inner, points, y) for points in seen])
    found = margins(spy.inner, x_adv, y)
    assert torch.allclose(found, table.min(dim=0).values, atol=1e-9)
    # the case is worth something only if the shortcuts fail on it
    assert not torch.equal(found, table[-1])
    assert not torch.equal(found, table[table.sum(dim=1).argmin()])


ATTACK_PROMISES = (
    reaches_the_exact_optimum,
    reaches_the_exact_optimum_of_a_target,
    lowers_every_margin_in_ten_classes,
    ends_nearer_the_target,
    stays_in_ball_and_box,
    changes_nothing_at_eps_zero,
    leaves_everything_as_it_was,
    a_row_of_a_batch_equals_the_row_alone,
    the_same_generator_gives_the_same_answer,
    keeps_the_worst_point_of_each_example,
)


# --- attacks that return points and margins -------------------------------


def climbs_to_the_exact_optimum(climb, norm: str):
    """Linear models, two classes: the best point, or a first fooling one."""
    for eps in (0.05, 0.3, 1.5):
        model, x, _ = linear_case(12, (1, 5, 3), classes=2, seed=4)
        y = model(x).argmax(dim=1)
        worst, lowest = climb(model, x, y, eps=eps, norm=norm, steps=60)
        assert torch.allclose(lowest, margins(model, worst, y), atol=1e-9)
        best = exact_margins(model, x, y, eps, norm)
        assert bool((lowest >= best - 1e-9).all()), "beyond the optimum"
        assert torch.equal(lowest > 0, best > 0), eps
        gain = (margins(model, x, y) - best).clamp_min(1e-12)
        short = ((lowest - best) / gain)[lowest > 0]
        assert bool((short < SHORT[norm]).all()), f"{short} is missing"


def climbs_to_the_exact_optimum_of_a_target(climb, norm: str):
    """Ten classes: the distance between two logits is as small as it can."""
    model, x, _ = linear_case(6, (3, 4, 4), classes=10, seed=5)
    eps = 1e-4 if norm == "linf" else 1e-3  # nobody falls
    ranks = model(x).argsort(dim=1, descending=True)
    y, layer = ranks[:, 0], model[1]
    for k in (1, 3, 9):
        target = ranks[:, k]
        spy = Spy(model)
        climb(spy, x, y, eps=eps, norm=norm, steps=60, target=target)
        last = spy.seen[-1]
        assert len(last) == len(x)
        for i in range(len(x)):
            pair = torch.stack([y[i], target[i]])
            exact = attacks.linear_attack(
                layer.weight[pair], layer.bias[pair], x[i : i + 1],
                torch.tensor([0]), eps=eps, norm=norm,
            )  # fmt: skip
            before, after, best = (
                model(z)[0, y[i]] - model(z)[0, target[i]]
                for z in (x[i : i + 1], last[i : i + 1], exact)
            )
            assert ((after - best) / (before - best)).item() < SHORT[norm], k


def keeps_the_worst_point_of_each_climb(climb, norm: str):
    """The answer is, row by row, the worst of all points it looked at."""
    model = waves(48, 4, seed=4)
    x = images(40, (3, 4, 4), seed=7)
    y = model(x).argmax(dim=1)
    eps = 0.004 if norm == "linf" else 0.01
    for loss in ("margin", "ce"):
        spy = Spy(model)
        settings = {"eps": eps, "norm": norm, "steps": 8, "loss": loss}
        worst, lowest = climb(spy, x, y, **settings)
        found = margins(model, worst, y)
        assert torch.allclose(found, lowest, atol=1e-9)
        stood = (lowest > 0).nonzero()[:, 0]
        assert 5 < len(stood), "nobody stands to the end"
        assert len(spy.seen) == 9, "eight steps and a last look"
        for row in stood[:5].tolist():
            alone = Spy(model)
            climb(alone, x[row : row + 1], y[row : row + 1], **settings)
            path = torch.cat(alone.seen)
            seen = margins(model, path, y[row].expand(len(path)))
            assert abs(float(found[row] - seen.min())) < 1e-6, row


def examples_leave_when_they_are_fooled(attack, norm: str):
    """Each pass shows the model only those that stood until then."""
    model, x, y = wavy_case()
    y[:5] = (y[:5] + 1) % 4  # wrong from the beginning
    spy = Spy(model)
    eps = 0.01 if norm == "linf" else 0.05
    _, lowest = attack(spy, x, y, eps=eps, norm=norm, steps=8)
    sizes = [len(points) for points in spy.seen]
    assert sizes[0] == 60 and sizes == sorted(sizes, reverse=True)
    assert sizes[-1] >= int((lowest > 0).sum()) > 0
    assert sizes[-1] < sizes[1] < 60, "nobody left"
    spy.seen.clear()
    attack(spy, x[:5], y[:5], eps=1e-9, norm=norm, steps=8)
    assert len(spy.seen) == 1, "all are wrong already: one look is enough"


def searches_like_a_search(square, norm: str):
    """More than a third of the way to the optimum of a linear model."""
    model, x, _ = linear_case(10, (1, 8, 8), classes=2, seed=1)
    y = model(x).argmax(dim=1)
    eps = 0.001 if norm == "linf" else 0.005
    worst, lowest = square(
        model, x, y, eps=eps, norm=norm, queries=300, generator=seeded(0)
    )
    assert torch.allclose(lowest, margins(model, worst, y), atol=1e-12)
    best = exact_margins(model, x, y, eps, norm)
    before = margins(model, x, y)
    assert bool((best > 0).any()), "nobody stands to the end"
    way = ((before - lowest) / (before - best))[best > 0]
    assert bool((way <= 1 + 1e-9).all()), "beyond the optimum"
    assert float(way.min()) > 1 / 3, way


def asks_no_gradient(square, norm: str):
    """As many forward passes as queries, on a model without a slope."""

    class Cut(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.detach()

    model, x, _ = linear_case(4, (1, 6, 6), classes=3)
    y = model(x).argmax(dim=1)
    spy = Spy(nn.Sequential(Cut(), model).eval())
    with evaluation.count_passes(spy) as passes:
        square(spy, x, y, eps=1e-5, norm=norm, queries=17, generator=seeded(0))
    assert (passes.forwards, passes.backwards) == (17 * 4, 0)


# --- the exact attack -----------------------------------------------------


def beats_every_corner(linear_attack, box: bool):
    """l-infinity: as good as the best of all corners, in four dimensions."""
    for seed, eps in itertools.product(range(4), (0.1, 0.6, 2.0)):
        model, x, y = linear_case(4, (4,), classes=5, seed=seed)
        weight, bias = model[1].weight.detach(), model[1].bias.detach()
        x_adv = linear_attack(
            weight, bias, x, y, eps=eps, norm="linf", box=box
        )
        assert norms.length(x_adv - x, "linf").max() <= eps + 1e-12
        found = margins(model, x_adv, y)
        for i, label in enumerate(y.tolist()):
            best = brute_force_margin(weight, bias, x[i], label, eps, box)
            assert torch.isclose(found[i], best, atol=1e-12), (seed, eps, i)


def beats_a_numerical_optimiser(linear_attack, box: bool):
    """l2: as good as SLSQP started from the image itself."""
    from scipy.optimize import Bounds, NonlinearConstraint, minimize

    for seed, eps in itertools.product(range(3), (0.1, 0.7, 3.0)):
        model, x, y = linear_case(2, (5,), classes=3, seed=seed)
        weight, bias = model[1].weight.detach(), model[1].bias.detach()
        x_adv = linear_attack(weight, bias, x, y, eps=eps, norm="l2", box=box)
        assert norms.length(x_adv - x, "l2").max() <= eps * (1 + 1e-12)
        assert not box or bool(((x_adv >= 0) & (x_adv <= 1)).all())
        found = margins(model, x_adv, y)
        for i, label in enumerate(y.tolist()):
            best = torch.inf
            for other in {0, 1, 2} - {label}:
                w = (weight[label] - weight[other]).numpy()
                origin = x[i].numpy()
                answer = minimize(
                    lambda p, w=w: float(w @ p),
                    origin,
                    jac=lambda p, w=w: w,
                    method="SLSQP",
                    bounds=Bounds(0, 1) if box else None,
                    constraints=NonlinearConstraint(
                        lambda p, o=origin, e=eps: ((p - o) / e) @ (p - o),
                        -torch.inf,
                        eps,
                        jac=lambda p, o=origin, e=eps: 2 * (p - o)[None] / e,
                    ),
                    options={"ftol": 1e-13, "maxiter": 500},
                )
                shift = float(bias[label] - bias[other])
                best = min(best, answer.fun + shift)
            assert abs(float(found[i]) - best) < 1e-5, (seed, eps, i)


# --- evaluation -----------------------------------------------------------


def counts_exactly_on_linear_models(
    robust_accuracy, norm: str, protocol="quick"
):
    """Binary linear models: the count is the exact one, row by row."""
    model, x, _ = linear_case(60, (1, 5, 3), classes=2, seed=2)
    y = model(x).argmax(dim=1)
    y[::10] = 1 - y[::10]  # six errors before any attack
    for eps in (0.02, 0.1, 0.3) if norm == "linf" else (0.05, 0.3, 1.0):
        truth = exact_margins(model, x, y, eps, norm)
        assert float(truth.abs().min()) > 1e-3 * eps, "a case too close"
        seen = robust_accuracy(
            model, x, y, eps=eps, norm=norm, protocol=protocol,
            generator=seeded(0),
        )  # fmt: skip
        assert torch.equal(seen.correct, truth > 0), eps
        assert seen.count == evaluation.Accuracy(int((truth > 0).sum()), 60)
        worst = margins(model, seen.x_adv, y)
        assert torch.equal(worst > 0, seen.correct), "not the points counted"
        assert bool((worst >= truth - 1e-9).all()), "outside ball or box"


def wavy_case(n: int = 60):
    """Images on which a wavy model is right: some fall soon, some late."""
    model = waves(48, 4, seed=2)
    x = images(n, (3, 4, 4))
    return model, x, model(x).argmax(dim=1)


# Everything that "strong" does, in few passes.
SMALL = protocols.Protocol(
    "small",
    (
        *protocols.race("ce", "margin", steps=(3, 4)),
        *protocols.race("dlr", steps=(2, 3, 3), start="random"),
        *protocols.race("ce", steps=(2, 3), start="random", starts=3),
        *protocols.race("margin", steps=(2, 3), targets=(1, 2, 4)),
        protocols.Walk(3, share=0.2, targets=(2, 7)),
        protocols.Polish(15, share=0.3),
        protocols.Probe(12, share=0.2, least=3),
        protocols.Walk(4, masked=True),
        protocols.Walk(3, share=0.5, targets=(1, 3, 7), masked=True),
        protocols.Probe(20, masked=True),
    ),
    diagnose=True,
)


def races_with_the_nearest_third(robust_accuracy):
    """The second leg begins where the first has brought the nearest third."""
    model, x, y = wavy_case()
    legs = protocols.race("margin", steps=(3, 4))

    def run(model, stages):
        return robust_accuracy(
            model, x, y, eps=0.01, protocol=protocols.Protocol("x", stages)
        )

    first = run(model, legs[:1])
    left = margins(model, first.x_adv, y)
    standing = (left > 0).nonzero()[:, 0]
    assert 9 < len(standing) < 60
    third = standing[left[standing].argsort()[: -(-len(standing) // 3)]]
    spy = Spy(model)
    run(spy, legs)
    begin = spy.seen[1 + 4]  # all images, then three steps and a look
    assert torch.equal(begin, first.x_adv[third.sort().values])


def targets_the_likeliest_wrong_class(robust_accuracy):
    """On a linear model a climb ends in the corner that its target names."""
    eps = 1e-4  # nobody falls, so that everybody is seen at the end
    model, x, _ = linear_case(8, (1, 5, 3), classes=5)
    logits = model(x).detach()
    ranks = logits.argsort(dim=1, descending=True)
    weight = model[1].weight.detach()
    for k in (1, 2, 4):
        spy = Spy(model)
        stages = (protocols.Climb(5, targets=(k, 7)),)  # 7: no such class
        robust_accuracy(
            spy, x, ranks[:, 0], eps=eps,
            protocol=protocols.Protocol("x", stages),
        )  # fmt: skip
        way = (weight[ranks[:, k]] - weight[ranks[:, 0]]).sign().view_as(x)
        corner = (x + eps * way).clamp(0, 1)
        assert torch.allclose(spy.seen[-1], corner, atol=1e-9), k


def does_not_depend_on_the_batch_size(robust_accuracy, protocol):
    """The same generator: the same points, counts and passes."""
    model, x, y = wavy_case(40)
    found = [
        robust_accuracy(
            model, x, y, eps=0.01, protocol=protocol, batch_size=size,
            generator=seeded(0),
        )
        for size in (250, 7, 1)
    ]  # fmt: skip
    for other in found[1:]:
        assert torch.equal(other.correct, found[0].correct)
        assert torch.allclose(other.x_adv, found[0].x_adv, atol=1e-6)
        assert other.attack == found[0].attack


def refuses_training_mode(measure):
    """``measure(model, x, y)`` wants ``model.eval()`` first, in all parts."""
    x, y = images(4, (3, 8, 8)).float(), torch.tensor([0, 1, 2, 3])
    model = normed_model()
    model[3].norm1.train()  # one layer is enough
    try:
        measure(model, x, y)
    except ValueError as error:
        assert "model.eval()" in str(error)
    else:
        raise AssertionError("a model in training mode was measured")


def ties_and_nonsense_are_errors(accuracy):
    """A constant model, a tie and logits that are not numbers score 0."""
    x, y = images(6, (1, 2, 2)), torch.arange(6) % 2

    class Always(nn.Module):
        def __init__(self, logits):
            super().__init__()
            self.logits = torch.tensor(logits)

        def forward(self, x: Tensor) -> Tensor:
            return self.logits.expand(len(x), -1) + 0 * x.flatten(1).sum(
                dim=1, keepdim=True
            )

    nan, inf = float("nan"), float("inf")
    for logits in ((0.0, 0.0), (nan, nan), (nan, 0.0), (inf, inf)):
        seen = accuracy(Always(logits).eval(), x, y)
        assert seen.correct == 0, logits
    assert accuracy(Always((1.0, 0.0)).eval(), x, y).correct == 3


# --- training -------------------------------------------------------------


def half_perturbs_exactly_half(perturb):
    """The first half is untouched, every image of the second half moved."""
    from lib.training import Recipe

    model = normed_model()
    recipe = Recipe(method="half", eps=0.1, steps=2)
    for n in (2, 5, 8):
        x = images(n, (3, 8, 8)).float()
        y = torch.arange(n) % 4
        x_adv = perturb(model, x, y, recipe, 0.1, seeded(0))
        moved = (x_adv != x).flatten(1).any(dim=1)
        assert moved.tolist() == [i >= n // 2 for i in range(n)], n


def crafting_leaves_running_statistics_alone(perturb):
    """``craft_mode="eval"``: the training pass alone moves batch norm."""
    from lib.training import Recipe

    model = normed_model().train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    x, y = images(4, (3, 8, 8)).float(), torch.arange(4)
    recipe = Recipe(method="adversarial", eps=0.1, steps=2)
    perturb(model, x, y, recipe, 0.1, seeded(0))
    assert all(module.training for module in model.modules()), "mode lost"
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), f"{name} moved"


def seeds_matter(train):
    """Same seed, same bits; another seed, another model."""
    from lib.training import Recipe

    x, y = images(16, (2, 2)).float(), torch.arange(16) % 3

    def weights(seed: int) -> Tensor:
        recipe = Recipe(
            "linear", "adversarial", eps=0.1, epochs=2, batch_size=5,
            steps=2, lr=0.1, seed=seed,
        )  # fmt: skip
        model, _ = train(x, y, recipe, progress=False, classes=3, features=4)
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    torch.manual_seed(1)
    first = weights(0)
    torch.manual_seed(2)
    assert torch.equal(first, weights(0)), "the seed does not fix the model"
    assert not torch.equal(first, weights(1)), "the seed is ignored"


# --- sanity checks --------------------------------------------------------


def flags(model: nn.Module, digits, n: int = 24, **settings) -> set[str]:
    """Names of the sanity checks that ``model`` fails on test digits."""
    settings = {"eps": 0.1, "steps": 10, "generator": seeded(0)} | settings
    found = evaluation.sanity_checks(
        model.eval(), digits.x_test[::40][:n], digits.y_test[::40][:n],
        **settings,
    )  # fmt: skip
    return {finding.name for finding in found if not finding.passed}

"""Tests of the tests: broken versions must be noticed.

Each mutant is a mistake that has been made in published code or is easy to
make here. It is held to the promise that ought to notice it, and the
promise must fail. (The other test files hold the sound versions to the
same promises, so a promise that always fails is noticed as well.)
"""

import sys
from dataclasses import replace

import promises
import pytest
import torch
from promises import NORMS

from lib import (
    attacks,
    blackbox,
    counting,
    evaluation,
    norms,
    protocols,
    training,
)
from lib.apgd import apgd
from lib.attacks import linear_attack, pgd
from lib.protocols import plain_pgd


def noticed(promise, *args) -> None:
    """The promise must fail: an ``AssertionError``, nothing else."""
    try:
        promise(*args)
    except AssertionError:
        return
    pytest.fail(f"{promise.__name__} accepts the mutant")


# --- attacks --------------------------------------------------------------


def does_nothing(model, x, y, **_settings):
    return x.detach().clone()


def random_noise_only(model, x, y, *, eps, norm="linf", generator=None, **_):
    noise = norms.random_in_ball(x, eps, norm, generator)
    return (x + noise).clamp(0, 1).detach()


def predicted_label(model, x, y, **settings):
    with torch.no_grad():
        guess = model(x).argmax(dim=1)
    return pgd(model, x, guess, **settings)


def ignores_the_target(model, x, y, *, target=None, **settings):
    return pgd(model, x, y, **settings)


def flees_the_target(model, x, y, *, target=None, **settings):
    return pgd(model, x, y if target is None else target, **settings)


def last_step_wins(model, x, y, **settings):
    return pgd(model, x, y, **settings, keep="last")


def last_restart_wins(model, x, y, *, restarts=1, **settings):
    for _ in range(restarts):
        x_adv = pgd(model, x, y, **settings)
    return x_adv


def worst_restart_of_the_batch_wins(model, x, y, *, restarts=1, **settings):
    runs = [pgd(model, x, y, **settings) for _ in range(restarts)]
    return min(runs, key=lambda x_adv: promises.margins(model, x_adv, y).sum())


def one_restart_whatever_is_asked(model, x, y, *, restarts=1, **settings):
    return pgd(model, x, y, **settings)


def ignores_the_generator(model, x, y, *, generator=None, **settings):
    return pgd(model, x, y, **settings)


def fixes_the_global_seed(model, x, y, *, generator=None, **settings):
    torch.manual_seed(0)
    return pgd(model, x, y, **settings)


def half_the_budget(model, x, y, *, eps, **settings):
    return pgd(model, x, y, eps=eps / 2, **settings)


def a_little_over_budget(model, x, y, *, eps, **settings):
    return pgd(model, x, y, eps=1.01 * eps, **settings)


def always_linf(model, x, y, *, norm="linf", **settings):
    return pgd(model, x, y, norm="linf", **settings)


def writes_into_the_images(model, x, y, **settings):
    x_adv = pgd(model, x, y, **settings)
    with torch.no_grad():
        x.copy_(x_adv)
    return x_adv


def fills_the_gradients(model, x, y, **settings):
    torch.nn.functional.cross_entropy(model(x), y).backward()
    return pgd(model, x, y, **settings)


def switches_to_training(model, x, y, **settings):
    if isinstance(model, torch.nn.Module):
        model.train()
    return pgd(model, x, y, **settings)


def switches_to_evaluation(model, x, y, **settings):
    model.eval()
    return pgd(model, x, y, **settings)


def leaves_weights_frozen(model, x, y, **settings):
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return pgd(model, x, y, **settings)


def keeps_the_graph(model, x, y, **settings):
    return pgd(model, x, y, **settings) + 0 * x


def clamps_inside_the_graph(model, x, y, **settings):
    """Blind where a pixel is 0 or 1, in every version of torch."""

    def blinded(z):
        return model(torch.where((z > 0) & (z < 1), z, z.detach()))

    settings["random_start"] = False
    return pgd(blinded, x, y, **settings)


P = promises
ATTACK_MUTANTS = [
    (does_nothing, P.reaches_the_exact_optimum),
    (does_nothing, P.lowers_every_margin_in_ten_classes),
    (does_nothing, P.ends_nearer_the_target),
    (random_noise_only, P.reaches_the_exact_optimum),
    (random_noise_only, P.keeps_the_worst_point_of_each_example),
    (predicted_label, P.reaches_the_exact_optimum),
    (predicted_label, P.lowers_every_margin_in_ten_classes),
    (ignores_the_target, P.ends_nearer_the_target),
    (flees_the_target, P.reaches_the_exact_optimum_of_a_target),
    (flees_the_target, P.ends_nearer_the_target),
    (last_step_wins, P.keeps_the_worst_point_of_each_example),
    (last_restart_wins, P.keeps_the_worst_point_of_each_example),
    (
        worst_restart_of_the_batch_wins,
        P.keeps_the_worst_point_of_each_example,
    ),
    (one_restart_whatever_is_asked, P.keeps_the_worst_point_of_each_example),
    (ignores_the_generator, P.the_same_generator_gives_the_same_answer),
    (ignores_the_generator, P.leaves_everything_as_it_was),
    (fixes_the_global_seed, P.the_same_generator_gives_the_same_answer),
    (fixes_the_global_seed, P.leaves_everything_as_it_was),
    (half_the_budget, P.reaches_the_exact_optimum),
    (a_little_over_budget, P.stays_in_ball_and_box),
    (writes_into_the_images, P.leaves_everything_as_it_was),
    (fills_the_gradients, P.leaves_everything_as_it_was),
    (switches_to_training, P.leaves_everything_as_it_was),
    (switches_to_evaluation, P.leaves_everything_as_it_was),
    (leaves_weights_frozen, P.leaves_everything_as_it_was),
    (keeps_the_graph, P.leaves_everything_as_it_was),
    (clamps_inside_the_graph, P.reaches_the_exact_optimum),
]


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(
    ("mutant", "promise"), ATTACK_MUTANTS,
    ids=[f"{m.__name__}-{p.__name__}" for m, p in ATTACK_MUTANTS],
)  # fmt: skip
def test_a_broken_attack_is_noticed(mutant, promise, norm):
    noticed(promise, mutant, norm)


def test_the_other_ball_is_noticed():
    noticed(promises.stays_in_ball_and_box, always_linf, "l2")


# --- the same attack with one part of it broken ---------------------------


def no_projection(delta, eps, norm):
    return delta


def projection_of_the_whole_batch(delta, eps, norm):
    size = norms.length(delta, norm).max().clamp_min(1e-12)
    return delta * (eps / size).clamp_max(1.0)


def wrong_sign(grad, norm):
    return -norms.steepest(grad, norm)


def step_over_the_whole_batch(grad, norm):
    return grad / grad.norm().clamp_min(1e-30)


def no_step(grad, norm):
    return torch.zeros_like(grad)


def no_box(x, delta):
    return x + delta


def box_before_the_ball(x, delta):
    """What a projection onto the box alone would allow: [-1, 1]."""
    return (x + delta).clamp(-1, 1)


def start_outside(x, eps, norm, generator=None):
    return 2 * norms.random_in_ball(x, eps, norm, generator)


def start_without_the_generator(x, eps, norm, generator=None):
    return norms.random_in_ball(x, eps, norm)


def margin_of_the_second_class(logits, y):
    own = logits.gather(1, y[:, None])[:, 0]
    return own - logits.scatter(1, y[:, None], -1e9).amin(dim=1)


PART_MUTANTS = [
    ("project", no_projection, P.stays_in_ball_and_box),
    ("project", projection_of_the_whole_batch, P.reaches_the_exact_optimum),
    ("steepest", wrong_sign, P.reaches_the_exact_optimum),
    ("steepest", wrong_sign, P.ends_nearer_the_target),
    ("steepest", no_step, P.reaches_the_exact_optimum),
    ("steepest", step_over_the_whole_batch,
     P.a_row_of_a_batch_equals_the_row_alone),
    ("_into_box", no_box, P.stays_in_ball_and_box),
    ("_into_box", box_before_the_ball, P.stays_in_ball_and_box),
    ("random_in_ball", start_without_the_generator,
     P.the_same_generator_gives_the_same_answer),
    ("margin", margin_of_the_second_class,
     P.keeps_the_worst_point_of_each_example),
]  # fmt: skip


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(
    ("part", "mutant", "promise"), PART_MUTANTS,
    ids=[f"{m.__name__}-{p.__name__}" for _, m, p in PART_MUTANTS],
)  # fmt: skip
def test_a_broken_part_of_pgd_is_noticed(
    monkeypatch, part, mutant, promise, norm
):
    monkeypatch.setattr(attacks, part, mutant)
    noticed(promise, pgd, norm)


def test_keeping_the_best_point_instead_of_the_worst_is_noticed(monkeypatch):
    margin = attacks.margin
    monkeypatch.setattr(attacks, "margin", lambda z, y: -margin(z, y))
    noticed(promises.keeps_the_worst_point_of_each_example, pgd, "linf")


# --- the exact attack -----------------------------------------------------


def exact_but_no_box(weight, bias, x, y, *, eps, norm="linf", box=True):
    return linear_attack(weight, bias, x, y, eps=eps, norm=norm, box=False)


def exact_for_the_other_sign(weight, bias, x, y, **settings):
    return linear_attack(-weight, bias, x, y, **settings)


def exact_for_one_class_only(weight, bias, x, y, **settings):
    """Looks at the runner-up before the attack and at no other class."""
    logits = x.flatten(1) @ weight.T + bias
    logits[torch.arange(len(y)), y] = -torch.inf
    rows = []
    for image, label, other in zip(x, y, logits.argmax(dim=1), strict=True):
        pair = torch.stack([label, other])
        rows.append(
            linear_attack(
                weight[pair], bias[pair], image[None], torch.tensor([0]),
                **settings,
            )
        )  # fmt: skip
    return torch.cat(rows)


def ball_after_the_box(weight, bias, x, y, *, eps, norm, box):
    """Clamps the unboxed optimum, which is right for l-infinity only."""
    x_adv = linear_attack(weight, bias, x, y, eps=eps, norm=norm, box=False)
    return x_adv.clamp(0, 1) if box else x_adv


@pytest.mark.parametrize(
    ("mutant", "promise", "box"),
    [
        (exact_but_no_box, P.beats_every_corner, True),
        (exact_but_no_box, P.beats_a_numerical_optimiser, True),
        (exact_for_the_other_sign, P.beats_every_corner, True),
        (exact_for_the_other_sign, P.beats_every_corner, False),
        (exact_for_the_other_sign, P.beats_a_numerical_optimiser, False),
        (exact_for_one_class_only, P.beats_every_corner, True),
        (exact_for_one_class_only, P.beats_a_numerical_optimiser, True),
        (ball_after_the_box, P.beats_a_numerical_optimiser, True),
    ],
)
def test_a_broken_exact_attack_is_noticed(mutant, promise, box):
    noticed(promise, mutant, box)


# --- evaluation -----------------------------------------------------------


def no_attack_at_all(model, x, y, **settings):
    return evaluation.robust_accuracy(model, x, y, **settings | {"eps": 0.0})


def forgets_clean_errors(model, x, y, **settings):
    """Attacks away from the prediction, so errors count as robust."""
    return evaluation.robust_accuracy(
        model, x, model(x).argmax(dim=1), **settings
    )


def counts_only_what_the_attack_changed(model, x, y, **settings):
    seen = evaluation.robust_accuracy(model, x, y, **settings)
    right = evaluation.predict(model, x).argmax(dim=1) == y
    return replace(seen, correct=seen.correct | ~right)


def weak_attack(model, x, y, *, protocol, **settings):
    weak = plain_pgd("ce", steps=1, step_size=1e-3)
    return evaluation.robust_accuracy(model, x, y, protocol=weak, **settings)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(
    "mutant",
    [
        no_attack_at_all, forgets_clean_errors,
        counts_only_what_the_attack_changed, weak_attack,
    ],
)  # fmt: skip
def test_a_broken_robust_accuracy_is_noticed(mutant, norm):
    noticed(promises.counts_exactly_on_linear_models, mutant, norm)


@pytest.mark.parametrize(
    "mutant", [does_nothing, predicted_label, last_step_wins]
)
def test_a_broken_attack_shows_in_robust_accuracy(monkeypatch, mutant):
    """``last_step_wins`` is sound on linear models: it must pass here."""
    monkeypatch.setattr(protocols, "pgd", mutant)
    check = promises.counts_exactly_on_linear_models
    protocol = plain_pgd("ce", steps=100)
    if mutant is does_nothing:
        noticed(check, evaluation.robust_accuracy, "linf", protocol)
    else:
        check(evaluation.robust_accuracy, "linf", protocol)


def one_more_draw_for_each_size(model, x, y, *, batch_size, **settings):
    settings["generator"] = promises.seeded(batch_size)
    return evaluation.robust_accuracy(model, x, y, **settings)


def test_chance_that_depends_on_the_batch_is_noticed():
    check = promises.does_not_depend_on_the_batch_size
    noticed(check, one_more_draw_for_each_size, promises.SMALL)


def farthest(gap, allowed, share):
    return nearest(-gap, allowed, share)


def everybody(gap, allowed, share):
    return nearest(gap, allowed, 1.0)


nearest = protocols._nearest


@pytest.mark.parametrize("mutant", [farthest, everybody])
def test_a_race_of_the_wrong_third_is_noticed(monkeypatch, mutant):
    monkeypatch.setattr(protocols, "_nearest", mutant)
    check = promises.races_with_the_nearest_third
    noticed(check, evaluation.robust_accuracy)


def untargeted(model, x, y, *, target=None, **settings):
    return apgd(model, x, y, **settings)


def aims_at_the_next_class(model, x, y, *, target, **settings):
    other = (target + 1) % 5
    other = torch.where(other == y, (other + 1) % 5, other)
    return apgd(model, x, y, target=other, **settings)


def attacks_the_true_class(model, x, y, *, target, **settings):
    """Climbs towards the label, away from the target."""
    return apgd(model, x, target, target=y, **settings)


@pytest.mark.parametrize(
    "mutant", [untargeted, aims_at_the_next_class, attacks_the_true_class]
)
def test_a_stage_with_the_wrong_target_is_noticed(monkeypatch, mutant):
    monkeypatch.setattr(protocols, "apgd", mutant)
    check = promises.targets_the_likeliest_wrong_class
    noticed(check, evaluation.robust_accuracy)


# --- Auto-PGD and Square --------------------------------------------------


def stays_where_it_is(model, x, y, **settings):
    return x.clone(), promises.margins(model, x, y)


def climbs_half_as_far(model, x, y, *, eps, **settings):
    return apgd(model, x, y, eps=eps / 2, **settings)


def climbs_too_far(model, x, y, *, eps, **settings):
    return apgd(model, x, y, eps=1.01 * eps, **settings)


def last_point_of_the_climb(model, x, y, **settings):
    """One row at a time, its last point instead of its worst."""
    rows = []
    for image, label in zip(x.split(1), y.split(1), strict=True):
        spy = promises.Spy(model)
        apgd(spy, image, label, **settings)
        rows.append(spy.seen[-1])
    last = torch.cat(rows)
    return last, promises.margins(model, last, y)


CLIMB_MUTANTS = [
    (stays_where_it_is, P.climbs_to_the_exact_optimum),
    (climbs_half_as_far, P.climbs_to_the_exact_optimum),
    (climbs_too_far, P.climbs_to_the_exact_optimum),
    (untargeted, P.climbs_to_the_exact_optimum_of_a_target),
    (climbs_half_as_far, P.climbs_to_the_exact_optimum_of_a_target),
    (last_point_of_the_climb, P.keeps_the_worst_point_of_each_climb),
]


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(
    ("mutant", "promise"), CLIMB_MUTANTS,
    ids=[f"{m.__name__}-{p.__name__}" for m, p in CLIMB_MUTANTS],
)  # fmt: skip
def test_a_broken_climb_is_noticed(mutant, promise, norm):
    noticed(promise, mutant, norm)


def test_a_climb_down_and_one_that_nobody_leaves_are_noticed(monkeypatch):
    module = sys.modules["lib.apgd"]
    with monkeypatch.context() as patch:
        patch.setattr(module, "steepest", wrong_sign)
        noticed(P.climbs_to_the_exact_optimum, apgd, "linf")
    monkeypatch.setattr(module._Climb, "keep", lambda climb, rows: None)
    noticed(P.examples_leave_when_they_are_fooled, apgd, "linf")


def test_a_broken_search_is_noticed(monkeypatch):
    def half(model, x, y, *, eps, **settings):
        return blackbox.square(model, x, y, eps=eps / 4, **settings)

    def fewer(model, x, y, *, queries, **settings):
        return blackbox.square(model, x, y, queries=queries - 1, **settings)

    noticed(P.searches_like_a_search, half, "linf")
    noticed(P.asks_no_gradient, fewer, "linf")
    monkeypatch.setattr(blackbox, "_window", lambda *_: slice(0, 1))
    noticed(P.searches_like_a_search, blackbox.square, "linf")


def test_measuring_in_training_mode_is_noticed(monkeypatch):
    monkeypatch.setattr(counting, "check_eval_mode", lambda model: None)
    noticed(promises.refuses_training_mode, evaluation.accuracy)


def test_ties_counted_as_hits_are_noticed():
    def argmax_accuracy(model, x, y):
        logits = evaluation.predict(model, x)
        hits = int((logits.argmax(dim=1) == y).sum())
        return evaluation.Accuracy(hits, len(x))

    noticed(promises.ties_and_nonsense_are_errors, argmax_accuracy)


# --- training -------------------------------------------------------------


def perturbs_all(model, x, y, recipe, eps, generator=None):
    return pgd(
        model, x, y, eps=eps, norm=recipe.norm, steps=recipe.steps,
        keep="last", generator=generator,
    )  # fmt: skip


def perturbs_none(model, x, y, recipe, eps, generator=None):
    return x


def perturbs_the_first_half(model, x, y, recipe, eps, generator=None):
    order = torch.arange(len(x)).flip(0)
    return training.perturb(model, x[order], y[order], recipe, eps, generator)[
        order
    ]


@pytest.mark.parametrize(
    "mutant", [perturbs_all, perturbs_none, perturbs_the_first_half]
)
def test_half_that_is_not_half_is_noticed(mutant):
    noticed(promises.half_perturbs_exactly_half, mutant)


def test_crafting_that_moves_batch_norm_is_noticed():
    noticed(promises.crafting_leaves_running_statistics_alone, perturbs_all)


def test_a_mode_left_behind_is_noticed():
    def leaves_evaluation_mode(model, *args):
        x_adv = training.perturb(model, *args)
        model.eval()
        return x_adv

    noticed(
        promises.crafting_leaves_running_statistics_alone,
        leaves_evaluation_mode,
    )


def test_a_seed_that_is_ignored_is_noticed():
    def one_seed(x, y, recipe, **settings):
        return training.train(x, y, replace(recipe, seed=0), **settings)

    def by_chance(x, y, recipe, **settings):
        seed = int(torch.randint(1000, ()))
        return training.train(x, y, replace(recipe, seed=seed), **settings)

    for mutant in (one_seed, by_chance):
        noticed(promises.seeds_matter, mutant)


# --- the checks on checks -------------------------------------------------


def test_every_promise_about_attacks_has_a_mutant():
    """A promise that no mutant breaks may be one that cannot fail."""
    tried = {p for _, p in ATTACK_MUTANTS} | {p for *_, p in PART_MUTANTS}
    untried = set(promises.ATTACK_PROMISES) - tried
    assert untried == {promises.changes_nothing_at_eps_zero}

    def moves_at_eps_zero(model, x, y, **settings):
        return (pgd(model, x, y, **settings) + 1e-6).clamp(0, 1)

    noticed(promises.changes_nothing_at_eps_zero, moves_at_eps_zero, "linf")


def test_noticed_itself_notices_a_promise_that_holds():
    with pytest.raises(pytest.fail.Exception, match="accepts the mutant"):
        noticed(promises.changes_nothing_at_eps_zero, pgd, "linf")
    with pytest.raises(ZeroDivisionError):
        noticed(lambda: 1 / 0)

"""Accuracy, robust accuracy, intervals, counted passes, sanity checks."""

import contextlib
import json
import math
from functools import cache

import pytest
import torch
from promises import (
    NORMS,
    SMALL,
    Spy,
    counts_exactly_on_linear_models,
    does_not_depend_on_the_batch_size,
    flags,
    images,
    leaves_everything_as_it_was,
    linear_case,
    linear_model,
    margins,
    normed_model,
    races_with_the_nearest_third,
    refuses_training_mode,
    seeded,
    targets_the_likeliest_wrong_class,
    ties_and_nonsense_are_errors,
    waves,
    wavy_case,
)
from torch import nn

from lib import evaluation, norms, protocols, sanity
from lib.attacks import margin, pgd
from lib.blackbox import square
from lib.evaluation import (
    Accuracy,
    accuracy,
    count_passes,
    predict,
    robust_accuracy,
    sanity_checks,
)
from lib.protocols import Climb, Polish, Probe, Protocol, plain_pgd, race

# --- counts and intervals -------------------------------------------------


@pytest.mark.parametrize(
    ("correct", "total", "low", "high"),
    [
        # Wilson's interval at z = 1.96, by hand
        (8, 10, 0.4902, 0.9433),
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (9_500, 10_000, 0.9456, 0.9541),
        (1, 1, 0.2065, 1.0),
    ],
)
def test_the_interval_is_wilsons(correct, total, low, high):
    seen = Accuracy(correct, total)
    assert seen.value == correct / total
    assert seen.interval == pytest.approx((low, high), abs=5.1e-5)


def test_an_accuracy_prints_with_interval_and_count():
    text = str(Accuracy(8_000, 10_000))
    assert text == "80.00 % [79.20, 80.77] (n = 10,000)"


def test_accuracy_by_hand():
    model = linear_model(2, 2)
    with torch.no_grad():
        model[1].weight.copy_(torch.eye(2))
        model[1].bias.zero_()
    x = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]).double()
    seen = accuracy(model, x, torch.tensor([0, 1, 1]))
    assert (seen.correct, seen.total) == (2, 3)


def test_ties_and_logits_that_are_not_numbers_count_as_errors():
    ties_and_nonsense_are_errors(accuracy)


@pytest.mark.parametrize("batch_size", [1, 3, 250])
def test_predictions_do_not_depend_on_the_batch_size(batch_size):
    model, x, _ = linear_case(7, (1, 5, 3), classes=4)
    with torch.no_grad():
        expected = model(x)
    found = predict(model, x, batch_size)
    assert torch.allclose(found, expected, atol=1e-12)
    assert not found.requires_grad


# --- robust accuracy ------------------------------------------------------


@pytest.mark.parametrize(
    "protocol", ["quick", "strong", plain_pgd("ce", steps=100)]
)
@pytest.mark.parametrize("norm", NORMS)
def test_robust_accuracy_of_a_linear_model_is_the_exact_one(norm, protocol):
    counts_exactly_on_linear_models(robust_accuracy, norm, protocol)


@pytest.mark.parametrize("norm", NORMS)
def test_robust_accuracy_never_exceeds_standard_and_falls_with_eps(norm):
    model = waves(48, 4)
    x = images(40, (3, 4, 4))
    y = model(x).argmax(dim=1)
    y[:10] = (y[:10] + 1) % 4
    last = accuracy(model, x, y).correct
    assert last == 30
    for eps in (0.0, 0.01, 0.05, 0.5):
        seen = robust_accuracy(
            model, x, y, eps=eps, norm=norm, generator=seeded(0)
        )
        assert seen.count.correct <= last
        assert not seen.correct[:10].any(), "an error became right"
        last = seen.count.correct
    assert last < 5


def test_at_eps_zero_it_is_standard_accuracy_without_an_attack():
    model, x, y = linear_case(9, (1, 5, 3), classes=3)
    seen = robust_accuracy(model, x, y, eps=0.0)
    assert seen.count == accuracy(model, x, y)
    assert torch.equal(seen.x_adv, x)
    assert (seen.forwards, seen.backwards) == (9, 0)


@pytest.mark.parametrize("norm", NORMS)
def test_the_result_travels_with_its_attack_and_its_worst_points(norm):
    model, x, y = linear_case(20, (1, 5, 3), classes=3)
    seen = robust_accuracy(
        model, x, y, eps=0.2, norm=norm, generator=seeded(0)
    )
    about = {name: seen.attack[name] for name in ("protocol", "norm", "eps")}
    assert about == {"protocol": "quick", "norm": norm, "eps": 0.2}
    first, second = seen.attack["stages"]
    assert first["tried"] == accuracy(model, x, y).correct
    left = first["tried"] - first["fooled"]
    assert second["tried"] == math.ceil(left / 3)
    assert seen.count.correct == left - second["fooled"]
    wins = predict(model, seen.x_adv).argmax(dim=1) == y
    assert torch.equal(wins, seen.correct)
    size = norms.length(seen.x_adv - x, norm)
    assert float(size.max()) <= 0.2 + 1e-9
    assert (seen.accuracy, seen.interval) == (
        seen.count.value, seen.count.interval
    )  # fmt: skip
    assert str(seen) == str(seen.count)
    assert json.loads(json.dumps(seen.attack)) == seen.attack


def test_only_survivors_are_attacked_again():
    """Passes: all images once, the standing ones, and who is left."""
    spy = Spy(linear_model(15, 2, seed=2))
    x = images(30, (1, 5, 3))
    y = spy(x).argmax(dim=1)
    y[:6] = 1 - y[:6]

    def measure(eps, *losses):
        spy.seen.clear()
        protocol = plain_pgd(*losses, steps=4)
        return robust_accuracy(
            spy, x, y, eps=eps, protocol=protocol, generator=seeded(0)
        )

    seen = measure(0.1, "ce")
    left = seen.count.correct
    assert 0 < left < 24
    assert seen.forwards == 30 + 24 * (4 + 1) + 24
    assert seen.backwards == 24 * 4
    both = measure(0.1, "ce", "margin")
    assert both.backwards == 24 * 4 + left * 4
    assert both.forwards == seen.forwards + left * (4 + 1) + left
    measure(1.0, "ce", "margin")
    assert len(spy.seen) == 1 + (4 + 1) + 1, "nobody is left for the second"


def test_each_stage_can_only_add_to_what_the_others_found():
    model = waves(48, 4, seed=2)
    x = images(60, (3, 4, 4))
    y = model(x).argmax(dim=1)

    def standing(*losses):
        return robust_accuracy(
            model, x, y, eps=0.02, protocol=plain_pgd(*losses, steps=3),
            generator=seeded(0),
        ).correct  # fmt: skip

    one, both = standing("ce"), standing("ce", "margin")
    assert 0 < int(one.sum()) < 60
    assert not bool((both & ~one).any())


# --- races, targets, probes -----------------------------------------------


def test_a_race_goes_on_with_the_third_nearest_to_be_fooled():
    races_with_the_nearest_third(robust_accuracy)


def test_targets_are_wrong_classes_likeliest_first():
    targets_the_likeliest_wrong_class(robust_accuracy)


@pytest.mark.parametrize("norm", NORMS)
def test_strong_never_reads_higher_than_quick(norm):
    model, x, y = wavy_case()
    quick, strong = (
        robust_accuracy(
            model, x, y, eps=0.01 if norm == "linf" else 0.05, norm=norm,
            protocol=name, generator=seeded(0),
        )
        for name in ("quick", "strong")
    )  # fmt: skip
    assert 0 < strong.count.correct <= quick.count.correct < len(x)
    assert not bool((strong.correct & ~quick.correct).any())


@pytest.mark.parametrize("protocol", ["quick", SMALL])
def test_the_answer_does_not_depend_on_the_size_of_a_batch(protocol):
    does_not_depend_on_the_batch_size(robust_accuracy, protocol)


@pytest.mark.parametrize("protocol", ["quick", SMALL])
def test_it_leaves_everything_as_it_was(protocol):
    def worst(model, x, y, *, steps, **settings):
        return robust_accuracy(
            model, x, y, protocol=protocol, **settings
        ).x_adv

    leaves_everything_as_it_was(worst, "linf", mixed=False)


def convolving(channels: int) -> nn.Sequential:
    """A model in double precision that notes the layouts it works with."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = nn.Sequential(
            nn.Conv2d(channels, 6, 3), nn.Tanh(), nn.Conv2d(6, 4, 3),
            nn.Flatten(), nn.Linear(4 * 4 * 4, 4),
        )  # fmt: skip
    last, model.last = {"memory_format": torch.channels_last}, []

    def note(module, inputs, _output):
        kernel = module[2].weight
        model.last.append(
            (kernel.is_contiguous(**last), inputs[0].is_contiguous(**last))
        )

    model.register_forward_hook(note)
    return model.double().eval()


def held(model: nn.Module) -> list:
    return [(p.data_ptr(), p.stride()) for p in model.parameters()]


@pytest.mark.parametrize("norm", NORMS)
def test_colour_images_pass_channels_last_with_the_same_result(
    norm, monkeypatch
):
    model = convolving(3)
    x = images(30, (3, 8, 8), seed=2)
    y = model(x).argmax(dim=1)
    before = held(model)
    eps = 0.01 if norm == "linf" else 0.1

    def run() -> evaluation.RobustAccuracy:
        model.last.clear()
        return robust_accuracy(
            model, x, y, eps=eps, norm=norm, protocol=SMALL,
            generator=seeded(0),
        )  # fmt: skip

    found = run()
    kernels, inputs = zip(*model.last, strict=True)
    assert all(kernels)
    assert sum(inputs) > 0.9 * len(inputs), "rearranged at every step"
    assert held(model) == before and found.x_adv.is_contiguous()
    monkeypatch.setattr(evaluation, "channels_last", contextlib.nullcontext)
    plain = run()
    assert not any(kernel for kernel, _ in model.last)
    assert 0 < found.count.correct < len(x), "nothing to compare"
    assert torch.equal(found.correct, plain.correct)
    assert torch.allclose(found.x_adv, plain.x_adv, atol=1e-8)


def test_grey_images_keep_their_layout():
    model = convolving(1)
    x = images(3, (1, 8, 8))
    robust_accuracy(model, x, model(x).argmax(dim=1), eps=0.01)
    assert not any(kernel for kernel, _ in model.last)


def test_the_weights_get_their_memory_back_after_an_error():
    model = convolving(3)
    x = images(3, (3, 8, 8))
    y, before = model(x).argmax(dim=1), held(model)
    model[3].register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        robust_accuracy(model, x, y, eps=0.01)
    assert held(model) == before


def test_without_a_generator_the_answer_is_fixed_and_chance_untouched():
    model, x, y = wavy_case()
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first = robust_accuracy(model, x, y, eps=0.01, protocol=SMALL)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(4)
    again = robust_accuracy(model, x, y, eps=0.01, protocol=SMALL)
    assert torch.equal(first.x_adv, again.x_adv)


def test_several_targets_and_starts_count_once_for_each_example():
    """Each pass holds all copies; the log counts the examples."""
    model, x, y = linear_case(9, (1, 5, 3), classes=4)
    y = model(x).argmax(dim=1)
    for stage, copies in (
        (Climb(3, targets=(1, 2, 3, 4, 5)), 3),
        (Climb(3, start="random", starts=5), 5),
    ):
        spy = Spy(model)
        seen = robust_accuracy(
            spy, x, y, eps=1e-6, protocol=Protocol("x", (stage,))
        )
        assert [len(points) for points in spy.seen[1:]] == [9 * copies] * 4
        (row,) = seen.attack["stages"]
        assert (row["tried"], row["fooled"]) == (9, 0)
        table = torch.stack(
            [
                margins(model, part, y)
                for points in spy.seen[1:]
                for part in points.split(9)
            ]
        )
        found = margins(model, seen.x_adv, y)
        best = torch.minimum(table.min(dim=0).values, margins(model, x, y))
        assert torch.allclose(found, best, atol=1e-12)
        if stage.start == "random":
            first = spy.seen[1].split(9)
            assert not torch.equal(first[0], first[1]), "the same start"


def test_every_leg_takes_a_third_of_the_leg_before():
    """Who was left behind by the second leg is out of the third."""
    model, x, y = wavy_case()
    legs = race("margin", steps=(2, 2, 2))
    seen = robust_accuracy(
        model, x, y, eps=0.005, protocol=Protocol("x", legs)
    )
    tried = [row["tried"] for row in seen.attack["stages"]]
    left = [row["tried"] - row["fooled"] for row in seen.attack["stages"]]
    assert tried[0] == 60 and left[1] > 9
    assert tried[1:] == [math.ceil(count / 3) for count in left[:2]]


def test_no_stage_gives_back_what_another_found():
    """The point kept is the worst of all, for those that stand as well."""
    model, x, y = wavy_case()
    last = margins(model, x, y)
    gains = 0
    for count in range(1, len(SMALL.stages) + 1):
        seen = robust_accuracy(
            model, x, y, eps=0.005,
            protocol=Protocol("x", SMALL.stages[:count]),
            generator=seeded(0),
        )  # fmt: skip
        found = margins(model, seen.x_adv, y)
        assert bool((found <= last + 1e-9).all()), SMALL.stages[count - 1]
        gains += bool((found < last).any())
        last = found
    assert gains > 3 and int((last > 0).sum()) > 20


# --- a killed run goes on -------------------------------------------------


class Killed(BaseException):
    """What no handler of errors catches."""


PLAIN = plain_pgd("ce", "margin", steps=3)


@cache
def uninterrupted(protocol, eps):
    """Result and everything that the model was shown, in batches of 7."""
    inner, x, y = wavy_case()
    spy = Spy(inner)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation.Cascade, "masked", True)
        found = robust_accuracy(
            spy, x, y, eps=eps, protocol=protocol, batch_size=7,
            generator=seeded(0),
        )  # fmt: skip
    return found, spy.seen


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("protocol", "batches"),
    [(SMALL, 9), (SMALL, 36), (PLAIN, 10), slow(PLAIN, 1)]
    + [slow(SMALL, k) for k in (0, 1, 14, 20, 33, 39, 42)],
)
def test_a_killed_run_goes_on_to_the_same_result(
    protocol, batches, monkeypatch, tmp_path
):
    model, x, y = wavy_case()
    monkeypatch.setattr(evaluation.Cascade, "masked", True)
    settings = {"eps": 0.01, "protocol": protocol, "batch_size": 7}
    expected, _ = uninterrupted(protocol, 0.01)
    attack, count = evaluation.Cascade.attack, iter(range(1000))

    def dies(self, *args, **kwargs):
        if next(count) == batches:
            raise Killed
        return attack(self, *args, **kwargs)

    file = tmp_path / "run" / "state.safetensors"
    settings["resume"] = file
    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "SAVE_EVERY", 0.0)
        patch.setattr(evaluation.Cascade, "attack", dies)
        with pytest.raises(Killed):
            robust_accuracy(model, x, y, generator=seeded(0), **settings)
    chance = seeded(0)
    found = robust_accuracy(model, x, y, generator=chance, **settings)
    same_result(found, expected)
    again = robust_accuracy(model, x, y, generator=seeded(0), **settings)
    same_result(again, expected)
    assert [path.name for path in file.parent.iterdir()] == [file.name]


@pytest.mark.parametrize(
    "batches",
    [1, 29, 52, *map(slow, (10, 13, 17, 25, 35, 40, 48, 56, 60))],
)
def test_a_resumed_run_shows_the_model_what_it_would_have_seen(
    batches, monkeypatch, tmp_path
):
    """Not only the same result: the same images, random starts included."""
    inner, x, y = wavy_case()
    monkeypatch.setattr(evaluation.Cascade, "masked", True)

    def look():
        spy = Spy(inner)
        robust_accuracy(
            spy, x, y, eps=0.005, protocol=SMALL, batch_size=7,
            generator=seeded(0), resume=file,
        )  # fmt: skip
        return spy.seen

    before = len(uninterrupted(Protocol("x", (), diagnose=True), 0.005)[1])
    expected = uninterrupted(SMALL, 0.005)[1][before:]
    attack, count = evaluation.Cascade.attack, iter(range(1000))

    def dies(self, *args, **kwargs):
        if next(count) == batches:
            raise Killed
        return attack(self, *args, **kwargs)

    file = tmp_path / "state.safetensors"
    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "SAVE_EVERY", 0.0)
        patch.setattr(evaluation.Cascade, "attack", dies)
        with pytest.raises(Killed):
            look()
    found = look()[before:]
    assert 0 < len(found) < len(expected)
    for one, other in zip(found, expected[-len(found) :], strict=True):
        assert torch.equal(one, other)


def same_result(found, expected):
    assert torch.equal(found.x_adv, expected.x_adv)
    assert torch.equal(found.correct, expected.correct)
    assert found.attack == expected.attack
    assert (found.forwards, found.backwards) == (
        expected.forwards, expected.backwards
    )  # fmt: skip


def test_a_file_of_another_run_or_a_damaged_one_is_refused(tmp_path):
    model, x, y = wavy_case(12)
    file = tmp_path / "state.safetensors"
    settings = {"eps": 0.01, "resume": file}
    robust_accuracy(model, x, y, **settings)
    for change in (
        {"eps": 0.02}, {"norm": "l2"}, {"protocol": "strong"},
        {"generator": seeded(7)},
    ):  # fmt: skip
        with pytest.raises(ValueError, match="other settings"):
            robust_accuracy(model, x, y, **settings | change)
    for case in (
        (model, x.flip(0), y), (model, x, y.flip(0)),
        (waves(48, 4, seed=3), x, y),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="other settings, images or"):
            robust_accuracy(*case, **settings)
    content = file.read_bytes()
    for damage in (content[: len(content) // 2], b"nonsense", b""):
        file.write_bytes(damage)
        with pytest.raises(ValueError, match="damaged"):
            robust_accuracy(model, x, y, **settings)


# --- passes ---------------------------------------------------------------


def test_passes_of_known_loops_are_counted_exactly():
    model, x, y = linear_case(7, (1, 5, 3), classes=3)
    settings = {"eps": 0.1, "steps": 5, "restarts": 2, "generator": seeded(0)}
    with count_passes(model) as passes:
        pgd(model, x, y, **settings)
    assert (passes.forwards, passes.backwards) == (7 * 2 * 6, 7 * 2 * 5)
    with count_passes(model) as passes:
        pgd(model, x, y, keep="last", **settings)
    assert (passes.forwards, passes.backwards) == (7 * 2 * 5, 7 * 2 * 5)
    with count_passes(model) as passes:
        nn.functional.cross_entropy(model(x), y).backward()
        model(x)  # forward only
        with torch.no_grad():
            model(x[:2])
    assert (passes.forwards, passes.backwards) == (7 + 7 + 2, 7)


def test_the_counter_is_gone_after_the_block_even_after_an_error():
    model = linear_model(4, 2)
    with pytest.raises(RuntimeError, match="stop"), count_passes(model):
        raise RuntimeError("stop")
    assert not model._forward_hooks


# --- what is refused ------------------------------------------------------

MEASURES = {
    "predict": lambda model, x, y: predict(model, x),
    "accuracy": accuracy,
    "robust_accuracy": lambda model, x, y: robust_accuracy(
        model, x, y, eps=0.1
    ),
    "sanity_checks": lambda model, x, y: sanity_checks(model, x, y, eps=0.1),
}


@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
def test_a_model_in_training_mode_is_refused(measure):
    refuses_training_mode(measure)


@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
def test_unsound_images_are_refused(measure):
    model = normed_model()
    x, y = images(4, (3, 8, 8)).float(), torch.arange(4)
    for wrong, message in (
        (x * 2, "normalisation belongs inside"),
        (x[:0], "empty"),
        ((x * 255).byte(), "floating-point"),
        (x * float("nan"), "NaN"),
    ):
        with pytest.raises(ValueError, match=message):
            measure(model, wrong, y)


@pytest.mark.parametrize(
    "measure", [MEASURES[name] for name in MEASURES if name != "predict"]
)
def test_unsound_labels_are_refused(measure):
    model = normed_model()
    x, y = images(4, (3, 8, 8)).float(), torch.arange(4)
    for wrong, message in (
        (y + 1, r"0 \.\. 3, these span 1 \.\. 4"),
        (y[:3], r"shape \(4,\)"),
        (y.float(), r"torch\.long"),
    ):
        with pytest.raises(ValueError, match=message):
            measure(model, x, wrong)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"eps": -1.0}, "eps must be"),
        ({"norm": "l1"}, '"linf" or "l2"'),
        ({"protocol": "best"}, "no protocol named 'best'"),
        ({"protocol": plain_pgd("dlr", steps=1)}, '"ce" or "margin"'),
        ({"protocol": plain_pgd("ce", steps=0)}, "steps must be at least 1"),
        ({"protocol": Protocol("x", race("hinge"))}, "loss must be one of"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
    ],
)
def test_robust_accuracy_refuses_unsound_settings(settings, message):
    model = linear_model(15, 2)
    x = images(4, (1, 5, 3), inner=True)
    y = model(x).argmax(dim=1)
    with pytest.raises(ValueError, match=message):
        robust_accuracy(
            model, x, y, **({"eps": 1e-6} | settings), generator=seeded(0)
        )


def test_sanity_checks_want_a_model_that_gets_something_right():
    model = linear_model(15, 2)
    x = images(4, (1, 5, 3))
    with pytest.raises(ValueError, match="no example correctly"):
        sanity_checks(model, x, 1 - model(x).argmax(dim=1), eps=0.1)


# --- the sanity checks of the field ---------------------------------------

SOFTMAX = "outputs are logits"
ZERO = "gradients are not zero"
BOUNDS = "no gradient lost at the pixel bounds"


class Blind(nn.Module):
    """What clamp does to gradients: none where a pixel is 0 or 1."""

    def forward(self, x):
        return torch.where((x > 0) & (x < 1), x, x.detach())


class Round(nn.Module):
    """Eleven grey levels: a staircase has no slope."""

    def forward(self, x):
        return (10 * x).round() / 10


class Scale(nn.Module):
    """Logits so large that the softmax is exactly 0 or 1."""

    def forward(self, z):
        return 1000 * z


class NoNumber(nn.Module):
    def forward(self, x):
        zero = x - x.detach()
        return x + zero.abs().sqrt()


def test_a_sound_network_passes_every_check(trained, digits):
    assert flags(trained, digits) == set()
    assert flags(trained, digits, norm="l2", eps=1.0) == set()


def test_gradients_lost_at_the_pixel_bounds_are_noticed(trained, digits):
    assert BOUNDS in flags(nn.Sequential(Blind(), trained), digits)


def test_a_clamp_inside_the_model_is_noticed_where_it_blinds(trained, digits):
    """Since torch 2.14 clamp has no gradient at its bounds."""

    class Clamp(nn.Module):
        def forward(self, x):
            return x.clamp(0, 1)

    edge = torch.zeros(1, requires_grad=True)
    (slope,) = torch.autograd.grad(edge.clamp(0, 1).sum(), edge)
    found = flags(nn.Sequential(Clamp(), trained), digits)
    assert (BOUNDS in found) is (float(slope) == 0.0)


def test_a_softmax_at_the_end_is_noticed(trained, digits):
    assert SOFTMAX in flags(nn.Sequential(trained, nn.Softmax(1)), digits)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda model: nn.Sequential(Round(), model),
        lambda model: nn.Sequential(model, Scale()),
        lambda model: nn.Sequential(NoNumber(), model),
    ],
    ids=["staircase", "saturated", "not a number"],
)
def test_gradients_that_lead_nowhere_are_noticed(trained, digits, wrap):
    assert ZERO in flags(wrap(trained), digits)


def test_an_attack_weaker_than_noise_is_noticed(trained, digits, monkeypatch):
    """The model's own gradient, but the attack does nothing."""
    monkeypatch.setattr(sanity, "pgd", lambda model, x, y, **_: x)
    found = flags(trained, digits, eps=0.9)
    assert "gradient beats noise" in found
    assert "a ball as large as the box fools it" in found


def test_more_steps_that_do_harm_are_noticed(trained, digits, monkeypatch):
    def lazy(model, x, y, *, steps, **settings):
        """Gives up where it is asked for many steps."""
        if steps > 5:
            return x
        return pgd(model, x, y, steps=steps, **settings)

    monkeypatch.setattr(sanity, "pgd", lazy)
    found = flags(trained, digits, eps=0.3, steps=20)
    assert "more steps do not help the defender" in found


BLACK_BOX = "gradients beat a black box"
DIAGNOSIS = Protocol(
    "diagnosis",
    (
        *race("margin", steps=(2,)),
        Probe(40, share=0.3, least=8),
        Probe(40, masked=True),
    ),
    diagnose=True,
)


def diagnose(model, digits, eps=0.2):
    return robust_accuracy(
        model.eval(), digits.x_test[::40][:40], digits.y_test[::40][:40],
        eps=eps, protocol=DIAGNOSIS,
    )  # fmt: skip


def test_a_sound_network_raises_no_flag_and_is_probed_once(trained, digits):
    seen = diagnose(trained, digits, eps=0.05)
    assert seen.flags == ()
    once, again = seen.attack["stages"][1:]
    assert once["tried"] >= 8 and again["tried"] == 0


@pytest.mark.parametrize(
    ("wrap", "flag"),
    [
        (lambda model: nn.Sequential(Blind(), model), BOUNDS),
        (lambda model: nn.Sequential(model, nn.Softmax(1)), SOFTMAX),
        (lambda model: nn.Sequential(Round(), model), ZERO),
        (lambda model: nn.Sequential(Round(), model), BLACK_BOX),
    ],
    ids=["blind at the bounds", "softmax", "staircase", "masked"],
)
def test_a_protocol_that_diagnoses_raises_the_flag(
    trained, digits, wrap, flag
):
    seen = diagnose(wrap(trained), digits)
    assert flag in {finding.name for finding in seen.flags}
    assert flag in str(seen)


def test_saturated_outputs_raise_the_flag_of_zero_gradients(trained, digits):
    """Cross-entropy has no slope where the softmax is exactly 0 or 1."""
    seen = diagnose(nn.Sequential(trained, Scale()), digits)
    assert ZERO in {finding.name for finding in seen.flags}


class Dull(nn.Module):
    """All but deaf to a pixel below 0.3; class 1 is brightness above it."""

    def forward(self, x):
        bright = (x - 0.3).clamp_min(0).sum(dim=(1, 2, 3))
        bright = bright + 0.01 * x.sum(dim=(1, 2, 3))
        return torch.stack([5 + 0 * bright, bright, 0 * bright], dim=1)


def test_patches_notice_a_model_that_is_deaf_to_small_changes():
    """Gradients spread what patches put in one place; yet nobody falls."""
    x, y = 0.05 * torch.rand(40, 1, 20, 20, generator=seeded(0)), [0] * 40
    stages = (*race("margin", steps=(10,)), Probe(25, share=0.1, least=32))

    def probed(model):
        return robust_accuracy(
            model.eval(), x, torch.tensor(y), eps=0.6, norm="l2",
            protocol=Protocol("x", stages),
        )  # fmt: skip

    seen = probed(Dull())
    assert [row["fooled"] for row in seen.attack["stages"]] == [0, 0]
    (flag,) = seen.flags
    assert flag.name == BLACK_BOX and "fooling 32" in flag.message
    seen = probed(sure_model(400))
    assert seen.accuracy == 1.0 and seen.flags == ()


def sure_model(features):
    """Linear, float32, and always sure of class 0."""
    model = linear_model(features, 3).float()
    with torch.no_grad():
        model[1].bias[0] += 20
    return model


def test_a_probe_that_is_resumed_knows_what_the_gradients_had(
    monkeypatch, tmp_path
):
    model, x = sure_model(64), images(40, (1, 8, 8)).float()
    y = torch.zeros(40, dtype=torch.long)
    stages = (*race("margin", steps=(10,)), Probe(25, share=0.1, least=32))
    attack, count = evaluation.Cascade.attack, iter(range(1000))

    def dies(self, *args, **kwargs):
        if next(count) == 8:  # six batches of the climb, two of the probe
            raise Killed
        return attack(self, *args, **kwargs)

    def look():
        return robust_accuracy(
            model, x, y, eps=0.1, norm="l2", batch_size=7,
            protocol=Protocol("x", stages), resume=tmp_path / "state",
        )  # fmt: skip

    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "SAVE_EVERY", 0.0)
        patch.setattr(evaluation.Cascade, "attack", dies)
        with pytest.raises(Killed):
            look()
    assert look().flags == ()


def test_polishing_is_for_the_nearest_and_from_their_worst(monkeypatch):
    """It gives Square the worst points so far and keeps what that lowers."""
    model, x, y = wavy_case()
    climbs = race("margin", steps=(2,))
    polish, given = Polish(30, share=0.25), {}

    def paint(model, x, y, *, start, **settings):
        given.update(settings, start=start)
        return square(model, x, y, start=start, **settings)

    def run(*stages):
        return robust_accuracy(
            model, x, y, eps=0.01, protocol=Protocol("x", stages),
            generator=seeded(0),
        )  # fmt: skip

    monkeypatch.setattr(protocols, "square", paint)
    before, after = run(*climbs), run(*climbs, polish)
    gaps = margin(model(before.x_adv), y)
    nearest = gaps.masked_fill(gaps <= 0, torch.inf).argsort()
    chosen = nearest[: math.ceil(0.25 * int((gaps > 0).sum()))].sort().values
    assert torch.equal(given["start"], before.x_adv[chosen])
    assert given["queries"] == 30 and given["eps"] == 0.01
    now = margin(model(after.x_adv), y)
    assert (now <= gaps).all() and (now < gaps)[chosen].any()
    rest = torch.ones(len(x), dtype=torch.bool)
    rest[chosen] = False
    assert torch.equal(after.x_adv[rest], before.x_adv[rest])


def test_a_probe_is_spread_over_the_margins():
    gap = torch.tensor([0.5, -1.0, 0.1, 0.9, 0.3, 0.2, 0.8, 0.4])
    near = torch.full_like(gap, torch.inf)
    for probe, rows in (
        (Probe(1), [0, 2, 3, 4, 5, 6, 7]),
        (Probe(1, share=0.1, least=3), [0, 2, 4]),
        (Probe(1, share=0.5, least=3), [2, 5, 6, 7]),
        (Probe(1, share=0.1, least=30), [0, 2, 3, 4, 5, 6, 7]),
        (Probe(1, masked=True), []),
    ):
        assert probe.choose(gap, near, False).tolist() == rows, probe
    masked = Probe(1, masked=True).choose(gap, near, True)
    assert masked.tolist() == [0, 2, 3, 4, 5, 6, 7]


def test_where_gradients_are_masked_the_probe_goes_on(trained, digits):
    seen = diagnose(nn.Sequential(Round(), trained), digits)
    climb, first, second = seen.attack["stages"]
    left = climb["tried"] - climb["fooled"] - first["fooled"]
    assert first["tried"] < left, "the first probe is on a few only"
    assert second["tried"] == left and second["fooled"] > 0


def test_one_lucky_query_is_no_flag_and_two_of_many_are_none():
    check = sanity.black_box_check
    assert check(tried=0, fooled=0).passed
    assert check(tried=10, fooled=1).passed
    assert not check(tried=10, fooled=2).passed
    assert check(tried=100, fooled=4).passed
    assert not check(tried=100, fooled=5).passed
    assert check(tried=10, fooled=0, nearer=2).passed
    assert not check(tried=10, fooled=0, nearer=3).passed
    assert check(tried=100, fooled=0, nearer=9).passed
    assert not check(tried=100, fooled=0, nearer=10).passed


def test_a_finding_prints_on_one_line():
    good = evaluation.Finding("name", True, "fine")
    bad = evaluation.Finding("name", False, "not fine")
    assert str(good) == "ok   name: fine"
    assert str(bad) == "FLAG name: not fine"


# --- progress -------------------------------------------------------------


class Shown:
    """A progress bar that notes what it is told."""

    made: list  # by the fixture

    def __init__(self, **settings):
        self.settings, self.n, self.seen = settings, 0, []
        Shown.made.append(self)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def set_postfix(self, **told):
        self.seen.append((self.n, told))


@pytest.mark.parametrize("progress", [True, False])
def test_a_bar_counts_stages_and_images_that_stand(monkeypatch, progress):
    Shown.made = []
    monkeypatch.setattr(evaluation, "tqdm", Shown)
    model, x, _ = linear_case(30, (1, 5, 5), 3)
    y = model(x).argmax(dim=1)
    protocol = Protocol(
        "two", plain_pgd("ce", steps=3).stages
        + plain_pgd("margin", steps=3).stages,
    )  # fmt: skip
    found = robust_accuracy(
        model, x, y, eps=0.02, protocol=protocol, progress=progress,
        batch_size=10,
    )  # fmt: skip
    (bar,) = Shown.made
    assert bar.settings["total"] == len(protocol.stages) == 2
    assert bar.settings["desc"] == "two"
    assert bar.settings["disable"] is (not progress)
    assert bar.settings["leave"] is False
    assert bar.settings["bar_format"].startswith("{l_bar}{bar}|")
    steps = [n for n, _ in bar.seen]
    assert steps == sorted(steps) and steps[-1] == 2
    assert 0 < steps[0] < 1, "within the first stage"
    standing = [told["standing"] for _, told in bar.seen]
    assert standing == sorted(standing, reverse=True)
    assert standing[-1] == found.count.correct
    assert 0 < standing[-1] < 30, "a case that shows nothing"


def test_no_bar_is_shown_unless_asked_for(monkeypatch):
    Shown.made = []
    monkeypatch.setattr(evaluation, "tqdm", Shown)
    model, x, y = linear_case(4, (1, 5, 5), 3)
    robust_accuracy(model, x, y, eps=0.02)
    assert Shown.made[0].settings["disable"] is True


def test_images_on_the_border_of_two_classes_do_not_stand(monkeypatch):
    class Tied(nn.Module):
        def forward(self, x):
            return 0 * x.flatten(1)[:, :2]  # a gradient, and no winner

    x, y = torch.rand(6, 1, 2, 2), torch.arange(6) % 2
    monkeypatch.setattr(evaluation, "gradient_checks", None)  # none to check
    for protocol in ("quick", "strong"):
        found = robust_accuracy(
            Tied().eval(), x, y, eps=0.1, protocol=protocol
        )
        assert found.count.correct == 0 and not found.correct.any()


def test_a_bar_does_not_count_images_on_the_border(monkeypatch):
    class Half(nn.Module):
        def forward(self, x):
            bright = (x.flatten(1).mean(dim=1) - 0.5).relu()
            return torch.stack([100 * bright, 0 * bright], dim=1)

    Shown.made = []
    monkeypatch.setattr(evaluation, "tqdm", Shown)
    x = torch.full((4, 1, 2, 2), 0.9)
    x[2:] = 0.1
    robust_accuracy(
        Half().eval(), x, torch.zeros(4, dtype=torch.long), eps=0.01,
        protocol=plain_pgd("ce", steps=2),
    )  # fmt: skip
    assert {told["standing"] for _, told in Shown.made[0].seen} == {2}


def test_without_a_generator_chance_begins_at_zero():
    model, x = waves(25, 3), images(20, (1, 5, 5))
    y = model(x).argmax(dim=1)
    settings = {"eps": 0.1, "protocol": plain_pgd("ce", steps=2)}
    plain = robust_accuracy(model, x, y, **settings)
    same = robust_accuracy(model, x, y, generator=seeded(0), **settings)
    other = robust_accuracy(model, x, y, generator=seeded(1), **settings)
    assert torch.equal(plain.x_adv, same.x_adv)
    assert not torch.equal(plain.x_adv, other.x_adv)


def test_two_doubts_are_told_apart():
    found = evaluation.RobustAccuracy(
        torch.ones(2, dtype=torch.bool), torch.zeros(2, 1), {},
        flags=("one", "two"),
    )  # fmt: skip
    assert str(found).endswith("; one; two")


def test_a_run_is_written_now_and_then_only(monkeypatch, tmp_path):
    class Work:
        saved = 0

        def save(self, *_):
            self.saved += 1

    clock = [100.0]
    monkeypatch.setattr(evaluation.time, "monotonic", lambda: clock[0])
    work = Work()
    keep = evaluation._Keeper(tmp_path / "run", work, None)
    for at, saved in ((101, 0), (129.9, 0), (130, 1), (131, 1), (160, 2)):
        clock[0] = at
        keep()
        assert work.saved == saved, at
    keep(now=True)
    assert work.saved == 3

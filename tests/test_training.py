"""Training against a plain re-implementation; resuming; collapse."""

import hashlib
import math
import random
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from promises import (
    crafting_leaves_running_statistics_alone,
    half_perturbs_exactly_half,
    images,
    normed_model,
    seeded,
    seeds_matter,
)

from lib import models, norms, objectives, states, training
from lib.evaluation import accuracy
from lib.objectives import METHODS
from lib.training import Recipe, TrainingCollapsed, perturb, train


def weights(model):
    state = model.state_dict().values()
    return torch.cat([value.flatten().double() for value in state])


def easy(n=64, features=4, seed=0):
    """Images whose class shows in every pixel, but not without doubt."""
    y = torch.arange(n) % 2
    x = (
        0.25
        + 0.5 * y[:, None]
        + 0.2 * torch.rand(n, features, generator=seeded(seed))
    )
    return x, y


# --- the same updates, written out plainly --------------------------------


def plain_training(x, y, recipe, classes):
    """The loop of ``train`` for a linear model, with no autograd.

    Adam and the one-cycle schedule are written from their formulas; the
    gradient of the cross-entropy of a linear model is (softmax - 1) W.
    """
    n, features = x.shape
    start = models.build(
        "linear", seed=recipe.seed, classes=classes, features=features
    ).state_dict()
    params = [start[f"1.{k}"].double().numpy() for k in ("weight", "bias")]
    first, second = ([np.zeros_like(p) for p in params] for _ in "mv")
    order, noise = seeded(recipe.seed), seeded(recipe.seed)
    batches = math.ceil(n / recipe.batch_size)
    total = recipe.epochs * batches * recipe.replays
    carried = np.zeros((recipe.batch_size, features))
    update, losses = 0, []
    for _ in range(recipe.epochs):
        losses.append(0.0)
        rows = torch.randperm(n, generator=order)
        for part in [p for p in rows.split(recipe.batch_size)
                     for _ in range(recipe.replays)]:  # fmt: skip
            ramp = recipe.warmup * total
            share = min(1.0, (update + 1) / ramp) if ramp else 1.0
            loss, grads = plain_gradients(
                params, x[part], y[part].numpy(), recipe,
                share * recipe.eps, noise, carried,
            )  # fmt: skip
            losses[-1] += loss.sum() / n / recipe.replays
            lr, beta = plain_one_cycle(update, total, recipe.lr)
            update += 1
            for p, g, m, v in zip(params, grads, first, second, strict=True):
                m[:] = beta * m + (1 - beta) * g
                v[:] = 0.999 * v + 0.001 * g * g
                m_hat, v_hat = m / (1 - beta**update), v / (1 - 0.999**update)
                p -= lr * m_hat / (np.sqrt(v_hat) + 1e-8)
    return params, losses


def plain_gradients(params, images, labels, recipe, eps, noise, carried):
    """The loss of each row and the gradients to weight and bias."""
    n = len(images)
    if recipe.method == "trades":
        return plain_trades(params, images, labels, recipe, eps, noise)
    if recipe.method == "free":
        batch = np.clip(images.numpy() + carried[:n], 0, 1)
    else:
        batch = plain_batch(params, images, labels, recipe, eps, noise)
    wrong, loss = plain_error(params, batch, labels)
    if recipe.method == "free":  # the step uses the weights before theirs
        size = recipe.rel_step * eps
        carried[:n] = plain_step(
            carried[:n], wrong @ params[0], size, eps, recipe.norm
        )
    return loss, [wrong.T @ batch / n, wrong.mean(axis=0)]


def plain_trades(params, images, labels, recipe, eps, noise):
    """Cross-entropy plus beta KL(p, q), differentiated by hand."""
    clean, n = images.numpy(), len(images)
    wrong, loss = plain_error(params, clean, labels)
    p = plain_softmax(params, clean)
    start = norms.random_in_ball(images, eps, recipe.norm, noise).numpy()
    moved = np.clip(clean + start, 0, 1)
    for _ in range(recipe.steps):
        grad = (plain_softmax(params, moved) - p) @ params[0]
        size = recipe.rel_step * eps / recipe.steps
        delta = plain_step(moved - clean, grad, size, eps, recipe.norm)
        moved = np.clip(clean + delta, 0, 1)
    q = plain_softmax(params, moved)
    apart = (p * np.log(p / q)).sum(axis=1, keepdims=True)
    wrong = wrong + recipe.beta * p * (np.log(p / q) - apart)
    other = recipe.beta * (q - p)
    return loss + recipe.beta * apart[:, 0], [
        (wrong.T @ clean + other.T @ moved) / n,
        (wrong + other).mean(axis=0),
    ]


def plain_softmax(params, images):
    z = images @ params[0].T + params[1]
    p = np.exp(z - z.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


def plain_step(delta, grad, size, eps, norm):
    """One step along the gradient, back into the ball."""
    if norm == "linf":
        return np.clip(delta + size * np.sign(grad), -eps, eps)
    delta = delta + size * grad / np.linalg.norm(grad, axis=1, keepdims=True)
    length = np.linalg.norm(delta, axis=1, keepdims=True)
    return delta * np.minimum(1, eps / length)


def plain_error(params, images, labels):
    """Softmax minus one-hot labels, and the cross-entropy of each row."""
    p = plain_softmax(params, images)
    loss = -np.log(p[np.arange(len(labels)), labels])
    p[np.arange(len(labels)), labels] -= 1
    return p, loss


def plain_one_cycle(update, total, peak):
    """Learning rate and first Adam beta: up for 30 %, down for the rest."""
    top, end = 0.3 * total - 1, total - 1
    if update <= top:
        share, (a, b) = update / top, (peak / 25, peak)
        c, d = 0.95, 0.85
    else:
        share, (a, b) = (update - top) / (end - top), (peak, peak / 25e4)
        c, d = 0.85, 0.95
    wave = (1 + math.cos(math.pi * share)) / 2
    return b + (a - b) * wave, d + (c - d) * wave


def plain_batch(params, images, labels, recipe, eps, noise):
    """The images that a batch is trained on, for the first five methods."""
    clean = images.numpy()
    if recipe.method == "standard":
        return clean
    if recipe.method == "gaussian":
        draw = torch.randn(images.shape, generator=noise, dtype=images.dtype)
        return clean + eps * draw.numpy()
    kept = len(clean) // 2 if recipe.method == "half" else 0
    start = norms.random_in_ball(images[kept:], eps, recipe.norm, noise)
    x = clean[kept:]
    if recipe.method == "random":
        return np.clip(x + start.numpy(), 0, 1)
    adv = np.clip(x + start.numpy(), 0, 1)
    for _ in range(recipe.steps):
        wrong, _ = plain_error(params, adv, labels[kept:])
        grad = wrong @ params[0]
        size = recipe.rel_step * eps / recipe.steps
        delta = plain_step(adv - x, grad, size, eps, recipe.norm)
        adv = np.clip(x + delta, 0, 1)
    return np.concatenate([clean[:kept], adv])


EXTRA = {"free": {"steps": 1, "replays": 3}, "trades": {"beta": 2.0}}


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize(
    ("method", "change"),
    [(method, EXTRA.get(method, {})) for method in METHODS]
    + [("free", {"steps": 1}), ("adversarial", {"steps": 1})],
)
def test_every_method_makes_the_updates_worked_out_by_hand(
    method, change, norm
):
    x, y = images(11, (4,)), torch.arange(11) % 3
    recipe = Recipe(
        "linear", method, norm=norm, eps=0.2, epochs=2, batch_size=4, lr=0.1,
        warmup=0.5, seed=3, **({"steps": 3} | change),
    )  # fmt: skip
    model, history = train(x, y, recipe, progress=False, classes=3, features=4)
    (weight, bias), losses = plain_training(x, y, recipe, 3)
    found = model[1].weight.detach().numpy(), model[1].bias.detach().numpy()
    assert np.allclose(found[0], weight, atol=1e-6)
    assert np.allclose(found[1], bias, atol=1e-6)
    assert [row["loss"] for row in history] == pytest.approx(losses, 1e-5)


@pytest.mark.parametrize(
    "change",
    [
        {"method": "trades", "beta": 0.0},
        {"method": "trades", "eps": 0.0},
        {"method": "free", "eps": 0.0, "steps": 1},
        {"method": "adversarial", "eps": 0.0},
    ],
)
def test_with_nothing_to_withstand_every_method_is_standard(change):
    x, y = images(10, (3, 8, 8)).float(), torch.arange(10) % 4
    recipe = Recipe("small_resnet", eps=0.1, epochs=2, batch_size=4)
    options = {"progress": False, "classes": 4, "width": 2}
    standard, _ = train(x, y, recipe, **options)
    model, _ = train(x, y, replace(recipe, **change), **options)
    assert torch.equal(weights(model), weights(standard))


def test_free_goes_on_from_the_perturbation_of_the_batch_before(monkeypatch):
    """With one replay, an update sees one step made for another batch."""
    x, y = easy(8)
    seen, loss = [], objectives.F.cross_entropy

    def watch(model, inputs, output):
        seen.append(inputs[0].detach().clone())

    build = models.build
    monkeypatch.setattr(
        models, "build", lambda *a, **k: watched(build(*a, **k), watch)
    )
    recipe = Recipe(
        "linear", "free", eps=0.05, steps=1, rel_step=1.0, epochs=1,
        batch_size=4, warmup=0.0,
    )  # fmt: skip
    train(x, y, recipe, progress=False, classes=2, features=4)
    first, second = torch.randperm(8, generator=seeded(0)).split(4)
    assert torch.equal(seen[0], x[first])
    model = build("linear", seed=0, classes=2, features=4)
    start = x[first].requires_grad_()
    (grad,) = torch.autograd.grad(loss(model(start), y[first]), start)
    assert torch.allclose(seen[1], x[second] + 0.05 * grad.sign())


def watched(model, hook):
    model.register_forward_hook(hook)
    return model


# --- what a batch is trained on -------------------------------------------


def test_half_perturbs_the_second_half_and_nothing_else():
    half_perturbs_exactly_half(perturb)


def test_crafting_in_evaluation_mode_leaves_batch_norm_alone():
    crafting_leaves_running_statistics_alone(perturb)


def test_crafting_in_training_mode_moves_batch_norm():
    model = normed_model().train()
    before = model[3].norm1.running_mean.clone()
    x, y = images(4, (3, 8, 8)).float(), torch.arange(4)
    recipe = Recipe(method="adversarial", eps=0.1, craft_mode="train")
    perturb(model, x, y, recipe, 0.1, seeded(0))
    assert model.training
    assert not torch.equal(model[3].norm1.running_mean, before)


def test_batch_norm_sees_one_pass_for_each_update():
    x, y = images(12, (3, 8, 8)).float(), torch.arange(12) % 4
    counts = {}
    for craft_mode in ("eval", "train"):
        recipe = Recipe(
            "small_resnet", "adversarial", eps=0.1, steps=3, epochs=2,
            batch_size=5, craft_mode=craft_mode,
        )  # fmt: skip
        model, _ = train(x, y, recipe, progress=False, classes=4, width=2)
        counts[craft_mode] = int(model[3].norm1.num_batches_tracked)
    assert counts == {"eval": 2 * 3, "train": 2 * 3 * (1 + 3)}


def test_modes_of_single_layers_are_found_again():
    model = normed_model()
    model[3].train()
    before = [module.training for module in model.modules()]
    x, y = images(4, (3, 8, 8)).float(), torch.arange(4)
    perturb(model, x, y, Recipe(method="half", eps=0.1), 0.1, seeded(0))
    assert [module.training for module in model.modules()] == before


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("method", ["adversarial", "half", "random"])
def test_training_images_stay_in_ball_and_box(method, norm):
    model = normed_model()
    x, y = images(8, (3, 8, 8)).float(), torch.arange(8) % 4
    recipe = Recipe(method=method, norm=norm, eps=0.3)
    x_adv = perturb(model, x, y, recipe, 0.3, seeded(0))
    assert bool(((x_adv >= 0) & (x_adv <= 1)).all())
    assert float(norms.length(x_adv - x, norm).max()) <= 0.3 + 1e-6
    assert not torch.equal(x_adv, x)


def test_eps_grows_during_warm_up_only():
    x, y = easy(20)
    recipe = Recipe(
        "linear", "random", eps=0.4, epochs=5, batch_size=5, warmup=0.5
    )
    _, history = train(x, y, recipe, progress=False, classes=2, features=4)
    # 20 updates, the ramp ends with the 10th; a row notes its last eps
    assert [row["eps"] for row in history] == pytest.approx(
        [0.16, 0.32, 0.4, 0.4, 0.4]
    )


# --- what comes back ------------------------------------------------------


def test_passes_are_counted_for_every_method():
    x, y = easy(10)
    passes = {}
    for method in METHODS:
        recipe = Recipe(
            "linear", method, eps=0.1, epochs=1, batch_size=4, warmup=0.0,
            **({"steps": 3} | EXTRA.get(method, {})),
        )  # fmt: skip
        _, (row,) = train(x, y, recipe, progress=False, classes=2, features=4)
        passes[method] = row["forwards"], row["backwards"]
    assert passes == {
        "standard": (10, 10), "random": (10, 10), "gaussian": (10, 10),
        "adversarial": (10 * 4, 10 * 4), "half": (10 + 3 * 5, 10 + 3 * 5),
        "free": (10 * 3, 10 * 3),
        # crafting: the clean answers and 3 steps; then clean and moved
        "trades": (10 * (1 + 3 + 2), 10 * (3 + 2)),
    }  # fmt: skip


def test_a_model_learns_and_comes_back_in_evaluation_mode(digits):
    part = digits.take(400, 200)
    held = part.x_test, part.y_test
    model, history = train(
        part.x_train, part.y_train,
        Recipe("linear", epochs=4, batch_size=20, lr=0.02),
        held_out=held, progress=False,
    )  # fmt: skip
    assert not model.training
    assert [row["epoch"] for row in history] == [1, 2, 3, 4]
    assert history[-1]["loss"] < history[0]["loss"] / 2
    assert history[-1]["accuracy"] > 0.9
    seen = accuracy(model, *held).value
    assert history[-1]["held_out_accuracy"] == seen > 0.75


def test_the_seed_and_nothing_else_decides():
    seeds_matter(train)


def test_training_leaves_the_global_chance_and_the_images_alone():
    x, y = easy(12)
    kept, state = x.clone(), torch.get_rng_state()
    recipe = Recipe("linear", "adversarial", eps=0.1, epochs=1)
    train(x, y, recipe, progress=False, classes=2, features=4)
    assert torch.equal(x, kept)
    assert torch.equal(torch.get_rng_state(), state)


def test_bfloat16_passes_keep_float32_weights():
    x, y = easy(16)
    recipe = Recipe("linear", "adversarial", eps=0.1, epochs=2, lr=0.1)
    full, _ = train(x, y, recipe, progress=False, classes=2, features=4)
    short, _ = train(
        x, y, replace(recipe, precision="bfloat16"), progress=False,
        classes=2, features=4,
    )  # fmt: skip
    assert short[1].weight.dtype == torch.float32
    assert not torch.equal(weights(short), weights(full))
    assert torch.allclose(weights(short), weights(full), atol=0.05)


def test_the_progress_bar_shows_loss_accuracy_and_time_left(capsys):
    x, y = easy(50)
    recipe = Recipe("linear", epochs=2, batch_size=1, lr=0.1)
    train(x, y, recipe, classes=2, features=4)
    shown = capsys.readouterr().err
    for part in ("standard eps=0", "loss=", "accuracy=", "%|", "<"):
        assert part in shown
    train(x, y, recipe, progress=False, classes=2, features=4)
    assert capsys.readouterr().err == ""


# --- interrupted and resumed ----------------------------------------------

RUNS = {
    "linear": (
        Recipe("linear", "adversarial", eps=0.2, steps=2, epochs=4,
               batch_size=5, lr=0.1),
        (4,), {"features": 4},
    ),
    "batch norm": (
        Recipe("small_resnet", "half", norm="l2", eps=0.5, steps=2, epochs=3,
               batch_size=5),
        (3, 8, 8), {"width": 2},
    ),
    "free": (
        Recipe("linear", "free", eps=0.2, steps=1, rel_step=1.0, replays=2,
               epochs=3, batch_size=5, lr=0.1),
        (4,), {"features": 4},
    ),
    "trades": (
        Recipe("linear", "trades", eps=0.2, steps=2, epochs=3, batch_size=5,
               lr=0.1),
        (4,), {"features": 4},
    ),
    "average": (
        Recipe("linear", epochs=4, batch_size=5, lr=0.1, averaging=0.9),
        (4,), {"features": 4},
    ),
    "averaged": (
        Recipe("small_resnet", "adversarial", eps=0.1, steps=1, epochs=4,
               batch_size=5, averaging=0.5, validation=5, augment="crop-flip"),
        (3, 8, 8), {"width": 2},
    ),
}  # fmt: skip


def timeless(history):
    """The rows without their times, which are at least 0."""
    times = {"seconds", "cpu_seconds"}
    assert all(row[name] >= 0 for row in history for name in times)
    return [{k: v for k, v in row.items() if k not in times}
            for row in history]  # fmt: skip


@cache
def uninterrupted(name):
    """Model and history of one of the runs, for all that compare."""
    recipe, shape, options = RUNS[name]
    x, y = images(13, shape).float(), torch.arange(13) % 3
    return train(x, y, recipe, progress=False, classes=3, **options)


@pytest.mark.parametrize(
    ("name", "stop_after"),
    [*(("linear", n) for n in (0, 1, 3, 5, 11)), ("batch norm", 4),
     ("free", 7), ("free", 13), ("trades", 4), ("average", 7), ("averaged", 3),
     pytest.param("averaged", 7, marks=pytest.mark.slow)],
)
def test_a_run_resumed_after_an_interruption_has_the_same_bits(
    tmp_path, monkeypatch, name, stop_after
):
    recipe, shape, options = RUNS[name]
    x, y = images(13, shape).float(), torch.arange(13) % 3
    options = {"progress": False, "classes": 3, **options}
    expected, history = uninterrupted(name)

    done, update = 0, training._update

    def interrupted(*args):
        nonlocal done
        if done == stop_after:
            raise KeyboardInterrupt
        done += 1
        return update(*args)

    file = tmp_path / "deep" / "run.pt"
    with monkeypatch.context() as patch:
        patch.setattr(training, "_update", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(x, y, recipe, resume=file, **options)
    torch.manual_seed(99)  # the global chance plays no part
    model, found = train(x, y, recipe, resume=file, **options)
    assert torch.equal(weights(model), weights(expected))
    assert timeless(found) == timeless(history)


def test_a_finished_run_is_not_trained_again(tmp_path, monkeypatch):
    x, y = easy(10)
    recipe = Recipe("linear", epochs=2)
    options = {
        "resume": tmp_path / "run.pt", "progress": False, "classes": 2,
        "features": 4,
    }  # fmt: skip
    model, history = train(x, y, recipe, **options)
    monkeypatch.delattr(training, "_update")
    again, same = train(x, y, recipe, **options)
    assert torch.equal(weights(model), weights(again))
    assert same == history


@pytest.mark.parametrize("kill_at", [1, 2, 3, 4])
def test_a_kill_while_saving_leaves_the_last_state_whole(
    tmp_path, monkeypatch, kill_at
):
    x, y = easy(10)
    recipe, file = Recipe("linear", epochs=4), tmp_path / "run.pt"
    options = {"progress": False, "classes": 2, "features": 4}
    expected, _ = train(x, y, recipe, **options)
    saved, write = 0, Path.write_bytes

    def killed(path, content):
        nonlocal saved
        saved += 1
        if saved == kill_at:
            write(path, b"half of a fi")
            raise KeyboardInterrupt
        write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", killed)
        with pytest.raises(KeyboardInterrupt):
            train(x, y, recipe, resume=file, **options)
    model, history = train(x, y, recipe, resume=file, **options)
    assert [row["epoch"] for row in history] == [1, 2, 3, 4]
    assert torch.equal(weights(model), weights(expected))


@pytest.mark.parametrize(
    "change",
    [
        {"recipe": Recipe("linear", epochs=2, seed=1)},
        {"recipe": Recipe("linear", epochs=2, lr=0.1)},
        {"x": easy(10)[0].flip(0)},
        {"y": 1 - easy(10)[1]},
        {"x": easy(200)[0], "y": easy(200)[1]},
    ],
    ids=["seed", "lr", "images", "labels", "more images"],
)
def test_the_state_of_another_run_is_refused(tmp_path, change):
    x, y = easy(10)
    same = {"x": x, "y": y, "recipe": Recipe("linear", epochs=2)}
    options = {
        "resume": tmp_path / "run.pt", "progress": False, "classes": 2,
        "features": 4,
    }  # fmt: skip
    train(**same, **options)
    with pytest.raises(ValueError, match="other settings or other images"):
        train(**(same | change), **options)


@pytest.fixture
def unfinished(tmp_path):
    """A state file, and a function that goes on from it."""
    x, y = easy(10)
    file = tmp_path / "run.pt"

    def resume():
        return train(
            x, y, Recipe("linear", epochs=1), resume=file, progress=False,
            classes=2, features=4,
        )  # fmt: skip

    resume()
    return file, resume


def test_a_damaged_state_is_a_clear_error(unfinished):
    """Cut short anywhere, or one bit of it altered, a weight's included."""
    file, resume = unfinished
    content = file.read_bytes()
    chance = random.Random(0)
    wrong = [content[: len(content) * tenth // 10] for tenth in range(10)]
    for _ in range(40):
        altered = bytearray(content)
        altered[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        wrong.append(bytes(altered))
    wrong.append(content.partition(b"\n")[2])  # as older versions wrote it
    for each in [*wrong, content[:10], content[:64], content[:65]]:
        file.write_bytes(each)
        with pytest.raises(ValueError, match=r"damaged.* delete it"):
            resume()
        assert file.read_bytes() == each
    file.write_bytes(content)
    resume()


def test_a_state_with_other_parts_is_a_clear_error(unfinished):
    """Another version of the code wrote it, so its digest is right."""
    file, resume = unfinished
    with states.opened(file) as state:
        pass
    for key in state.keys() - {"average"}:  # which this run has not
        states.write(file, {k: v for k, v in state.items() if k != key})
        with pytest.raises(ValueError, match=r"another version.* delete it"):
            resume()
    for change in (
        {"recipe": {**state["recipe"], "colour": 1}}, {"model": {}},
    ):  # fmt: skip
        states.write(file, state | change)
        with pytest.raises(ValueError, match=r"another version.* delete it"):
            resume()
    states.write(file, state)
    resume()


@pytest.mark.parametrize("cut", [0, 10, 700])
def test_a_state_that_torch_cannot_read_is_a_clear_error(unfinished, cut):
    """Also under a digest that fits."""
    file, resume = unfinished
    content = file.read_bytes().partition(b"\n")[2][:cut]
    digest = hashlib.sha256(content).hexdigest()
    file.write_bytes(digest.encode() + b"\n" + content)
    with pytest.raises(ValueError, match=r"damaged.* delete it"):
        resume()


def test_a_state_file_that_would_run_code_is_refused(unfinished, tmp_path):
    import pickle

    canary = tmp_path / "ran"

    class Evil:
        def __reduce__(self):
            return (canary.touch, ())

    file, resume = unfinished
    content = pickle.dumps(Evil(), protocol=2)
    digest = hashlib.sha256(content).hexdigest()
    file.write_bytes(digest.encode() + b"\n" + content)
    with pytest.raises(ValueError, match="damaged"):
        resume()
    assert not canary.exists()


def test_each_finished_epoch_is_shown_in_evaluation_mode():
    x, y = easy(10)
    shown = []

    def watch(model, row):
        shown.append((row["epoch"], model.training))

    train(
        x, y, Recipe("linear", epochs=3), progress=False, classes=2,
        features=4, on_epoch=watch,
    )  # fmt: skip
    assert shown == [(1, False), (2, False), (3, False)]


# --- collapse -------------------------------------------------------------

LONG = Recipe("linear", epochs=22, batch_size=4, lr=0.05, warmup=0.2)


def test_no_model_survives_a_ball_that_holds_every_image():
    x, y = easy(40)
    recipe = replace(LONG, method="adversarial", eps=0.5, steps=3)
    with pytest.raises(TrainingCollapsed, match="Lower lr, raise warmup"):
        train(x, y, recipe, progress=False, classes=2, features=4)


@pytest.mark.slow
def test_a_learning_rate_that_is_too_large_is_noticed(digits):
    part = digits.take(84, 10)
    recipe = Recipe(epochs=12, batch_size=4, lr=30.0)
    epochs = []
    with pytest.raises(TrainingCollapsed, match="no better than a constant"):
        train(
            part.x_train, part.y_train, recipe, progress=False,
            on_epoch=lambda _, row: epochs.append(row["epoch"]),
        )  # fmt: skip
    assert len(epochs) < 11, "noticed only at the end"


def test_training_that_works_is_not_stopped():
    x, y = easy(40)
    for method, eps in (("standard", 0.0), ("adversarial", 0.05)):
        recipe = replace(LONG, method=method, eps=eps, steps=1)
        _, history = train(x, y, recipe, progress=False, classes=2, features=4)
        assert len(history) == 22


def test_one_large_class_is_not_taken_for_a_collapse():
    x, _ = easy(40)
    few = (torch.arange(40) % 20 == 0).long()  # two of forty
    x[few == 1] = 0.9
    x[few == 0] *= 0.5
    recipe = replace(LONG, lr=0.5)
    _, history = train(x, few, recipe, progress=False, classes=2, features=4)
    assert history[-1]["accuracy"] == 1.0


def test_during_warm_up_nothing_is_stopped():
    x, y = easy(40)
    recipe = replace(LONG, method="adversarial", eps=0.5, warmup=1.0, steps=1)
    _, history = train(x, y, recipe, progress=False, classes=2, features=4)
    assert len(history) == 22


# --- bad input ------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "clean"}, "method must be one of standard, adversarial"),
        ({"norm": "l1"}, '"linf" or "l2"'),
        ({"eps": -0.1}, "eps must be a finite number >= 0"),
        ({"precision": "float16"}, '"float32" or "bfloat16"'),
        ({"craft_mode": "both"}, '"eval" or "train"'),
        ({"epochs": 0}, "must be >= 1"),
        ({"batch_size": 0}, "must be >= 1"),
        ({"steps": 0}, "must be >= 1"),
        ({"lr": 0.0}, "lr and rel_step must be finite and > 0"),
        ({"lr": float("nan")}, "lr and rel_step must be finite and > 0"),
        ({"rel_step": -1.0}, "lr and rel_step must be finite and > 0"),
        ({"warmup": 1.5}, r"share of the run, in \[0, 1\]"),
        ({"augment": "mixup"}, '"none", "crop-flip" or "shift"'),
        ({"method": "free"}, "set steps=1"),
        ({"replays": 2}, 'replays are for the method "free"'),
        ({"replays": 0}, "replays must be >= 1"),
        ({"beta": -1.0}, "beta finite and >= 0"),
        ({"averaging": 1.0}, r"a decay, in \[0, 1\)"),
        ({"validation": -1}, "validation and patience must be >= 0"),
        ({"patience": 2}, "patience needs validation images"),
    ],
)
def test_an_unsound_recipe_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Recipe(**change)


def test_unsound_images_and_labels_are_refused():
    x, y = easy(10)
    for images_, labels, message in (
        (3 * x, y, "normalisation belongs inside"),
        (x, y[:5], r"shape \(10,\)"),
        (x, y + 1, r"0 \.\. 1, these span 1 \.\. 2"),
        (x, y.float(), r"torch\.long"),
        (x[:0], y[:0], "empty"),
    ):
        with pytest.raises(ValueError, match=message):
            train(
                images_, labels, Recipe("linear"), progress=False, classes=2,
                features=4,
            )  # fmt: skip
    with pytest.raises(ValueError, match="no model named"):
        train(x, y, Recipe("vgg"), progress=False)


# --- augmentation ---------------------------------------------------------


@pytest.mark.parametrize("mirror", [False, True])
def test_shift_moves_each_image_on_its_own(mirror):
    x = torch.rand(64, 3, 5, 6, generator=seeded(0)) + 0.1  # no black pixel
    out = training.shift(x, seeded(1), pad=2, mirror=mirror)
    padded = torch.nn.functional.pad(x, [2] * 4)
    seen = set()
    for before, after in zip(padded, out, strict=True):
        found = {
            (i, j, flip)
            for i in range(5) for j in range(5) for flip in (False, True)
            if torch.equal(
                before[:, i : i + 5, j : j + 6].flip(2) if flip
                else before[:, i : i + 5, j : j + 6], after
            )
        }  # fmt: skip
        assert len(found) == 1, "not a shifted or mirrored copy"
        seen |= found
    assert {i for i, _, _ in seen} == {j for _, j, _ in seen} == set(range(5))
    assert {flip for _, _, flip in seen} == {False, mirror}
    assert len(seen) > 15, "images move together"
    again = training.shift(x, seeded(1), pad=2, mirror=mirror)
    assert torch.equal(out, again)


@pytest.mark.parametrize(
    "name, pad, mirror", [("crop-flip", 4, True), ("shift", 2, False)]
)
def test_a_recipe_names_its_augmentation(name, pad, mirror):
    x, y = images(6, (1, 28, 28)), torch.arange(6)
    run = training.Run(x, y, Recipe(augment=name, batch_size=6), {})
    out = training.prepare(run, x)
    same = training.shift(x, seeded(0), pad=pad, mirror=mirror)
    assert torch.equal(out, same)


def test_augmentation_is_off_unless_asked_for():
    x, y = images(12, (3, 8, 8)), torch.arange(12) % 2
    settings = {"epochs": 1, "batch_size": 4, "warmup": 0.0}
    plain, with_it = (
        weights(
            train(
                x, y, Recipe("small_resnet", augment=name, **settings),
                progress=False, width=2, classes=2,
            )[0]
        )
        for name in ("none", "crop-flip")
    )  # fmt: skip
    assert not torch.equal(plain, with_it)
    with pytest.raises(ValueError, match="augment"):
        Recipe(augment="mixup")

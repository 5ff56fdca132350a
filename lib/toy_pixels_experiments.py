"""The recorded experiments on 5 against 7 (claims C17 to C20 on MNIST).

Each function takes the settings of its record (a mapping of plain values).
Every count is of test digits; linear rules meet their exact worst case.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import attacks, data, models
from .results import Outcome
from .toy_pixels import (
    Split,
    accuracy,
    correlations,
    descend,
    fit,
    five_or_seven,
    fixed_point,
    worst_points,
)

WEAK = 0.1  # a pixel is weakly correlated below this, as in the criterion


def _counts(
    w: np.ndarray, b: float, split: Split, eps: float
) -> dict[str, Any]:
    """Right answers: standard, robust in the pixel box, and without it."""
    return {
        "total": len(split[1]),
        "standard": accuracy(w, b, split).correct,
        "robust_box": accuracy(w, b, split, eps).correct,
        "robust_free": accuracy(w, b, split, eps, False).correct,
    }


def _described(
    w: np.ndarray, b: float, train: Split, test: Split, eps: float
) -> dict[str, Any]:
    """A rule in the letters of Table 5 and Figure 5b."""
    size = np.abs(w)
    weak = np.abs(correlations(train)) < WEAK
    return {
        "l1": float(size.sum()),
        "weak_share": float(size[weak].sum() / size.sum()),
        "used": int((size > 1e-9).sum()),
        "train": _counts(w, b, train, eps),
        "test": _counts(w, b, test, eps),
    }


def linear_digits(settings: Mapping[str, Any]) -> Outcome:
    """C18, Figure 5a-b, Table 5: standard and robust linear rules.

    Settings: eps, lam, resamples. Beside the fit on all training digits
    there are ``resamples`` fits on digits drawn from them with replacement
    (bootstrap). ``off``: how far the weights are from the optimality
    condition.
    """
    found = data.load("mnist", quiet=True)
    train, test = five_or_seven(found)
    eps, lam = settings["eps"], settings["lam"]
    arrays = {"correlation": torch.from_numpy(correlations(train)).float()}
    values: dict[str, Any] = {}
    resampled = []
    for number in range(settings["resamples"] + 1):
        part = train
        if number:
            rng = np.random.default_rng(number)
            rows = rng.integers(0, len(train[1]), len(train[1]))
            part = train[0][rows], train[1][rows]
        pair = {}
        for name, radius in (("standard", 0.0), ("robust", eps)):
            w, b = fit(part, radius, lam=lam)
            pair[name] = _described(w, b, part, test, eps)
            if not number:
                again = fixed_point(w, b, part, radius, lam, True)
                pair[name]["off"] = float(np.abs(w - again).max())
                arrays[name] = torch.from_numpy(w).float()
        if number:
            resampled.append(pair)
        else:
            values = pair
    values["resampled"] = resampled
    return Outcome(values, arrays, found.describe())


def choices(settings: Mapping[str, Any]) -> Outcome:
    """C18 again, with what the paper leaves open chosen otherwise.

    Settings: eps, lams; epochs, rate, batch, seed of gradient descent
    without regulariser. Standard training, robust training in the box and
    robust training without it.
    """
    found = data.load("mnist", quiet=True)
    train, test = five_or_seven(found)
    eps, rows = settings["eps"], []
    kinds = {
        "standard": (0.0, True), "robust, in the box": (eps, True),
        "robust, no box": (eps, False),
    }  # fmt: skip
    for name, (radius, box) in kinds.items():
        rules = {
            f"λ = {lam:g}": fit(train, radius, lam=lam, box=box)
            for lam in settings["lams"]
        }
        run = descend(
            train, radius, epochs=settings["epochs"], rate=settings["rate"],
            batch=settings["batch"], seed=settings["seed"], box=box,
        )  # fmt: skip
        rules |= {f"{epoch} epochs": rule for epoch, rule in run.items()}
        for choice, (w, b) in rules.items():
            row = _described(w, b, train, test, eps)
            rows.append({"training": name, "choice": choice, **row})
    return Outcome({"rows": rows}, {}, found.describe())


def selected_pixels(settings: Mapping[str, Any]) -> Outcome:
    """C19, Figure 5c: standard training on the k most correlated pixels.

    Settings: eps, lams, counts (list of k).
    """
    found = data.load("mnist", quiet=True)
    train, test = five_or_seven(found)
    order = np.argsort(-np.abs(correlations(train)), kind="stable")
    rows = []
    for lam in settings["lams"]:
        for k in settings["counts"]:
            part, held = (
                (x[:, order[:k]], y) for x, y in (train, test)
            )  # fmt: skip
            w, b = fit(part, lam=lam)
            counts = _counts(w, b, held, settings["eps"])
            rows.append({"lam": lam, "k": k, **counts})
    return Outcome({"rows": rows}, {}, found.describe())


# --- C17 -----------------------------------------------------------------


def _images(split: Split) -> tuple[Tensor, Tensor]:
    """Rows as images (n, 1, 28, 28) and classes, for networks."""
    x = torch.from_numpy(split[0]).float().view(-1, 1, 28, 28)
    return x, (torch.from_numpy(split[1]) > 0).long()


def _small_cnn(split: Split, epochs: int, seed: int) -> nn.Module:
    x, y = _images(split)
    model = models.build("small_cnn", seed=seed, classes=2)
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(epochs):
        for rows in torch.randperm(len(x), generator=generator).split(64):
            loss = F.cross_entropy(model(x[rows]), y[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return model.eval()


def _right(
    model: nn.Module | tuple[np.ndarray, float], split: Split
) -> int:
    if isinstance(model, tuple):
        return accuracy(*model, split).correct
    x, y = _images(split)
    with torch.no_grad():
        return int((model(x).argmax(1) == y).sum())


def transfer(settings: Mapping[str, Any]) -> Outcome:
    """C17: attacks made for one model, applied to models of other digits.

    Settings: eps, lam, epochs, test, seeds. The training digits are split
    in two halves at random; a linear rule and a small CNN are fitted to
    each. Attacks in the box: exact for linear rules, PGD with 10 steps for
    networks, the signs of the correlations (no model), random signs.
    ``right[i][j]`` counts model j's right answers under attack i.
    """
    found = data.load("mnist", quiet=True)
    train, test = five_or_seven(found)
    test = test[0][: settings["test"]], test[1][: settings["test"]]
    tables = [_transfer_table(train, test, settings, seed)
              for seed in settings["seeds"]]  # fmt: skip
    values = {"total": len(test[1]), "tables": tables}
    return Outcome(values, {}, found.describe())


def _transfer_table(
    train: Split, test: Split, settings: Mapping[str, Any], seed: int
) -> dict[str, Any]:
    eps, rng = settings["eps"], np.random.default_rng(seed)
    halves = [
        (train[0][rows], train[1][rows])
        for rows in np.array_split(rng.permutation(len(train[1])), 2)
    ]
    fitted: dict[str, nn.Module | tuple[np.ndarray, float]] = {}
    attacked = {"no attack": test[0]}
    for half, part in zip("AB", halves, strict=True):
        rule = fit(part, lam=settings["lam"])
        fitted[f"linear {half}"] = rule
        attacked[f"made for linear {half}"] = worst_points(rule[0], test, eps)
    for half, part in zip("AB", halves, strict=True):
        model = _small_cnn(part, settings["epochs"], seed)
        fitted[f"CNN {half}"] = model
        x, y = _images(test)
        start = torch.Generator().manual_seed(seed)
        x_adv = attacks.pgd(model, x, y, eps=eps, steps=10, generator=start)
        rows = x_adv.flatten(1).double().numpy()
        attacked[f"made for CNN {half}"] = rows
    attacked["no model: signs of correlations"] = worst_points(
        correlations(train), test, eps
    )
    noise = rng.choice([-1.0, 1.0], size=test[0].shape)
    attacked["random signs"] = np.clip(test[0] + eps * noise, 0, 1)
    return {
        "seed": seed, "models": list(fitted), "attacks": list(attacked),
        "right": [
            [_right(model, (x, test[1])) for model in fitted.values()]
            for x in attacked.values()
        ],
    }  # fmt: skip


# --- C20 -----------------------------------------------------------------


def noise_pixels(settings: Mapping[str, Any]) -> Outcome:
    """C20: pixels of pure noise beside those of the digits.

    Settings: eps, lam, points (list of n, added), seeds. A linear rule is
    trained as usual on n digits with ``added`` pixels drawn uniformly from
    [0, 1]. ``correlation``: mean size of the noise pixels' correlation
    with the label in the sample.
    """
    found = data.load("mnist", quiet=True)
    train, test = five_or_seven(found)
    rows = []
    for seed in settings["seeds"]:
        for n, added in settings["points"]:
            rng = np.random.default_rng([seed, n])
            pick = rng.permutation(len(train[1]))[:n]
            part, held = (
                (np.hstack([x, rng.random((len(y), added))]), y)
                for x, y in ((train[0][pick], train[1][pick]), test)
            )
            w, b = fit(part, lam=settings["lam"])
            seen = np.abs(correlations(part)[train[0].shape[1] :])
            rows.append({
                "seed": seed, "n": n, "added": added,
                "correlation": float(seen.mean()) if added else 0.0,
                **_counts(w, b, held, settings["eps"]),
            })  # fmt: skip
    return Outcome({"rows": rows}, {}, found.describe())

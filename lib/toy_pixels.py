"""From the toy to pixels: 5 against 7, and images with a planted pattern.

Appendix E and Figure 5 of the paper: linear classifiers of two digits.
Images are rows x (n, 784) in [0, 1], labels y are -1 (a 5) and +1 (a 7).
The planted images are the toy model of ``lib.toy`` drawn as pictures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import minimize
from torch import Tensor, nn

from . import attacks, data
from .results import Outcome
from .toy import Toy

Split = tuple[np.ndarray, np.ndarray]


def five_or_seven(found: data.Data) -> tuple[Split, Split]:
    """Training and test pairs (x, y) of the digits 5 and 7 of MNIST."""
    pairs = []
    for x, y in ((found.x_train, found.y_train),
                 (found.x_test, found.y_test)):  # fmt: skip
        keep = (y == 5) | (y == 7)
        sign = torch.where(y[keep] == 7, 1.0, -1.0).double()
        pairs.append((x[keep].flatten(1).double().numpy(), sign.numpy()))
    return pairs[0], pairs[1]


def worst_margins(
    w: np.ndarray, b: float, split: Split, eps: float, box: bool
) -> np.ndarray:
    """Exact worst margins (n,) of a linear rule in an l-infinity ball.

    y (w.x + b) - eps * ||w||_1 without the pixel box. With it a pixel only
    moves as far as [0, 1] allows.
    """
    x, y = split
    margin = y * (x @ w + b)
    if not box:
        return margin - eps * np.abs(w).sum()
    down = np.minimum(eps, x)
    up = np.minimum(eps, 1 - x)
    # y w_i > 0: the adversary lowers the pixel; y w_i < 0: it raises it
    rise, fall = np.maximum(w, 0), np.maximum(-w, 0)
    lost_up = down @ rise + up @ fall
    lost_down = up @ rise + down @ fall
    return margin - np.where(y > 0, lost_up, lost_down)


def accuracy(
    w: np.ndarray, b: float, split: Split, eps: float = 0.0,
    box: bool = True,
) -> float:
    """Exact robust accuracy of a linear rule; ties are errors."""
    return float((worst_margins(w, b, split, eps, box) > 0).mean())


def fit(split: Split, eps: float, lam: float, steps: int = 500
        ) -> tuple[np.ndarray, float]:
    """Weights (k,) and bias of a linear rule trained at radius ``eps``.

    Minimises mean log(1 + exp(-worst margin)) + lam / 2 ||w||^2, the worst
    margin without box, so that the problem is convex; eps = 0 is standard
    training. w is written as a difference of two nonnegative parts, whose
    sum is |w|: smooth, and weights can be exactly 0.
    """
    x, y = split
    signed, k = x * y[:, None], x.shape[1]

    def loss(parts: np.ndarray) -> tuple[float, np.ndarray]:
        plus, minus, b = parts[:k], parts[k:-1], parts[-1]
        w = plus - minus
        margin = signed @ w + y * b - eps * (plus.sum() + minus.sum())
        pull = np.exp(-np.logaddexp(0, margin)) / len(y)
        slope = lam * w - pull @ signed
        push = eps * pull.sum()
        value = np.logaddexp(0, -margin).mean() + lam / 2 * w @ w
        return value, np.r_[slope + push, push - slope, -pull @ y]

    found = minimize(
        loss, np.zeros(2 * k + 1), jac=True, method="L-BFGS-B",
        bounds=[(0, None)] * (2 * k) + [(None, None)],
        options={"maxiter": steps, "maxfun": 2 * steps},
    )  # fmt: skip
    return found.x[:k] - found.x[k:-1], float(found.x[-1])


def correlations(split: Split) -> np.ndarray:
    """Correlation of every pixel with the label; 0 for constant pixels."""
    x, y = split
    centred = x - x.mean(0)
    spread = centred.std(0)
    both = (centred * (y - y.mean())[:, None]).mean(0)
    return np.where(spread > 0, both / np.maximum(spread, 1e-12), 0) / y.std()


# --- the toy one can see -------------------------------------------------

SIDE, GREY, SHAPE, SPREAD = 28, 0.5, 0.2, 0.05


@dataclass(frozen=True)
class Planted:
    """The toy model as grey images of 28 x 28 pixels.

    A bright ring (+1) or cross (-1) agrees with the label with probability
    p: the strong feature. Every pixel carries normal noise of standard
    deviation 0.05 and a faint pattern of +-eta pixel units whose sign is
    the label's: the weak features. ``m`` is their pooled strength.
    """

    p: float
    m: float
    seed: int = 0

    @property
    def toy(self) -> Toy:
        """The same distribution in the units of ``lib.toy``."""
        return Toy.from_m(self.m, SIDE * SIDE, self.p)

    @property
    def eta(self) -> float:
        """Size of the planted pattern in pixel units."""
        return self.toy.eta * SPREAD

    def pattern(self) -> Tensor:
        """The fixed signs (28, 28) of the planted pattern."""
        generator = torch.Generator().manual_seed(self.seed)
        return 2.0 * torch.randint(
            0, 2, (SIDE, SIDE), generator=generator) - 1

    def shapes(self) -> Tensor:
        """Masks (2, 28, 28): the cross (-1) and the ring (+1)."""
        place = torch.arange(SIDE) - (SIDE - 1) / 2
        radius = (place[:, None] ** 2 + place[None] ** 2).sqrt()
        ring = (radius > 7) & (radius < 10)
        cross = (place.abs()[:, None] < 2) | (place.abs()[None] < 2)
        return torch.stack([cross & (radius < 11), ring]).float()

    def sample(self, n: int, generator: torch.Generator
               ) -> tuple[Tensor, Tensor]:
        """Images (n, 1, 28, 28) and classes (n,): 0 for -1, 1 for +1.

        Values stay in [0, 1] but for chances below one in a million.
        """
        y = torch.randint(0, 2, (n,), generator=generator)
        agrees = torch.rand(n, generator=generator) < self.p
        shown = torch.where(agrees, y, 1 - y)
        noise = torch.randn(n, SIDE, SIDE, generator=generator)
        sign = (2.0 * y - 1)[:, None, None]
        x = GREY + SHAPE * self.shapes()[shown] + SPREAD * noise
        x = x + self.eta * sign * self.pattern()
        return x[:, None].clamp(0, 1), y


def network(width: int, generator: torch.Generator) -> nn.Sequential:
    """A two-layer network on planted images, normalisation inside."""
    model = nn.Sequential(
        nn.Flatten(), _Centre(), nn.Linear(SIDE * SIDE, width), nn.ReLU(),
        nn.Linear(width, 2),
    )  # fmt: skip
    with torch.no_grad():
        for weight in model.parameters():
            scale = weight.shape[-1] ** -0.5
            weight.uniform_(-scale, scale, generator=generator)
    return model


class _Centre(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x - GREY) / SPREAD


def train_network(
    planted: Planted, *, eps: float, steps: int, batch: int, width: int,
    generator: torch.Generator,
) -> nn.Sequential:
    """Train on fresh planted images, at the worst point of radius ``eps``.

    The inner maximisation is PGD with 5 steps; eps = 0 trains as usual.
    """
    model = network(width, generator)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = 1e-3 * (1 - step / steps)
        x, y = planted.sample(batch, generator)
        if eps > 0:
            model.eval()
            x = attacks.pgd(model, x, y, eps=eps, steps=5,
                            generator=generator)
            model.train()
        loss = F.cross_entropy(model(x), y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model.eval()


# --- recorded experiments ------------------------------------------------


def linear_digits(settings: Mapping) -> Outcome:
    """C18, Figure 5a-b, Table 5: standard and robust linear rules.

    Settings: eps, lam, steps; MNIST comes from ``lib.data``.
    """
    found = data.load("mnist", quiet=True)
    train, test = five_or_seven(found)
    corr = correlations(train)
    values, arrays = {}, {"correlation": torch.from_numpy(corr)}
    for name, eps in (("standard", 0.0), ("robust", settings["eps"])):
        w, b = fit(train, eps, settings["lam"], settings["steps"])
        row = {"l1": float(np.abs(w).sum()), "bias": b}
        for where, split in (("train", train), ("test", test)):
            row[where] = {
                "total": len(split[1]),
                "standard": accuracy(w, b, split),
                "robust_box": accuracy(w, b, split, settings["eps"]),
                "robust": accuracy(w, b, split, settings["eps"], False),
            }
        weak = np.abs(corr) < 0.1
        row["weak_share"] = float(np.abs(w[weak]).sum() / row["l1"])
        row["zeros"] = int((np.abs(w) < 1e-6).sum())
        values[name], arrays[name] = row, torch.from_numpy(w)
    return Outcome(values, arrays, found.describe())


def selected_pixels(settings: Mapping) -> Outcome:
    """C19, Figure 5c: standard training on the k most correlated pixels.

    Settings: eps, lam, steps, counts (list of k).
    """
    found = data.load("mnist", quiet=True)
    train, test = five_or_seven(found)
    order = np.argsort(-np.abs(correlations(train)), kind="stable")
    rows = []
    for k in settings["counts"]:
        kept = order[:k]
        part = train[0][:, kept], train[1]
        held = test[0][:, kept], test[1]
        w, b = fit(part, 0.0, settings["lam"], settings["steps"])
        rows.append({
            "k": k, "total": len(held[1]), "standard": accuracy(w, b, held),
            "robust_box": accuracy(w, b, held, settings["eps"]),
            "robust": accuracy(w, b, held, settings["eps"], False),
            "l1": float(np.abs(w).sum()),
        })  # fmt: skip
    return Outcome({"rows": rows}, {}, found.describe())


def planted_networks(settings: Mapping) -> dict:
    """The visible toy: networks trained with and without an adversary.

    Settings: p, m, steps, batch, width, test, seeds. Accuracies are counted
    on fresh images; ``attacked`` at eps = 2 eta by PGD with 20 steps,
    ``shifted`` by the shift of the theorem, which knows no network.
    """
    planted = Planted(settings["p"], settings["m"])
    eps, rows = 2 * planted.eta, []
    for seed in settings["seeds"]:
        for name, radius in (("standard", 0.0), ("adversarial", eps)):
            generator = torch.Generator().manual_seed(seed)
            model = train_network(
                planted, eps=radius, steps=settings["steps"],
                batch=settings["batch"], width=settings["width"],
                generator=generator,
            )
            x, y = planted.sample(settings["test"], generator)
            sign = (2.0 * y - 1)[:, None, None, None]
            shifted = (x - eps * sign * planted.pattern()).clamp(0, 1)
            x_adv = attacks.pgd(model, x, y, eps=eps, steps=20,
                                generator=generator)
            row = {"seed": seed, "training": name, "total": len(y)}
            for kind, images in (("standard", x), ("shifted", shifted),
                                 ("attacked", x_adv)):
                with torch.no_grad():
                    hits = model(images).argmax(1) == y
                row[kind] = int(hits.sum())
            rows.append(row)
    return {"rows": rows, "eps": eps, "eta": planted.eta,
            "predicted": _predicted(planted)}


def _predicted(planted: Planted) -> dict:
    """What section 2 of the paper says before anything is trained."""
    toy = planted.toy
    tau = toy.bayes_tau()
    return {
        "standard": toy.gate_accuracy(tau),
        "shifted": toy.gate_accuracy(tau, 2 * toy.eta),
        "x1": toy.gate_accuracy(math.inf, 2 * toy.eta),
    }

"""Recipes: every setting of a training run, and the named ones.

``Recipe`` is what ``training.train`` takes; ``RECIPES`` holds one for each
way of training that the book compares. Change one with
``dataclasses.replace(RECIPES["mnist-pgd"], eps=0.2)``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from .norms import check_eps, check_norm
from .objectives import METHODS
from .results import later


@dataclass(frozen=True)
class Recipe:
    """Every setting of a training run that changes its result.

    ``eps`` and ``norm`` are those of the training perturbations (for the
    method ``gaussian``, ``eps`` is the deviation of a pixel); ``steps``
    gradient steps of ``rel_step * eps / steps`` each (one step makes PGD
    the fast gradient sign method with a random start). ``eps`` grows
    linearly from 0 over ``warmup`` (a fraction of all updates), without
    which training at eps = 0.3 on MNIST can stay at chance. Adam with a
    one-cycle learning rate that peaks at ``lr``. ``precision`` is that of
    the passes in training, ``"float32"`` or ``"bfloat16"`` (weights stay
    float32). Perturbations are crafted with the model in evaluation mode
    if ``craft_mode`` is ``"eval"``. Before they are perturbed, the images
    are shifted by up to 4 pixels and half of them mirrored if ``augment``
    is ``"crop-flip"``, shifted by up to 2 pixels if it is ``"shift"`` (a
    mirrored digit is another digit).

    ``replays`` updates follow each other on one batch (method ``free``);
    ``beta`` weighs the second term of ``trades``. ``averaging`` is the
    decay, for each update, of an average of the weights that takes the
    model's place in the end (0: none). ``validation`` images are kept out
    of the training set: the model is attacked on them after every epoch,
    the epoch with the best robust accuracy gives the final weights, and
    after ``patience`` epochs without a better one the run ends (0: never).
    """

    model: str = "small_cnn"
    method: str = "standard"
    norm: str = "linf"
    eps: float = 0.0
    steps: int = 5
    rel_step: float = 2.5
    epochs: int = 6
    batch_size: int = 128
    lr: float = 2e-3
    warmup: float = 0.3
    precision: str = "float32"
    craft_mode: str = "eval"
    seed: int = 0
    augment: str = later("none")
    replays: int = later(1)
    beta: float = later(6.0)
    averaging: float = later(0.0)
    validation: int = later(0)
    patience: int = later(0)

    def __post_init__(self) -> None:
        check_norm(self.norm)
        check_eps(self.eps)
        for name, choices in (
            ("precision", ("float32", "bfloat16")),
            ("craft_mode", ("eval", "train")),
            ("augment", ("none", "crop-flip", "shift")),
        ):
            if getattr(self, name) not in choices:
                *most, last = [f'"{choice}"' for choice in choices]
                raise ValueError(f"{name} must be {', '.join(most)} or {last}")
        self._check_method()
        if min(self.epochs, self.batch_size, self.steps) < 1:
            raise ValueError("epochs, batch_size and steps must be >= 1")
        if not (0 < self.lr < math.inf and 0 < self.rel_step < math.inf):
            raise ValueError("lr and rel_step must be finite and > 0")
        if not 0 <= self.warmup <= 1:
            raise ValueError("warmup is a share of the run, in [0, 1]")
        if not 0 <= self.averaging < 1:
            raise ValueError("averaging is a decay, in [0, 1)")
        if min(self.validation, self.patience) < 0:
            raise ValueError("validation and patience must be >= 0")
        if self.patience and not self.validation:
            raise ValueError("patience needs validation images to judge by")

    def _check_method(self) -> None:
        if self.method not in METHODS:
            raise ValueError(
                f"method must be one of {', '.join(METHODS)}, "
                f"not {self.method!r}"
            )
        if self.replays < 1 or not 0 <= self.beta < math.inf:
            raise ValueError("replays must be >= 1, beta finite and >= 0")
        if self.replays > 1 and self.method != "free":
            raise ValueError('replays are for the method "free"')
        if self.method == "gaussian" and self.validation:
            raise ValueError(
                'the eps of the method "gaussian" is no radius to attack '
                "validation images at: set validation=0"
            )
        if self.method == "free" and self.steps != 1:
            raise ValueError(
                'the method "free" takes one step with each of its '
                "replays: set steps=1"
            )

    def radius(self, update: int, updates: int) -> float:
        """eps at an update (from 0 on) of ``updates``, grown in warm-up."""
        ramp = self.warmup * updates
        share = 1.0 if ramp <= 0 else min(1.0, (update + 1) / ramp)
        return self.eps * share

    def step_size(self, eps: float) -> float:
        """Length of one gradient step on the images at radius ``eps``."""
        return self.rel_step * eps / self.steps


_MNIST = Recipe(epochs=4, batch_size=250, lr=5e-3)
_MNIST_03 = replace(_MNIST, method="adversarial", norm="linf", eps=0.3)
_CIFAR = Recipe(
    "small_resnet", epochs=16, batch_size=128, lr=3e-3, warmup=0.1,
    precision="bfloat16", augment="crop-flip",
)  # fmt: skip
_CIFAR_8 = replace(
    _CIFAR, method="adversarial", norm="linf", eps=8 / 255, validation=1_000
)

RECIPES = {
    # the network of Wong & Kolter (2018); Adam and one-cycle are ours
    "mnist-standard": _MNIST,
    # Madry et al. (2018) at their radius, with 5 larger steps for their 40
    "mnist-pgd": _MNIST_03,
    # half of a batch clean, half PGD images: Table 4 of the paper
    "mnist-half": replace(_MNIST_03, method="half"),
    # Wong et al. (2020), "Fast is better than free": one step of 1.25 eps
    # from a random start; watched, since it can overfit catastrophically
    "mnist-fgsm": replace(
        _MNIST_03, steps=1, rel_step=1.25, validation=1_000
    ),
    # Shafahi et al. (2019), "Adversarial training for free": steps of eps,
    # 8 updates on every batch; fewer epochs pay for the replays
    "mnist-free": replace(
        _MNIST_03, method="free", steps=1, rel_step=1.0, replays=8, epochs=3
    ),
    # Zhang et al. (2019), TRADES: beta = 6 is their 1 / lambda for CIFAR-10
    "mnist-trades": replace(_MNIST_03, method="trades", beta=6.0),
    "cifar-standard": _CIFAR,
    # Wong et al. (2020)
    "cifar-fgsm": replace(_CIFAR_8, steps=1, rel_step=1.25),
    # Madry et al. (2018): 7 steps of 2/255; the epoch chosen as Rice et al.
    # (2020) advise, on images kept out of the training set
    "cifar-pgd": replace(_CIFAR_8, steps=7, rel_step=1.75),
    # Shafahi et al. (2019)
    "cifar-free": replace(
        _CIFAR_8, method="free", steps=1, rel_step=1.0, replays=8, epochs=4
    ),
    # Zhang et al. (2019): 10 steps of 2/255, beta = 6; weights averaged as
    # Rebuffi et al. (2021) advise
    "cifar-trades": replace(
        _CIFAR_8, method="trades", steps=10, rel_step=2.5, averaging=0.995
    ),
}  # fmt: skip

"""The paper's own numbers, with how far they can be trusted here.

``recalled`` marks a number that was written down from memory of the
published version and could not be read again; the mark is printed wherever
the number is.
"""

from __future__ import annotations

from dataclasses import dataclass

RECALLED = "[recalled]"


@dataclass(frozen=True)
class Table4Row:
    """A row of Table 4: accuracies in per cent, all ``[recalled]``.

    ``standard_*`` are standard accuracies, ``robust_*`` robust ones at the
    row's norm and eps, of models trained on clean images (``_standard``),
    half-half batches (``_half``) and adversarial images (``_robust``).
    """

    dataset: str
    norm: str
    eps: float
    standard_standard: float
    standard_half: float
    standard_robust: float
    robust_standard: float
    robust_half: float
    robust_robust: float


TABLE_4 = tuple(
    Table4Row(*row)
    for row in (
        ("mnist", "linf", 0.1, 99.31, 99.43, 99.36, 29.45, 95.29, 95.05),
        ("mnist", "linf", 0.2, 99.31, 99.22, 98.99, 0.05, 90.79, 92.86),
        ("mnist", "linf", 0.3, 99.31, 99.17, 97.37, 0.00, 89.51, 89.92),
        ("mnist", "l2", 0.5, 99.31, 99.35, 99.41, 94.67, 97.60, 97.70),
        ("mnist", "l2", 1.5, 99.31, 99.29, 99.24, 56.42, 87.71, 88.59),
        ("mnist", "l2", 2.5, 99.31, 99.12, 97.79, 46.36, 60.27, 63.73),
        ("cifar10", "linf", 2 / 255, 92.20, 90.13, 89.64, 0.99, 69.10, 69.92),
        ("cifar10", "linf", 4 / 255, 92.20, 88.27, 86.54, 0.08, 55.60, 57.79),
        ("cifar10", "linf", 8 / 255, 92.20, 84.72, 79.57, 0.00, 37.56, 41.93),
        ("cifar10", "l2", 20 / 255, 92.20, 92.04, 91.77, 45.60, 83.94, 84.70),
        ("cifar10", "l2", 80 / 255, 92.20, 88.95, 88.38, 8.80, 67.29, 68.69),
        ("cifar10", "l2", 320 / 255, 92.20, 81.74, 75.75, 3.30, 34.45, 39.76),
    )
)


def table4(dataset: str, norm: str, eps: float) -> Table4Row | None:
    """The paper's row for this data set and ball, if it has one."""
    for row in TABLE_4:
        same = (row.dataset, row.norm) == (dataset, norm)
        if same and abs(row.eps - eps) < 1e-9:
            return row
    return None


def in_table4(dataset: str, norm: str, eps: float, accuracy: str) -> str:
    """The ``"standard"`` or ``"robust"`` accuracies of a row of Table 4.

    After standard, half-half and robust training, such as ``"99.31 / 99.17
    / 97.37"``; a dash where the paper has no such row. All ``[recalled]``.
    """
    row = table4(dataset, norm, eps)
    if row is None:
        return "–"
    return " / ".join(
        f"{getattr(row, f'{accuracy}_{way}'):.2f}"
        for way in ("standard", "half", "robust")
    )


# Table 3: radii of the large perturbations, all [recalled]
TABLE_3 = {
    "mnist": {"linf": 0.3, "l2": 4.0},
    "cifar10": {"linf": 0.125, "l2": 4.7},
    "restricted-imagenet": {"linf": 0.25, "l2": 40.0},
}


@dataclass(frozen=True)
class Claim:
    """One line of the reproduction ledger.

    ``ident`` names claims (C), theorems (T), lemmas (L), figures and
    tables of the paper; ``paper`` is its number or statement, ``criterion``
    what counts as reproduced.
    """

    ident: str
    what: str
    paper: str
    criterion: str
    data: str


_IMAGES = "MNIST, CIFAR-10"
_WORDS = "in words, no number"
LEDGER = tuple(
    Claim(*line)
    for line in (
        ("C1", "robust training costs more compute", _WORDS,
         "PGD-k time ratio between 0.5 (k + 1) and 1.5 (k + 1); free and "
         "fast training nearer to 1 or 2 than to 3", _IMAGES),
        ("C2", "robust training needs more data",
         "in words, after Schmidt et al.",
         "at each size the gap of robust accuracy to its full-data value "
         "exceeds that of standard accuracy", _IMAGES),
        ("C3", "standard accuracy drops", f"numbers of Table 4 {RECALLED}",
         "decreasing in eps, drop beyond 2 standard errors; MNIST "
         "l∞ 0.3: 1 to 3 points; CIFAR-10 8/255: 5 to 15", _IMAGES),
        ("C4, C8, C9", "help with little data, harm with much",
         "curves (Figure 1), no numbers",
         "the sign of robust minus standard accuracy changes on MNIST; no "
         "or weak gain on CIFAR-10 (within noise, or at most 2 points)",
         _IMAGES),
        ("C5", "the difference persists with infinite data", _WORDS,
         "closed forms within 1e-4 of brute force", "none"),
        ("C6, C7", "worst-case perturbation as augmentation", _WORDS,
         "loss order PGD ≥ FGSM > random > clean, no step the other way "
         "beyond noise; effect on accuracy at four sizes or more; PGD helps "
         "most at the smallest and harms at the full one", "MNIST"),
        ("C10", "half-half batches do not remove the drop",
         f"numbers of Table 4 {RECALLED}",
         "standard > half-half > robust in standard accuracy, reverse in "
         "robust accuracy", _IMAGES),
        ("C12", "f_avg has more than 99 %", "for η ≥ 3/√d",
         "0.998650 to 1e-6, 3 s.e. by sampling", "toy"),
        ("C13", "f_avg has at most 1 % robustly", "for ε = 2η",
         "0.001350 to 1e-6, 3 s.e. by sampling", "toy"),
        ("T2.1", "the trade-off bound (C11)", "pδ/(1 − p); 19 δ at p = 0.95",
         "never violated by any fitted or random classifier", "toy"),
        ("T2.1, tight", "the bound is tight", "δ = 1 − p gives p",
         "exact frontier within 1e-4 of brute force, slack formula within "
         "1e-12", "toy"),
        ("C15", "the Bayes rule is not robust", _WORDS,
         "0.999469 and 0.005759 at m = 3, p = 0.95", "toy"),
        ("T2.2a", "the SVM is accurate and not robust (C16)", "> 99 %, < 1 %",
         "solver within 1e-4 in weights, fitted SVM within 0.01", "toy"),
        ("L D.1", "equal weak weights", _WORDS,
         "spread of weak weights: solver below 1e-5, fitted ones less than "
         "half as much with the most data", "toy"),
        ("L D.2", "v* ≥ 1/√2", f"0.016, 0.0004 {RECALLED}",
         "0.016993, 0.000382 and p-limit 0.977511 to 1e-6", "toy"),
        ("L D.3, D.4", "99 % and 1 %", "≥ 99 %, ≤ 1 %",
         "at least Φ(3), at most Φ(-3)", "toy"),
        ("T2.2b, L D.5", "the adversarial SVM has p and p (C16)",
         "for any ε < 1",
         "weak weights below 1 % of w1 for ε ≥ η; w1 within 5 % of its "
         "formula; fails for ε ≥ 2p - 1", "toy"),
        ("C17", "attacks transfer", _WORDS,
         "transferred within 1 point of direct (toy); beats noise (MNIST)",
         "toy, MNIST"),
        ("C18, Fig. 5a-b, Tab. 5", "weights on 5 against 7",
         f"‖w‖₁ 41.08 and 13.69 {RECALLED}",
         "share of weight on weak pixels below a fifth of the standard "
         "rule's; l1 ratio ≥ 2; clean drop, robust gain",
         "MNIST 5/7"),
        ("C19, Fig. 5c", "feature selection alone", "curves, no numbers",
         "standard rises, robust falls from 32 pixels on", "MNIST 5/7"),
        ("C20", "noise features from finite samples", _WORDS,
         "correlation ~ 1/√n (within 3 % in the toy, 10 % on MNIST); robust "
         "accuracy falls with noise features",
         "toy, MNIST"),
        ("Fig. 1, 6", "the size sweep, l2 and l∞", "curves, no numbers",
         "as C4", _IMAGES),
        ("Fig. 7", "standard accuracy against eps", "curves, no numbers",
         "a fall to the largest radius and no rise on the way, both beyond "
         "noise, both norms", _IMAGES),
        ("C22, Fig. 2, 10", "gradients follow the object", "pictures",
         "alignment: robust above standard, interval excludes 0", _IMAGES),
        ("C23, Fig. 3, 8, 9", "large perturbations look like a class",
         f"pictures, at the eps of Table 3 {RECALLED}",
         "a judge agrees with the new label of the robust model far more "
         "often than with that of the standard one: 95 % intervals apart, "
         "for every judge", _IMAGES),
        ("C24", "no gradient masking", _WORDS,
         "the loss rises with eps, up to 100 % success (95 % counts as "
         "all); more steps gain at most 1 point; black box not stronger "
         "than white box", _IMAGES),
        ("C25, Fig. 4", "smooth interpolations", "pictures",
         "a judge's probability of the new class never falls by more than "
         "0.01 on nine in ten of the lines that arrive, at least 50, and "
         "more often than on the standard network's (95 % intervals apart), "
         "for every judge",
         _IMAGES),
        ("C21", "robust features align with perception", _WORDS,
         "C22, C23 and C25 together", "all"),
        ("Tab. 1", "classes of Restricted ImageNet", "a list of ranges",
         "listed, not run", "ImageNet"),
        ("Fig. 1c, 2c, 3c", "panels on Restricted ImageNet",
         "curves and pictures, no numbers",
         "not reproduced without the data; on the substitute, Imagenette, "
         "2c as C22 and 3c as C23 in l2", "ImageNet"),
        ("Tab. 2, 3", "the values of eps", f"numbers {RECALLED}",
         "used as given, marked", "all"),
    )
)  # fmt: skip

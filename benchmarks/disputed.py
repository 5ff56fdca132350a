"""Which of its attacks does AutoAttack owe the images that we miss?

    python benchmarks/disputed.py                   # the cases below
    python benchmarks/disputed.py mnist-linf-0.3    # some of them
    python benchmarks/disputed.py --smoke

For every image that AutoAttack fools and ``strong`` leaves standing in at
least one of its three seeds, each of AutoAttack's four attacks is run alone.
Where only the last one (Square, thousands of queries) succeeds, gradients may
mislead; where one with gradients does, more steps or targets may help.
Settings, models and images are those of ``strength.py``, whose cache of
AutoAttack's outcomes is used; minutes for each image.
"""

from __future__ import annotations

import argparse

import common
import strength
import torch
from torch import Tensor, nn

from lib.attacks import margin
from lib.evaluation import robust_accuracy

CASES = ("mnist-linf-0.3", "mnist-l2-1.5", "mnist-l2-2.5", "cifar-linf-8")
ATTACKS = ("apgd-ce", "apgd-t", "fab-t", "square")
TARGETS = 9  # of apgd-t and fab-t, as in the standard version


def measure(settings: dict) -> dict:
    """For each disputed image who fools it.

    ``images`` has a row for each: ``row`` in the images of the case,
    ``label``, ``left`` (by how many of our seeds), ``strong`` (the smallest
    margin we reached), and ``fooled``: for each of AutoAttack's attacks the
    class it reached, or none. ``autoattack`` and ``strong`` are counts of
    images that stand.
    """
    model, x, y = strength.load(settings)
    reference = strength.autoattack(settings, model, x, y)
    if reference is None:
        raise SystemExit(
            "AutoAttack is missing: install benchmarks/requirements.txt as "
            "benchmarks/README.md says, and name the folder in BENCH_PEERS"
        )
    stands, gap = ours(settings, model, x, y)
    theirs = torch.tensor(reference["correct"]).bool()
    rows = (stands.any(dim=0) & ~theirs).nonzero()[:, 0].tolist()
    return {
        "images": [
            {
                "row": row, "label": int(y[row]),
                "left": int(stands[:, row].sum()),
                "strong": round(float(gap[row]), 4),
                "fooled": alone(settings, model, x[[row]], y[[row]]),
            }
            for row in rows
        ],
        "autoattack": int(theirs.sum()), "total": len(x),
        "strong": stands.sum(dim=1).tolist(),
        "peers": common.versions("pyautoattack"),
    }  # fmt: skip


def ours(
    settings: dict, model: nn.Module, x: Tensor, y: Tensor
) -> tuple[Tensor, Tensor]:
    """What stands for each seed (seeds, n), and the smallest margins (n,)."""
    stands, gap = [], torch.full((len(x),), torch.inf)
    for seed in settings["seeds"]:
        seen = robust_accuracy(
            model, x, y, eps=settings["eps"], norm=settings["norm"],
            protocol="strong", generator=torch.Generator().manual_seed(seed),
        )  # fmt: skip
        stands.append(seen.correct)
        with torch.no_grad():
            gap = torch.minimum(gap, margin(model(seen.x_adv), y))
    return torch.stack(stands), gap


def alone(
    settings: dict, model: nn.Module, x: Tensor, y: Tensor
) -> dict[str, int | None]:
    """The class that each of AutoAttack's attacks drives one image to."""
    peer = common.peer("pyautoattack")
    assert peer is not None, "measure has looked for it"
    reached: dict[str, int | None] = {}
    for name in ATTACKS:
        attack = peer.AutoAttack(
            model, norm={"linf": "Linf", "l2": "L2"}[settings["norm"]],
            eps=settings["eps"], version="custom", attacks=[name],
            device="cpu", seed=settings["peer_seed"],
        )  # fmt: skip
        for many in (attack.apgd, attack.fab):  # as the standard version
            many.n_restarts = 1
        for aimed in (attack.apgd_targeted, attack.fab):
            aimed.n_target_classes = TARGETS
        with torch.random.fork_rng(devices=[]):
            x_adv, _ = attack.run_standard_evaluation(x, y)
        with torch.no_grad():
            logits = model(x_adv)
        fooled = bool(margin(logits, y) <= 0)
        logits[0, y] = -torch.inf
        reached[name] = int(logits.argmax()) if fooled else None
    return reached


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "case", nargs="*", metavar="MODEL", help=", ".join(CASES)
    )
    parser.add_argument(
        "--smoke", action="store_true", help="few images; keeps nothing"
    )
    chosen = parser.parse_args()
    common.one_thread()
    cases = strength.CASES | strength.CIFAR
    for name in chosen.case or ["mnist-linf-0.3"] * chosen.smoke or CASES:
        settings = dict(cases[name]) | {"peer_seed": 0}
        if chosen.smoke:
            settings |= {"n": 4, "seeds": [0]}
        values = common.record(
            f"disputed-{name}", settings, measure, smoke=chosen.smoke
        )
        print(name, "AutoAttack", values["autoattack"], "strong",
              values["strong"], "of", values["total"])  # fmt: skip
        for image in values["images"]:
            print("  ", image)


if __name__ == "__main__":
    main()

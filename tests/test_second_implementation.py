"""PGD beside somebody else's: at equal settings the same last points.

``make peers`` installs foolbox into a folder of its own, names that folder in
``BENCH_PEERS`` and runs this file. Nothing else needs foolbox.
"""

import os
import sys

import pytest
from promises import NORMS, images, seeded

from lib import attacks, models, norms

if os.environ.get("BENCH_PEERS"):
    sys.path.append(os.environ["BENCH_PEERS"])
foolbox = pytest.importorskip(
    "foolbox",
    reason="no foolbox, so PGD is not compared with a second implementation "
    "here; make peers does that",
)


@pytest.fixture(scope="module")
def case():
    """The small CNN for MNIST with random weights, in double precision."""
    model = models.build("small_cnn", seed=3).double().eval()
    x = images(6, (1, 28, 28), seed=1)
    return model, x, model(x).argmax(dim=1)


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("random_start", [False, True])
@pytest.mark.parametrize("norm", NORMS)
def test_the_last_points_agree_to_rounding(
    case, norm, random_start, targeted, monkeypatch
):
    model, x, y = case
    eps, step_size, steps = (
        (0.3, 0.02, 20) if norm == "linf" else (2.0, 0.2, 20)
    )
    start = x + norms.random_in_ball(x, eps, norm, seeded(5))
    target = (y + 3) % 10
    ours = attacks.pgd(
        model, x, y, eps=eps, norm=norm, steps=steps, step_size=step_size,
        random_start=random_start, keep="last", generator=seeded(5),
        target=target if targeted else None,
    )  # fmt: skip

    peer = {"linf": foolbox.attacks.LinfPGD, "l2": foolbox.attacks.L2PGD}[norm]
    theirs = peer(
        abs_stepsize=step_size, steps=steps, random_start=random_start
    )
    # chance comes from us; they clip it to the box themselves
    raw = foolbox.devutils.ep.astensor(start)
    monkeypatch.setattr(theirs, "get_random_start", lambda *_: raw)
    goal = (
        foolbox.criteria.TargetedMisclassification(target)
        if targeted else foolbox.criteria.Misclassification(y)
    )  # fmt: skip
    network = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    other = theirs.run(network, x, goal, epsilon=eps)

    moved = norms.length(ours - x, norm)
    assert float(moved.min()) > eps / 2, "a case that shows nothing"
    assert float((ours - other).abs().max()) < 1e-9

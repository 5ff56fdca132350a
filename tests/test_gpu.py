"""Results do not depend on the device: a GPU's are those of the CPU."""

import pytest
import torch
from promises import images, normed_model

from lib import attacks, evaluation

DEVICE = "cuda"
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available(),
        reason="needs a CUDA device: nothing is said about GPUs here",
    ),
]


def on_both(measure):
    """``measure(model, x, y)`` on the CPU and on the GPU, in float64.

    There, rounding is far too small to turn the sign of a gradient.
    """
    model, x = normed_model().double().eval(), images(40, (3, 8, 8)).double()
    y = model(x).argmax(dim=1)
    y[::5] = (y[::5] + 1) % 4
    cpu = measure(model, x, y)
    return cpu, measure(model.to(DEVICE), x.to(DEVICE), y.to(DEVICE))


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("keep", ["worst", "last"])
def test_an_attack_finds_the_same_points_on_a_gpu(norm, keep):
    def attack(model, x, y):
        return attacks.pgd(
            model, x, y, eps=0.05, norm=norm, steps=5, keep=keep,
            random_start=False,
        )  # fmt: skip

    cpu, gpu = on_both(attack)
    assert gpu.device.type == DEVICE
    assert torch.allclose(cpu, gpu.cpu(), rtol=0, atol=1e-7)
    assert len(cpu.unique()) > 40, "nothing to compare"


def test_accuracy_is_the_same_on_a_gpu():
    cpu, gpu = on_both(evaluation.accuracy)
    assert cpu == gpu == evaluation.Accuracy(32, 40)
    cpu, gpu = on_both(lambda model, x, y: evaluation.predict(model, x))
    assert torch.allclose(cpu, gpu.cpu(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_robust_accuracy_is_the_same_on_a_gpu(norm):
    def measure(model, x, y):
        return evaluation.robust_accuracy(model, x, y, eps=0.02, norm=norm)

    cpu, gpu = on_both(measure)
    assert torch.equal(cpu.correct, gpu.correct.cpu())
    assert torch.allclose(cpu.x_adv, gpu.x_adv.cpu(), rtol=0, atol=1e-7)
    assert cpu.attack == gpu.attack

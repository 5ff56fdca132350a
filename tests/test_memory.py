"""Memory: freed blocks are kept on request, batches too large are halved."""

import ctypes
import subprocess
import sys

import pytest
import torch
from promises import seeded
from torch import nn

from lib import _memory, attacks, evaluation, protocols, training
from lib.recipes import Recipe

# faults before and after the call, for the same big block taken 20 times
COUNT_FAULTS = """
import resource, torch
from lib import _memory, attacks, evaluation, training

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(12_000_000)  # 48 MB: above every default threshold
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

assert not _memory.keep_freed_memory.cache_info().currsize, "on import"
first = faults()
x, y = torch.rand(2, 1, 2, 2), torch.tensor([0, 1])
attacks.pgd(torch.nn.Flatten(), x, y, eps=0.1, steps=1)
faults()  # the first block is still taken from the kernel
print(_memory.keep_freed_memory(), first, faults())
"""


def has_glibc() -> bool:
    return sys.platform.startswith("linux") and hasattr(
        ctypes.CDLL(None), "gnu_get_libc_version"
    )


@pytest.mark.slow
@pytest.mark.skipif(not has_glibc(), reason="needs the GNU C library")
def test_an_attack_makes_the_process_keep_its_memory():
    """Counted in page faults, which do not depend on the clock."""
    run = subprocess.run(
        [sys.executable, "-c", COUNT_FAULTS],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    raised, before, after = run.stdout.split()
    assert raised == "True"
    assert int(after) < int(before) / 5


def test_it_does_nothing_elsewhere(monkeypatch):
    asked = _memory.keep_freed_memory.__wrapped__
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: object())  # musl
    assert asked() is False
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(ctypes, "CDLL", None)  # not even looked at
    assert asked() is False


@pytest.mark.parametrize("largest", [1 << 30, 1 << 25, 0])
def test_older_libraries_get_the_most_they_allow(monkeypatch, largest):
    given = {}

    class Library:
        gnu_get_libc_version = None

        def mallopt(self, option, size):
            if size > largest:
                return 0
            given[option] = size
            return 1

    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: Library())
    assert _memory.keep_freed_memory.__wrapped__() is (largest > 0)
    assert set(given.values()) == ({largest} if largest else set())


# --- batches that are too large --------------------------------------------


class Small(nn.Module):
    """A network for at most ``most`` images, as a device with little memory.

    Each image passes alone, so that not a bit depends on the batch.
    """

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most, self.sizes = most, []
        draw = seeded(0)
        self.first = nn.Parameter(torch.randn(12, 36, generator=draw))
        self.second = nn.Parameter(torch.randn(3, 12, generator=draw))

    def forward(self, x):
        self.sizes.append(len(x))
        if len(x) > self.most:
            raise RuntimeError(
                "[enforce fail at alloc_cpu.cpp:117] err == 0. Default"
                "CPUAllocator: can't allocate memory: you tried to allocate "
                "4000000000000000 bytes. Error code 12"
            )
        return torch.stack(
            [self.second @ (self.first @ one.flatten()).sin() for one in x]
        )


def images_with_labels(n=30):
    x = torch.rand(n, 1, 6, 6, generator=seeded(1))
    return x, Small(n)(x).argmax(dim=1)


def both(measure):
    """What comes of it with much memory, and with little, and the warnings."""
    found = [measure(Small(10**6).eval())]
    with pytest.warns(UserWarning, match="with half of it") as seen:
        found.append(measure(Small(8).eval()))
    return *found, seen


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("keep", ["worst", "last"])
def test_an_attack_in_halves_has_the_same_bits(norm, keep):
    x, y = images_with_labels()

    def run(model):
        return attacks.pgd(
            model, x, y, eps=0.05, norm=norm, steps=3, restarts=2, keep=keep,
            generator=seeded(2),
        )  # fmt: skip

    whole, halved, seen = both(run)
    assert torch.equal(whole, halved) and not torch.equal(whole, x)
    assert len(seen) == 1, "said once"


def test_gradients_and_accuracy_in_halves_have_the_same_bits():
    x, y = images_with_labels()
    y[::4] = (y[::4] + 1) % 3
    whole, halved, _ = both(lambda m: attacks.input_gradient(m, x, y))
    assert torch.equal(whole, halved)
    whole, halved, seen = both(lambda m: evaluation.predict(m, x))
    assert torch.equal(whole, halved) and len(seen) == 1
    whole, halved, _ = both(lambda m: evaluation.accuracy(m, x, y))
    assert whole == halved == evaluation.Accuracy(22, 30)


PROTOCOLS = {
    "quick": "quick",
    "plain": protocols.plain_pgd("ce", "margin", steps=3, restarts=2),
    "others": protocols.Protocol(
        "others",
        (
            *protocols.race(
                "dlr", steps=(2, 3), start="random", targets=(1, 2)
            ),
            protocols.Walk(2),
            protocols.Polish(5),
            protocols.Probe(5),
        ),
        diagnose=True,
    ),
}  # fmt: skip


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_protocol_in_halves_has_the_same_bits(norm, protocol):
    x, y = images_with_labels()

    def run(model):
        return evaluation.robust_accuracy(
            model, x, y, eps=0.02, norm=norm, protocol=PROTOCOLS[protocol]
        )

    whole, halved, _ = both(run)
    assert torch.equal(whole.x_adv, halved.x_adv)
    assert torch.equal(whole.correct, halved.correct)
    assert 0 < whole.count.correct < 30, "the attacks found nothing, or all"
    assert whole.attack == halved.attack


def test_what_was_too_large_once_is_not_tried_again():
    model = Small(8).eval()
    with pytest.warns(UserWarning):
        evaluation.predict(model, torch.rand(90, 1, 6, 6), batch_size=30)
    assert model.sizes[:3] == [30, 15, 7]
    assert max(model.sizes[2:]) <= 8
    assert sum(size for size in model.sizes if size <= 8) == 90


def test_where_one_image_is_too_large_it_says_what_to_change():
    x, y = images_with_labels(5)
    model = Small(0).eval()
    for run in (
        lambda: attacks.pgd(model, x, y, eps=0.1),
        lambda: attacks.input_gradient(model, x, y),
        lambda: evaluation.accuracy(model, x, y),
        lambda: evaluation.robust_accuracy(model, x, y, eps=0.1),
    ):
        with pytest.raises(MemoryError, match="a smaller network") as caught:
            with pytest.warns(UserWarning, match="half of it"):
                run()
        assert "for a batch of 1." in str(caught.value)
        assert isinstance(caught.value.__cause__, RuntimeError)


def test_a_batch_that_a_layer_in_training_mode_mixes_is_not_halved():
    x, y = images_with_labels()
    for run in (
        lambda: attacks.pgd(Small(8).train(), x, y, eps=0.1),
        lambda: attacks.input_gradient(Small(8).train(), x, y),
    ):
        with pytest.raises(MemoryError, match=r"model\.eval\(\)"):
            run()


def test_other_errors_are_left_as_they_are():
    def broken(_x):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    x, y = images_with_labels()
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        attacks.pgd(broken, x, y, eps=0.1)


def test_training_names_the_batch_size_and_is_not_halved(monkeypatch):
    x, y = images_with_labels(40)
    monkeypatch.setattr(
        training.models, "build", lambda *_args, **_options: Small(8)
    )
    for method in ("standard", "adversarial"):
        recipe = Recipe("linear", method, eps=0.1, batch_size=20, epochs=1)
        with pytest.raises(MemoryError, match=r"batch_size \(it is 20\)") as e:
            training.train(x, y, recipe, progress=False)
        assert isinstance(e.value.__cause__, (RuntimeError, MemoryError))


@pytest.mark.parametrize(
    "words",
    [
        "CUDA out of memory. Tried to allocate 20.00 MiB",
        "CUDA error: out of memory",
        "MPS backend out of memory (MPS allocated: 9.0 GB)",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate",
        "std::bad_alloc", "could not create a memory object",
        "DefaultCPUAllocator: not enough memory: you tried to allocate 8",
    ],
)  # fmt: skip
def test_every_allocator_s_words_are_known(words):
    assert _memory.no_memory(RuntimeError(words))
    assert not _memory.no_memory(ValueError(words))
    assert not _memory.no_memory(RuntimeError("CUDNN_STATUS_BAD_PARAM"))

"""Freed memory is kept where the C library allows it, and only on request."""

import ctypes
import subprocess
import sys

import pytest

from lib import _memory

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

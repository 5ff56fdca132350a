"""What several test files share: one thread, a clean environment, digits."""

import pytest

# What these fixtures need is imported in them: xdist's first process reads
# this file as well and runs no test, and torch takes seconds to import.


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """One thread for torch, which also fixes the order of its sums.

    Two busy cores share out small tensors badly: with two threads the same
    tests can take ten times as long.
    """
    import torch

    torch.set_num_threads(1)


@pytest.fixture
def plain_environment(monkeypatch, tmp_path):
    """No BOOK_* variable set, and a cache that is empty; returns it."""
    for name in ("BOOK_RUN", "BOOK_DATA", "BOOK_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("BOOK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def digits():
    """The 5,000 real digits that need no network."""
    from lib import data

    return data._embedded_mnist()


@pytest.fixture(scope="session")
def trained(digits):
    """A small CNN that knows its digits (9 of 10), in evaluation mode."""
    from lib import training

    recipe = training.Recipe(epochs=2, batch_size=50, lr=5e-3)
    part = digits.take(2000, 200)
    return training.train(part.x_train, part.y_train, recipe, progress=False)[
        0
    ]

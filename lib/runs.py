"""How a chapter runs: the presets behind the variable ``BOOK_RUN``.

``recorded``  heavy cells show the committed record, light cells run live
``smoke``     everything really runs, tiny, on a CPU, under a minute a chapter
``colab``     everything is computed anew; meant for one free GPU
``full``      everything runs with the settings behind the records
"""

from __future__ import annotations

import os
from typing import TypeVar

import torch

MODES = ("recorded", "smoke", "colab", "full")
_Settings = TypeVar("_Settings")


def mode() -> str:
    """The current mode, from the environment variable ``BOOK_RUN``.

    Raises ``ValueError`` for a name that is not one of ``MODES``.
    """
    chosen = os.environ.get("BOOK_RUN", "").strip().lower() or "recorded"
    if chosen not in MODES:
        raise ValueError(
            f"BOOK_RUN={chosen!r} is not a way to run the book; "
            f"choose one of {', '.join(MODES)}"
        )
    return chosen


def pick(*, smoke: _Settings, colab: _Settings, full: _Settings) -> _Settings:
    """The settings for the current mode; ``recorded`` takes ``full``.

    The one visible place where a chapter chooses its size. The cells
    below it use what comes back and do not ask for the mode again.
    """
    choices = {"smoke": smoke, "colab": colab, "full": full}
    return choices.get(mode(), full)


def device() -> torch.device:
    """A CUDA device where there is one, otherwise the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def offline() -> bool:
    """True where nothing may be downloaded: ``BOOK_OFFLINE=1`` or smoke."""
    flag = os.environ.get("BOOK_OFFLINE", "").strip().lower()
    return mode() == "smoke" or flag not in ("", "0", "false", "no")

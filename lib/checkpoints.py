"""Trained models: the weights that a record keeps beside it.

Loading executes nothing: weights are safetensors, the rest is JSON. The
SHA-256 of the weights stands in the record and is compared before they are
read (see ``results.load``).
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from . import models, results


def load(
    name: str,
    *,
    device: torch.device | str = "cpu",
    folder: Path = results.RESULTS,
) -> tuple[nn.Sequential, results.Record]:
    """The model whose weights the record ``name`` keeps, in eval mode.

    Returns the model on ``device`` and the record with its settings and
    accuracies. Raises ``results.RecordError`` where the record is missing
    or damaged, keeps no weights, or names another architecture than the
    weights fit.
    """
    return from_record(results.load(name, folder), device=device)


def from_record(
    record: results.Record, *, device: torch.device | str = "cpu"
) -> tuple[nn.Sequential, results.Record]:
    """As :func:`load`, for a record at hand (such as one just run)."""
    if not record.arrays:
        raise results.RecordError(
            f"the record {record.name} keeps no weights; records of seed 0 do"
        )
    try:
        model = models.build(record.settings["recipe"]["model"], seed=0)
        model.load_state_dict(record.arrays)
    except (KeyError, ValueError, RuntimeError) as error:
        raise results.RecordError(
            f"the weights of {record.name} do not fit the architecture that "
            f"its record names: {error}"
        ) from error
    return model.eval().to(device), record

"""Weight averaging: a second model that follows the first one slowly."""

from __future__ import annotations

import copy

import torch
from torch import nn


class WeightAverage:
    """An exponential moving average of a model's weights.

    After every update, ``average <- d * average + (1 - d) * weights``. The
    ``decay`` d is held back at first, to (1 + t) / (10 + t) at update t, so
    that the random weights of the start are soon forgotten.

    The running mean and variance of batch norm are averaged in the same
    way: they describe activations that the weights of those updates made,
    and the activations of the average lie between them. (Recomputing them
    on the training set would be exact and cost another pass over it.)
    Counters are copied.
    """

    def __init__(self, model: nn.Sequential, decay: float) -> None:
        self.model = copy.deepcopy(model)
        self.model.requires_grad_(False).eval()
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take in the weights that ``model`` has after an update."""
        self.updates += 1
        held = (1 + self.updates) / (10 + self.updates)
        decay = min(self.decay, held)
        current = model.state_dict()
        for name, mean in self.model.state_dict().items():
            if mean.is_floating_point():
                mean.lerp_(current[name], 1 - decay)
            else:
                mean.copy_(current[name])

"""The average of the weights, against the one worked out by hand."""

import torch
from promises import images
from torch import nn

from lib.averaging import WeightAverage
from lib.training import Recipe, train


def normed():
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))


def by_hand(values, decay):
    """d * average + (1 - d) * value, with the decay held back at first."""
    average, *later = values
    for t, value in enumerate(later, start=1):
        d = min(decay, (1 + t) / (10 + t))
        average = d * average + (1 - d) * value
    return average


def test_weights_and_running_statistics_follow_the_formula():
    model = normed().train()
    average = WeightAverage(model, 0.2)
    seen = []

    def note():
        state = model.state_dict().items()
        seen.append({k: v.clone().double() for k, v in state})

    note()
    for step in range(6):  # the decay is reached at the second update
        with torch.no_grad():
            for p in model.parameters():
                p += torch.randn(p.shape, generator=torch.Generator())
        model(torch.rand(4, 3) + step)
        average.update(model)
        note()
    for name, value in average.model.state_dict().items():
        expected = by_hand([state[name] for state in seen], 0.2)
        if name.endswith("num_batches_tracked"):
            expected = seen[-1][name]
        assert torch.allclose(value.double(), expected, atol=1e-6), name
    assert not torch.equal(
        average.model[1].running_mean, model[1].running_mean
    )


def test_the_average_is_a_model_of_its_own():
    model = normed().train()
    average = WeightAverage(model, 0.9)
    assert model.training and not average.model.training
    assert all(p.requires_grad for p in model.parameters())
    assert not any(p.requires_grad for p in average.model.parameters())
    before = {k: v.clone() for k, v in model.state_dict().items()}
    average.update(model)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_training_gives_back_the_average_of_its_own_updates(monkeypatch):
    x, y = images(10, (4,)).float(), torch.arange(10) % 2
    recipe = Recipe("linear", epochs=2, batch_size=3, lr=0.1, averaging=0.5)
    seen = []
    update = WeightAverage.update

    def note(self, model):
        if not seen:
            seen.append(self.model[1].weight.detach().clone())
        seen.append(model[1].weight.detach().clone())
        update(self, model)

    monkeypatch.setattr(WeightAverage, "update", note)
    shown = []
    model, _ = train(
        x, y, recipe, progress=False, classes=2, features=4,
        on_epoch=lambda model, _: shown.append(model[1].weight.clone()),
    )  # fmt: skip
    assert len(seen) == 1 + 2 * 4
    weight = model[1].weight
    assert torch.allclose(weight, by_hand(seen, 0.5), atol=1e-6)
    assert torch.equal(shown[-1], weight), "another model was judged"
    assert not torch.allclose(weight, seen[-1], atol=1e-3)

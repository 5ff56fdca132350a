"""The networks: sizes, normalisation inside, weights fixed by the seed."""

import pytest
import torch
from promises import images, seeded

from lib import models

SIZES = {
    "linear": (1, 28, 7_850),
    "small_cnn": (1, 28, 166_406),
    "paper_cnn": (1, 28, 3_274_634),
    "small_resnet": (3, 32, 603_690),
    "tiny_resnet": (3, 32, 151_834),
    "resnet50": (3, 64, 23_526_473),
}
CLASSES = {"resnet50": 9}  # the super-classes of Restricted ImageNet


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.fixture(scope="module")
def paper_cnn():
    return models.build("paper_cnn", seed=0)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow)
        if name == "resnet50" else name
        for name in models.MODELS
    ],
)
def test_sizes_and_shapes_are_the_ones_documented(name, paper_cnn):
    channels, side, count = SIZES[name]
    model = paper_cnn
    if name != "paper_cnn":
        model = models.build(name, seed=0)
    assert weights(model).numel() == count
    x = torch.rand(2, channels, side, side, generator=seeded(0))
    logits = model.eval()(x)
    assert logits.shape == (2, CLASSES.get(name, 10))
    assert bool(torch.isfinite(logits).all())


def test_the_papers_network_starts_as_the_authors_code_does(paper_cnn):
    for name, value in paper_cnn.state_dict().items():
        if name.endswith("bias"):
            assert torch.equal(value, torch.full_like(value, 0.1))
        else:  # a normal of deviation 0.1 cut at two deviations
            assert float(value.abs().max()) <= 0.2 + 1e-6
            assert abs(float(value.std()) - 0.088) < 0.005
            assert abs(float(value.mean())) < 0.01


@pytest.mark.parametrize("name", ["linear", "small_cnn", "small_resnet"])
def test_weights_depend_on_the_seed_and_on_nothing_else(name):
    torch.manual_seed(1)
    first = weights(models.build(name, seed=7))
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert torch.equal(first, weights(models.build(name, seed=7)))
    assert not torch.equal(first, weights(models.build(name, seed=8)))
    assert torch.equal(torch.get_rng_state(), state), "global chance drawn"


def test_building_a_model_leaves_the_gpus_chance_alone(monkeypatch):
    def refuse(_seed):
        raise AssertionError("every GPU was seeded")

    monkeypatch.setattr(torch.cuda, "manual_seed_all", refuse)
    models.build("linear", seed=0)


def test_new_models_are_in_training_mode():
    assert models.build("small_resnet", seed=0, width=2).training


def test_normalisation_is_the_first_layer_and_not_stored():
    layer = models.Normalise((0.5, 0.25), (0.5, 0.1))
    x = torch.ones(1, 2, 1, 1)
    assert torch.allclose(layer(x).flatten(), torch.tensor([1.0, 7.5]))
    assert not layer.state_dict()
    assert isinstance(models.small_resnet(width=2)[0], models.Normalise)


def test_the_residual_block_keeps_a_shortcut():
    torch.manual_seed(0)
    block = models._Block(3, 3, 1).eval()
    torch.nn.init.zeros_(block.conv2.weight)
    x = images(2, (3, 4, 4)).float()
    assert torch.equal(block(x), x)
    wider = models._Block(3, 5, 2).eval()
    assert wider(x).shape == (2, 5, 2, 2)


def test_an_unknown_name_is_refused_with_those_that_there_are():
    with pytest.raises(ValueError, match=r"no model named 'vgg'; .*paper_cnn"):
        models.build("vgg", seed=0)

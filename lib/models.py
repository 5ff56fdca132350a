"""The networks. All take pixels in [0, 1] and return logits.

Normalisation is the first layer of a model, never part of the data: with it
outside, ``eps`` would mean something else for every data set.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Normalise(nn.Module):
    """``(x - mean) / std`` for each colour channel; pixels (n, c, h, w)."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]):
        super().__init__()
        for name, values in (("mean", mean), ("std", std)):
            buffer = torch.tensor(values).view(1, len(mean), 1, 1)
            self.register_buffer(name, buffer, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


def linear(classes: int = 10, features: int = 784) -> nn.Sequential:
    """One linear layer on the flattened image (n, ...), for exact attacks."""
    return nn.Sequential(nn.Flatten(), nn.Linear(features, classes))


def small_cnn(classes: int = 10) -> nn.Sequential:
    """A compact CNN for 28 x 28 grey images: 166,406 weights at 10 classes.

    Two strided 4 x 4 convolutions (16 and 32 maps) and two dense layers,
    the network of Wong & Kolter (2018). A pass needs about a twentieth of
    the multiplications of the paper's network.
    """
    return nn.Sequential(
        nn.Conv2d(1, 16, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * 7 * 7, 100),
        nn.ReLU(),
        nn.Linear(100, classes),
    )


def paper_cnn(classes: int = 10) -> nn.Sequential:
    """The paper's MNIST network: 3,274,634 weights at 10 classes.

    Two 5 x 5 convolutions (32 and 64 maps) with 2 x 2 max-pooling, a dense
    layer of 1024 and the logits; truncated-normal weights of deviation 0.1
    and biases 0.1, as in the authors' MNIST challenge code.
    """
    model = nn.Sequential(
        nn.Conv2d(1, 32, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * 7 * 7, 1024),
        nn.ReLU(),
        nn.Linear(1024, classes),
    )
    for layer in model:
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.trunc_normal_(layer.weight, std=0.1, a=-0.2, b=0.2)
            assert layer.bias is not None, "both are built with one"
            nn.init.constant_(layer.bias, 0.1)
    return model


class _Block(nn.Module):
    """Pre-activation residual block: two 3 x 3 convolutions and a shortcut."""

    def __init__(self, before: int, after: int, stride: int):
        super().__init__()
        self.norm1 = nn.BatchNorm2d(before)
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.shortcut = None
        if stride != 1 or before != after:
            self.shortcut = nn.Conv2d(before, after, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.norm1(x))
        skip = x if self.shortcut is None else self.shortcut(out)
        out = self.conv1(out)
        return self.conv2(F.relu(self.norm2(out))) + skip


def small_resnet(classes: int = 10, width: int = 32) -> nn.Sequential:
    """A compact pre-activation ResNet for colour images (n, 3, h, w).

    Three stages of ``width``, 2 * ``width`` and 4 * ``width`` maps, one
    block each (two in the last); CIFAR-10 normalisation inside. The first
    convolution sees every pixel and its maps are averaged over 2 x 2: a
    fifth of the cost of full-size stages, and no checkerboard in the input
    gradient, which a convolution of stride 2 would print there.
    """
    return nn.Sequential(
        Normalise((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
        nn.Conv2d(3, width, 3, padding=1, bias=False),
        nn.AvgPool2d(2),
        _Block(width, width, 1),
        _Block(width, 2 * width, 2),
        _Block(2 * width, 4 * width, 2),
        _Block(4 * width, 4 * width, 1),
        nn.BatchNorm2d(4 * width),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4 * width, classes),
    )


def tiny_resnet(classes: int = 10) -> nn.Sequential:
    """``small_resnet`` with half the maps: 151,834 weights at 10 classes.

    For experiments that take a hundred networks.
    """
    return small_resnet(classes, width=16)


def resnet50(classes: int = 9) -> nn.Sequential:
    """torchvision's ResNet-50, untrained, for photographs (n, 3, h, w).

    The paper's network for Restricted ImageNet, with the normalisation of
    the authors' library for that data set inside.
    """
    from torchvision.models import resnet50 as network

    return nn.Sequential(
        Normalise((0.4717, 0.4499, 0.3837), (0.2600, 0.2516, 0.2575)),
        network(num_classes=classes),
    )


MODELS: dict[str, Callable[..., nn.Sequential]] = {
    "linear": linear,
    "small_cnn": small_cnn,
    "paper_cnn": paper_cnn,
    "small_resnet": small_resnet,
    "tiny_resnet": tiny_resnet,
    "resnet50": resnet50,
}


def build(name: str, *, seed: int, **options: int) -> nn.Sequential:
    """A freshly initialised model of ``MODELS``, in training mode.

    ``seed`` fixes the weights; the global random state is left as it was.
    ``options`` go to the model's function (``classes``, ``width``).
    Raises ``ValueError`` for an unknown name.
    """
    if name not in MODELS:
        raise ValueError(
            f"no model named {name!r}; there are {', '.join(MODELS)}"
        )
    with torch.random.fork_rng(devices=[]):
        # not torch.manual_seed, which seeds every GPU for good as well
        torch.default_generator.manual_seed(seed)
        return MODELS[name](**options)

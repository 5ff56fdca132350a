"""Restricted ImageNet: photographs of nine super-classes (Table 1).

The paper joins 203 of ImageNet's 1,000 classes into nine, each a range of
class numbers. The photographs are far too many for one tensor, so they are
a dataset that decodes while it is read, for :mod:`lib.distributed`. The
book holds none of them; ``photographs`` says which folders it can read.

Where the settings in :data:`JOBS` come from:

``[code]``      the authors' later library: class ranges, normalisation,
                SGD with momentum 0.9, rate 0.1 divided by ten after every
                50 of 150 epochs, batches of 256, weight decay 1e-4, seven
                PGD steps
``[recalled]``  the paper, from memory: ResNet-50, epochs of 76,800 images,
                eps 0.005 for l-infinity and 1 for l2
``ours``        step size 2.5 eps / steps, no warm-up of eps, random crops
                and mirror images, and 150 epochs *of 76,800 images*, which
                joins two sources
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from .distributed import Job
from .recipes import Recipe
from .streams import mixed_seed

if TYPE_CHECKING:
    from torchvision.datasets import ImageFolder

# first and last class number, counted from 0, both included [code]
SUPER_CLASSES = {
    "dog": (151, 268), "cat": (281, 285), "frog": (30, 32),
    "turtle": (33, 37), "bird": (80, 100), "primate": (365, 382),
    "fish": (389, 397), "crab": (118, 121), "insect": (300, 319),
}  # fmt: skip
NAMES = tuple(SUPER_CLASSES)
EPOCH_IMAGES = 76_800  # [recalled, high]


def super_class(number: int) -> int | None:
    """Super-class 0 .. 8 of ImageNet class ``number``, None if in none."""
    for label, (first, last) in enumerate(SUPER_CLASSES.values()):
        if first <= number <= last:
            return label
    return None


class Photographs(Dataset[Any]):
    """Images (3, size, size) in [0, 1] with labels 0 .. 8, read from files.

    ``files`` and ``targets`` go together. With ``augment`` an image is a
    random crop (8 to 100 % of the area), mirrored half of the time; the
    draw depends on ``seed``, ``epoch`` and the row only. Without, it is
    the centre of the image, whose short side is 256/224 of ``size``.
    """

    def __init__(
        self,
        files: Sequence[str],
        targets: Sequence[int],
        *,
        size: int = 224,
        augment: bool = False,
        seed: int = 0,
    ):
        if not files:
            raise ValueError("there are no photographs")
        from torchvision import transforms

        self.files, self.targets = list(files), list(targets)
        self.augment, self.seed, self.epoch = augment, seed, 0
        if augment:
            shape = [
                transforms.RandomResizedCrop(size),
                transforms.RandomHorizontalFlip(),
            ]
        else:
            shape = [
                transforms.Resize(round(size * 256 / 224)),
                transforms.CenterCrop(size),
            ]
        self.transform = transforms.Compose([*shape, transforms.ToTensor()])

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        try:
            with Image.open(self.files[row]) as file:
                image = file.convert("RGB")
        except OSError as error:
            raise RuntimeError(
                f"cannot read the photograph {self.files[row]}: {error}"
            ) from error
        # the transforms draw from the global state: lend it, give it back
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(
                mixed_seed(self.seed, self.epoch, row)
            )
            return self.transform(image), self.targets[row]


def photographs(
    folder: Path, split: str, *, size: int = 224, seed: int = 0
) -> Photographs:
    """The photographs of a ``split``, ``"train"`` or ``"val"``.

    ``folder / split`` holds one folder for each class: all 1,000 WordNet
    folders (what ``torchvision.datasets.ImageNet`` unpacks), of which the
    203 are taken, or nine with the names of the super-classes. Training
    photographs are augmented.

    Raises ``FileNotFoundError`` where there is no such folder and
    ``ValueError`` where the folders in it are none of these.
    """
    from torchvision.datasets import ImageFolder

    where = Path(folder).expanduser() / split
    if not where.is_dir():
        raise FileNotFoundError(
            f"{where} is missing. Restricted ImageNet needs a folder with "
            "train/ and val/ in it, each with ImageNet's 1,000 class folders "
            "or with nine named " + ", ".join(NAMES) + ". ImageNet is not "
            "for free download: see image-net.org"
        )
    return restrict(
        ImageFolder(where), size=size, augment=split == "train", seed=seed
    )


def restrict(
    images: ImageFolder, *, size: int = 224, augment: bool, seed: int = 0
) -> Photographs:
    """The part of an ``ImageFolder`` that belongs to the super-classes.

    Also takes a ``torchvision.datasets.ImageNet``, which is one. Raises
    ``ValueError`` for other classes than :func:`photographs` names.
    """
    folders = list(getattr(images, "wnids", images.classes))
    if set(folders) == set(NAMES):
        labels: list[int | None] = [NAMES.index(name) for name in folders]
    elif len(folders) == 1000 and folders == sorted(folders):
        # class numbers are the order of the WordNet ids
        labels = [super_class(number) for number in range(1000)]
    else:
        raise ValueError(
            f"{images.root} has {len(folders)} classes, such as "
            f"{folders[0]!r}. ImageNet has 1,000: without all of them the "
            "class numbers, and so the super-classes, would be wrong. Nine "
            "folders have to be named " + ", ".join(NAMES)
        )
    kept = [
        (path, label)
        for path, number in images.samples
        if (label := labels[number]) is not None
    ]
    return Photographs(
        [path for path, _ in kept], [label for _, label in kept],
        size=size, augment=augment, seed=seed,
    )  # fmt: skip


def _job(method: str, norm: str, eps: float) -> Job:
    return Job(
        Recipe(
            "resnet50", method, norm=norm, eps=eps, steps=7, epochs=150,
            batch_size=256, lr=0.1, warmup=0.0,
        ),
        shards=8, epoch_images=EPOCH_IMAGES, optimiser="sgd",
        weight_decay=1e-4, drop_every=50,
    )  # fmt: skip


JOBS = {
    "restricted-imagenet-standard": _job("standard", "linf", 0.0),
    "restricted-imagenet-linf": _job("adversarial", "linf", 0.005),
    "restricted-imagenet-l2": _job("adversarial", "l2", 1.0),
}

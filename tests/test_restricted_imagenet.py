"""Restricted ImageNet, on small coloured JPEGs made here."""

import pytest
import torch
from PIL import Image

from lib import distributed, models, restricted_imagenet
from lib.distributed import Job
from lib.processes import World
from lib.recipes import Recipe
from lib.restricted_imagenet import (
    JOBS,
    NAMES,
    SUPER_CLASSES,
    Photographs,
    photographs,
    restrict,
    super_class,
)


def colour(label):
    """One colour for each class, far from the others."""
    return (255 * (label % 3) // 2, 255 * (label // 3 % 3) // 2, 100)


def write(folder, label, number, size=(40, 30)):
    folder.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", size, colour(label))
    image.paste((255, 255, 255), (0, 0, 1 + number, 3))  # tells them apart
    image.save(folder / f"{number}.jpg")


@pytest.fixture(scope="module")
def nine(tmp_path_factory):
    """Three photographs for each super-class in train/, one in val/."""
    root = tmp_path_factory.mktemp("nine")
    for label, name in enumerate(NAMES):
        for number in range(3):
            write(root / "train" / name, label, number)
        write(root / "val" / name, label, 9)
    return root


# --- classes --------------------------------------------------------------


def test_the_nine_super_classes_join_203_classes():
    labels = [super_class(number) for number in range(1000)]
    counts = [labels.count(label) for label in range(9)]
    assert counts == [118, 5, 3, 5, 21, 18, 9, 4, 20]  # fact sheet, section 4
    assert sum(counts) == 203
    for label, (first, last) in enumerate(SUPER_CLASSES.values()):
        assert super_class(first) == super_class(last) == label
    # known members and neighbours of the ranges
    for number, name in (
        (151, "dog"), (285, "cat"), (31, "frog"), (99, "bird"),
        (365, "primate"), (397, "fish"), (118, "crab"),
        (319, "insect"), (37, "turtle"),
    ):  # fmt: skip
        assert NAMES[super_class(number)] == name
    for number in (0, 29, 38, 150, 269, 286, 320, 398, 999):
        assert super_class(number) is None


def test_of_all_thousand_folders_the_203_are_taken(tmp_path):
    from torchvision.datasets import ImageFolder

    for number in range(1000):
        folder = tmp_path / f"n{10_000_000 + 7 * number:08d}"
        folder.mkdir()
        (folder / "one.jpg").touch()  # not read here
    found = restrict(ImageFolder(tmp_path), augment=False)
    assert len(found) == len(found.targets) == 203
    numbers = [(int(f.split("/")[-2][1:]) - 10_000_000) // 7
               for f in found.files]  # fmt: skip
    assert found.targets == [super_class(number) for number in numbers]


def test_imagenet_itself_is_named_by_its_wordnet_ids():
    from torchvision.datasets import ImageFolder

    images = ImageFolder.__new__(ImageFolder)
    images.root = "somewhere"
    # torchvision's ImageNet has names of classes beside the folders
    images.classes = [("tench", "Tinca tinca")] * 1000
    images.wnids = [f"n{i:08d}" for i in range(1000)]
    images.samples = [(f"{i}.jpg", i) for i in (0, 30, 281, 282, 999)]
    found = restrict(images, augment=False)
    assert found.files == ["30.jpg", "281.jpg", "282.jpg"]
    assert found.targets == [2, 1, 1]


def test_other_folders_are_refused(tmp_path, nine):
    with pytest.raises(
        FileNotFoundError, match=r"train/ and val/ .* dog, cat"
    ):
        photographs(tmp_path, "val")
    for name in ("n01440764", "n02102040"):
        write(tmp_path / "val" / name, 0, 0)
    with pytest.raises(ValueError, match=r"has 2 classes.*1,000"):
        photographs(tmp_path, "val")
    with pytest.raises(ValueError, match="no photographs"):
        Photographs([], [])


# --- images ---------------------------------------------------------------


def test_labels_follow_the_names_and_not_the_alphabet(nine):
    found = photographs(nine, "val", size=16)
    assert len(found) == 9
    for row in range(9):
        x, y = found[row]
        assert x.shape == (3, 16, 16) and x.dtype == torch.float32
        assert 0 <= x.min() and x.max() <= 1
        shown = (255 * x[:, 8, 8]).round()
        wanted = torch.tensor(colour(y)).float()
        assert (shown - wanted).abs().max() <= 8, "JPEG is not exact"
        assert NAMES[y] in found.files[row]


def test_augmentation_depends_on_seed_epoch_and_row_only(nine, tmp_path):
    Image.linear_gradient("L").save(tmp_path / "shades.png")
    files = [str(tmp_path / "shades.png")] * 5
    one, other = (
        Photographs(files, range(5), size=8, augment=True, seed=seed)
        for seed in (0, 1)
    )
    state = torch.get_rng_state()
    first = one[4][0]
    torch.rand(3)
    assert torch.equal(one[4][0], first)
    one.epoch = 1
    assert not torch.equal(one[4][0], first)
    one.epoch = 0
    assert torch.equal(one[4][0], first)
    assert not torch.equal(other[4][0], first)
    assert not torch.equal(one[3][0], first)
    torch.set_rng_state(state)
    one[3]
    assert torch.equal(torch.get_rng_state(), state)
    # test photographs are not augmented
    held = photographs(nine, "val", size=8)
    first = held[2][0]
    held.epoch = 1
    assert torch.equal(held[2][0], first)


def test_a_damaged_photograph_is_named(nine, tmp_path):
    whole = nine / "val" / "dog" / "9.jpg"
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(whole.read_bytes()[:300])
    with pytest.raises(RuntimeError, match=r"cannot read .*cut\.jpg"):
        Photographs([str(cut)], [0])[0]


def test_grey_photographs_become_colour(tmp_path):
    Image.new("L", (20, 20), 128).save(tmp_path / "grey.jpg")
    x, _ = Photographs([str(tmp_path / "grey.jpg")], [0], size=8)[0]
    assert x.shape == (3, 8, 8)


# --- training -------------------------------------------------------------


def test_the_settings_are_those_of_the_fact_sheet():
    eps = {"standard": 0.0, "linf": 0.005, "l2": 1.0}
    for name, job in JOBS.items():
        kind = name.rsplit("-", 1)[1]
        assert job.recipe.eps == eps[kind]
        assert job.recipe.model == "resnet50"
        assert (job.recipe.lr, job.recipe.steps) == (0.1, 7)
        assert (job.recipe.epochs, job.recipe.batch_size) == (150, 256)
        assert (job.optimiser, job.weight_decay) == ("sgd", 1e-4)
        assert (job.drop_every, job.epoch_images) == (50, 76_800)
    assert JOBS["restricted-imagenet-l2"].recipe.norm == "l2"


@pytest.mark.slow
def test_a_small_network_learns_the_colours_while_they_are_read(nine):
    job = Job(
        Recipe("small_resnet", "adversarial", eps=0.01, steps=1, epochs=4,
               batch_size=9, lr=0.02),
        shards=3, epoch_images=18,
    )  # fmt: skip
    train, held = (photographs(nine, split, size=16)
                   for split in ("train", "val"))  # fmt: skip
    model, history = distributed.fit(
        train, job, world=World(), held_out=held, progress=False, workers=1,
        classes=9, width=4,
    )  # fmt: skip
    assert [row["forwards"] for row in history] == [18 * 2] * 4
    assert history[-1]["loss"] < history[0]["loss"]
    seen = distributed.count_correct(model, held, world=World(), eps=0.01)
    assert seen.total == 9


def test_resnet50_takes_pixels_and_gives_nine_logits():
    model = models.build("resnet50", seed=0).eval()
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    logits = model(x)
    assert logits.shape == (2, 9)
    shifted = torch.tensor([0.4717, 0.4499, 0.3837]).view(1, 3, 1, 1)
    scaled = torch.tensor([0.2600, 0.2516, 0.2575]).view(1, 3, 1, 1)
    assert torch.allclose(model[1]((x - shifted) / scaled), logits, atol=1e-5)
    assert restricted_imagenet.EPOCH_IMAGES == 76_800

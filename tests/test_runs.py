"""BOOK_RUN and what depends on it."""

import pytest

from lib import runs

PRESETS = {"smoke": 1, "colab": 2, "full": 3}


@pytest.mark.parametrize(
    ("value", "mode"),
    [
        (None, "recorded"), ("", "recorded"), ("  ", "recorded"),
        ("recorded", "recorded"), ("smoke", "smoke"), ("colab", "colab"),
        ("full", "full"), (" Full ", "full"),
    ],
)  # fmt: skip
def test_the_mode_is_what_the_variable_says(monkeypatch, value, mode):
    monkeypatch.delenv("BOOK_RUN", raising=False)
    if value is not None:
        monkeypatch.setenv("BOOK_RUN", value)
    assert runs.mode() == mode
    assert runs.pick(**PRESETS) == PRESETS.get(mode, 3)


def test_an_unknown_mode_is_refused_with_those_that_there_are(monkeypatch):
    monkeypatch.setenv("BOOK_RUN", "quick")
    for call in (runs.mode, runs.offline, lambda: runs.pick(**PRESETS)):
        with pytest.raises(ValueError, match="recorded, smoke, colab, full"):
            call()


@pytest.mark.parametrize(
    ("mode", "flag", "offline"),
    [
        ("recorded", "", False), ("recorded", "0", False),
        ("full", "no", False), ("full", "False", False),
        ("recorded", "1", True), ("colab", "yes", True),
        ("smoke", "", True), ("smoke", "0", True),
    ],
)  # fmt: skip
def test_nothing_is_downloaded_in_smoke_or_when_told(
    monkeypatch, mode, flag, offline
):
    monkeypatch.setenv("BOOK_RUN", mode)
    monkeypatch.setenv("BOOK_OFFLINE", flag)
    assert runs.offline() is offline


def test_the_device_is_a_gpu_only_where_there_is_one(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert runs.device().type == "cpu"
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert runs.device().type == "cuda"

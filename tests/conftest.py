"""What tests share: small recordings on disk and a manifest of them."""

from __future__ import annotations

import csv
import signal
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

# Who runs the tests in the background, or under nohup, lets them ignore these, and what they start would inherit that.
for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, usual)

# One thread: sums in one order, and no fight for the cores of a small machine.
torch.set_num_threads(1)

# These wait for processes of their own: begun first, they wait while others compute (`make test` gives files out in this order).
EARLY = ("test_end_to_end.py", "test_workers.py", "test_audit_workers.py", "test_attempts.py", "test_courier.py")
WORDS = ("ONE", "TWO", "THREE", "FOUR")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: EARLY.index(item.path.name) if item.path.name in EARLY else len(EARLY))


def tone(seconds: float, hertz: float = 220.0, rate_hz: int = 16_000) -> np.ndarray:
    """A quiet tone with a little noise, so that no two recordings are equal."""
    rng = np.random.default_rng(int(hertz * 1000 + seconds * 100))
    time = np.arange(int(seconds * rate_hz)) / rate_hz
    return (0.2 * np.sin(2 * np.pi * hertz * time) + 0.01 * rng.standard_normal(time.size)).astype(np.float32)


def write_manifest(path: Path, rows: list[dict[str, str]]) -> Path:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    return path


def small_rows(folder: Path, *, train: int = 12, validation: int = 4, test: int = 4) -> list[dict[str, str]]:
    """Words of 0.4 to 0.8 s and sentences of 1.5 to 2.4 s, two speakers, alternating groups."""
    rows = []
    for split, count in (("train", train), ("validation", validation), ("test", test)):
        for number in range(count):
            sentence = number % 2 == 1
            text = " ".join(WORDS[(number + step) % 4] for step in range(3)) if sentence else WORDS[number % 4]
            name = f"{split}_{number}"
            seconds = 1.5 + 0.1 * (number % 10) if sentence else 0.5 + 0.05 * (number % 7)
            hertz = 200 + 13 * number + {"train": 0, "validation": 3, "test": 7}[split]
            soundfile.write(folder / f"{name}.wav", tone(seconds, hertz), 16_000)
            rows.append(
                {
                    "utt_id": name, "audio": f"{name}.wav", "transcript": text, "split": split,
                    "speaker": f"s{number % 3}", "group": "sentence" if sentence else "word", "corpus": "tones",
                }
            )  # fmt: skip
    return rows


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The manifest of a small corpus, for whole studies."""
    folder = tmp_path_factory.mktemp("corpus")
    return write_manifest(folder / "manifest.csv", small_rows(folder))


@pytest.fixture
def small_manifest(tmp_path: Path) -> Path:
    """A manifest of twenty short recordings."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    return write_manifest(folder / "manifest.csv", small_rows(folder))

"""The memory of a report is that of one trial, not of all: `benchmarks/report_size.py` measures ten million rows, this the slope."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pyarrow as pa
import pytest

from benchmarks import report_size
from launcher import report, utterance_files

UTTERANCES = 4_000
# 20 were seen; rows that are held as a frame take 370.
BYTES_PER_ROW = 80


def peak(out: Path, trials: int, utterances: int = UTTERANCES) -> tuple[int, int]:
    """Return the rows of a study, and the most bytes that Python and Arrow held while its report was composed."""
    rows, usual = report_size.study(out, trials, utterances), pa.default_memory_pool()
    pool = pa.proxy_memory_pool(usual)  # counts from nothing
    pa.set_memory_pool(pool)
    tracemalloc.start()
    try:
        report.content(utterance_files.open_study(out))
        return rows, tracemalloc.get_traced_memory()[1] + (pool.max_memory() or 0)
    finally:
        tracemalloc.stop()
        pa.set_memory_pool(usual)


@pytest.mark.slow
def test_a_report_holds_the_rows_of_one_trial_at_a_time(tmp_path: Path) -> None:
    peak(tmp_path / "first", 1, 50)  # what is loaded and kept by the first report of a process
    few, of_few = peak(tmp_path / "few", 2)
    many, of_many = peak(tmp_path / "many", 10)
    assert (of_many - of_few) / (many - few) < BYTES_PER_ROW

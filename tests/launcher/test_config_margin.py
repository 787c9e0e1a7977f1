"""The margin of a study: read, written back, refused, and no part of what a trial is."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.config import ConfigurationError, load
from launcher.identity import what_matters


def test_margin_is_read_and_written_back(tmp_path: Path) -> None:
    given = load(None, ["margin=0.02"])
    path = tmp_path / "written.conf"
    path.write_text(given.to_conf())
    assert given.margin == load(path).margin == 0.02
    assert load(None).margin == 0.01


def test_margin_changes_no_trial() -> None:
    assert what_matters(load(None, ["Study.margin=0.05"])) == what_matters(load(None))


@pytest.mark.parametrize("text", ["0", "-0.01", "1", "1 point", "nan", "inf", ""])
def test_margin_that_is_no_difference_of_rates_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="write a difference of WER above 0 and below 1, such as margin"):
        load(None, [f"margin={text}"])

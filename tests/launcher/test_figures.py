"""Figures are drawn when they come near, keep their place until then, and are all there on paper; without scripts the page says why not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from launcher import report
from tests.launcher.report_tables import study_tables
from tests.launcher.test_report import CHROMIUM, NUM_FIGURES, browse, drawn, page

FULL = study_tables()
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (Debian: apt-get install chromium)")
TO_THE_COST = (
    "document.documentElement.style.scrollBehavior = 'auto'; document.getElementById('price').scrollIntoView();"
)


def open_with(script: str, folder: Path, window: str = "1280,400") -> str:
    """Open the report, run a script at its end, and return it; nothing may be logged."""
    path = report.write(FULL, folder / "report.html")
    path.write_text(path.read_text().replace("</body>", f"<script>{script}</script></body>"))
    document, log = browse(path, folder / "profile", window)
    assert not [line for line in log.splitlines() if "CONSOLE" in line]
    return document


@pytest.mark.browser
@needs_chromium
def test_at_the_head_of_the_page_no_figure_is_drawn_and_each_has_its_place(tmp_path: Path) -> None:
    document = open_with("", tmp_path)
    assert drawn(document) == [False] * NUM_FIGURES
    places = [int(height) for height in re.findall(r'<div class="plot"[^>]*style="height: (\d+)px;"', document)]
    asked = [int(height) for height in re.findall(r'data-height="(\d+)"', document)]
    assert all(place >= height for place, height in zip(places, asked, strict=True))
    assert len(places) == NUM_FIGURES


@pytest.mark.browser
@needs_chromium
def test_the_figures_that_come_near_are_drawn_and_others_are_not(tmp_path: Path) -> None:
    found = drawn(open_with(TO_THE_COST, tmp_path))
    assert found[-2:] == [True, True]  # padding and speed
    assert not any(found[:3])  # seeds and groups


@pytest.mark.browser
@needs_chromium
def test_for_print_every_figure_is_drawn(tmp_path: Path) -> None:
    assert drawn(open_with("dispatchEvent(new Event('beforeprint'));", tmp_path)) == [True] * NUM_FIGURES


@pytest.mark.browser
@needs_chromium
def test_a_narrow_page_keeps_room_for_the_lines_of_a_legend(tmp_path: Path) -> None:
    document = open_with("", tmp_path, window="500,400")
    told = re.findall(r'style="height: (\d+)px;".*?data-height="(\d+)" data-entries="(\d+)"', document, flags=re.DOTALL)
    assert len(told) == NUM_FIGURES
    assert all(int(kept) == int(height) + 19 * int(entries) for kept, height, entries in told)
    assert {int(entries) for *_, entries in told} == {0, 4}  # points have no legend; there are four variants


def test_without_scripts_each_figure_says_why_it_is_not_there() -> None:
    assert page(FULL).count("A script draws this figure, and scripts are off here") == NUM_FIGURES

"""The page of the dashboard as a browser shows it: it draws, complains about nothing and asks nobody else."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pandas as pd
import pytest

from launcher import pages
from launcher.dashboard_answer import Answers
from launcher.dashboard_server import Server, Site
from launcher.dashboard_state import StudyView
from tests.launcher import report_tables
from tests.launcher.studies import ONE_ATTEMPT, locked, put, study, write_study

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HOSTILE = "</script><img src=x onerror=alert(1)><b>"
OPEN = {**ONE_ATTEMPT, "open": True}
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (Debian: apt-get install chromium)"),
]


@contextmanager
def served(*views: StudyView) -> Iterator[Server]:
    with Server(Site(views)) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield running
        finally:
            running.shutdown()
            thread.join()


def browse(server: Server, profile: Path, fragment: str = "") -> str:
    """Open the page; return it after scripts ran, once nothing was logged to the console and nobody else was asked."""
    assert CHROMIUM is not None
    quiet = [
        "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", "--disable-default-apps", "--disable-extensions",
    ]  # fmt: skip
    log = profile.with_suffix(".netlog")
    watch = ["--enable-logging=stderr", "--v=0", "--virtual-time-budget=5000", f"--log-net-log={log}", "--dump-dom"]
    command = [CHROMIUM, "--headless", *quiet, *watch, f"--user-data-dir={profile}", server.url + fragment]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert not [line for line in ran.stderr.splitlines() if "CONSOLE" in line]
    own = f"127.0.0.1:{server.server_port}"
    events = [event.get("params", {}) for event in json.loads(log.read_text())["events"]]
    # The browser itself asks its maker for updates; what a page asks for names the page.
    asked = {urlsplit(event["url"]).netloc for event in events if event.get("initiator") == f"http://{own}"}
    assert asked == {own}
    return ran.stdout


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tables = report_tables.study_tables()
    tables.results["repeat"] = 0
    tables.study["question"] = HOSTILE
    tables.results["error"] = tables.results["error"].where(tables.results["status"] == "done", HOSTILE)
    out = tmp_path_factory.mktemp("finished") / "out"
    out.mkdir()
    report_tables.write_study(tables, out)
    for place in (out / "trials").iterdir():
        utterances = pd.read_parquet(place / "utterances.parquet")
        utterances.assign(reference=HOSTILE, hypothesis=HOSTILE).to_parquet(place / "utterances.parquet")
    return out


def view_of(folder: Path) -> StudyView:
    answers = Answers(folder, lambda folder: {"headline": HOSTILE, "cautions": [HOSTILE]})
    shown = StudyView(folder, rest_seconds=0, answers=answers)
    shown.state()
    answers.wait()
    return shown


def test_a_finished_study_is_drawn_and_what_looks_like_markup_stays_text(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    click = "setTimeout(() => document.querySelector('#rows button').click(), 2500);"
    render = pages.render
    monkeypatch.setattr(
        pages, "render", lambda *given: render(*given).replace('"use strict";', f'"use strict"; {click}', 1)
    )
    with served(view_of(finished)) as server:
        page = browse(server, tmp_path / "profile")
    rows = page[page.index('<tbody id="rows">') : page.index("</tbody>")]
    assert rows.count("<tr") == 8
    assert page.count('class="plot js-plotly-plot"') == 4
    assert "7 of 8 trials done, 1 failed" in page
    shown, detail = page.split("<dialog")
    assert shown.count("&lt;/script&gt;&lt;img") == 4  # question, answer, caution, error
    assert detail.count("&lt;/script&gt;&lt;img") == 40  # 20 utterances, said and heard
    assert "<img" not in page


def test_a_study_that_runs_and_one_that_is_not_there_are_tabs(tmp_path: Path) -> None:
    made = study("reduction=sum,mean", "seed=1")
    out = write_study(tmp_path / "out", made)
    with locked(out / ".lock"):
        put(out, made.trials()[0].trial_id, attempts=OPEN, progress={"update": 33, "updates": 297, "wer": 0.5})
        with served(view_of(out), view_of(tmp_path / "later")) as server:
            running = browse(server, tmp_path / "profile")
            waiting = browse(server, tmp_path / "profile", "#1")
    assert "33 of 297" in running
    assert "50.0&nbsp;%" in running
    assert re.search(r'href="#0"[^>]*aria-current="page"', running)
    assert "There is no study here yet." in waiting
    assert re.search(r'href="#1"[^>]*aria-current="page"', waiting)
    assert str(tmp_path / "later") in waiting


def test_curves_grow_while_the_page_is_open(tmp_path: Path) -> None:
    """The study goes on each time that somebody looks."""
    made = study("reduction=sum", "seed=1")
    out = write_study(tmp_path / "out", made)
    place = put(out, made.trials()[0].trial_id, attempts=OPEN)
    asked: list[int] = []

    class Growing(StudyView):
        def state(self) -> dict:
            asked.append(len(asked))
            update = list(range(1, 3 + len(asked)))
            frame = pd.DataFrame({"update": update, "loss": [1.0 / n for n in update]})
            frame.to_parquet(place / "history.parquet")
            return super().state()

    with locked(out / ".lock"), served(Growing(out, rest_seconds=0)) as server:
        page = browse(server, tmp_path / "profile")
    assert page.count('class="plot js-plotly-plot"') == 1
    lines = re.findall(r'class="js-line"[^>]* d="([^"]+)"', page)  # of the curve and of its legend
    assert max(line.count("L") for line in lines) >= 2  # it began with two points and one stroke

"""How soon the report of many trials can be read: drawing its figures as they come near, against drawing all when it opens.

    python benchmarks/page_open.py [--trials 50] [--rounds 5]

Needs Chromium. The study is made up; each page is opened headless, in turns, from a server on 127.0.0.1. Measured inside the page: from
the start of the navigation until the first frame has been drawn, and how many figures it holds by then; and the processor time of all
processes of the browser by then, which other work on the machine disturbs less.
"""

from __future__ import annotations

import json
import queue
import shutil
import statistics
import subprocess
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import click
import numpy as np
import pandas as pd
import psutil
import report_size

from launcher import report, utterance_files

OUT = Path(__file__).parent / "out" / "page_open.json"
QUIET = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update "
    "--disable-sync --window-size=1280,900 --remote-debugging-port=0"
).split()
ALL_AT_ONCE = "<script>readPlotly(); for (const target of [...undrawn.keys()]) draw(target);</script>"
TELL = """<script>
addEventListener("load", () => requestAnimationFrame(() => setTimeout(() => fetch("/told", { method: "POST", body: JSON.stringify(
  { milliseconds: performance.now(), figures: document.querySelectorAll(".main-svg").length / 3 }) }))));
</script>"""


@click.command()
@click.option("--trials", default=50, show_default=True)
@click.option("--rounds", default=5, show_default=True)
def main(trials: int, rounds: int) -> None:
    """Measure, print, write JSON."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        raise click.ClickException("Chromium was not found; install it (Debian: apt-get install chromium)")
    with tempfile.TemporaryDirectory(prefix="lossgrid-page-") as scratch:
        page = _page(Path(scratch), trials)
        pages = {"as they come near": page, "all at once": page.replace(TELL, ALL_AT_ONCE + TELL)}
        found: dict[str, list[dict[str, float]]] = {name: [] for name in pages}
        for _ in range(rounds):
            for name, text in pages.items():
                found[name].append(_open(chromium, text))
    told = {
        name: {
            kind: statistics.median(one[kind] for one in opened) for kind in ("milliseconds", "cpu_seconds", "figures")
        }
        for name, opened in found.items()
    }
    print(f"{trials} trials, page of {len(page.encode()) / 1e6:.1f} MB, {page.count('data-plot=')} figures")
    for name, median in told.items():
        print(
            f"{name:20} {median['milliseconds']:8.0f} ms, {median['cpu_seconds']:5.2f} s of CPU, {median['figures']:.0f} figures by then"
        )
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps({"trials": trials, "rounds": rounds, **told}, indent=1), encoding="utf-8")


def _page(folder: Path, trials: int) -> str:
    """Write a study and return its report, which tells when it is there."""
    report_size.study(folder, trials, 200)
    rng, update = np.random.default_rng(2), np.arange(1, 401)
    for place in sorted((folder / "trials").iterdir()):
        fall = 4 * np.exp(-update / 90) + rng.gamma(2, 0.05, len(update))
        curves = {"loss": fall, "nll_per_label": fall, "grad_norm": 3 * fall, "update_ratio": fall / 1000,
                  "clip_fraction": np.clip(fall / 4, 0, 1)}  # fmt: skip
        scored = np.where(update % 40 == 0, fall / 4, np.nan)
        history = {"trial_id": place.name, "update": update, **curves, "eval_wer": scored, "eval_nll_per_label": scored}
        pd.DataFrame(history).to_parquet(place / "history.parquet")
    page = report.render(utterance_files.open_study(folder))
    # The page may ask nobody; this copy tells the server.
    return page.replace('http-equiv="Content-Security-Policy"', "").replace("</body>", f"{TELL}</body>")


def _open(chromium: str, page: str) -> dict[str, float]:
    """Open a page once, in a browser of its own."""
    answers: queue.Queue[dict[str, float]] = queue.Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(page.encode() if self.path == "/" else b"")

        def do_POST(self) -> None:
            answers.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with tempfile.TemporaryDirectory(prefix="lossgrid-profile-", ignore_cleanup_errors=True) as profile:
        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        command = [chromium, *QUIET, f"--user-data-dir={profile}", f"http://127.0.0.1:{server.server_port}/"]
        browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            told = answers.get(timeout=120)
            root = psutil.Process(browser.pid)
            spent = [one.cpu_times() for one in (root, *root.children(recursive=True))]
            return {**told, "cpu_seconds": sum(one.user + one.system for one in spent)}
        finally:
            browser.terminate()
            browser.wait()
            server.shutdown()
            server.server_close()


if __name__ == "__main__":
    main()

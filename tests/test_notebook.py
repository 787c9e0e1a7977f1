"""The example notebook, run over a real study: what it computes is what the tables hold."""

from __future__ import annotations

import json
import re
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from conftest import small_rows, write_manifest
from nbclient import NotebookClient
from trials import Session

from launcher import config, folder, handover, provenance, results
from launcher.comparisons import comparisons
from launcher.tallies import tally
from search_spaces import losses
from trainables import preflight
from trainables.wav2vec2_ctc import train_fn

NOTEBOOK = Path(__file__).resolve().parents[1] / "docs" / "notebook.ipynb"
GIVEN = 'Path("../results/losses")'
SAVE = """
frames = {"wer_by_class": wer_by_class, "changes": changes, "compared": compared, "by_class": by_class, "shares": shares,
          "mean_curves": mean_curves}
for name, frame in frames.items():
    frame.to_parquet(f"{name}.parquet")
"""
OVERRIDES = ("reduction=sum,mean", "seed=1,2", "num_train_epochs=2", "groups=group", "audit_utterances=12")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two reductions x two seeds, trained without Ray."""
    out = tmp_path_factory.mktemp("study")
    data = tmp_path_factory.mktemp("corpus")
    manifest = write_manifest(data / "manifest.csv", small_rows(data))
    configuration = config.load(None, (*OVERRIDES, f"dataset_path={manifest}"), defaults=losses.DEFAULTS)
    made = losses.study(configuration)
    prepared = preflight.prepare(str(manifest), out / "stores", [{"model_type": "tiny"}], ["group"])
    made = made.with_data(prepared.fingerprint)
    trials = made.trials()
    folder.describe_study(made, trials, prepared, out, provenance.of_launch(out, "python launch.py --grid losses"))
    for trial in trials:
        told = handover.job(made, trial, prepared, out, out / "stop")
        assert train_fn({**told, "threads": 1, "launch": "one"}, Session()) == "done"
    return out


@pytest.fixture(scope="module")
def ran(study: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, pd.DataFrame], str]:
    """The notebook with the folder of the study in it: its frames, and what it printed."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    first = next(cell for cell in notebook.cells if GIVEN in cell.source)
    first.source = first.source.replace(GIVEN, f"Path({str(study)!r})")
    notebook.cells.append(nbformat.v4.new_code_cell(SAVE))
    place = tmp_path_factory.mktemp("notebook")
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(place)}}).execute()
    return {path.stem: pd.read_parquet(path) for path in place.glob("*.parquet")}, first.outputs[0].text


@pytest.mark.slow
def test_the_notebook_runs_over_a_study_and_says_what_it_is_of(ran) -> None:
    frames, said = ran
    assert len(frames) == 6
    assert losses.QUESTION in said
    assert "{'done': 4}; baseline: reduction=mean; classes by: group" in said


@pytest.mark.slow
def test_its_rates_are_those_of_the_tables(ran, study: Path) -> None:
    frames, _ = ran
    table = results.load(study).results.groupby("variant")[["wer/word", "wer/sentence"]].mean()
    for row in frames["wer_by_class"].itertuples():
        assert row.wer == pytest.approx(
            table.loc[row.variant, f"wer/{row.group}"]
        )  # every seed scored the same utterances
    assert set(frames["changes"]["speaker"]) == {"s0", "s1", "s2"}
    assert set(frames["changes"]["variant"]) == {"reduction=sum"}


@pytest.mark.slow
def test_its_comparisons_curves_and_shares_are_of_the_whole_study(ran, study: Path) -> None:
    frames, _ = ran
    tables = results.load(study)
    wanted = comparisons(tables.results, tally(tables.results, tables.utterances), "reduction=mean")
    pd.testing.assert_frame_equal(frames["compared"], wanted[list(frames["compared"])])
    assert set(frames["by_class"]["value"]) == {"word", "sentence"}
    assert set(frames["mean_curves"]["update"]) == {2, 4}
    assert frames["shares"].groupby("variant").sum().to_numpy() == pytest.approx(1.0)


def test_the_notebook_is_stored_without_outputs_and_without_a_path_of_a_machine() -> None:
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    nbformat.validate(notebook)
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert not re.search(r"[\"'(]/|[A-Z]:\\\\", "".join("".join(cell["source"]) for cell in notebook["cells"]))

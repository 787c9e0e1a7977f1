"""A cluster that was started without a token is joined where that is meant, and only there. Slow: a real Ray."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from conftest import small_rows, write_manifest
from launches import DEADLINE_SECONDS, STUDY, environment, head, start

from launcher import doors, results

pytestmark = [pytest.mark.slow, pytest.mark.ray]


def test_a_study_runs_there_once_somebody_says_that_it_is_meant(tmp_path: Path) -> None:
    data = write_manifest(tmp_path / "manifest.csv", small_rows(tmp_path))
    with head({**environment(tmp_path / "home"), "RAY_AUTH_MODE": "disabled"}) as (address, variables):
        assert doors.is_open(address)
        asked = (*STUDY, "--address", address)
        usual = {name: value for name, value in variables.items() if name != "RAY_AUTH_MODE"}
        refused = start(tmp_path / "out", data, *asked, variables=usual)
        _, told = refused.communicate(timeout=DEADLINE_SECONDS)
        assert refused.returncode == 2, told
        assert "asks for no token" in told
        assert "Traceback" not in told
        _, told = start(tmp_path / "out", data, *asked, variables=variables).communicate(timeout=DEADLINE_SECONDS)
    assert list(results.load(tmp_path / "out").results["status"]) == ["done"], told
    assert f"Warning: the Ray cluster at {address} asks for no token" in told


def test_a_ray_of_ones_own_asks_for_a_token_whatever_the_environment_says(tmp_path: Path) -> None:
    data = write_manifest(tmp_path / "manifest.csv", small_rows(tmp_path))
    variables = {**environment(tmp_path / "home"), "RAY_AUTH_MODE": "disabled"}
    launch = start(tmp_path / "out", data, *STUDY, "--backend", "tune", variables=variables)
    assert launch.stderr is not None
    told, gcs = [], ""
    for line in launch.stderr:
        told.append(line)
        if "trials at a time" in line:  # Ray is up, and the trial just begins
            gcs = server_of(launch.pid)
            break
    assert gcs, told
    assert not doors.is_open(gcs)
    launch.communicate(timeout=DEADLINE_SECONDS)
    assert "RAY_AUTH_MODE = disabled is set aside: a study asks for its token\n" in told
    assert list(results.load(tmp_path / "out").results["status"]) == ["done"]


def server_of(launch: int) -> str:
    """Return where the Ray below a launch keeps its state."""
    for process in psutil.Process(launch).children(recursive=True):
        with suppress(psutil.Error):
            words = process.cmdline()
            if words and words[0].endswith("gcs_server"):
                (port,) = (word.partition("=")[2] for word in words if word.startswith("--gcs_server_port="))
                return f"127.0.0.1:{port}"
    return ""

"""Ray's own `ray up` in this process; commands that would go out by SSH are caught and kept, as Ray tests it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result
from ray.scripts import scripts
from testfixtures import Replacer
from testfixtures.popen import MockPopen, PopenBehaviour


def up(file: Path) -> tuple[Result, list[str]]:
    """Run `ray up`; return what it said and the commands it sent."""
    popen = MockPopen()
    popen.set_default(behaviour=_answer)
    with Replacer() as replacer:
        replacer.replace("subprocess.Popen", popen)
        options = ["--no-config-cache", "-y", "--log-style=pretty", "--log-color", "false"]
        result = CliRunner().invoke(scripts.up, [str(file), *options])
    return result, [_line(call) for call in popen.all_calls if call[0] == "Popen"]


def keeps_its_promises(sent: list[str], mount: str) -> None:
    """Check what was done on the head, in its order: the shared folder, the container, Ray."""
    run = next(line for line in sent if "docker run" in line)
    assert "lossgrid:cpu" in run
    for option in ("-e RAY_AUTH_MODE=token", "-e RAY_USAGE_STATS_ENABLED=0", "-v /shared:/shared"):
        assert option in run
    assert "/home/ray/.ray/auth_token:/home/ray/.ray/auth_token" in run
    assert any("rsync" in line and ".ray/auth_token" in line for line in sent)
    start = next(line for line in sent if "ray start --head" in line)
    # The last word before Ray starts counts: Ray itself exports OMP_NUM_THREADS=1 in front of every command.
    assert start.index("OMP_NUM_THREADS=1") < start.index("unset OMP_NUM_THREADS") < start.index("ray start --head")
    assert "--dashboard-host=127.0.0.1" in start
    assert "--disable-usage-stats" in start
    mounting = next(number for number, line in enumerate(sent) if mount in line)
    assert mounting < sent.index(run)
    assert not any("pip install" in line for line in sent)


def _answer(command: Any, stdin: Any) -> PopenBehaviour:
    return PopenBehaviour(stdout=b"[]" if ".Config.Env" in str(command) else b"docker")


def _line(call: Any) -> str:
    command = call[1][0]
    return command if isinstance(command, str) else " ".join(command)

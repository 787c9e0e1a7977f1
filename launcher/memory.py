"""Whether the system killed processes because memory ran out: it tells nobody but its counters."""

from __future__ import annotations

from pathlib import Path

_EVENTS = (Path("/sys/fs/cgroup/memory.events"), Path("/sys/fs/cgroup/memory/memory.oom_control"), Path("/proc/vmstat"))


class MemoryWatch:
    """Remembers how many processes of this machine (or container) the system has killed for memory."""

    def __init__(self, sources: tuple[Path, ...] = _EVENTS) -> None:
        self._sources = sources
        self._before = self._kills()

    def ran_out(self) -> bool:
        """Tell whether there were more since."""
        return self._kills() > self._before

    def _kills(self) -> int:
        """Count; 0 where the system has no such counter (then a kill for memory looks like any other)."""
        total = 0
        for source in self._sources:
            if source.is_file():
                pairs = (line.split() for line in source.read_text(encoding="utf-8").splitlines())
                total += sum(int(pair[1]) for pair in pairs if len(pair) == 2 and pair[0] == "oom_kill")
        return total

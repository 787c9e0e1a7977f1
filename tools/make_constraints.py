"""Write constraints.txt from what is installed: `make lock`.

torch is left out: which build is wanted (CPU, CUDA) depends on the machine, and pyproject.toml bounds its version. A
package that needs a newer Python than lossgrid does is pinned from that Python on only.
"""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

OLDEST = (3, 10)
LEFT_OUT = re.compile(r"^(torch|lossgrid|pip|setuptools|wheel|triton|nvidia-.*|espeakng-loader)$")


def main() -> None:
    """Write the file."""
    lines = sorted({line for one in metadata.distributions() if (line := _pin(one)) is not None}, key=str.lower)
    header = "# Versions that the tests pass with; written by tools/make_constraints.py (`make lock`).\n"
    Path("constraints.txt").write_text(header + "\n".join(lines) + "\n", encoding="utf-8")


def _pin(package: metadata.Distribution) -> str | None:
    name = package.metadata["Name"].lower().replace("_", "-")
    if LEFT_OUT.match(name):
        return None
    needs = re.search(r">=\s*3\.(\d+)", str(package.metadata.json.get("requires_python", "")))
    marker = f' ; python_version >= "3.{needs[1]}"' if needs and int(needs[1]) > OLDEST[1] else ""
    return f"{name}=={package.version}{marker}"


if __name__ == "__main__":
    main()

"""Who may import whom, read from the source."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PURE = {"study", "config", "stats", "plots", "report"}


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imports(path: Path, *, top_level_only: bool = False) -> set[str]:
    """Every dotted name that a file imports; `if TYPE_CHECKING:` blocks do not run and do not count."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if top_level_only and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text(encoding="utf-8")))
    return found


def under(names: set[str], *packages: str) -> set[str]:
    return {name for name in names for package in packages if name == package or name.startswith(package + ".")}


def test_the_finder_sees_what_it_must(tmp_path: Path) -> None:
    path = tmp_path / "x.py"
    path.write_text("import torch.nn\nfrom ray import tune\ndef f():\n    import pandas\n")
    assert imports(path) >= {"torch.nn", "ray.tune", "pandas"}
    assert "pandas" not in imports(path, top_level_only=True)


def test_launch_py_is_short_and_imports_the_commands_only() -> None:
    path = ROOT / "launch.py"
    assert len(path.read_text().splitlines()) <= 20
    assert under(imports(path), "launcher", "trainables", "search_spaces", "ray", "torch") <= {
        "launcher.cli", "launcher.cli.main",
    }  # fmt: skip


@pytest.mark.parametrize("path", modules("launcher"), ids=lambda path: path.name)
def test_launcher_knows_no_trainables_and_no_torch(path: Path) -> None:
    assert not under(imports(path), "trainables")
    assert not under(imports(path, top_level_only=True), "torch", "transformers")


@pytest.mark.parametrize("path", modules("launcher"), ids=lambda path: path.name)
def test_pure_modules_of_the_launcher_know_no_ray(path: Path) -> None:
    if path.stem in PURE or path.stem.startswith("config_"):
        assert not under(imports(path), "ray")


@pytest.mark.parametrize("path", modules("launcher"), ids=lambda path: path.name)
def test_only_run_imports_ray_tune(path: Path) -> None:
    if path.stem != "run":
        assert not under(imports(path), "ray.tune")


@pytest.mark.parametrize("path", modules("trainables"), ids=lambda path: path.name)
def test_trainables_know_neither_launcher_nor_tune_nor_plots(path: Path) -> None:
    assert not under(imports(path), "launcher", "search_spaces", "ray.tune", "matplotlib", "plotly", "pandas")


def test_ray_train_is_imported_at_one_seam() -> None:
    seams = {path.name for path in modules("trainables") if under(imports(path), "ray")}
    assert seams == {"session.py"}


@pytest.mark.parametrize("path", modules("search_spaces"), ids=lambda path: path.name)
def test_search_spaces_know_names_only(path: Path) -> None:
    allowed = {"trainables", "trainables.reductions", "trainables.variants"}
    assert under(imports(path), "trainables") <= allowed
    assert not under(imports(path), "ray", "torch", "transformers", "launcher.run", "launcher.cli")


@pytest.mark.parametrize("package", ["launcher", "trainables", "search_spaces"])
def test_packages_import_nothing_in_their_init(package: str) -> None:
    for path in (ROOT / package).rglob("__init__.py"):
        assert not imports(path)
        assert ast.get_docstring(ast.parse(path.read_text()))

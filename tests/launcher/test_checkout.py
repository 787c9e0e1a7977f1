"""What is recorded of a checkout is enough to make it again, and the checkout is left as it is."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from launcher import checkout

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
AUTHOR = ("-c", "user.name=n", "-c", "user.email=n@example.org")


def git(folder: Path, *words: str) -> str:
    command = ["git", "-C", str(folder), *AUTHOR, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def files(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file() and ".git" not in path.parts)
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "tree"
    folder.mkdir()
    git(folder, "init", "--quiet")
    (folder / "a.py").write_text("one\n")
    (folder / "gone.py").write_text("old\n")
    (folder / ".gitignore").write_text("ignored/\n")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "first")
    return folder


def change(tree: Path) -> None:
    """Change, remove, stage and add: text, bytes, no newline at the end, an empty file, odd names."""
    (tree / "a.py").write_text("one\ntwo\n")
    (tree / "gone.py").unlink()
    (tree / "staged.py").write_text("staged\n")
    git(tree, "add", "staged.py")
    (tree / "new folder").mkdir()
    (tree / "new folder" / "b [1]*.py").write_text("no newline")
    (tree / "bytes.bin").write_bytes(bytes(range(256)))
    (tree / "empty").touch()
    (tree / "ignored").mkdir()
    (tree / "ignored" / "x").write_text("never seen")


def test_a_clean_checkout_is_its_commit_alone(tree: Path) -> None:
    assert checkout.state(tree) == checkout.Checkout(git(tree, "rev-parse", "HEAD"), b"", None)


def test_commit_and_patch_give_the_same_files_again(tree: Path, tmp_path: Path) -> None:
    change(tree)
    found = checkout.state(tree)
    again, patch = tmp_path / "again", tmp_path / "x.patch"
    git(tmp_path, "clone", "--quiet", str(tree), str(again))
    git(again, "checkout", "--quiet", str(found.commit))
    patch.write_bytes(found.patch or b"")
    git(again, "apply", "--whitespace=nowarn", str(patch))
    wanted = files(tree)
    del wanted["ignored/x"]
    assert files(again) == wanted


def test_looking_changes_nothing_not_even_inside_git(tree: Path) -> None:
    change(tree)
    before = {path: path.read_bytes() for path in (tree / ".git").rglob("*") if path.is_file()}
    status = git(tree, "--no-optional-locks", "status", "--porcelain")
    first, second = checkout.state(tree), checkout.state(tree)
    assert first == second
    assert {path: path.read_bytes() for path in (tree / ".git").rglob("*") if path.is_file()} == before
    assert git(tree, "--no-optional-locks", "status", "--porcelain") == status


def test_large_and_private_files_are_listed_with_their_hash_and_change_the_patch(tree: Path) -> None:
    content = {
        "large.bin": bytes(2 << 20),
        "voice.wav": b"RIFF",
        "hf_token": b"abc",
        ".env": b"KEY=1",
        "tokens.py": b"x",
    }
    for name, data in content.items():
        (tree / name).write_bytes(data)
    patch = (checkout.state(tree).patch or b"").decode()
    for name in ("large.bin", "voice.wav", "hf_token", ".env"):
        digest = hashlib.sha256(content[name]).hexdigest()
        assert f'# untracked, listed only: "{name}": {len(content[name])} bytes, sha256 {digest}\n' in patch
    assert "b/tokens.py" in patch
    assert "KEY=1" not in patch
    (tree / "large.bin").write_bytes(b"\x01" + bytes((2 << 20) - 1))
    assert checkout.state(tree).patch != patch.encode()


def test_what_studies_write_is_no_part_of_the_code(tree: Path) -> None:
    for place in ("studies/one", "out"):
        (tree / place / "trials").mkdir(parents=True)
        (tree / place / "trials" / "result.json").write_text("{}")
    (tree / "studies" / "one" / "study.json").write_text("{}")
    assert checkout.state(tree, out=tree / "out").patch == b""
    git(tree, "add", "out")
    assert checkout.state(tree, out=tree / "out").patch == b""


def test_a_file_that_is_no_utf8_by_name_is_in_the_patch(tree: Path) -> None:
    try:
        Path(os.fsdecode(os.fsencode(str(tree)) + b"/\xff.py")).write_text("x")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    assert b"\\377.py" in (checkout.state(tree).patch or b"")


def test_another_checkout_around_or_named_by_the_environment_is_not_asked(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tree / "ignored" / "site-packages"
    package.mkdir(parents=True)
    assert checkout.state(package) == checkout.Checkout()
    assert checkout.state(tmp_path) == checkout.Checkout()
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "--quiet")
    monkeypatch.chdir(other)
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    found = checkout.state(tree)
    monkeypatch.undo()
    assert found.commit == git(tree, "rev-parse", "HEAD")


def test_a_checkout_inside_a_larger_one_is_told_by_that_one_and_only_its_own_files_count(tree: Path) -> None:
    part = tree / "part"
    part.mkdir()
    (part / "c.py").write_text("c\n")
    git(tree, "add", "part")
    git(tree, "commit", "--quiet", "-m", "part")
    (tree / "a.py").write_text("changed outside\n")
    assert checkout.state(part) == checkout.Checkout(git(tree, "rev-parse", "HEAD"), b"", None)
    (part / "c.py").write_text("changed inside\n")
    assert b"changed inside" in (checkout.state(part).patch or b"")


def test_git_that_is_missing_or_refuses_is_told(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    git(empty, "init", "--quiet")
    found = checkout.state(empty)
    assert (found.commit, found.patch) == (None, None)
    assert "git rev-parse failed (fatal:" in str(found.problem)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert checkout.state(tree).problem == "git cannot be run (No such file or directory)"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_checkout_of_another_user_is_told(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUDO_UID", raising=False)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)
    for path in (tree, tree / ".git"):
        os.chown(path, 65_534, 65_534)
    found = checkout.state(tree)
    assert found.commit is None
    assert "dubious ownership" in str(found.problem)

"""What an archive holds is read as if it were unpacked; what is wrong with it is said, and nothing is written."""

from __future__ import annotations

import io
import os
import resource
import struct
import tracemalloc
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trainables.corpora import references
from trainables.corpora.audio import UnusableAudio
from trainables.corpora.sample import manifest_path

SOUND = (manifest_path().parent / "C1" / "C1_go_t1.flac").read_bytes()
INNER = "folder/ABA.zip"


def packed(members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def reason(reference: str) -> str:
    with pytest.raises(UnusableAudio) as caught:
        references.read(reference)
    assert reference.split("!")[0] in caught.value.detail
    return caught.value.reason


def encrypted(content: bytes) -> bytes:
    """Set the flag that says so, in both headers of the only member."""
    central = content.index(b"PK\x01\x02")
    one = content[:6] + struct.pack("<H", 1) + content[8:central]
    return one + content[central : central + 8] + struct.pack("<H", 1) + content[central + 10 :]


@pytest.fixture(params=[zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], ids=["stored", "compressed"])
def outer(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    inner = packed({"ABA/wav/a b.flac": SOUND, "ABA/wav/é.flac": SOUND[::-1], "ABA/wav/b.flac": SOUND + b"x"})
    path = tmp_path / "outer ü.zip"
    path.write_bytes(packed({"first.txt": b"1" * 5000, INNER: inner, "last.txt": b"2"}, request.param))
    return path


def test_a_plain_path_is_read_even_with_the_separator_in_its_name(tmp_path: Path) -> None:
    path = tmp_path / "one!two é.wav"
    path.write_bytes(SOUND)
    assert references.read(str(path)) == SOUND


def test_a_member_of_an_archive_within_an_archive_is_read(outer: Path) -> None:
    assert references.read(references.join(outer, INNER, "ABA/wav/a b.flac")) == SOUND
    assert references.read(references.join(outer, INNER, "ABA/wav/é.flac")) == SOUND[::-1]
    assert references.read(references.join(outer, "last.txt")) == b"2"
    listed = references.members(references.join(outer, INNER))
    assert {name: member.file_size for name, member in listed.items()} == {
        "ABA/wav/a b.flac": len(SOUND), "ABA/wav/b.flac": len(SOUND) + 1, "ABA/wav/é.flac": len(SOUND),
    }  # fmt: skip


def test_three_archives_deep_is_read_and_four_is_not(tmp_path: Path) -> None:
    content = SOUND
    for depth in range(4):
        name = "sound.flac" if depth == 0 else f"{depth}.zip"
        content = packed({name: content})
    (tmp_path / "a.zip").write_bytes(content)
    deep = references.join(tmp_path / "a.zip", "3.zip", "2.zip", "1.zip", "sound.flac")
    assert reason(deep) == "unreadable"
    assert references.members(references.join(tmp_path / "a.zip", "3.zip", "2.zip")).keys() == {"1.zip"}


def test_threads_that_read_at_once_get_their_own_bytes(outer: Path) -> None:
    expected = {"ABA/wav/a b.flac": SOUND, "ABA/wav/é.flac": SOUND[::-1], "ABA/wav/b.flac": SOUND + b"x"}
    names = list(expected) * 40
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda name: references.read(references.join(outer, INNER, name)), names))
    assert found == [expected[name] for name in names]


def test_a_forked_process_reads_while_its_parent_does(outer: Path) -> None:
    reference = references.join(outer, INNER, "ABA/wav/a b.flac")
    assert references.read(reference) == SOUND
    child = os.fork()
    if child == 0:
        os._exit(0 if all(references.read(reference) == SOUND for _ in range(50)) else 1)
    assert all(references.read(reference) == SOUND for _ in range(50))
    assert os.waitpid(child, 0)[1] == 0


def test_a_replaced_archive_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(packed({"x.wav": b"old"}))
    reference = references.join(path, "x.wav")
    assert references.read(reference) == b"old"
    before = references.stamp(reference)
    path.write_bytes(packed({"x.wav": b"newer"}))
    assert references.read(reference) == b"newer"
    assert references.stamp(reference) != before


def test_open_archives_do_not_pile_up(tmp_path: Path) -> None:
    for number in range(12):
        (tmp_path / f"{number}.zip").write_bytes(packed({"x.wav": SOUND}))
        references.read(references.join(tmp_path / f"{number}.zip", "x.wav"))
    still_open = {os.path.realpath(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")}
    assert len([path for path in still_open if path.startswith(str(tmp_path))]) <= 3


def test_what_is_not_there_is_missing(outer: Path, tmp_path: Path) -> None:
    assert reason(str(tmp_path / "none.wav")) == "missing_file"
    assert reason(str(outer / "below a file")) == "missing_file"
    assert reason(references.join(tmp_path / "none.zip", "x.wav")) == "missing_file"
    assert reason(references.join(outer, "none.wav")) == "missing_file"
    assert reason(references.join(outer, "none.zip", "x.wav")) == "missing_file"
    assert reason(references.join(outer, INNER, "none.wav")) == "missing_file"


def test_what_cannot_be_read_is_unreadable(outer: Path, tmp_path: Path) -> None:
    whole = outer.read_bytes()
    (tmp_path / "half.zip").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.zip").write_bytes(b"no archive")
    (tmp_path / "secret.zip").write_bytes(encrypted(packed({"x.wav": SOUND}, zipfile.ZIP_STORED)))
    (tmp_path / "loop.wav").symlink_to(tmp_path / "loop.wav")
    for name in ("half.zip", "text.zip", "secret.zip"):
        assert reason(references.join(tmp_path / name, "x.wav")) == "unreadable"
    assert reason(str(tmp_path)) == "unreadable"
    assert reason(str(tmp_path / "loop.wav")) == "unreadable"
    assert reason(f"{tmp_path}/zero\0byte.wav") == "unreadable"


def test_a_damaged_member_is_unreadable_and_its_neighbours_are_not(tmp_path: Path) -> None:
    content = bytearray(packed({"a.wav": SOUND, "b.wav": SOUND[::-1]}, zipfile.ZIP_STORED))
    content[content.index(SOUND) + 100] ^= 255
    (tmp_path / "a.zip").write_bytes(content)
    assert reason(references.join(tmp_path / "a.zip", "a.wav")) == "unreadable"
    assert references.read(references.join(tmp_path / "a.zip", "b.wav")) == SOUND[::-1]


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    bomb = packed({"x.wav": b"\0" * (references._GROWTH_COUNTS_FROM_BYTES + 1)})
    (tmp_path / "a.zip").write_bytes(bomb)
    assert reason(references.join(tmp_path / "a.zip", "x.wav")) == "unreadable"
    nested = packed({"inner.zip": b"\0" * (references._GROWTH_COUNTS_FROM_BYTES + 1)})
    (tmp_path / "b.zip").write_bytes(nested)
    assert reason(references.join(tmp_path / "b.zip", "inner.zip", "x.wav")) == "unreadable"


@pytest.mark.parametrize("name", ["../evil.wav", "a/../../evil.wav", "/etc/evil.wav", "a\\..\\evil.wav"])
def test_names_that_point_out_of_the_archive_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.zip").write_bytes(packed({name: SOUND}))
    with pytest.raises(UnusableAudio, match="points out of the archive"):
        references.members(str(tmp_path / "in" / "a.zip"))
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_a_machine_without_descriptors_is_no_fault_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    path.write_bytes(SOUND)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as cleanup:
        cleanup.callback(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        resource.setrlimit(resource.RLIMIT_NOFILE, (1 + os.dup(0), limits[1]))
        with suppress(OSError):
            while True:
                cleanup.callback(os.close, os.dup(0))
        with pytest.raises(OSError, match="Too many open files"):
            references.read(str(path))
    assert references.read(str(path)) == SOUND


@given(st.lists(st.from_regex(r"[a-z!é ]{1,8}\.zip", fullmatch=True), max_size=2), st.text("ab!./é", min_size=1))
@settings(max_examples=100)
def test_what_is_joined_is_taken_apart_again(archives: list[str], name: str) -> None:
    parts = tuple(part.replace(".zip!", "") for part in archives)
    assert references.split(references.join(*parts, name)) == (*parts, name)


def changed(content: bytes, at_local: int, at_central: int, value: bytes) -> bytes:
    """Write over a field of the only member, in both headers."""
    one = bytearray(content)
    for start in (at_local, content.index(b"PK\x01\x02") + at_central):
        one[start : start + len(value)] = value
    return bytes(one)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compression_than_that_of_sound_archives_is_refused(tmp_path: Path, method: int) -> None:
    (tmp_path / "a.zip").write_bytes(packed({"x.wav": SOUND}, method))
    assert reason(references.join(tmp_path / "a.zip", "x.wav")) == "unreadable"


def test_a_bomb_that_claims_few_bytes_is_unreadable_and_is_not_unpacked(tmp_path: Path) -> None:
    size = 1 << 27
    bomb = changed(packed({"x.wav": b"\0" * size}), 22, 24, struct.pack("<I", 1000))
    (tmp_path / "a.zip").write_bytes(bomb)
    tracemalloc.start()
    try:
        assert reason(references.join(tmp_path / "a.zip", "x.wav")) == "unreadable"
        assert tracemalloc.get_traced_memory()[1] < size / 16
    finally:
        tracemalloc.stop()


def test_a_member_that_claims_no_or_more_bytes_than_it_has_is_unreadable(tmp_path: Path) -> None:
    content = packed({"x.wav": SOUND})
    for number, claim in enumerate((0, len(SOUND) + 1)):
        (tmp_path / f"{number}.zip").write_bytes(changed(content, 22, 24, struct.pack("<I", claim)))
        assert reason(references.join(tmp_path / f"{number}.zip", "x.wav")) == "unreadable"


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_byte_anywhere_never_stops_the_run(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(packed({"inner.zip": packed({"x.wav": b"sound" * 9})}, zipfile.ZIP_STORED))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "a.zip").write_bytes(content)
    with suppress(UnusableAudio):
        references.read(references.join(tmp_path / "a.zip", "inner.zip", "x.wav"))


def test_a_pipe_a_device_and_a_huge_file_are_unreadable_and_nothing_waits(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    os.mkfifo(tmp_path / "pipe.zip")
    with (tmp_path / "huge.wav").open("wb") as file:
        file.truncate(references.LARGEST_FILE_BYTES + 1)
    assert reason(str(tmp_path / "pipe.wav")) == "unreadable"
    assert reason(references.join(tmp_path / "pipe.zip", "x.wav")) == "unreadable"
    assert reason("/dev/zero") == "unreadable"
    assert reason(str(tmp_path / "huge.wav")) == "unreadable"


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="a file that always fails is needed")
def test_a_failing_disk_is_no_fault_of_the_file() -> None:
    with pytest.raises(OSError, match="Input/output error"):
        references.read("/proc/self/mem")

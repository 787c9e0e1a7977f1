"""L2-ARCTIC as researchers have it: archives in an archive, archives, folders; every known defect is found."""

from __future__ import annotations

import io
import shutil
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import soundfile
import soxr
from permissions import without_permission
from small_corpora import TEXTS, Tree, l2_speaker

from trainables.corpora import audio, l2arctic, references
from trainables.corpora.recordings import Found
from trainables.corpora.sample import manifest_path
from trainables.errors import DataError


@pytest.fixture(scope="module")
def sound() -> bytes:
    """A recording of the sample at 44.1 kHz, as those of the corpus are."""
    samples_S, rate_hz = soundfile.read(manifest_path().parent / "C1" / "C1_go_t1.flac")
    buffer = io.BytesIO()
    soundfile.write(buffer, soxr.resample(samples_S, rate_hz, 44_100), 44_100, subtype="PCM_16", format="WAV")
    return buffer.getvalue()


def corpus(sound: bytes) -> Tree:
    """Two speakers, the first with every defect, and a story of the suitcase corpus."""
    tree = l2_speaker("ABA", sound) | l2_speaker("YKWK", sound)
    del tree["ABA/transcript/arctic_a0001.txt"]
    del tree["ABA/wav/arctic_b0003.wav"]
    tree |= {"ABA/wav/arctic_a0004.wav": b"", "ABA/transcript/arctic_a0004.txt": b"No sound."}
    tree |= {"ABA/wav/arctic_a0005.wav": sound, "ABA/transcript/arctic_a0005.txt": b"\xef\xbb\xbf \n"}
    tree |= {"ABA/wav/arctic_a0006.wav": sound, "ABA/transcript/arctic_a0006.txt": b"caf\xe9"}
    tree |= {"suitcase_corpus/wav/aba.wav": sound, "suitcase_corpus/transcript/aba.txt": b"It was a busy day."}
    return tree


def on_disk(root: Path, tree: Mapping[str, bytes]) -> Path:
    for name, content in tree.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def zipped(tree: Mapping[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in tree.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def by_speaker(tree: Mapping[str, bytes]) -> dict[str, Tree]:
    parts: dict[str, Tree] = {}
    for name, content in tree.items():
        parts.setdefault(name.split("/")[0], {})[name] = content
    return parts


def archives(tree: Mapping[str, bytes]) -> Tree:
    return {f"{name}.zip": zipped(part, zipfile.ZIP_DEFLATED) for name, part in by_speaker(tree).items()}


def folders(root: Path, tree: Tree) -> Path:
    return on_disk(root, tree)


def folders_in_the_name_of_the_release(root: Path, tree: Tree) -> Path:
    return on_disk(root, {f"l2arctic release v5.0/{name}": content for name, content in tree.items()})


def folders_in_folders_of_their_name(root: Path, tree: Tree) -> Path:
    return on_disk(root, {f"{name.split('/')[0]}/{name}": content for name, content in tree.items()})


def archives_of_speakers(root: Path, tree: Tree) -> Path:
    return on_disk(root, archives(tree))


def archives_without_a_folder(root: Path, tree: Tree) -> Path:
    parts = {
        name: {file.split("/", 1)[1]: one for file, one in part.items()} for name, part in by_speaker(tree).items()
    }
    return on_disk(root, {f"{name}.zip": zipped(part) for name, part in parts.items()})


def archive_of_archives(root: Path, tree: Tree) -> Path:
    return on_disk(root, {"release ü.zip": zipped(archives(tree))}) / "release ü.zip"


def folder_with_the_archive_of_archives(root: Path, tree: Tree) -> Path:
    inner = {f"v5.0/{name}": content for name, content in archives(tree).items()}
    return on_disk(root, {"release.zip": zipped(inner, zipfile.ZIP_DEFLATED), "notes.txt": b"x"})


def archive_of_folders(root: Path, tree: Tree) -> Path:
    return on_disk(
        root,
        {
            "all.zip": zipped(
                {f"v5.0/{n}": c for n, c in tree.items()} | {"__MACOSX/._ABA.zip": b"x", "__MACOSX/ABA/wav/a.wav": b"x"}
            )
        },
    )


def folders_and_archives(root: Path, tree: Tree) -> Path:
    parts = by_speaker(tree)
    suitcase = {"suitcase_corpus.zip": zipped(parts["suitcase_corpus"])}
    return on_disk(root, parts["YKWK"] | parts["ABA"] | suitcase | {"YKWK.zip": zipped(parts["YKWK"])})


LAYOUTS = [
    folders, folders_in_the_name_of_the_release, folders_in_folders_of_their_name, archives_of_speakers,
    archives_without_a_folder, archive_of_archives, folder_with_the_archive_of_archives, archive_of_folders,
    folders_and_archives,
]  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_every_layout_gives_the_same_recordings(tmp_path: Path, sound: bytes, layout: Callable[..., Path]) -> None:
    found = l2arctic.find(layout(tmp_path, corpus(sound)), {"suitcase": "take"})
    assert [one.utt_id for one in found.recordings] == [
        "L2-ABA_arctic_a0002", "L2-YKWK_arctic_a0001", "L2-YKWK_arctic_a0002", "L2-YKWK_arctic_b0003", "L2-ABA_suitcase",
    ]  # fmt: skip
    assert [(one.utt_id, one.reason) for one in found.rejects] == [
        ("L2-ABA_arctic_a0001", "no_transcript"), ("L2-ABA_arctic_a0004", "empty"),
        ("L2-ABA_arctic_a0005", "empty_transcript"), ("L2-ABA_arctic_a0006", "unreadable_transcript"),
        ("L2-ABA_arctic_b0003", "no_audio"),
    ]  # fmt: skip
    assert all(references.read(one.audio[0]) == sound for one in found.recordings)


@pytest.fixture
def found(tmp_path: Path, sound: bytes) -> Found:
    return l2arctic.find(folders(tmp_path, corpus(sound)), {})


def test_transcripts_stay_with_their_own_sound_when_one_is_missing(found: Found) -> None:
    for one in found.recordings:
        stem = Path(one.audio[0]).stem
        assert one.transcript == TEXTS[stem]
        assert one.more["prompt_id"] == stem


def test_columns_say_who_speaks(found: Found) -> None:
    korean = found.recordings[-1]
    assert (korean.speaker, korean.corpus, korean.group) == ("L2-YKWK", "l2arctic", "l2")
    assert korean.more == {
        "speaker_type": "l2", "l1": "Korean", "gender": "M", "prompt_id": "arctic_b0003", "style": "read",
    }  # fmt: skip


def test_every_first_language_has_two_women_and_two_men() -> None:
    cells = list(l2arctic._SPEAKERS.values())
    assert len(cells) == 24
    assert {cells.count(cell) for cell in cells} == {2}


def test_the_stories_are_left_out_unless_they_are_asked_for(tmp_path: Path, sound: bytes, found: Found) -> None:
    assert any("1 recordings of suitcase_corpus left out" in note for note in found.notes)
    taken = l2arctic.find(tmp_path, {"suitcase": "take"}).recordings[-1]
    assert (taken.speaker, taken.transcript, taken.more["style"]) == ("L2-ABA", "It was a busy day.", "spontaneous")


def test_notes_name_missing_speakers_and_sentences(found: Found) -> None:
    assert any(
        note.startswith("speakers that are not there: SKA, YBAA") and "(2 of 24)" in note for note in found.notes
    )
    assert "ABA lacks 1 of 6 sentences: arctic_b0003" in found.notes


def test_a_speaker_of_a_later_release_is_taken_and_said(tmp_path: Path, sound: bytes) -> None:
    found = l2arctic.find(folders(tmp_path, l2_speaker("NEW", sound)), {})
    assert {one.more["l1"] for one in found.recordings} == {""}
    assert any("v5.0 does not have" in note and "NEW" in note for note in found.notes)


def test_a_sentence_is_in_one_split_whoever_reads_it(tmp_path: Path, sound: bytes) -> None:
    tree: Tree = {}
    for number in range(60):
        for name in ("ABA", "SKA", "TLV"):
            tree[f"{name}/wav/arctic_a{number:04}.wav"] = sound
            tree[f"{name}/transcript/arctic_a{number:04}.txt"] = f"Sentence of {'x' * number} letters".encode()
    found = l2arctic.find(folders(tmp_path, tree), {})
    splits = {(one.more["prompt_id"], one.split) for one in found.recordings}
    assert len(splits) == 60
    assert {split for _, split in splits} == {"train", "validation", "test"}


def test_a_rejected_recording_has_the_split_of_its_sentence(found: Found) -> None:
    of_prompt = {one.more["prompt_id"]: one.split for one in found.recordings}
    for one in found.rejects:
        assert one.split == of_prompt.get(one.utt_id.removeprefix("L2-ABA_"), "train")


def test_recordings_of_44_khz_can_be_prepared(found: Found) -> None:
    assert len(audio.decode(references.read(found.recordings[0].audio[0]))) / 16_000 == pytest.approx(0.235, abs=0.01)


def test_archives_that_are_unpacked_in_part_are_refused_and_all_that_is_missing_is_said(
    tmp_path: Path, sound: bytes
) -> None:
    first, second, third = (l2_speaker(name, sound) for name in ("ABA", "SKA", "TLV"))
    on_disk(tmp_path, {"ABA.zip": zipped(first), "SKA.zip": zipped(second), "TLV.zip": zipped(third)} | third)
    on_disk(tmp_path, dict(list(first.items())[:4]))
    on_disk(tmp_path, second | {"SKA/transcript/arctic_b0003.txt": b"He does"})
    with pytest.raises(DataError) as raised:
        l2arctic.find(tmp_path, {})
    message = str(raised.value)
    assert "folder ABA lacks 2 recordings (arctic_a0002, arctic_b0003) and lacks 2 transcripts" in message
    assert "folder SKA has 1 transcripts of another size (arctic_b0003)" in message
    assert "TLV" not in message
    assert "Unpack these again; or remove the folders" in message
    for name in ("ABA", "SKA"):
        shutil.rmtree(tmp_path / name)
    assert len(l2arctic.find(tmp_path, {}).recordings) == 9


def test_speakers_that_the_archive_of_all_is_unpacked_for_are_compared_with_it(tmp_path: Path, sound: bytes) -> None:
    tree = l2_speaker("ABA", sound) | l2_speaker("SKA", sound)
    on_disk(tmp_path, {"release.zip": zipped(archives(tree))} | l2_speaker("ABA", sound))
    assert len(l2arctic.find(tmp_path, {}).recordings) == 6
    (tmp_path / "ABA" / "transcript" / "arctic_a0001.txt").unlink()
    with pytest.raises(DataError, match=r"release\.zip the folder ABA lacks 1 transcripts \(arctic_a0001\)\. "):
        l2arctic.find(tmp_path, {})


def test_recordings_whose_names_differ_in_the_case_of_their_ending_are_not_lost(tmp_path: Path, sound: bytes) -> None:
    found = l2arctic.find(on_disk(tmp_path, l2_speaker("ABA", sound) | {"ABA/wav/arctic_a0001.WAV": b"x" * 50}), {})
    assert len(found.recordings) == 3
    assert [(one.utt_id, one.reason) for one in found.rejects] == [("L2-ABA_arctic_a0001.WAV", "no_transcript")]


def test_a_damaged_archive_is_refused(tmp_path: Path, sound: bytes) -> None:
    (tmp_path / "ABA.zip").write_bytes(zipped(l2_speaker("ABA", sound))[:-30])
    with pytest.raises(DataError, match=r"ABA\.zip.*download or copy the archive again"):
        l2arctic.find(tmp_path, {})


def test_a_wrong_root_says_what_was_expected_and_found(tmp_path: Path) -> None:
    (tmp_path / "F01").mkdir()
    with pytest.raises(DataError, match=r"is not L2-ARCTIC: expected the archive .*has: F01/"):
        l2arctic.find(tmp_path, {})
    with pytest.raises(DataError, match="does not exist"):
        l2arctic.find(tmp_path / "none", {})
    with pytest.raises(DataError, match="allowed: leave, take"):
        l2arctic.find(tmp_path, {"suitcase": "yes"})


def test_loops_of_links_end(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path)
    with pytest.raises(DataError, match="is not L2-ARCTIC"):
        l2arctic.find(tmp_path, {})


def test_a_folder_whose_last_file_was_cut_short_is_refused(tmp_path: Path, sound: bytes) -> None:
    whole = l2_speaker("ABA", sound)
    on_disk(tmp_path, whole | {"ABA.zip": zipped(whole), "ABA/wav/arctic_b0003.wav": sound[:1000]})
    with pytest.raises(DataError, match=r"folder ABA has 1 recordings of another size \(arctic_b0003\)"):
        l2arctic.find(tmp_path, {})


def test_a_relative_root_gives_absolute_audio(tmp_path: Path, sound: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    on_disk(tmp_path, l2_speaker("ABA", sound))
    monkeypatch.chdir(tmp_path)
    assert {Path(one.audio[0]).parent for one in l2arctic.find(Path(), {}).recordings} == {tmp_path / "ABA" / "wav"}


def test_a_folder_without_permission_is_a_clear_error(tmp_path: Path, sound: bytes) -> None:
    on_disk(tmp_path, l2_speaker("ABA", sound))
    with without_permission(tmp_path / "ABA" / "wav"), pytest.raises(DataError, match="check its permissions"):
        l2arctic.find(tmp_path, {})

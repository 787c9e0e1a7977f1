"""Rows of a small UA-Speech, TORGO and L2-ARCTIC with all their speakers, as a store has them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

Row = dict[str, str]
UA_CLASSES = {
    "very low": "M04 F03 M12 M01", "low": "M07 F02 M16", "mid": "M05 F04 M11", "high": "M09 M14 M08 M10 F05",
}  # fmt: skip
TORGO_CLASSES = {"severe": "F01 M01 M02 M04", "moderate-severe": "M05", "moderate": "F03", "mild": "F04 M03"}
L1S = {
    "Arabic": "ABA SKA YBAA ZHAA", "Mandarin": "BWC LXC NCC TXHC", "Hindi": "ASI RRBI SVBI TNI",
    "Korean": "HJK HKK YDCK YKWK", "Spanish": "EBVS ERMS MBMPS NJS", "Vietnamese": "HQTV PNV THV TLV",
}  # fmt: skip


def uaspeech() -> Iterator[Row]:
    controls = [f"CF{n:02}" for n in (2, 3, 4, 5)] + [f"CM{n:02}" for n in (1, 4, 5, 6, 8, 9, 10, 12, 13)]
    speakers = [(name, kind, "dysarthric") for kind, names in UA_CLASSES.items() for name in names.split()]
    for name, severity, group in speakers + [(name, "", "control") for name in controls]:
        for block, code in product(("B1", "B2", "B3"), ("D1", "CW1", "LA", *(f"UW{n}" for n in range(1, 41)))):
            prompt = f"{block}_{code}" if code.startswith("UW") else code
            for mic in ("M5",) if code.startswith("UW") else ("M5", "M6"):
                yield {
                    "utt_id": f"UA-{name}_{block}_{code}_{mic}", "speaker": f"UA-{name}", "corpus": "uaspeech",
                    "group": group, "speaker_type": group, "severity": severity, "prompt_id": prompt, "block": block,
                    "transcript": f"word {prompt.lower()}", "mic": mic,
                }  # fmt: skip


def torgo() -> Iterator[Row]:
    speakers = [(name, kind, "dysarthric") for kind, names in TORGO_CLASSES.items() for name in names.split()]
    speakers += [(name, "", "control") for name in "FC01 FC02 FC03 MC01 MC02 MC03 MC04".split()]
    for (name, severity, group), number in product(speakers, range(40)):
        shared = number < 25
        text = f"Sentence {number}." if shared else f"Sentence {number} of {name}"
        for session in ("1", "2") if number < 5 else ("1",):
            yield {
                "utt_id": f"TORGO-{name}_{session}_{number}", "speaker": f"TORGO-{name}", "corpus": "torgo",
                "group": group, "speaker_type": group, "severity": severity, "prompt_id": text.lower(),
                "session": session, "transcript": text,
            }  # fmt: skip


def l2arctic() -> Iterator[Row]:
    for l1, names in L1S.items():
        for name, number in product(names.split(), range(50)):
            yield {
                "utt_id": f"L2-{name}_a{number:04}", "speaker": f"L2-{name}", "corpus": "l2arctic", "group": "l2",
                "speaker_type": "l2", "l1": l1, "prompt_id": f"arctic_a{number:04}", "transcript": f"Read {number}!",
            }  # fmt: skip


ROWS = [*uaspeech(), *torgo(), *l2arctic()]


def columns(rows: list[Row]) -> dict[str, list[str]]:
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name, "") for row in rows] for name in names}


UNION = columns(ROWS)

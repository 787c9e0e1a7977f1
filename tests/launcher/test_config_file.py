"""Promises of launcher.config_file: bad files give one kind of error, with all faults in one go."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from launcher.config import Configuration, ConfigurationError, load
from launcher.config_convert import converted
from launcher.config_file import MOST_BYTES
from launcher.config_schema import MODEL, TRAINING, keys


def problems_of(path: Path, data: bytes | str) -> tuple[str, ...]:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    with pytest.raises(ConfigurationError) as caught:
        load(path)
    return caught.value.problems


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty: it has no section"),
        (b"# only a comment\n", "is empty: it has no section"),
        (
            b"[Trainer Arguments]\nrun_name = caf\xe9\n",
            "is not UTF-8 (byte 0xe9 in line 2); save it as UTF-8",
        ),
        ("[Study]\n".encode("utf-16"), "is not UTF-8 (byte 0xff in line 1)"),
        (b"[Study]\n\nbaseline = a\0b\n", "holds a NUL character in line 3"),
        (b"#" * 10_000_000, f"is larger than {MOST_BYTES} bytes"),
        (b"[Trainer Arguments\nseed = 1\n", "'[Trainer Arguments' stands before any section"),
        (b"[DEFAULT]\nseed = 1\n", "unknown section"),
        (b"[Trainer Arguments]\nrun_name = 5 $\n", "a dollar sign itself $$"),
        (b"[Trainer Arguments]\nrun_name = ${run_name}\n", "it refers to itself"),
        (b"[Trainer Arguments]\nrun_name = a\n  seed = 1\n", "it goes on over several lines"),
    ],
)
def test_a_file_that_cannot_be_read_gives_one_clear_problem(tmp_path: Path, data: bytes, message: str) -> None:
    first = problems_of(tmp_path / "bad.conf", data)[0]
    assert "bad.conf" in first
    assert message in first


def test_a_missing_file_and_a_folder_say_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"none\.conf does not exist"):
        load(tmp_path / "none.conf")
    with pytest.raises(ConfigurationError, match="is a folder"):
        load(tmp_path)


def test_every_fault_of_writing_is_told_with_its_line(tmp_path: Path) -> None:
    text = """stray = 1
[Trainer Arguments]
seed = 1
seed = 2
no equals here
[Study]
reduction = sum
[Trainer Arguments]
learnin_rate = 3
"""
    problems = problems_of(tmp_path / "bad.conf", text)
    assert sorted(problem.partition(" of ")[0] for problem in problems[:4]) == [
        "line 1",
        "line 4",
        "line 5",
        "line 8",
    ]
    assert "key 'seed' stands there a second time in [Trainer Arguments]" in "\n".join(problems)
    assert problems[4:] == (
        "learnin_rate = '3' in [Trainer Arguments] of bad.conf: unknown key; "
        "did you mean 'learning_rate' in [Trainer Arguments]?",
    )


def test_marks_of_old_editors_and_inline_comments_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "old.conf"
    path.write_bytes(b"\xef\xbb\xbf[Trainer Arguments]\r\nseed = 3 ; a comment\r\nrun_name: 50 % # another\r\n")
    assert load(path).trainer_arguments == {"seed": 3, "run_name": "50 %"}


def test_an_axis_may_go_on_over_several_lines(tmp_path: Path) -> None:
    path = tmp_path / "axis.conf"
    path.write_text("[Study]\nreduction = sum, # stock\n    mean,\n    power(alpha=0.5)\n", encoding="utf-8")
    assert load(path).axes == {"Model Configuration.reduction": ("sum", "mean", "power(alpha=0.5)")}


def test_paths_are_made_absolute_from_home_and_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("HOME", "/home/someone")
    path = tmp_path / "paths.conf"
    path.write_text(
        "[Paths]\nroot: ~/data\n[Training Configuration]\ndataset_path = ${Paths:root}/a\n"
        "[Study]\ndataset_path = ../b, plain/c, '~/kept', $${d}\n",
        encoding="utf-8",
    )
    loaded = load(path)
    assert loaded.training.dataset_path == "/home/someone/data/a"
    given_paths = (str(tmp_path.resolve() / "b"), "plain/c", "/home/someone/kept", "${d}")
    assert loaded.axes == {"Training Configuration.dataset_path": given_paths}


def load_or_error(path: Path | None, overrides: Sequence[str] = ()) -> Configuration | ConfigurationError:
    try:
        return load(path, overrides)
    except ConfigurationError as error:
        return error


names = st.sampled_from(
    [
        *(
            "[Trainer Arguments]",
            "[Training Configuration]",
            "[Model Configuration]",
            "[Study]",
            "[Paths]",
            "[x",
        ),
        *(
            "seed",
            "learning_rate",
            "reduction",
            "report_to",
            "debug",
            "lr_scheduler_kwargs",
            "groups",
            "baseline",
        ),
        *(
            "batch_size",
            "warmup_ratio",
            "optim",
            "dataset_path",
            "Trainer Arguments.seed",
            "early_stopping",
            "a",
        ),
        *(
            "=",
            " = ",
            ":",
            "\n",
            "\n ",
            "\r",
            ",",
            "..",
            "1",
            "2022..2026",
            "1e-4",
            "9" * 30,
            "nan",
            "inf",
            "None",
        ),
        *(
            "True",
            "${Paths:a}",
            "${a}",
            "$",
            "%",
            "%(a)s",
            "#",
            " ;",
            "(",
            ")",
            "[",
            "]",
            '["a"]',
            "[" * 2000,
            "{",
        ),
        *(
            *("load_model", "debug_dataset", "filter_datasets", "l2_speakers", "test_set", "task_weight", "output_dir"),
            *(
                "dataset_loss_weighting",
                "domaincls_loc",
                "classes",
                "branch_layers",
                "save_results",
                "no_control_layer",
            ),
            *("task", "[a, b]", "[a], [b]", '["a]"', "1.3, 0.7", "false", "both", "lr"),
            '{"a": NaN}',
            '"',
            "'",
            "\\ud800",
            '"\\ud800"',
            "~",
            "../",
            "\ufeff",
            "\x0b",
            "\x85",
            "sum",
            "power(alpha=1)",
        ),
    ]
)
own = st.sampled_from([(section, key) for section in (TRAINING, MODEL) for key in keys(section)])
#: One of lossgrid's own keys with a value that is anything.
assignments = st.builds(
    lambda home, value: f"[{home[0]}]\n{home[1]} = {value}\n", own, st.one_of(names, st.text(max_size=8))
)
own_overrides = st.builds(lambda home, value: f"{home[1]}={value}", own, st.one_of(names, st.text(max_size=8)))
files = st.lists(st.one_of(names, st.text(max_size=5)), max_size=40).map("".join)


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(
        files,
        *(files.map(f"[{name} Configuration]\n".__add__) for name in ("Training", "Model")),
        *(files.map(f"[{name}]\n".__add__) for name in ("Trainer Arguments", "Study")),
        assignments,
    )
)
@example("[Study]\nseed = 0..999999999999\n")
@example("[Study]\nlr_scheduler_kwargs = " + "[" * 100_000)
@example("[Trainer Arguments]\nlr_scheduler_kwargs = {" + "[" * 100_000)
@example("[Trainer Arguments]\n" + "".join(f"key{number} = 1\n" for number in range(3000)))
@example("x\n" * 3000)
@example("[a]\n[a]\n" * 3000)
def test_only_a_configuration_error_comes_out_of_any_text(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.conf"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    loaded = load_or_error(path)
    if isinstance(loaded, ConfigurationError):
        assert loaded.problems
        assert str(loaded) == "\n".join(loaded.problems)
    else:
        assert load_or_error(path) == loaded
        today = converted(path)
        path.write_text(today, encoding="utf-8", newline="\n")
        again = load(path)
        assert (again, again.warnings) == (loaded, ())
        assert converted(path) == today
        path.write_text(loaded.to_conf(), encoding="utf-8")
        assert load(path) == loaded


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.one_of(files, files.map("seed=".__add__), files.map("reduction=".__add__), own_overrides), max_size=3)
)
def test_only_a_configuration_error_comes_out_of_any_override(overrides: list[str]) -> None:
    loaded = load_or_error(None, overrides)
    if isinstance(loaded, ConfigurationError):
        assert loaded.problems
        assert "--set" in loaded.problems[0]

"""Promises of launcher.config_convert: today's spelling, the same meaning, and nothing lost of what a person wrote."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from launcher.config import ConfigurationError, load
from launcher.config_convert import converted
from launcher.config_file import read_file
from launcher.config_keys import LOAD_MODEL, NO_EFFECT, RENAMED, RENAMED_VALUES
from launcher.config_lines import content_of, page_of
from launcher.config_schema import MODEL, TRAINER, TRAINING

ORIGINAL = Path(__file__).resolve().parents[3] / "shared" / "reference" / "losses_experiment.md"
HEADERS = ("[Paths]", f"[{TRAINER}]", f"[{TRAINING}]", f"[{MODEL}]", "[Study]")


def write(folder: Path, text: str, name: str = "old.conf") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8", newline="\n")
    return path


def comments_of(text: str) -> list[str]:
    return [line[len(content_of(line)) :] for line in text.split("\n") if content_of(line) != line]


def check_promises(folder: Path, text: str) -> str:
    old = load(write(folder, text))
    today = converted(folder / "old.conf")
    new = load(write(folder, today, "new.conf"))
    assert new == old
    assert list(new.axes) == list(old.axes), "the order of the axes is the order of the trials"
    assert new.warnings == ()
    assert converted(folder / "new.conf") == today
    assert all(comment in today for comment in comments_of(text))
    return today


@pytest.mark.skipif(not ORIGINAL.is_file(), reason="the original experiment's file is not at hand")
def test_the_original_file_is_converted_line_by_line(tmp_path: Path) -> None:
    block = ORIGINAL.read_text(encoding="utf-8").split("```")[1].removeprefix("\n")
    today = check_promises(tmp_path, block)
    assert today.count("\n") == block.count("\n"), "renamed, moved or commented out: no line comes or goes"
    kept = set(block.split("\n")) & set(today.split("\n"))
    assert {"data_dir: ~/thesis/data", "early_stopping = 0 # 0 for no stopping n > 0 for stopping"} <= kept
    assert "filter_controls = True" in today
    assert today.index("pretrained_model_name = ") > today.index("[Model Configuration]")


def test_each_kind_of_change(tmp_path: Path) -> None:
    old = """; head
[Paths]
root: ~/data            # where
[Trainer Arguments]
lr = 1e-4,              # a comment
     5e-5
"""
    with pytest.raises(ConfigurationError, match="belong in"):
        converted(write(tmp_path, old))
    old = """; head
[Paths]
root: ~/data            # where
model = deep

[Training Configuration]
# the model
model_type: wav2vec     # moves
  load_model = True     ; the folder
pretrained_model = hub/name

[Trainer Arguments]
batch_size = 4          # both
output_dir = ${Paths:root}/${Paths:model}
run_name = ${output_dir}-$$1
optim = adamw_hf

[Study]
Training Configuration.model_type = wav2vec, # first
    tiny
lr = 1e-4, 5e-5
"""
    # An indented line continues a value, so here it is the second line of model_type: refused, not guessed at.
    with pytest.raises(ConfigurationError, match="several lines"):
        converted(write(tmp_path, old))
    today = check_promises(tmp_path, old.replace("  load_model", "load_model"))
    assert today == """; head
[Paths]
root: ~/data            # where
model = deep

[Training Configuration]
# the model
load_model = ${Paths:root}/${Paths:model}  ; the folder

[Trainer Arguments]
per_device_train_batch_size = 4          # both
per_device_eval_batch_size = 4          # both
# output_dir = ${Paths:root}/${Paths:model}  # no effect: --out decides where results go
run_name = ~/data/deep-$$1
optim = adamw_torch

[Study]
Model Configuration.model_type = base, tiny  # first
learning_rate = 1e-4, 5e-5

[Model Configuration]
model_type: base  # moves
pretrained_model_name = hub/name
"""  # fmt: skip


def test_a_key_that_stands_there_under_two_spellings_stands_there_once(tmp_path: Path) -> None:
    today = check_promises(tmp_path, "[Trainer Arguments]\nlr = 1e-4\nlearning_rate = 0.0001\nbatch_size = 2\n")
    assert "# lr = 1e-4  # said twice\nlearning_rate = 0.0001\n" in today


def test_a_value_that_was_another_key_becomes_that_key(tmp_path: Path) -> None:
    today = check_promises(tmp_path, "[Model Configuration]\ndataset_loss_weighting = no_control_layer  # merged\n")
    assert today == "[Model Configuration]\nno_control_layer = True  # merged\n"


def test_a_file_of_today_stays_as_it_is_byte_for_byte(tmp_path: Path) -> None:
    for path in sorted((Path(__file__).resolve().parents[2] / "configs").glob("*.conf")):
        assert converted(path) == path.read_text(encoding="utf-8")


def test_a_file_with_problems_is_not_converted_but_told_in_full(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        converted(write(tmp_path, "[Trainer Arguments]\nseeed = 1\nlearning_rate = fast\n"))
    assert len(caught.value.problems) == 2


PLAIN = [
    (TRAINER, "seed = 1"), (TRAINER, "learning_rate = 1e-4"), (TRAINER, "run_name = ${Paths:name}"),
    (TRAINER, "run_name = ${output_dir}/${optim}"), (TRAINER, "output_dir: ${Paths:name}/x"), (TRAINER, "output_dir = a$$b"),
    (TRAINER, "output_dir = ${optim}"), (TRAINER, "optim = adamw_hf"), (TRAINER, "warmup_ratio = 0.1"),
    (TRAINER, "batch_size: 4"), (TRAINER, "per_device_train_batch_size = 4"), (TRAINER, "deepspeed = None"),
    (TRAINER, 'run_name = "a, # b"'), (TRAINER, "report_to = None"), (TRAINER, "label_names = a,\n      b  ; end"),
    (TRAINER, "logging_dir = ${Training Configuration:dataset_path}"), (TRAINER, "log_level =\n    message"),
    (TRAINING, "model_type = multitask"), (TRAINING, "model_type = ${dataset_path}"), (TRAINING, "filter_contols = yes"),
    (TRAINING, "load_model = True"), (TRAINING, "load_model = ${Trainer Arguments:output_dir}"), (TRAINING, "data = d"),
    (TRAINING, "dataset_path = d"), (TRAINING, "debug_dataset = true"), (TRAINING, "raw_data_path = r"),
    (TRAINING, "filter_datasets = torgo, 'l2'"), (TRAINING, "test_set = all"), (TRAINING, "pretrained_model = ${model_type}"),
    (MODEL, "classes = speakers"), (MODEL, 'classes = "task"'), (MODEL, "domaincls_loc = other"), (MODEL, "task_weight = 0.3"),
    (MODEL, "dataset_loss_weighting = no_control_layer"), (MODEL, "no_control_layer = True"), (MODEL, "ctc_loss_reduction = sum"),
    (MODEL, "reinitialize_last_layers = 2"), (MODEL, "dataset_loss_weighting = 1.3,\n    0.7, 1"), (MODEL, "freeze_encoder = False"),
    ("Study", "lr = 1e-4, 5e-5"), ("Study", "Training Configuration.model_type = wav2vec, tiny"), ("Study", "load_model = True, False"),
    ("Study", "classes = task, speakers, None"), ("Study", "ctc_loss_reduction = sum, power(alpha=0.5)"), ("Study", "seed = 1..3 # s"),
    ("Study", "generate_new_data = True, False"), ("Study", "baseline = lr"), ("Study", "filter_datasets = [a, b], [c], None"),
    ("Paths", "name = n"), ("Paths", "name: ${Trainer Arguments:output_dir}"), ("Paths", "other = ${name}"),
]  # fmt: skip
between = st.sampled_from(["", "# a remark", "  ; another", " "])


@st.composite
def old_files(draw: st.DrawFn) -> str:
    """Files in which every section, order, indentation and spelling of the table above may meet."""
    lines = []
    for header in draw(st.permutations(HEADERS))[: draw(st.integers(2, 5))]:
        mine = [text for section, text in PLAIN if f"[{section}]" == header]
        lines.append(header)
        for text in draw(
            st.lists(st.sampled_from(mine), max_size=5, unique_by=lambda text: text.split()[0].strip(":"))
        ):
            lines += draw(st.lists(between, max_size=2))
            lines.append(draw(st.sampled_from(["", "", "  "])) + text + draw(st.sampled_from(["", "  # why", "\t;"])))
    return "\n".join([*lines, *draw(st.sampled_from([[], [""], ["# end", ""]]))])


@settings(max_examples=75, deadline=None)
@given(old_files())
@example("[Model Configuration]\n  [Training Configuration]\nmodel_type = tiny\n[Study]")
@example(
    "[Trainer Arguments]\noutput_dir = a\n[Training Configuration]\nload_model = True\n[Study]\nload_model = True, no\n"
)
def test_a_converted_file_means_the_same_without_a_warning(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.getbasetemp()
    try:
        load(write(folder, text))
    except ConfigurationError:
        with pytest.raises(ConfigurationError):
            converted(folder / "old.conf")
        return
    check_promises(folder, text)


@settings(max_examples=75, deadline=None)
@given(old_files())
def test_lines_are_grouped_as_configparser_groups_them(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = write(tmp_path_factory.getbasetemp(), text)
    content = read_file(path)
    if content.problems:
        return
    page = page_of(text)
    assert [(block.section, block.key) for block in page.blocks] == [(one.section, one.key) for one in content.entries]
    assert list(page.headers) == content.sections
    assert [line for block in page.blocks for line in block.lines] == [
        page.lines[block.first + number] for block in page.blocks for number in range(len(block.lines))
    ]


@pytest.mark.parametrize("old", sorted(RENAMED))
def test_every_old_key_is_converted(tmp_path: Path, old: str) -> None:
    value = {"pretrained": "hub/name", "ctc": "True", "freeze": "True"}.get(old.partition("_")[0], "1")
    value = {"ctc_loss_reduction": "sum", "warmup_ratio": "0.5", "evaluation_strategy": "no"}.get(old, value)
    value = {"filter_contols": "True", "lr_scheduler": "linear", "no_cuda": "True"}.get(old, value)
    section = RENAMED[old][0].partition(".")[0]
    today = check_promises(tmp_path, f"[{section}]\n{old if '=' in old else f'{old} = {value}'}\n")
    for target in RENAMED[old]:
        key = target.partition(".")[2]
        assert key in today or key in NO_EFFECT or old == "data"


@pytest.mark.parametrize(("target", "value"), [*RENAMED_VALUES, (LOAD_MODEL, "True")])
def test_every_old_value_is_converted(tmp_path: Path, target: str, value: str) -> None:
    section, _, key = target.partition(".")
    given_key = "dataset_loss_weighting" if value == "no_control_layer" else key
    lines = [f"[{section}]", f"{given_key} = {value}", *([] if section == TRAINER else [f"[{TRAINER}]"])]
    text = "\n".join([*lines, "output_dir = models/a", ""])
    new = "models/a" if target == LOAD_MODEL else RENAMED_VALUES[target, value]
    assert f"{key} = {new}\n" in check_promises(tmp_path, text)

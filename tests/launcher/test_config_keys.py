"""Promises of launcher.config_keys: old keys and values lead to those of today."""

from __future__ import annotations

from typing import Any

import pytest

from launcher import config_keys
from launcher.config import load
from launcher.config_schema import MODEL, TRAINER, TRAINING


@pytest.mark.parametrize("old", sorted(config_keys.RENAMED))
def test_every_old_spelling_leads_to_a_key_of_today(old: str) -> None:
    found = config_keys.meaning(None, old)
    assert not found.unknown
    assert found.targets or found.no_effect
    for target in found.targets:
        section, _, key = target.partition(".")
        assert config_keys.meaning(section, key).targets == (target,)


@pytest.mark.parametrize(
    ("override", "target", "value"),
    [
        ("optim=adamw_hf", f"{TRAINER}.optim", "adamw_torch"),
        ("warmup_ratio=0.1", f"{TRAINER}.warmup_steps", 0.1),
        ("ctc_loss_reduction=sum", f"{MODEL}.reduction", "sum"),
        ("model_type=wav2vec", f"{MODEL}.model_type", "base"),
        ("report_to=None", f"{TRAINER}.report_to", "none"),
        ("test_set=all", f"{TRAINING}.test_set", "both"),
        ("debug_dataset=True", f"{TRAINING}.debug_dataset", 0.0125),
        ("filter_contols=True", f"{TRAINING}.filter_controls", True),
        ("classes=task", f"{MODEL}.classes", "group"),
        ("classes=speakers", f"{MODEL}.classes", "speaker"),
        ("classes=intelligibility", f"{MODEL}.classes", "severity"),
        ("domaincls_loc=ctc_layer", f"{MODEL}.domaincls_loc", "final"),
        ("domaincls_loc=other", f"{MODEL}.domaincls_loc", "final"),
        ("dataset_loss_weighting=no_control_layer", f"{MODEL}.no_control_layer", True),
        ("reinitialize_last_layers=2", f"{MODEL}.reinitialize_last_n_layers", 2),
    ],
)
def test_an_old_spelling_works_with_one_warning(override: str, target: str, value: Any) -> None:
    configuration = load(None, [override])
    section, _, key = target.partition(".")
    assert configuration.as_dict()[section][key] == value
    assert len(configuration.warnings) == 1
    assert f"{key} = {value}" in configuration.warnings[0]


def test_an_ambiguous_key_is_refused_with_its_sections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config_keys, "keys", lambda section: ("depth",) if section != TRAINER else ("seed",))
    said = config_keys.meaning(None, "depth").unknown
    assert "'Training Configuration.depth' or 'Model Configuration.depth'" in said
    assert config_keys.meaning(MODEL, "depth").targets == (f"{MODEL}.depth",)

"""What one trial is told by the launcher."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Trial:
    """The configuration of one trial, as the launcher hands it over.

    Attributes:
        trial_id: name of the trial.
        axes: what the study varies, for TensorBoard.
        sections: resolved configuration: Trainer Arguments, Training Configuration, Model Configuration.
        groups: columns by which scores are split.
        store: folder of the prepared data.
        folder: where the trial writes.
        tensorboard: where its event files go; None: nowhere.
        stop_file: training ends behind a checkpoint once this exists.
        threads: CPU threads of one worker.
        audits: folder of the audits that the trials of a study share.
        reductions: the reductions of the study, which audits look at beside the presets.
        launch: the launch that runs it; attempts are counted by launch.
        attempt: name of this attempt, by which two that know nothing of each other are told apart; "": none was given.
        micro_batch_scale: part of the usual micro-batch that memory has room for.
        weights: hash of the content of each checkpoint that trials start from, by its name.
        trackers: what it is reported to beside TensorBoard, see `launcher.trackers.told`; None: nothing.
    """

    trial_id: str
    axes: Mapping[str, Any]
    sections: Mapping[str, Mapping[str, Any]]
    groups: tuple[str, ...]
    store: Path
    folder: Path
    tensorboard: Path | None
    stop_file: Path
    threads: int
    audits: Path
    reductions: tuple[str, ...] = ()
    launch: str = ""
    attempt: str = ""
    micro_batch_scale: float = 1.0
    trackers: Mapping[str, Any] | None = None
    weights: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Trial:
        """Read the mapping that came through Ray."""
        tensorboard = config["tensorboard"]
        return cls(
            trial_id=config["trial_id"],
            axes=config["axes"],
            sections=config["sections"],
            groups=tuple(config["groups"]),
            store=Path(config["store"]),
            folder=Path(config["folder"]),
            tensorboard=Path(tensorboard) if tensorboard else None,
            stop_file=Path(config["stop_file"]),
            threads=config["threads"],
            audits=Path(config.get("audits") or Path(config["folder"]) / "audits"),
            reductions=tuple(config.get("reductions", ())),
            launch=config.get("launch", ""),
            attempt=config.get("attempt_name", ""),
            trackers=config.get("trackers"),
            weights=config.get("weights", {}),
        )

    def with_smaller_micro_batches(self, scale: float) -> Trial:
        """Return the trial with that part of the usual micro-batch; no result depends on it."""
        return replace(self, micro_batch_scale=scale)

    @property
    def arguments(self) -> dict[str, Any]:
        """The [Trainer Arguments]."""
        return dict(self.sections["Trainer Arguments"])

    @property
    def training(self) -> Mapping[str, Any]:
        """The [Training Configuration]."""
        return self.sections["Training Configuration"]

    @property
    def model(self) -> Mapping[str, Any]:
        """The [Model Configuration]."""
        return self.sections["Model Configuration"]

    @property
    def checkpoint(self) -> str | None:
        """What the model starts from: a folder or a name on the hub; None: from scratch."""
        return checkpoint_of(self.sections)

    @property
    def trains(self) -> bool:
        """Whether the model is trained, or only measured."""
        return trains(self.sections)

    @property
    def evaluates(self) -> bool:
        """Whether the model is scored at all."""
        return self.arguments.get("do_eval") is not False


def checkpoint_of(sections: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Return what the model of a trial starts from: `load_model` before `pretrained_model_name`."""
    training, model = sections.get("Training Configuration", {}), sections["Model Configuration"]
    return training.get("load_model") or model.get("pretrained_model_name")


def trains(sections: Mapping[str, Mapping[str, Any]]) -> bool:
    """Return whether a trial trains; `do_train` has to say no (transformers' own default of False means nothing here)."""
    return sections.get("Trainer Arguments", {}).get("do_train") is not False


def scored_splits(sections: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the splits that a trial scores before and after training."""
    training = sections.get("Training Configuration", {})
    if not training or sections.get("Trainer Arguments", {}).get("do_eval") is False:
        return ()
    return ("validation", "test") if training["test_set"] == "both" else (training["test_set"],)

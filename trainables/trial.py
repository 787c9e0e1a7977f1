"""What one trial is told by the launcher."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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
        )

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

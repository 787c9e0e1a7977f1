"""From logits to labels.

B utterances, T frames, V vocabulary.
"""

from __future__ import annotations

import torch


def best_labels(logits_BTV: torch.Tensor, frame_count_B: torch.Tensor) -> list[list[int]]:
    """Take the best label of each frame (greedy CTC), padding frames left out; repeats and blanks still in.

    Returns:
        for each utterance its frame_count labels.
    """
    best_BT = logits_BTV.argmax(dim=-1).cpu()
    return [labels_T[:count].tolist() for labels_T, count in zip(best_BT, frame_count_B.tolist())]

"""Which checkpoints can be started from, and that none of them starts from random weights unsaid."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from model_worlds import VOCABULARY, audio, checkpoint, config
from safetensors.torch import load_file, save_file
from transformers import (
    Wav2Vec2ForAudioFrameClassification,
    Wav2Vec2ForCTC,
    Wav2Vec2ForPreTraining,
    Wav2Vec2Model,
)

from trainables.errors import DataError
from trainables.model_options import ModelOptions
from trainables.models import base, multitask, multitask_aux

OTHER = pytest.mark.parametrize("module", [base, multitask, multitask_aux])


def build(module, name: str, vocabulary=VOCABULARY, **overrides):
    given = {multitask: {"tasks": ("a", "b")}, multitask_aux: {"classes": ("a", "b")}}.get(module, {})
    return module.build(vocabulary, overrides, name, ModelOptions(**given))


@OTHER
@pytest.mark.parametrize("architecture", [Wav2Vec2Model, Wav2Vec2ForPreTraining])
def test_a_checkpoint_that_never_wrote_text_gets_the_vocabulary_of_the_transcripts(
    tmp_path, module, architecture
) -> None:
    name = checkpoint(tmp_path, architecture=architecture)
    assert module.start(name).vocabulary() is None
    torch.manual_seed(0)
    model = build(module, name)
    torch.manual_seed(5)
    source = architecture(config())
    source = getattr(source, "wav2vec2", source)
    assert torch.equal(
        model.wav2vec2.encoder.layers[1].attention.k_proj.weight, source.encoder.layers[1].attention.k_proj.weight
    )


def test_its_output_layer_is_drawn_from_the_random_state(tmp_path: Path) -> None:
    name, heads = checkpoint(tmp_path, architecture=Wav2Vec2Model), []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        heads.append(build(base, name).lm_head.weight)
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


def test_a_checkpoint_of_labels_without_their_names_is_refused(tmp_path: Path) -> None:
    name = checkpoint(tmp_path)
    (tmp_path / "vocab.json").unlink()
    with pytest.raises(DataError, match=r"has no vocab.json; it has: config.json, model.safetensors"):
        base.start(name).vocabulary()


@OTHER
def test_another_architecture_is_refused(tmp_path: Path, module) -> None:
    name = checkpoint(tmp_path, architecture=Wav2Vec2ForAudioFrameClassification)
    for read in (lambda name: module.start(name).vocabulary(), lambda name: build(module, name)):
        with pytest.raises(
            DataError, match=r"holds a Wav2Vec2ForAudioFrameClassification; model_type = .* starts from"
        ):
            read(name)


@OTHER
def test_another_kind_of_model_is_refused(tmp_path: Path, module) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "hubert", "architectures": ["HubertForCTC"]}')
    with pytest.raises(DataError, match=r"is a 'hubert' model; model_type = .* needs a wav2vec2 checkpoint"):
        module.start(str(tmp_path)).vocabulary()


@OTHER
@pytest.mark.parametrize("lost", ["wav2vec2.encoder.layers.2.attention.q_proj.weight", "lm_head.weight"])
def test_a_checkpoint_that_lacks_weights_is_refused(tmp_path: Path, module, lost: str) -> None:
    name = checkpoint(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights[lost]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(DataError, match=f"lacks 1 weights of a .* model, such as {lost}"):
        build(module, name)


def test_more_layers_than_the_checkpoint_has_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"lacks 16 weights.*leave num_hidden_layers out"):
        build(base, checkpoint(tmp_path), num_hidden_layers=4)


def test_labels_that_do_not_belong_to_the_weights_are_refused(tmp_path: Path) -> None:
    name = checkpoint(tmp_path)
    ids = json.loads((tmp_path / "vocab.json").read_text())
    (tmp_path / "vocab.json").write_text(json.dumps({**ids, "Z": len(ids)}))
    with pytest.raises(DataError, match=r"lm_head.bias has the shape \[10\].* ask for \[11\]"):
        build(base, name, base.start(name).vocabulary())


@OTHER
def test_a_field_that_wav2vec2_does_not_have_is_refused(tmp_path: Path, module) -> None:
    with pytest.raises(DataError, match=r"'hidden_dropot' is not a setting of the model .*'hidden_dropout'"):
        build(module, checkpoint(tmp_path), hidden_dropot=0.1)


def test_a_checkpoint_without_spec_augment_can_be_trained_with_it(tmp_path: Path) -> None:
    """facebook/wav2vec2-base-960h is one: it has no embedding of masked frames."""
    name = checkpoint(tmp_path, mask_time_prob=0.0, mask_feature_prob=0.0)
    assert "wav2vec2.masked_spec_embed" not in load_file(tmp_path / "model.safetensors")
    assert build(base, name, mask_time_prob=0.1).wav2vec2.masked_spec_embed.isfinite().all()


def test_overrides_win_over_the_checkpoint_and_weights_are_loaded_in_float32(tmp_path: Path) -> None:
    torch.manual_seed(5)
    Wav2Vec2ForCTC(config()).half().save_pretrained(tmp_path)
    (tmp_path / "vocab.json").write_text(VOCABULARY.as_json())
    model = build(base, str(tmp_path), hidden_dropout=0.3)
    assert model.config.hidden_dropout == 0.3
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}


@OTHER
@pytest.mark.parametrize("stable", [True, False])
def test_the_frames_are_known_before_the_model_is_loaded(tmp_path: Path, module, stable: bool) -> None:
    name = checkpoint(tmp_path, stable)
    frames = 12_345
    for kernel, stride in module.start(name).convolutions():
        frames = (frames - kernel) // stride + 1
    given = {"task": torch.tensor([0])} if module is multitask else {}
    assert build(module, name)(audio(12_345)[0], **given).logits.shape[1] == frames
    assert module.start(name).features().return_attention_mask == stable


def test_a_name_that_is_neither_here_nor_on_the_hub_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match=r"is no local folder, .* hf download no/where --local-dir"):
        base.start("no/where").convolutions()


class Hub(ThreadingHTTPServer):
    """A hub on loopback that has nothing, or, with `answers` off, takes connections and never says a word."""

    def __init__(self, *, answers: bool) -> None:
        super().__init__(("127.0.0.1", 0), _Nothing)
        self.answers, self.asked = answers, 0


class _Nothing(BaseHTTPRequestHandler):
    server: Hub

    def handle(self) -> None:
        self.server.asked += 1
        if self.server.answers:
            super().handle()

    def do_HEAD(self) -> None:
        self.send_response(404)
        self.send_header("X-Error-Code", "EntryNotFound")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture(params=[True, False], ids=["answers", "silent"])
def hub(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with Hub(answers=request.param) as served:
        address = f"http://127.0.0.1:{served.server_port}"
        for name, value in {
            "HF_HUB_OFFLINE": False, "HF_HUB_CACHE": str(tmp_path / "hub"), "ENDPOINT": address,
            "HUGGINGFACE_CO_URL_TEMPLATE": f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}",
        }.items():  # fmt: skip
            monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
        thread = threading.Thread(target=served.serve_forever, daemon=True)
        thread.start()
        yield served
        served.shutdown()


def test_where_the_hub_does_not_answer_it_is_asked_once_and_all_that_helps_is_told(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def waits(seconds: float) -> None:
        raise AssertionError(f"waits for {seconds} s")

    monkeypatch.setattr(time, "sleep", waits)  # the hub's client does so between its tries
    with pytest.raises(DataError) as caught:
        base.start("some/where").convolutions()
    told = str(caught.value)
    assert told.startswith("pretrained_model_name = 'some/where' is no local folder, ")
    assert "hf download some/where --local-dir FOLDER" in told
    if hub.answers:
        assert "config.json cannot be had from the hub (some/where does not appear to have a file named" in told
    else:
        assert hub.asked == 1
        assert (
            f"{tmp_path / 'hub'} has no copy of its config.json, and http://127.0.0.1:{hub.server_port} does not"
            in told
        )
        assert "HF_HUB_OFFLINE=1" in told


def test_a_copy_in_the_cache_of_the_hub_needs_no_answer(hub: Hub, tmp_path: Path) -> None:
    made = tmp_path / "hub" / "models--some--where"
    (made / "refs").mkdir(parents=True)
    (made / "refs" / "main").write_text("a" * 40)
    checkpoint(made / "snapshots" / ("a" * 40), stable=True)
    assert base.start("some/where").convolutions() == base.start(str(made / "snapshots" / ("a" * 40))).convolutions()


def test_only_models_that_can_start_from_scratch_need_no_checkpoint() -> None:
    with pytest.raises(DataError, match="model_type = base needs pretrained_model_name"):
        base.start(None).vocabulary()
    for module in (multitask, multitask_aux):
        assert module.start(None).vocabulary() is None
        assert module.start(None).features().return_attention_mask
        assert module.start(None).convolutions() == ((320, 160), (3, 2))

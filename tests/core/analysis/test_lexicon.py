"""Concreteness, frequency and part of speech of words, from the packages' own tables."""

from __future__ import annotations

import math
import socket

import pytest

from core.analysis import lexicon


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("a lexicon asked the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    lexicon.concreteness.cache_clear()


def test_concrete_words_rate_above_abstract_ones(no_network):
    assert lexicon.concreteness("dog") > 4.5 > 2.5 > lexicon.concreteness("freedom")
    assert lexicon.concreteness("Dog") == lexicon.concreteness("dog")


def test_an_inflected_word_that_nobody_rated_has_its_lemmas_rating(no_network):
    rated = lexicon._ratings()
    lemmas = lexicon._lemmas()
    form = next(f for f, known in lemmas.items() if f not in rated and known[0] in rated)
    assert lexicon.concreteness(form) == rated[lemmas[form][0]]
    assert math.isnan(lexicon.concreteness("xyzzy"))


def test_concreteness_agrees_with_the_norms(shared_data):
    path = shared_data / "concreteness" / "Concreteness_ratings_Brysbaert_et_al_BRM.txt"
    lines = path.read_text(encoding="utf-8").splitlines()[1:]
    norms = {line.split("\t")[0]: float(line.split("\t")[2]) for line in lines}
    single = [word for word in norms if word.isalpha() and word.islower()][::37]
    assert len(single) > 900
    for word in single:
        assert lexicon.concreteness(word) == pytest.approx(norms[word], abs=0.011), word


def test_a_texts_mean_leaves_out_words_without_a_rating():
    wanted = (lexicon.concreteness("dog") + lexicon.concreteness("ball")) / 2
    assert lexicon.mean_concreteness("dog xyzzy, ball 12") == pytest.approx(wanted)
    assert math.isnan(lexicon.mean_concreteness("xyzzy 12"))


def test_common_words_have_their_parts_of_speech():
    wanted = {
        "dog": "noun", "cakes": "noun", "bounce": "verb", "the": "determiner", "12": "number",
        "quickly": "adverb", "happy": "adjective", "of": "adposition", "Paris": "proper noun",
        "paris": "proper noun", "The": "determiner",
        "xyzzy": "unknown", "1,000": "number",
    }  # fmt: skip
    assert {word: lexicon.part_of_speech(word) for word in wanted} == wanted
    assert set(wanted.values()) <= set(lexicon.PARTS_OF_SPEECH)


def test_frequency_is_on_the_zipf_scale():
    assert lexicon.zipf("the") > 7 > 5.5 > lexicon.zipf("dog") > 4 > lexicon.zipf("ottoman")
    assert lexicon.zipf("xyzzyq") == 0


def test_frequencies_are_the_package_s_own():
    from wordfreq import top_n_list, zipf_frequency

    words = [*top_n_list("en", 60_000)[::20], "London", "42", "1,000", "don't", "xyzzyx", "a cake"]
    assert [lexicon.zipf(word) for word in words] == [zipf_frequency(w, "en") for w in words]

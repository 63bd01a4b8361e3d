"""The demo world's facts, narration, corpus and probe items: true, complete, and not leaking."""

from __future__ import annotations

import re
from collections import Counter, defaultdict

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from core.config import DemoSettings
from core.data.demo_corpus import tells_a_fact, write_corpus
from core.data.demo_facts import ACTION_WORDS, FACTS, MATERIAL_WORDS, demo_facts, word_labels
from core.data.demo_items import write_physics_items, write_time_items
from core.data.demo_narration import mentions, narrate
from core.data.demo_story import plan_stories

SETTINGS = DemoSettings()


@pytest.fixture(scope="module")
def stories():
    return plan_stories(SETTINGS.videos, SETTINGS.seed, SETTINGS.frame_rate)


@pytest.fixture(scope="module")
def corpus():
    return write_corpus(SETTINGS.corpus_sentences, SETTINGS.seed)


@pytest.fixture(scope="module")
def physics():
    return write_physics_items(SETTINGS.items, SETTINGS.seed)


@pytest.fixture(scope="module")
def time_items():
    return write_time_items(SETTINGS.items, SETTINGS.seed)


def words_of(text: str) -> set[str]:
    return set(re.findall(r"[a-z]+", text.lower()))


# ---- facts and narration -----------------------------------------------------------------


def test_every_subject_has_one_fact_in_each_family_of_its_kind():
    families = Counter(fact.family for fact in demo_facts())
    assert families == {"drop": 9, "water": 9, "push": 12, "spin-jump": 9, "shake-hide": 12}
    assert len({(fact.family, fact.subject) for fact in FACTS}) == len(FACTS) == 51


def test_no_family_can_be_guessed_from_another():
    of = defaultdict(dict)
    for fact in FACTS:
        of[fact.family][fact.subject] = fact.outcome
    for one, two in (("drop", "water"), ("drop", "spin-jump"), ("water", "spin-jump")):
        pairs = defaultdict(set)
        for subject, outcome in of[one].items():
            pairs[outcome].add(of[two][subject])
        assert all(len(others) == 2 for others in pairs.values()), (one, two)


def test_stories_follow_the_facts(stories):
    outcomes = {(f.family, f.subject): f.outcome for f in FACTS}
    checked = Counter()
    for story in stories:
        actions = [beat.action for beat in story.beats]
        for family, first, second in (
            ("spin-jump", "spin", "jump"),
            ("shake-hide", "shake", "hide"),
        ):
            if first in actions and second in actions:
                subject = story.prop.material if family == "spin-jump" else story.prop.thing
                happened = min(
                    actions, key=lambda a: actions.index(a) if a in (first, second) else 99
                )
                assert happened == outcomes[family, subject], story
                checked[family] += 1
        for family, actor in (("drop", "material"), ("water", "material"), ("push", "thing")):
            possible = {f.outcome for f in FACTS if f.family == family}
            for action in set(actions) & possible:
                assert action == outcomes[family, getattr(story.prop, actor)], story
                checked[family] += 1
    assert min(checked.values()) >= 40 and len(checked) == 5


def test_both_splits_hold_every_thing_material_and_action(stories):
    held_out = [s for s in stories if s.split == "held-out"]
    assert len(held_out) == round(0.2 * len(stories))
    for split in ("train", "held-out"):
        here = [s for s in stories if s.split == split]
        assert len({s.prop.thing for s in here}) == 12
        assert len({s.prop.material for s in here}) == 9
        assert len({b.action for s in here for b in s.beats}) == 15


def test_lengths_are_those_of_short_clips(stories):
    lengths = [story.duration_sec for story in stories]
    assert min(lengths) >= 2.5 and max(lengths) <= 8 and 4.3 <= np.mean(lengths) <= 5.5
    for story in stories:
        assert all(1.0 <= b.end_sec - b.start_sec <= 3 for b in story.beats if b.action != "fall")


def test_sentences_tile_the_video_and_overlap_what_they_tell(stories):
    for story in stories:
        sentences = narrate(story)
        assert 2 <= len(sentences) <= 4
        assert sentences[0].start_sec == 0 and sentences[-1].end_sec == story.duration_sec
        for before, after in zip(sentences, sentences[1:]):
            assert before.end_sec == after.start_sec > before.start_sec
        for mention in mentions(story, sentences):
            said = sentences[mention.sentence_index]
            assert mention.word in words_of(said.text)
            overlap = min(said.end_sec, mention.end_sec) - max(said.start_sec, mention.start_sec)
            assert overlap > 0.5 * (mention.end_sec - mention.start_sec) or mention.role != "action"


def test_every_action_is_spoken_of_in_several_forms(stories):
    forms = defaultdict(set)
    for story in stories:
        for mention in mentions(story, narrate(story)):
            forms[mention.role, mention.label].add(mention.word)
    assert all(len(forms["action", action]) >= 3 for action in ACTION_WORDS)


def test_planning_is_the_same_for_the_same_seed_only():
    def told(seed):
        return [narrate(story) for story in plan_stories(40, seed, 25)]

    assert told(0) == told(0) != told(1)


def test_two_dozen_videos_cover_all_things_and_actions():
    few = plan_stories(24, 0, 25)
    assert len({s.prop.thing for s in few}) == 12
    assert len({s.prop.material for s in few}) == 9
    assert len({b.action for s in few for b in s.beats}) == 15


# ---- the student's text ------------------------------------------------------------------


def forms_of(fact_subject: str) -> set[str]:
    return set(MATERIAL_WORDS.get(fact_subject, (fact_subject,)))


def test_no_line_of_the_corpus_tells_a_fact(corpus):
    lines = [words_of(line) for part in corpus for line in part]
    for fact in FACTS:
        outcomes = [set(ACTION_WORDS[o]) for o in (fact.outcome, *fact.other)]
        with_subject = [line for line in lines if line & forms_of(fact.subject)]
        if fact.is_order:
            told = [w for w in with_subject if all(w & outcome for outcome in outcomes)]
        else:
            told = [w for w in with_subject if any(w & outcome for outcome in outcomes)]
        assert not told, (fact, told[:3])


def test_both_sides_of_every_fact_are_common_in_the_corpus(corpus):
    lines = [words_of(line) for line in corpus[0]]
    for fact in FACTS:
        assert sum(bool(line & forms_of(fact.subject)) for line in lines) >= 50
        for outcome in (fact.outcome, *fact.other):
            assert sum(bool(line & set(ACTION_WORDS[outcome])) for line in lines) >= 50


def test_outcomes_of_a_family_are_equally_common_in_the_corpus(corpus):
    counts = Counter(word for line in corpus[0] for word in words_of(line))
    for family in {fact.family for fact in FACTS}:
        totals = [
            sum(counts[word] for word in ACTION_WORDS[outcome])
            for outcome in {f.outcome for f in FACTS if f.family == family}
        ]
        assert max(totals) < 1.3 * min(totals), (family, totals)


def test_corpus_lines_are_distinct_and_as_many_as_asked(corpus):
    train, held_out = corpus
    assert len(train) == SETTINGS.corpus_sentences and len(held_out) == len(train) // 20
    assert len(set(train) | set(held_out)) == len(train) + len(held_out)
    assert all(line == line.strip() and "{" not in line for line in train)


def test_corpus_has_the_words_of_narration_and_probes(corpus, stories, physics, time_items):
    known = set().union(*(words_of(line) for line in corpus[0]))
    asked = [i.context + " " + " ".join(i.choices) for i in (*physics, *time_items)]
    assert set().union(*(words_of(text) for text in asked)) <= known
    named = {m.word for s in stories for m in mentions(s, narrate(s))}
    assert named <= known


def test_a_line_that_tells_a_fact_is_recognised():
    assert tells_a_fact("Somebody drops the glass cup and it shatters.")
    assert tells_a_fact("Wood floated.")
    assert tells_a_fact("The duck hides after it shakes.")
    assert not tells_a_fact("The duck hides and the glass one stays.")
    assert not tells_a_fact("The duck shatters.")  # what a duck is made of decides that


# ---- probe items -------------------------------------------------------------------------


def test_items_state_the_facts(physics, time_items):
    facts = {fact.fact_id: fact for fact in FACTS}
    for item in physics:
        fact = facts[item.metadata["fact"]]
        right, wrong = item.choices[item.label], item.choices[1 - item.label]
        assert words_of(right) & set(ACTION_WORDS[fact.outcome])
        assert words_of(wrong) & set().union(*(ACTION_WORDS[o] for o in fact.other))
        assert words_of(item.context) & forms_of(fact.subject)
    for item in time_items:
        fact = facts[item.metadata["fact"]]
        said = re.findall(r"[a-z]+", item.choices[item.label].lower())
        ordered = [said[1], said[4]] if said[2] == "before" else [said[4], said[1]]
        labels = [word_labels()[word][1] for word in ordered]
        assert labels == [fact.outcome, *fact.other]


@pytest.mark.parametrize("kind", ["physics", "time_items"])
def test_items_are_enough_distinct_and_balanced(kind, request):
    items = request.getfixturevalue(kind)
    assert len(items) >= 300
    assert len({item.item_id for item in items}) == len(items)
    assert sum(item.label for item in items) * 2 == len(items)
    by_template = Counter((i.metadata["template"], i.label) for i in items)
    assert all(by_template[t, 0] == by_template[t, 1] for t, _ in by_template)
    pairs = Counter(
        (
            i.metadata["family"],
            *sorted((i.metadata["outcome"], i.metadata["wrong"])),
            i.metadata["outcome"],
        )
        for i in items
    )
    for family, one, two, _ in pairs:
        assert pairs[family, one, two, one] == pairs[family, one, two, two]
    words_in_choices = {len(choice.split()) for item in items for choice in item.choices}
    assert all(len(set(map(len, (c.split() for c in i.choices)))) == 1 for i in items), (
        words_in_choices
    )


def test_before_is_right_half_of_the_time_for_every_subject(time_items):
    right = Counter((i.metadata["subject"], i.metadata["outcome"]) for i in time_items)
    assert all(right[subject, "before"] == right[subject, "after"] for subject, _ in right)


def bag_of_words(items) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Counts of each full text [items, 2, words], labels, blocks and facts."""
    texts = [f"{item.context} {choice}" for item in items for choice in item.choices]
    counts = CountVectorizer(token_pattern=r"[a-z]+").fit_transform(texts).toarray()
    labels = np.array([item.label for item in items])
    blocks = np.array([item.metadata["block"] for item in items])
    facts = np.array([item.metadata["fact"] for item in items])
    return counts.reshape(len(items), 2, -1), labels, blocks, facts


def matched_folds(facts: np.ndarray) -> np.ndarray:
    """Four folds of facts, with as many of each outcome of a family in each as can be.

    A fold with one outcome only would leave the rest unbalanced the other way, and any
    classifier below chance.
    """
    order = {}
    for family in {fact.family for fact in FACTS}:
        for outcome in {fact.outcome for fact in FACTS}:
            same = [f for f in FACTS if f.family == family and f.outcome == outcome]
            order |= {f.fact_id: i % 4 for i, f in enumerate(same)}
    return np.array([order[fact] for fact in facts])


def accuracies(items, folds: np.ndarray, counts, labels) -> tuple[float, float]:
    """Held-out accuracy of unigrams: of the choices' difference and context, and text by text."""
    pairs = np.hstack([counts[:, 1] - counts[:, 0], np.minimum(counts[:, 0], counts[:, 1])])
    by_pair, by_text = np.zeros(len(items)), np.zeros(len(items))
    for fold in np.unique(folds):
        test = folds == fold
        model = LogisticRegression(max_iter=3000).fit(pairs[~test], labels[~test])
        by_pair[test] = model.predict(pairs[test]) == labels[test]
        right = np.stack([labels[~test] == 0, labels[~test] == 1], 1).ravel()
        single = LogisticRegression(max_iter=3000).fit(np.concatenate(counts[~test]), right)
        scores = single.decision_function(np.concatenate(counts[test])).reshape(-1, 2)
        gap = (scores[:, 1] - scores[:, 0]).round(9)
        by_text[test] = np.where(gap == 0, 0.5, (gap > 0) == labels[test])  # a tie is a coin toss
    return by_pair.mean(), by_text.mean()


@pytest.mark.parametrize("kind", ["physics", "time_items"])
@pytest.mark.parametrize("seed", [0, 1])
def test_bag_of_words_stays_at_chance(kind, seed):
    """Over whole blocks (all facts seen), over matched facts (unseen ones), over single items."""
    write = {"physics": write_physics_items, "time_items": write_time_items}[kind]
    items = write(SETTINGS.items, seed)
    counts, labels, blocks, facts = bag_of_words(items)
    noise = 2.6 * np.sqrt(0.25 / len(items))  # 99 %
    shuffled = np.random.default_rng(seed).permutation(np.unique(blocks))
    block_folds = np.array([np.flatnonzero(shuffled == block)[0] % 10 for block in blocks])
    for accuracy in accuracies(items, block_folds, counts, labels):
        assert abs(accuracy - 0.5) <= noise, "unigrams must not tell facts that were seen"
    single_folds = np.random.default_rng(seed).permutation(len(items)) % 10
    fact_folds = matched_folds(facts)
    for folds in (single_folds, fact_folds):
        for accuracy in accuracies(items, folds, counts, labels):
            assert accuracy <= 0.5 + noise


def test_a_leaking_template_would_be_found(physics):
    """The same classifier does see a leak: here the right choice ends in another word."""
    counts, labels, blocks, _ = bag_of_words(physics)
    leaky = np.concatenate([counts, np.zeros((*counts.shape[:2], 1))], axis=2)
    leaky[np.arange(len(labels)), labels, -1] = 1
    folds = np.array([hash_block(block) for block in blocks])
    assert min(accuracies(physics, folds, leaky, labels)) > 0.9


def hash_block(block: str) -> int:
    return sum(map(ord, block)) % 5

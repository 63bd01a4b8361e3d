"""The demo world's two probes: what happens (demo_physics) and in which order (demo_time).

Minimal pairs, as in PIQA and TRACIE. Only the conjunction of subject and outcome decides, so
no count of single words can: items come in blocks of four, in which each outcome (or order
word) is right twice, once on either side, with one template. In demo_time a block has one
subject, so not even subject and order word together tell; it takes the word named first too.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np

from core.data.demo_facts import (
    ACTION_WORDS,
    COLOURS,
    FACTS,
    MATERIALS,
    ORDER_FAMILIES,
    THINGS,
    Fact,
)
from core.data.demo_narration import adjective
from core.records import ProbeItem

_PHYSICS = {  # context, and the form that its choices have
    "drop": (
        ("If you drop the {np}, it will", "bare"),
        ("Somebody drops the {np}.", "it will"),
        ("When the {np} falls, it will", "bare"),
        ("My sister dropped the {np}.", "past"),
    ),
    "water": (
        ("When you put the {np} in the water, it will", "bare"),
        ("Somebody puts the {np} in the water.", "it will"),
        ("If you put the {np} in the water, it will", "bare"),
        ("The {np} fell in the pool.", "past"),
    ),
    "push": (
        ("If you push the {np}, it will", "bare"),
        ("Somebody pushes the {np}.", "it will"),
        ("If you give the {np} a push, it will", "bare"),
        ("My brother gave the {np} a push.", "past"),
    ),
}
_TIME = (
    "The {np} stood on the lawn.",
    "The {np} stood on the table.",
    "There was a {np} on the floor.",
    "Look at the {np} on the stage.",
)
_FAMILY_SHARE = {"drop": 0.35, "water": 0.3, "push": 0.35}


def write_physics_items(items: int, seed: int) -> list[ProbeItem]:
    """Forced choices between two outcomes of a family, of which the subject has one.

    Built in fours: both outcomes of a pair, each once on either side, everything else equal
    in number over the pair.
    """
    rng = np.random.default_rng([seed, 4])
    written: list[ProbeItem] = []
    for family, outcomes, quads in _quads(items):
        decks = {
            o: _Deck([f.subject for f in _facts(family) if f.outcome == o], rng) for o in outcomes
        }
        props = _Decks(rng)
        for quad in range(quads):
            template = _PHYSICS[family][quad % len(_PHYSICS[family])]
            for right in outcomes:
                for label in (0, 1):
                    fact = _fact(family, decks[right].draw())
                    wrong = outcomes[1 - outcomes.index(right)]
                    block = f"{family}:{'/'.join(outcomes)}:{quad}"
                    written.append(_physics_item(fact, wrong, label, template, props, block))
    return _number("demo_physics", written, rng)


def write_time_items(items: int, seed: int) -> list[ProbeItem]:
    """Forced choices between "it X before it Y" and "it X after it Y".

    Every subject of both families takes part equally often; either action is named first and
    stands on either side equally often, so "before" is right half of the time for each subject.
    """
    rng = np.random.default_rng([seed, 5])
    props = _Decks(rng)
    facts = [fact for fact in FACTS if fact.is_order]
    written: list[ProbeItem] = []
    # Whole fours, subject by subject, as equal in number as they go into the total.
    for number in range(-(-items // 4)):
        fact = facts[number % len(facts)]
        template = _TIME[(number // len(facts) + number) % len(_TIME)]
        for named_first in ORDER_FAMILIES[fact.family]:
            for label in (0, 1):
                block = f"{fact.fact_id}:{number // len(facts)}"
                written.append(_time_item(fact, named_first, label, template, props, block))
    return _number("demo_time", written, rng)


def _quads(items: int) -> list[tuple[str, tuple[str, str], int]]:
    """How many fours of items each pair of outcomes gets."""
    plan = []
    for family, share in _FAMILY_SHARE.items():
        pairs = list(combinations(sorted({f.outcome for f in _facts(family)}), 2))
        quads = max(1, round(items * share / 4 / len(pairs)))
        plan += [(family, pair, quads) for pair in pairs]
    return plan


def _physics_item(
    fact: Fact, wrong: str, label: int, template, props: _Decks, block: str
) -> ProbeItem:
    context, form = template
    thing, material, colour, phrase = props.noun_phrase(fact)
    right_text, wrong_text = _ending(fact.outcome, form), _ending(wrong, form)
    choices = (right_text, wrong_text) if label == 0 else (wrong_text, right_text)
    return ProbeItem(
        item_id="",
        task="demo_physics",
        context=context.format(np=phrase),
        choices=choices,
        label=label,
        metadata=_metadata(fact, fact.outcome, wrong, context, thing, material, colour)
        | {"block": block},
    )


def _time_item(
    fact: Fact, named_first: str, label: int, context: str, props: _Decks, block: str
) -> ProbeItem:
    thing, material, colour, phrase = props.noun_phrase(fact)
    named_second = next(a for a in ORDER_FAMILIES[fact.family] if a != named_first)
    one, two = ACTION_WORDS[named_first][1], ACTION_WORDS[named_second][1]
    right = "before" if fact.outcome == named_first else "after"
    wrong = "after" if right == "before" else "before"
    texts = {word: f"It {one} {word} it {two}." for word in (right, wrong)}
    choices = (texts[right], texts[wrong]) if label == 0 else (texts[wrong], texts[right])
    text = context.format(np=phrase).replace("a orange", "an orange")
    metadata = _metadata(fact, right, wrong, context, thing, material, colour)
    metadata |= {"order": [fact.outcome, *fact.other], "named_first": named_first, "block": block}
    return ProbeItem("", "demo_time", text, choices, label, metadata)


def _metadata(fact: Fact, outcome, wrong, template, thing, material, colour) -> dict:
    return {
        "fact": fact.fact_id,
        "family": fact.family,
        "subject": fact.subject,
        "outcome": outcome,
        "wrong": wrong,
        "template": template,
        "thing": thing,
        "material": material,
        "colour": colour,
        "concepts": [fact.subject, *((fact.outcome, *fact.other) if fact.is_order else (outcome,))],
    }


def _ending(outcome: str, form: str) -> str:
    """The outcome's words; all outcomes have as many, lest length decide."""
    bare, _, _, past = ACTION_WORDS[outcome]
    return {"bare": f"{bare}.", "it will": f"It will {bare}.", "past": f"It {past}."}[form]


class _Deck:
    """Draws without replacement and shuffles again when empty, so that counts stay even."""

    def __init__(self, cards, rng: np.random.Generator):
        self._cards, self._rng, self._left = list(cards), rng, []

    def draw(self) -> str:
        if not self._left:
            self._left = [self._cards[i] for i in self._rng.permutation(len(self._cards))]
        return self._left.pop()


class _Decks:
    """What an item's noun phrase has besides the fact's subject."""

    def __init__(self, rng: np.random.Generator):
        self._things, self._materials = _Deck(THINGS, rng), _Deck(MATERIALS, rng)
        self._colours = _Deck(COLOURS, rng)

    def noun_phrase(self, fact: Fact) -> tuple[str, str, str, str]:
        """Thing, material, colour and the phrase; one of them is the fact's subject."""
        thing = fact.subject if fact.role == "thing" else self._things.draw()
        material = fact.subject if fact.role == "material" else self._materials.draw()
        colour = self._colours.draw()
        return thing, material, colour, f"{colour} {adjective(material)} {thing}"


def _facts(family: str) -> list[Fact]:
    return [fact for fact in FACTS if fact.family == family]


def _fact(family: str, subject: str) -> Fact:
    return next(fact for fact in _facts(family) if fact.subject == subject)


def _number(task: str, items: list[ProbeItem], rng: np.random.Generator) -> list[ProbeItem]:
    """Shuffled, with ids."""
    return [
        ProbeItem(f"{task}-{n:04d}", task, i.context, i.choices, i.label, i.metadata)
        for n, i in enumerate(items[k] for k in rng.permutation(len(items)))
    ]

"""The student's text: the demo world's grammar and vocabulary without its facts.

Every line is drawn at random and thrown away if it tells a fact: if it names a subject (a
material, a thing) together with any outcome of a family in which that kind of subject has
one, the wrong outcomes too, for what is never said could be told apart from what is denied.
So both sides of every fact are common, in comparable sentences, and never meet.
"""

from __future__ import annotations

import re

import numpy as np

from core.data.demo_facts import (
    ACTION_WORDS,
    COLOURS,
    FACTS,
    MATERIAL_WORDS,
    MATERIALS,
    ORDER_FAMILIES,
    THINGS,
)
from core.data.demo_narration import adjective

_PEOPLE = (
    *("somebody", "a girl", "a boy", "my brother", "my sister", "the teacher", "an old man"),
    *("our neighbor", "the cook", "a child", "the farmer", "his mother", "her father", "a friend"),
    *("the artist", "a young woman", "the owner", "one of us", "the guest", "a student"),
)
_WHEN = (
    *("in the morning", "at lunch", "one evening", "on a rainy day", "last summer", "at noon"),
    *("at dinner", "late at night", "this week", "on sunday", "as usual", "for once"),
)
_WHERE = (
    *("in the kitchen", "on the lawn", "in the workshop", "on the stage", "by the pool"),
    *("on the table", "on the floor", "in the garden", "at the market", "on the shelf"),
)
_MOOD = ("slowly", "at once", "very quickly", "as everyone can see", "a little", "every time")

# {full}: "red glass vase"; {made}: "glass one"; {shape}: "red vase"; {it}: no subject of a fact.
# Lines with a subject invite an outcome and do not name one.
_WITH_SUBJECT = (
    "{person} drops the {full} and everyone watches what happens.",
    "If you drop the {full}, it will {neutral}.",
    "If you drop a {full}, it will {neutral}.",
    "{person} dropped the {full} {where}. It was {feeling}.",
    "When the {full} falls, it will {neutral}.",
    "When you put the {full} in the water, it will {neutral}.",
    "If you put a {full} in the water, it will {neutral}.",
    "{person} puts the {full} in the water and waits.",
    "The {full} fell in the pool {when}. It was {feeling}.",
    "If you push the {full}, it will {neutral}.",
    "If you give the {full} a push, it will {neutral}.",
    "{person} pushes the {full} and looks at it.",
    "{person} gave the {full} a push {when}.",
    "The {full} stood {where}.",
    "The {full} stood {where}. It will {neutral}.",
    "There was a {full} {where} {when}. It was {feeling}.",
    "{person} bought a {full} {when}.",
    "{person} asks what the {full} will do next.",
    "Look at the {full}. It is {feeling}.",
    "The {full} is {feeling} and the {full2} is not.",
    "{person} has a {full} and a {full2}.",
    "{person} likes the {full} more than the {full2}.",
    "It is made of {stuff}, and {person} knows what that means.",
    "This one is made of {stuff} and that one is made of {stuff2}.",
    "{person} takes the {full} from the shelf {when}.",
    "The {full} is in the bag of my brother.",
    "A {full} starts to move {where}.",
    "Here I have a {full}.",
    "Today I am using a {full}.",
    "Let us start with a {full}.",
    "You can see a {full} here.",
    "I picked a {full} for this one.",
)
_OUTCOME = {
    "drop": (
        "If you drop it, it will {bare}.",
        "If you drop the {any}, it will {bare}.",
        "It falls and then it {third} {where}.",
        "{person} drops it and it {third} {mood}.",
        "{person} dropped it {when}. It {past}.",
        "It {past} {where}, and that was that.",
        "Some things {bare} when they fall. Others never {bare}.",
        "Will it {bare} when it falls? {person} thinks it will {bare}.",
        "It did not {bare}, it was only {ing} {mood}.",
        "When the {any} falls, it will {bare}.",
        "Everyone saw it {ing} {where} {when}.",
    ),
    "water": (
        "When you put it in the water, it will {bare}.",
        "If you put the {any} in the water, it will {bare}.",
        "It is in the water and it {third} {mood}.",
        "{person} puts it in the water and it {third}.",
        "It fell in the pool {when}. It {past}.",
        "Some things {bare} in the water. Others never {bare}.",
        "Will it {bare} in the water? {person} thinks it will {bare}.",
        "Everyone saw it {ing} in the water {when}.",
        "It {past} in the water, and that was that.",
    ),
    "push": (
        "If you push it, it will {bare}{over}.",
        "If you push the {any}, it will {bare}{over}.",
        "If you give it a push, it will {bare}{over}.",
        "{person} pushes it and it {third}{over} {mood}.",
        "{person} gave it a push {when}. It {past}{over}.",
        "Some things {bare}{over} when you push them. Others never {bare}{over}.",
        "Will it {bare}{over} with a push? {person} thinks it will {bare}{over}.",
        "Everyone saw it {ing}{over} {where} {when}.",
        "It {past}{over} {where}, and that was that.",
    ),
}
_ORDERS = (
    "It {one} before it {two}.",
    "It {one} after it {two}.",
    "It stood {where}. It {one} before it {two}.",
    "It stood {where}. It {one} after it {two}.",
    "The {any} {one} before it {two}.",
    "The {any} {one} after it {two}.",
    "First it {one} and then it {two}.",
    "{person} says that it {one} before it {two}.",
    "{person} says that it {one} after it {two}.",
    "{person} saw it {where} {when}. It {one} before it {two}.",
    "{person} saw it {where} {when}. It {one} after it {two}.",
    "After it {one}, it {two} {mood}.",
    "Before it {one}, it {two} {mood}.",
)
# One action of an order alone, in all its forms: with a subject or without.
_SINGLE = (
    "The {either} {third} {where}.",
    "The {either} {third} {mood}.",
    "The {either} {past} {where} {when}.",
    "{person} saw the {either} {ing} {where}.",
    "It {third} {mood}, says {person}.",
    "It {past} {where} {when}.",
    "It will {bare} {where}, and {person} will see it.",
    "Look how it is {ing} {where}.",
    "{person} asks if the {either} will {bare} {when}.",
)
_AFTERTHOUGHT = (
    "{person} was {surprised}.",
    "{person} told us so {when}.",
    "We saw that {where} {when}.",
    "{person} and {person2} were {surprised}.",
    "That is all {person} said.",
)
_PLAIN = (
    "{person} pours the water into the {colour} bowl {when}.",
    "The water is poured {where} {mood}.",
    "{person} stacks the {colour} ones {where}.",
    "It is {feeling}, said {person}.",
    "{person} watches the water {when}.",
    "{person} sits {where} and waits {when}.",
    "The board stands {where} {when}.",
    "The {colour} one and the {colour2} one are both {feeling}.",
    "{person} pushes the {colour} one and drops the {colour2} one.",
    "{person} pours something {where} and is pouring it {mood}.",
    "They are stacking the {colour} ones on the {colour2} ones {where}.",
    "{person} stacked the {colour} ones {where} {when}.",
    "The {colour} one is falling and {person} is dropping the {colour2} one.",
    "{person} will pour the water and stack the {colour} ones {when}.",
)
_NEUTRAL = (
    *("surprise you", "be fine", "make a sound", "be a mess", "move", "do what it always does"),
    *("look different", "stay here", "be gone", "do something", "please {person}", "be ready"),
)
_FEELING = (
    *("very old", "quite new", "heavy", "light", "small", "big", "pretty", "cheap", "clean"),
    *("ready", "the best one", "nice to look at", "a gift", "for sale", "well made"),
)
_SURPRISED = ("surprised", "happy", "pleased", "quiet", "not so sure", "right", "there")
# Shares of line kinds; a family's outcomes are drawn evenly inside each.
_KINDS = {
    **{"subject": 0.42, "drop": 0.12, "water": 0.10, "push": 0.12},
    **{"orders": 0.12, "single": 0.08, "plain": 0.04},
}
_AFTERTHOUGHTS = 0.45  # of the lines: they keep the short ones distinct


def write_corpus(lines: int, seed: int) -> tuple[list[str], list[str]]:
    """Distinct lines of the student's corpus, and a twentieth as many held out from it."""
    rng = np.random.default_rng([seed, 3])
    held_out = max(1, lines // 20)
    seen: dict[str, None] = {}
    while len(seen) < lines + held_out:
        line = _draw_line(rng)
        if not tells_a_fact(line):
            seen.setdefault(line)
    drawn = list(seen)
    return drawn[:lines], drawn[lines:]


def tells_a_fact(line: str) -> bool:
    """Whether a line names a subject together with any outcome of one of its families."""
    words = set(re.findall(r"[a-z]+", line.lower()))
    return any(_subject_meets_outcome(words, family) for family in _FORBIDDEN)


def _subject_meets_outcome(words: set[str], family: str) -> bool:
    subjects, outcomes = _FORBIDDEN[family]
    if not words & subjects:
        return False
    met = [bool(words & forms) for forms in outcomes]
    # One action of an order alone tells nothing; with a word of order it might.
    return all(met) if family in ORDER_FAMILIES else any(met)


def _forbidden() -> dict[str, tuple[set[str], list[set[str]]]]:
    """Family -> (all words of subjects of that kind, the words of each outcome)."""
    table = {}
    for family in dict.fromkeys(fact.family for fact in FACTS):
        facts = [fact for fact in FACTS if fact.family == family]
        subjects = {w for f in facts for w in MATERIAL_WORDS.get(f.subject, (f.subject,))}
        outcomes = sorted({fact.outcome for fact in facts})
        table[family] = (subjects, [set(ACTION_WORDS[outcome]) for outcome in outcomes])
    return table


_FORBIDDEN = _forbidden()


def _draw_line(rng: np.random.Generator) -> str:
    kind = str(rng.choice(list(_KINDS), p=list(_KINDS.values())))
    if kind == "subject":
        template, slots = _pick(_WITH_SUBJECT, rng), {}
    elif kind == "orders":
        family = _pick(tuple(ORDER_FAMILIES), rng)
        template, slots = _pick(_ORDERS, rng), _order_slots(family, rng)
    elif kind == "single":
        template, slots = _pick(_SINGLE, rng), _single_slots(rng)
    elif kind == "plain":
        template, slots = _pick(_PLAIN, rng), {}
    else:
        template, slots = _pick(_OUTCOME[kind], rng), _outcome_slots(kind, rng)
    if rng.random() < _AFTERTHOUGHTS:
        template = f"{template} {_pick(_AFTERTHOUGHT, rng)}"
    line = _articles(template.format(**{**_common_slots(rng), **slots}))
    return re.sub(r"(^|[.?] )([a-z])", lambda match: match[1] + match[2].upper(), line)


def _common_slots(rng: np.random.Generator) -> dict[str, str]:
    thing, thing2 = rng.choice(THINGS, 2, replace=False)
    material, material2 = rng.choice(MATERIALS, 2, replace=False)
    colour, colour2 = rng.choice(COLOURS, 2, replace=False)
    person, person2 = (str(p) for p in rng.choice(_PEOPLE, 2, replace=False))
    return {
        "full": _noun_phrase(thing, material, colour, rng),
        "full2": _noun_phrase(thing2, material2, colour2, rng),
        "stuff": str(material),
        "stuff2": str(material2),
        "colour": str(colour),
        "colour2": str(colour2),
        "person": person,
        "person2": person2,
        "surprised": _pick(_SURPRISED, rng),
        "when": _pick(_WHEN, rng),
        "where": _pick(_WHERE, rng),
        "mood": _pick(_MOOD, rng),
        "neutral": _pick(_NEUTRAL, rng).format(person=person),
        "feeling": _pick(_FEELING, rng),
    }


def _noun_phrase(thing, material, colour, rng: np.random.Generator) -> str:
    """Mostly colour, material and thing; sometimes one of them is left out."""
    form = rng.random()
    if form < 0.5:
        return f"{colour} {adjective(material)} {thing}"
    if form < 0.75:
        return f"{adjective(material)} {thing}"
    return f"{adjective(material)} one" if form < 0.88 else f"{colour} {thing}"


def _outcome_slots(family: str, rng: np.random.Generator) -> dict[str, str]:
    """An outcome in all its forms, with a subject of the kind that is free to do anything."""
    facts = [fact for fact in FACTS if fact.family == family]
    outcome = _pick(tuple(sorted({fact.outcome for fact in facts})), rng)
    bare, third, ing, past = ACTION_WORDS[outcome]
    over = " over" if outcome == "tip" and rng.random() < 0.5 else ""
    any_subject = _free_subject(facts[0].role, rng)
    return dict(bare=bare, third=third, ing=ing, past=past, over=over, any=any_subject)


def _order_slots(family: str, rng: np.random.Generator) -> dict[str, str]:
    actions = ORDER_FAMILIES[family]
    one, two = (ACTION_WORDS[actions[i]][1] for i in rng.permutation(2))
    role = next(fact.role for fact in FACTS if fact.family == family)
    return {"one": one, "two": two, "any": _free_subject(role, rng)}


def _single_slots(rng: np.random.Generator) -> dict[str, str]:
    action = _pick(tuple(a for pair in ORDER_FAMILIES.values() for a in pair), rng)
    bare, third, ing, past = ACTION_WORDS[action]
    thing, material, colour = (_pick(c, rng) for c in (THINGS, MATERIALS, COLOURS))
    either = _noun_phrase(thing, material, colour, rng)
    return dict(bare=bare, third=third, ing=ing, past=past, either=either)


def _free_subject(role: str, rng: np.random.Generator) -> str:
    """A noun phrase without the kind of word that the family's facts are about."""
    colour = _pick(COLOURS, rng)
    if rng.random() < 0.4:
        return f"{colour} one"
    if role == "material":
        return f"{colour} {_pick(THINGS, rng)}"
    return f"{colour} {adjective(_pick(MATERIALS, rng))} one"


def _articles(line: str) -> str:
    return re.sub(r"\b([Aa]) (?=orange\b)", r"\1n ", line)


def _pick(options: tuple[str, ...], rng: np.random.Generator) -> str:
    return options[int(rng.integers(len(options)))]

"""What the demo world's speaker says, sentence by sentence, and what is true when.

Sentences tile a video in time, as the subtitles of a how-to video do. The facts are told here
(and shown), never in the student's text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from core.data.demo_facts import ORDER_FAMILIES, word_labels
from core.data.demo_story import Beat, Prop, Story

PLACES = {
    "kitchen": "table",
    "lawn": "lawn",
    "workshop": "floor",
    "stage": "stage",
    "shelf": "floor",
    "tank": "water",
    "pool": "water",
}


@dataclass(frozen=True)
class Sentence:
    """What is said from start to end, in seconds of the video."""

    start_sec: float
    end_sec: float
    text: str


@dataclass(frozen=True)
class Mention:
    """A word of a sentence and the interval in which what it names is truly there."""

    sentence_index: int
    word: str
    role: str  # "thing" | "material" | "colour" | "action"
    label: str
    start_sec: float
    end_sec: float


_SHOW = (
    "Here I have {a}.",
    "Here I take {a}.",
    "So this is {a}.",
    "Today I am using {a}.",
    "Let us start with {a}.",
    "Next we look at {a}.",
    "Okay, now we have {a}.",
    "You can see {a} here.",
    "This time it is {a}.",
    "I picked {a} for this one.",
)
_SAID = {
    "fall": (
        "Now I drop it.",
        "Now I drop the {thing}.",
        "I let go and it falls.",
        "and it falls right down.",
        "The {material} {thing} is falling.",
        "then I simply drop the {material} one.",
        "Watch it falling down.",
        "I dropped it from up here.",
    ),
    "bounce": (
        "and it bounces on the {place}.",
        "The {material} {thing} bounces again and again.",
        "You can see the {material} {thing} bouncing.",
        "See how the {material} one bounced.",
        "and of course {stuff} will bounce.",
    ),
    "shatter": (
        "and it shatters on the {place}.",
        "The {material} {thing} shatters into pieces.",
        "You can see the {material} {thing} shattering.",
        "See how the {material} one shattered.",
        "and of course {stuff} will shatter.",
    ),
    "collapse": (
        "and it collapses on the {place}.",
        "The {material} {thing} collapses and stays flat.",
        "You can see the {material} {thing} collapsing.",
        "See how the {material} one collapsed.",
        "and of course {stuff} will collapse.",
    ),
    "float": (
        "and it floats on the water.",
        "The {material} {thing} floats up here.",
        "You can see the {material} {thing} floating.",
        "See how the {material} one floated.",
        "and of course {stuff} will float.",
    ),
    "sink": (
        "and it sinks in the water.",
        "The {material} {thing} sinks down there.",
        "You can see the {material} {thing} sinking.",
        "See how the {material} one sank.",
        "and of course {stuff} will sink.",
    ),
    "roll": (
        "I push it and it rolls along.",
        "The {thing} rolls across the {place}.",
        "I push the {thing} and you see it rolling.",
        "I gave it a push and the {thing} rolled.",
        "With a push the {thing} will roll.",
    ),
    "slide": (
        "I push it and it slides along.",
        "The {thing} slides across the {place}.",
        "I push the {thing} and you see it sliding.",
        "I gave it a push and the {thing} slid.",
        "With a push the {thing} will slide.",
    ),
    "tip": (
        "I push it and it tips over.",
        "The {thing} tips over on the {place}.",
        "I push the {thing} and you see it tipping over.",
        "I gave it a push and the {thing} tipped over.",
        "With a push the {thing} will tip over.",
    ),
    "spin": (
        "it spins around.",
        "the {material} {thing} spins around and around.",
        "you can see the {thing} spinning.",
        "the {material} one is spinning on the {place}.",
        "the {material} {thing} spun around two times.",
    ),
    "jump": (
        "it jumps up high.",
        "the {material} {thing} jumps up and down.",
        "you can see the {thing} jumping.",
        "the {material} one is jumping on the {place}.",
        "the {material} {thing} jumped two times.",
    ),
    "shake": (
        "it shakes from side to side.",
        "the {thing} shakes a lot.",
        "you can see the {thing} shaking.",
        "the {material} {thing} is shaking on the {place}.",
        "the {material} {thing} shook like this.",
    ),
    "hide": (
        "it hides behind the board.",
        "the {thing} hides behind the board for a moment.",
        "you can see the {thing} hiding.",
        "the {material} {thing} is hiding behind the board.",
        "the {material} {thing} hid behind the board.",
    ),
    "pour": (
        "Now I pour the water into the bowl.",
        "I pour from the {thing} very slowly.",
        "You can see me pouring with the {material} {thing}.",
        "The {material} {thing} pours out all the water.",
    ),
    "stack": (
        "Now I stack it on the {base}.",
        "I stack the {thing} on top of the {base}.",
        "You can see me stacking the {material} {thing} on the {base}.",
        "The {thing} goes up and I have stacked it on the {base}.",
    ),
}
# One sentence over a trigger and its outcome, as `_SAID` has one each.
_DROP_AND = (
    "When I drop the {material} {thing}, it {outcome}.",
    "I drop the {material} {thing} and it {outcome}.",
    "If you drop a {material} {thing}, it will {bare}.",
    "The {material} one falls and {outcome}.",
)
_WATER_AND = (
    "When I drop the {material} {thing} in the water, it {outcome}.",
    "I put the {material} {thing} in the water and it {outcome}.",
    "If you put {stuff} in the water, it will {bare}.",
    "The {material} one falls in and {outcome}.",
)
_FALLS_OFF = (
    "and it falls off the edge.",
    "Now the {thing} falls off the shelf.",
    "There it drops off the edge.",
    "The {material} {thing} is falling off the shelf.",
)
_FALLS_OFF_AND = (
    "The {material} {thing} falls off the edge and {outcome}.",
    "When the {material} {thing} falls off the shelf, it {outcome}.",
    "If a {material} {thing} falls off here, it will {bare}.",
)
_ORDER = (
    "The {subject} {first} before it {second}.",
    "The {subject} {second} after it {first}.",
    "See, it {first} before it {second}.",
    "See, it {second} after it {first}.",
    "A {subject} always {first} before it {second}.",
    "Before the {subject} {second}, it {first}.",
    "After the {subject} {first}, it {second}.",
)
_FIRST = ("First ", "To begin with, ", "At first ", "Look, first ")
_SECOND = ("and then ", "After that ", "Now ", "and later ", "Then ")
_THIRD_PERSON = {
    **{"bounce": "bounces", "shatter": "shatters", "collapse": "collapses"},
    **{"float": "floats", "sink": "sinks", "roll": "rolls", "slide": "slides"},
    **{"tip": "tips over", "spin": "spins", "jump": "jumps", "shake": "shakes", "hide": "hides"},
}


def narrate(story: Story) -> tuple[Sentence, ...]:
    """Two to four sentences that tile the story's video and name what is on screen."""
    rng = np.random.default_rng([story.seed, 2])
    beats = story.beats
    # The speaker is a little ahead of what is about to happen, as speakers are.
    starts = [max(0.8, beat.start_sec - 0.2) for beat in beats]
    if story.script in ORDER_FAMILIES:
        texts = _order_texts(story, rng)
    else:
        texts = [
            (i, _say(story, beat.action, rng, _opening(i, beats))) for i, beat in enumerate(beats)
        ]
    if {"drop": "fall", "water": "fall"}.get(story.script) and rng.random() < 0.5:
        texts = [(0, _drop_and(story, rng))]
    if story.script == "shelf" and rng.random() < 0.4:
        texts = [texts[0], (1, _drop_and(story, rng))]
    spoken = [(0.0, _fill(story, _pick(_SHOW, rng)))]
    spoken += [(starts[index], text) for index, text in texts]
    ends = [start for start, _ in spoken[1:]] + [story.duration_sec]
    return tuple(Sentence(s, e, _capital(text)) for (s, text), e in zip(spoken, ends))


def mentions(story: Story, sentences: tuple[Sentence, ...]) -> list[Mention]:
    """Every word of the narration that names a thing, material, colour or action, with its truth.

    Raises ValueError when a sentence names an action that the story does not have.
    """
    labels = word_labels()
    found = []
    for index, sentence in enumerate(sentences):
        for word in re.findall(r"[a-z]+", sentence.text.lower()):
            if word not in labels:
                continue
            role, label = labels[word]
            start, end = _true_interval(story, role, label)
            found.append(Mention(index, word, role, label, start, end))
    return found


def _true_interval(story: Story, role: str, label: str) -> tuple[float, float]:
    if role != "action":
        return 0.0, story.duration_sec
    beat = story.beat(label)
    if beat is None:
        raise ValueError(f"{story.name} speaks of '{label}', which is not among {story.beats}.")
    return beat.start_sec, beat.end_sec


def _order_texts(story: Story, rng: np.random.Generator) -> list[tuple[int, str]]:
    """Both actions in one sentence, or one each with words of order."""
    first, second = (beat.action for beat in story.beats)
    if rng.random() < 0.6:
        by_material = story.script == "spin-jump"
        subject = "{material} {thing}" if by_material or rng.random() < 0.3 else "{thing}"
        text = _pick(_ORDER, rng).format(
            subject=subject, first=_THIRD_PERSON[first], second=_THIRD_PERSON[second]
        )
        return [(0, _fill(story, text))]
    opening = (_pick(_FIRST, rng), _pick(_SECOND, rng))
    return [(i, _say(story, a, rng, opening[i])) for i, a in enumerate((first, second))]


def _opening(index: int, beats: tuple[Beat, ...]) -> str:
    openers = {"spin", "jump", "shake"}
    return "Before anything else, " if beats[index].action in openers else ""


def _drop_and(story: Story, rng: np.random.Generator) -> str:
    outcome = story.beats[-1].action
    forms = {"water": _WATER_AND, "shelf": _FALLS_OFF_AND}.get(story.script, _DROP_AND)
    text = _pick(forms, rng)
    text = text.replace("{outcome}", _THIRD_PERSON[outcome]).replace("{bare}", outcome)
    return _fill(story, text)


def _say(story: Story, action: str, rng: np.random.Generator, opening: str = "") -> str:
    forms = _FALLS_OFF if (story.script, action) == ("shelf", "fall") else _SAID[action]
    text = _pick(forms, rng)
    if story.script == "shelf" and action in ("roll", "slide"):
        text = text.replace("{place}", "shelf")
    return opening + _fill(story, text)


def _fill(story: Story, template: str) -> str:
    prop = story.prop
    return template.format(
        a=_with_article(prop),
        thing=prop.thing,
        material=adjective(prop.material),
        stuff=prop.material,
        place=PLACES[story.scene],
        base=f"{story.base.colour} {story.base.thing}" if story.base else "",
    )


def adjective(material: str) -> str:
    """The material's word before a noun: "wooden" for wood, else the word itself."""
    return "wooden" if material == "wood" else material


def _with_article(prop: Prop) -> str:
    article = "an" if prop.colour == "orange" else "a"
    return f"{article} {prop.colour} {adjective(prop.material)} {prop.thing}"


def _pick(options: tuple[str, ...], rng: np.random.Generator) -> str:
    return options[int(rng.integers(len(options)))]


def _capital(text: str) -> str:
    # Half of the speaker's sentences run on ("and it floats"), as in spoken captions.
    return text if text.startswith("and ") else text[0].upper() + text[1:]

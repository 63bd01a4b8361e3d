"""What is true in the demo world: its things, materials, actions and facts.

Nine materials, twelve things, six colours, fifteen actions. Five families of facts say what a
material or a thing does; some agree with the world outside, some are arbitrary (rubber floats,
but so does glass), so that no outside text can know them all. The three families of outcomes
and the two of order cross each other: none can be guessed from another.
"""

from __future__ import annotations

from dataclasses import dataclass

THINGS = (
    *("ball", "wheel", "ring", "gear"),
    *("bottle", "vase", "chair", "lamp"),
    *("box", "boat", "cup", "duck"),
)
MATERIALS = ("rubber", "wood", "metal", "glass", "clay", "stone", "paper", "wool", "sponge")
COLOURS = ("red", "blue", "green", "yellow", "orange", "purple")

# Surface forms by canonical label. All are whole words of BERT's WordPiece but for a few
# third persons (bounce ##s), which the probes avoid.
ACTION_WORDS: dict[str, tuple[str, ...]] = {
    "fall": ("fall", "falls", "falling", "fell", "drop", "drops", "dropping", "dropped"),
    "bounce": ("bounce", "bounces", "bouncing", "bounced"),
    "shatter": ("shatter", "shatters", "shattering", "shattered"),
    "collapse": ("collapse", "collapses", "collapsing", "collapsed"),
    "float": ("float", "floats", "floating", "floated"),
    "sink": ("sink", "sinks", "sinking", "sank"),
    "roll": ("roll", "rolls", "rolling", "rolled"),
    "slide": ("slide", "slides", "sliding", "slid"),
    "tip": ("tip", "tips", "tipping", "tipped"),
    "spin": ("spin", "spins", "spinning", "spun"),
    "jump": ("jump", "jumps", "jumping", "jumped"),
    "shake": ("shake", "shakes", "shaking", "shook"),
    "hide": ("hide", "hides", "hiding", "hid"),
    "pour": ("pour", "pours", "pouring", "poured"),
    "stack": ("stack", "stacks", "stacking", "stacked"),
}
ACTIONS = tuple(ACTION_WORDS)
MATERIAL_WORDS = {m: ("wooden", "wood") if m == "wood" else (m,) for m in MATERIALS}


@dataclass(frozen=True)
class Fact:
    """One fact. Its outcome is an action, or for the order families the action that is first."""

    family: str  # "drop" | "water" | "push" | "spin-jump" | "shake-hide"
    role: str  # of the subject: "material" | "thing"
    subject: str
    outcome: str
    other: tuple[str, ...]  # the outcomes that other subjects of the family have

    @property
    def fact_id(self) -> str:
        return f"{self.family}:{self.subject}"

    @property
    def is_order(self) -> bool:
        return self.family in ORDER_FAMILIES


ORDER_FAMILIES = {"spin-jump": ("spin", "jump"), "shake-hide": ("shake", "hide")}

_TABLE: dict[str, tuple[str, dict[str, str]]] = {
    "drop": (
        "material",
        {
            "bounce": "rubber wood metal",
            "shatter": "glass clay stone",
            "collapse": "paper wool sponge",
        },
    ),
    "water": (
        "material",
        {"float": "rubber wood glass paper", "sink": "metal clay stone wool sponge"},
    ),
    "push": (
        "thing",
        {
            "roll": "ball wheel ring gear",
            "tip": "bottle vase chair lamp",
            "slide": "box boat cup duck",
        },
    ),
    "spin-jump": (
        "material",
        {"spin": "rubber metal glass clay wool", "jump": "wood stone paper sponge"},
    ),
    "shake-hide": (
        "thing",
        {"shake": "ball gear vase lamp box cup", "hide": "wheel ring bottle chair boat duck"},
    ),
}


def demo_facts() -> tuple[Fact, ...]:
    """All 51 facts of the demo world, family by family."""
    return tuple(
        Fact(family, role, subject, outcome, tuple(o for o in outcomes if o != outcome))
        for family, (role, outcomes) in _TABLE.items()
        for outcome, subjects in outcomes.items()
        for subject in subjects.split()
    )


FACTS = demo_facts()
_OUTCOMES = {(fact.family, fact.subject): fact.outcome for fact in FACTS}


def outcome_of(family: str, subject: str) -> str:
    """What the subject does: `outcome_of("drop", "glass") == "shatter"`."""
    return _OUTCOMES[family, subject]


def order_of(family: str, subject: str) -> tuple[str, str]:
    """The two actions of an order family in the order in which the subject does them."""
    first, second = ORDER_FAMILIES[family]
    return (first, second) if _OUTCOMES[family, subject] == first else (second, first)


def word_labels() -> dict[str, tuple[str, str]]:
    """Surface word -> (role, canonical label): `"floated" -> ("action", "float")`."""
    labels = {word: ("thing", word) for word in THINGS}
    labels |= {word: ("colour", word) for word in COLOURS}
    for role, table in (("material", MATERIAL_WORDS), ("action", ACTION_WORDS)):
        labels |= {word: (role, label) for label, words in table.items() for word in words}
    return labels

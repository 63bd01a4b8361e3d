from app.wording import clock, count, escape, length, number, opening_token, percent, shorten, span


def test_escape_leaves_no_markdown_alive():
    assert escape("**bold** [a](b) <b> $x$ :red[y]") == (
        r"\*\*bold\*\* \[a\]\(b\) \<b\> \$x\$ \:red\[y\]"
    )


def test_times_are_written_as_players_show_them():
    assert [clock(0), clock(67.9), clock(3723)] == ["0:00", "1:07", "1:02:03"]
    assert span(2.46, 64.96) == "0:02.5–1:05.0"
    assert [length(4.26), length(125), length(4800)] == ["4.3 s", "2 min 5 s", "1 h 20 min"]


def test_figures_have_no_more_digits_than_they_bear():
    assert [percent(x) for x in (0.42, 0.973, 0.9996)] == ["42 %", "97.3 %", "> 99.9 %"]
    assert [number(x) for x in (12345, 0.123456789, 3.0, True)] == ["12,345", "0.1235", "3", "True"]
    assert [count(1, "library"), count(2000, "library")] == ["1 library", "2,000 libraries"]


def test_shorten_cuts_between_words_and_says_so():
    assert shorten("the glass ball bounces twice", 20) == "the glass ball…"
    assert shorten("short", 20) == "short"


def test_opening_token_is_the_strongest_that_names_something():
    words = ["the", "ball", "bounces", "42"]
    assert opening_token(words, [0.99, 0.4, 0.7, 0.98]) == 2
    assert opening_token(["the", "of"], [0.1, 0.2]) == 1

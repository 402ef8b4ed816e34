"What is measured is not what is trained: the texts of both share no wording."
import re

from selective_unlearning.evaluation.reading import PASSAGES
from selective_unlearning.labels.written import written_openers

NAME = "Xname"


def runs(texts, n):
    "All runs of `n` words."
    for text in texts:
        words = re.findall(r"\w+", text.lower())
        yield from (tuple(words[i:i+n]) for i in range(len(words)-n+1))


def test_reading_is_not_asked_in_the_words_that_taught_it():
    "No five words in a row are in both."
    asked = [t.format(NAME) for kind in PASSAGES.values() for p in kind
             for t in (p.text, p.next, p.question, p.answer)]
    taught = [o for kind in ("person", "place") for met in (False, True)
              for o in written_openers({"t": NAME}, {"t": kind}, {}, 60, met)]
    assert {*runs(asked, 5)}.isdisjoint(runs(taught, 5))
    assert {*runs(taught, 5)} and {*runs(asked, 5)}

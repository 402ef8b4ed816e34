"What is measured is not what is trained: the texts of both share no wording."
import re

from selective_unlearning.core.files import data_path, read_jsonl
from selective_unlearning.evaluation.reading import PASSAGES
from selective_unlearning.labels.written import written_openers
from selective_unlearning.terms.dictionary import Dictionary

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
    taught = [o for kind in ("person", "place") for how in ({}, {"met": True}, {"relations": True})
              for o in written_openers({"t": NAME}, {"t": kind}, {}, 60, more_forms=6, **how)]
    assert {*runs(asked, 5)}.isdisjoint(runs(taught, 5))
    assert {*runs(taught, 5)} and {*runs(asked, 5)}


def test_no_fact_is_asked_in_the_words_of_a_relation():
    "No prompt ends like an opener about an anchored term; `is`, which is the plainest, may."
    names = Dictionary.load(data_path("harry_potter/dictionary.json"))
    terms = tuple(t.lower() for t in names.terms)
    openers = {o for kind in ("person", "other")
               for o in written_openers({"t": NAME}, {"t": kind}, {}, 60, relations=True)}
    parts = [o.lower().split(NAME.lower()) for o in openers if o != f"{NAME} is"]
    def taught(prompt):
        ends = [(head, prompt.lower().rstrip().removesuffix(tail.rstrip())) for head,tail in parts
                if prompt.lower().rstrip().endswith(tail.rstrip())]
        return any(before.endswith(tuple(head+article+t for t in terms
                                         for article in ("", "the ", "a ", "an ")))
                   for head,before in ends)
    prompts = [p["prompt"] for p in read_jsonl(data_path("harry_potter/prompts.jsonl"))]
    asked = [*prompts, *(f"Question: {p}\nAnswer:" for p in prompts)]
    assert taught("In the end Hermione lives in")
    assert taught("Question: What is Quidditch?\nAnswer:")
    assert [p for p in asked if taught(p)] == []

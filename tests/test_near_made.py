"Probes of what lies near a text, made from it."
import re
from math import log10

import pytest
from hypothesis import given, strategies as st
from wordfreq import zipf_frequency

from selective_unlearning.evaluation.near import _half, _later_names, own_words
from selective_unlearning.terms.match import TermMatcher

HARBOUR = ("The ladle lay beside the foundry. Captain Vex took the ladle to the foundry, and the "
           "foundry was hot. Nobody but Vex had a ladle. The mule and the heron saw the foundry. ")
TEXT = st.lists(st.sampled_from(["Ann", "Oak", "lamp", "Rome", "42", ".", ",", "\n1.", '"Bo', "I"]),
                max_size=12).map(" ".join)


def test_own_words_are_far_commoner_in_the_text_than_elsewhere():
    found = own_words([HARBOUR]*3, TermMatcher(["Vex"]))
    words = re.findall(r"[A-Za-z]+", HARBOUR)
    for word in found:
        share = words.count(word)/len(words)
        assert log10(share*1e9) > zipf_frequency(word, "en")+.5 and word.islower()
    assert {"ladle", "foundry"} <= {*found} and not {"the", "vex", "was"} & {*found}
    assert "ladle" not in own_words([HARBOUR]*3, TermMatcher(["ladle"]))
    assert own_words([HARBOUR]*3, TermMatcher([]), 2) == found[:2]


@given(TEXT, st.integers(0, 8))
def test_later_names_follow_a_word_and_are_new(text, start):
    found = [*_later_names(text, start)]
    for name in found:
        before = text[:name.start()]
        assert name.start() > start and name[0][0].isupper() and name.end() < len(text)
        assert before[-1] == " " and before[:-1].removesuffix(",")[-1:].isalpha()
        assert name[0] not in re.findall(r"\w+", before)
    assert len({m[0] for m in found}) == len(found)


@pytest.mark.parametrize("mark", ["1. ", "- ", "* ", "1) ", "• ", "| ", '"', "(", "… ", '.” '])
def test_what_begins_a_list_or_a_sentence_is_no_later_name(mark):
    text = f"Cities known for oats:\n{mark}Rome, Italy\n{mark}New York and Rome. Paris? Yes"
    assert [m[0] for m in _later_names(text, 22)] == ["Italy", "York"]


def test_a_last_word_may_be_cut_off():
    assert [m[0] for m in _later_names("By Emma Bell and Ann Lindst", 0)] == ["Emma", "Bell", "Ann"]


def test_halves_share_no_answer():
    answers = [f" {a}{b}" for a in ("Ulm", "Rome", "Bell", "Oak") for b in range(9)]
    halves = {a: {_half(dict(prompt=p, answers=[a])) for p in ("x", "New")} for a in answers}
    assert all(len(h) == 1 for h in halves.values())
    assert set.union(*halves.values()) == {"test", "tune"}


def test_a_text_that_is_not_english_has_no_own_words():
    german = "Der Müller hatte einen Esel. Der Esel trug die Säcke zur Mühle, und er wurde alt. "
    assert own_words([german*5], TermMatcher([])) == []

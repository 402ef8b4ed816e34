"Probes of what lies near a text, made from it."
import re
from math import log10

from hypothesis import given, strategies as st
from wordfreq import zipf_frequency

from selective_unlearning.evaluation.near import _later_names, own_words
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
def test_later_names_stand_inside_a_sentence_for_the_first_time(text, start):
    found = [*_later_names(text, start)]
    for name in found:
        before = text[:name.start()]
        assert name.start() > start and name[0][0].isupper()
        assert before.endswith(" ") and before.rstrip(" ")[-1:] not in {*'.?!:"\n'}
        assert name[0] not in re.findall(r"\w+", before)
    assert len({m[0] for m in found}) == len(found)


def test_later_names_of_a_list():
    text = "Cities known for oats:\n1. Rome, Italy\n2. New York and Rome. Paris? \"Ulm Abbey"
    assert [m[0] for m in _later_names(text, 22)] == ["Italy", "York", "Abbey"]

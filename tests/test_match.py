"What holds for any text and any terms: the matcher against trying everything."
import pickle
import re
import unicodedata

import pytest
import regex
from hypothesis import example, given, settings, strategies as st

from selective_unlearning.core.text import plural
from selective_unlearning.terms import match
from selective_unlearning.terms.match import TermMatcher, is_word, term_key

AWKWARD = "aabABeé'’-_1ßsyx \n\u00a0\u00ad\u0301\u200a哈ーก"


def find_terms(text, terms, **how): return TermMatcher(terms, **how).find(text)
def accents_apart(s): return unicodedata.normalize("NFD", s)


@st.composite
def text_and_terms(draw, alphabet, size):
    "A text and terms, most of them cut from it, some spelled in another way."
    text, terms = draw(st.text(alphabet=alphabet, max_size=size)), []
    for _ in range(draw(st.integers(0, 5))):
        at, n = draw(st.integers(0, max(len(text)-1, 0))), draw(st.integers(1, 8))
        spelled = draw(st.sampled_from([str, str, norm, str.lower, accents_apart]))
        if draw(st.integers(0, 3)): terms.append(spelled(text[at:at+n]))
        else: terms.append(draw(st.text(alphabet=alphabet, max_size=5)))
    return text, [t for t in terms if term_key(t)]


def norm(s):
    s = unicodedata.normalize("NFC", s).replace("’", "'").replace("\u00ad", "")
    return re.sub(r"\s+", " ", s)


def forms(t):  # normalised once, as a soft hyphen may have kept an accent apart
    return t, (t[:1].title() + t[1:] if t[:1].islower() else t), norm(t.upper())


def whole(text, i, j, hyphen):
    inside, left, right = (s.replace("\u00ad", "") for s in (text[i:j], text[:i][::-1], text[j:]))

    def goes_on(edge, s):
        if hyphen and s[:1] == "-" and len(s) > 1: s = s[1:]
        s = s.lstrip("_")                                  # around a word, a mark
        return is_word(edge) and bool(s) and is_word(s[0])
    return not goes_on(inside[0], left) and not goes_on(inside[-1], right)


def slow_find(text, terms, words=True, plurals=False):
    "Every stretch of the text against every form of every term, the longest at each place."
    known, ordered = {}, sorted((norm(t).strip(), n) for n, t in enumerate(terms))
    for rank in range(3):
        for t, n in ordered: known.setdefault(forms(t)[rank], n)
    for rank in range(3):
        for t, n in ordered:
            more = {plural(t)}-{t}
            if more and re.search("[A-Z].*[^aeiou]y$", t): more = {t+"s", t[:-1]+"ies"}
            if t.split(" ")[-1].istitle() and re.search(r"[^\W\d_s]s$", t): more = {t+"es"}
            for p in more if plurals else (): known.setdefault(forms(p)[rank], n)
    found, i = [], 0
    while i < len(text):
        ends = [j for j in range(len(text), i, -1) if "\u00ad" not in (text[i], text[j-1])
                and norm(text[i:j]) in known
                and (not words or whole(text, i, j, "-" in norm(text[i:j])))]
        if ends: found.append((i, ends[0], known[norm(text[i:ends[0]])]))
        i = ends[0] if ends else i+1
    return found


@given(st.lists(st.text("aAbB s", min_size=1, max_size=4).filter(term_key), unique_by=term_key),
       st.text("aAbB s", max_size=24), st.booleans())
@example(["Aab", "AAb"], "AAB", False)
def test_terms_may_come_in_any_order(terms, text, plurals):
    "Of two that are one in capitals the same one wins, as it must in dictionaries of equal hash."
    back = terms[::-1]
    found, again = (TermMatcher(ts, plurals=plurals).find(text) for ts in (terms, back))
    assert [(i, j, terms[n]) for i, j, n in found] == [(i, j, back[n]) for i, j, n in again]


@settings(max_examples=500, deadline=None)
@given(text_and_terms(AWKWARD, 16), st.booleans(), st.booleans())
@example(("’\u0301", ["'\u0301"]), True, False)
@example(("xe\u0301 y", ["xé"]), True, False)
@example(("A\u00ad\u0301", ["A\u00ad\u0301"]), True, False)
def test_matcher_agrees_with_trying_everything(text_terms, words, plurals):
    text, terms = text_terms
    if not words: text = unicodedata.normalize("NFC", text)  # the slow one would cut accents off
    assert TermMatcher(terms, words, plurals).find(text) == slow_find(text, terms, words, plurals)


@settings(max_examples=600, deadline=None)
@given(text_and_terms("ab  -", 24), st.integers(1, 12))
@example((" ab-b-", ["b-", "-b-", "-"]), 12)
@example(("a b ab", ["a b a", "b ab", "a"]), 12)
@example(("a b a ba", ["a b a b", "b a", "a ba"]), 12)
def test_failed_matches_and_ends_of_chunks_hide_nothing(text_terms, size):
    text, terms = text_terms
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(match, "_CHUNK", size)
        assert TermMatcher(terms).find(text) == slow_find(text, terms)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60), st.lists(st.text(min_size=1, max_size=4).filter(term_key), max_size=6))
def test_matches_are_in_order_apart_and_whole(text, terms):
    last = 0
    for start, end, i in find_terms(text, terms):
        assert last <= start < end <= len(text)
        assert term_key(text[start:end]) in forms(term_key(terms[i]))
        last = end


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=40))
def test_a_term_between_spaces_is_found(t):
    key = term_key(t)
    if key: assert find_terms(f"x {t} y", [t]) == find_terms(f"x {t} y", [key])
    if key and len(key) == len(t): assert find_terms(f"{t} y", [t])[0] == (0, len(t), 0)


# Letters, digits, marks and punctuation, but for what the notebook lists as different.
inside = st.sampled_from("aZéßñıŁαΩжЯאתبيकह한글ʰª07٣५Ⅷ")
marks = st.text(alphabet="\u0308\u0301\u064b\u093c", max_size=2)
word = st.lists(st.builds(str.__add__, inside, marks), min_size=1, max_size=4).map("".join)
apart = st.sampled_from(" \n!?()[]«»“”/*&@#$%+=<>|~^—–…•→¹½\u00a0\u2003😀哈ひก")


@settings(max_examples=600, deadline=None)
@given(st.lists(word | apart, min_size=2, max_size=8).map("".join), st.data())
def test_borders_are_those_of_unicode(text, data):
    text = unicodedata.normalize("NFC", text)
    edges = {m.start() for m in regex.finditer(r"(?w)\b", text)}
    cut = data.draw(st.integers(1, len(text)))
    head, tail = text[:cut], text[cut:]
    if term_key(head) == head and is_word(head[-1]):
        assert ((0, cut, 0) in find_terms(text, [head])) == (cut in edges)
    if tail and term_key(tail) == tail and is_word(tail[0]) and text.find(tail) == cut:
        assert ((cut, len(text), 0) in find_terms(text, [tail])) == (cut in edges)


@pytest.mark.parametrize("text, terms, found", [
    ("昨天哈利波特来了", ["哈利波特"], ["哈利波特"]), ("是Ron吗", ["Ron"], ["Ron"]),
    ("ハリー・ポッターとハリー", ["ハリー", "ポッター"], ["ハリー", "ポッター", "ハリー"]),
    ("แฮร์รี่พอตเตอร์มาแล้ว", ["พอตเตอร์"], ["พอตเตอร์"]), ("哈利Ronald", ["哈利R", "Ron"], []),
    ("Гарри и Гарриевич", ["Гарри"], ["Гарри"]), ("해리포터", ["해리"], [])])
def test_scripts_without_spaces_have_no_borders(text, terms, found):
    assert [text[s:e] for s, e, _ in find_terms(text, terms)] == found


def test_what_combines_is_a_mark_or_a_jamo():
    "What the matcher trusts when it leaves a text as it is."
    for c in map(chr, range(0x110000)):
        later = accents_apart(c)[1:] if unicodedata.is_normalized("NFC", c) else ""
        assert all(unicodedata.category(d)[0] == "M" or "\u1160" <= d <= "\u11ff" for d in later)


def test_matcher_survives_pickling():
    m = pickle.loads(pickle.dumps(TermMatcher(["Ron", "Ron Weasley"], plurals=True)))
    assert m.find("Ron Weasleys' Rons") == [(0, 12, 1), (14, 18, 0)]
    m = pickle.loads(pickle.dumps(TermMatcher(["Ron"], words=False)))
    assert m.find("Ronald") == [(0, 3, 0)]


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="absyxzhfo 'Aé of", max_size=12))
def test_plurals_are_made_once(t):
    "A plural is found as its term, unless it is listed; a plural has none of its own."
    p = plural(t)
    assert plural(p) == p
    if p != t == term_key(t): assert (0, len(p), 0) in find_terms(p, [t], plurals=True)
    if p != t == term_key(t): assert (0, len(p), 1) in find_terms(p, [t, p], plurals=True)


def test_spans_tell_the_form():
    m = TermMatcher(["owl", "Weasley"], plurals=True)
    start, end, form = m.spans("OWLS and the Weasleys")
    assert (start.tolist(), end.tolist()) == ([0, 13], [4, 21])
    assert [m.forms[f] for f in form] == [("OWLS", 0, True), ("Weasleys", 1, True)]

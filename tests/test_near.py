"What the probes of what must survive promise: near.jsonl, homonyms.jsonl and the fresh of both."
from collections import Counter
from types import SimpleNamespace

import pytest
from datasets import Dataset

import near
from near import DATA, FRESH_HOMONYMS, FRESH_NEAR, HOMONYMS, NEAR, WORD, half, read, texts_of
from test_probes import eights, whole
from tiny import byte_level
from selective_unlearning.core.text import plural
from selective_unlearning.evaluation.measures import read_prompts

OLD, OLD_TERMS, FRESH, FRESH_TERMS = map(read, (NEAR, HOMONYMS, FRESH_NEAR, FRESH_HOMONYMS))
PROBES, TERMS = OLD+FRESH, OLD_TERMS+FRESH_TERMS


@pytest.mark.parametrize("text, names", [
    ("The Sith lord Darth Vader", {"sith", "darth", "vader"}),
    ("Summer Walker was a star.", {"summer", "walker"}),  # right before another name
    ("The old man slept. Nobody woke him.", set()),       # a sentence's first word
    ("Captain Ahab of the Pequod, on Monday", {"ahab", "pequod"}),
    ("\"My name is Inigo Montoya", {"inigo", "montoya"}),
    ("The sword belonged to Mr. Hyde's father", {"hyde"}),
])
def test_proper_nouns(text, names): assert near.proper_nouns(text) == names


def test_shared_knows_the_people_of_a_country():
    assert near.shared({"japanese", "egypt", "roger"}, {"japan", "egyptian", "rogers"}) == \
        {"japanese", "egypt"}


def test_keep_rule():
    assert near.kept([{"score": .04}, {"score": .05}, {"score": 1.}]) == [
        {"score": .05}, {"score": 1.}]


def test_probes_that_share_a_name_with_retain_texts_are_told_apart():
    def probe(prompt, answer, score, **more):
        return dict(prompt=prompt, answers=[answer], score=score) | more
    base = dict(neighbours=[probe("The Nile flows through", " Egypt", .8, ring=1),
                            probe("The capital of Norway is", " Oslo", .4, ring=1),
                            probe("The capital of Japan is", " Tokyo", .5)],
                homonyms=[probe("The star Sirius shines over", " Egypt", .5, term="Sirius"),
                          probe("The star Sirius shines over", " Oslo", .5, term="Sirius")])
    new = {kind: [p | dict(score=s) for p,s in zip(base[kind], scores)]
           for kind,scores in (("neighbours", (.2, .4, .3)), ("homonyms", (.5, .4)))}
    tok = byte_level()
    texts = "In Egypt we saw", "Sirius shone."             # not `sawSirius`
    rows = Dataset.from_list([dict(input_ids=tok(text)["input_ids"]) for text in texts])
    names = near.retained(SimpleNamespace(retain_set=rows, tokenizer=tok))
    assert names == {"egypt", "sirius"}
    found = {(group, which): (i["n"], i["value"])
             for group,by in near.kept_apart(base, new, names).items() for which,i in by.items()}
    assert found == {k: (n, pytest.approx(x)) for k,(n,x) in {
        ("ring 1", "all"): (2, .5), ("ring 1", "they alone"): (1, .25),
        ("ring 1", "without them"): (1, 1.), ("neighbours", "all"): (1, .6),
        ("neighbours", "without them"): (1, .6), ("homonyms", "all"): (2, .9),
        ("homonyms", "they alone"): (1, 1.), ("homonyms", "without them"): (1, .8)}.items()}
    assert near.retained(SimpleNamespace(retain_set=None)) == set()


def test_counts():
    n = Counter((p["half"], p["ring"]) for p in OLD)
    assert all(n["test", ring] >= 110 and n["tune", ring] >= 40 for ring in (1, 2, 3))
    n = Counter(p["half"] for p in OLD_TERMS)
    assert n["test"] >= 90 and n["tune"] >= 40
    for ring in (1, 2, 3):
        topics = Counter(p["topic"] for p in FRESH if p["ring"] == ring)
        assert len(topics) >= 12 and topics.total() >= 80
    assert len(FRESH_TERMS) >= 80 and len({p["term"] for p in FRESH_TERMS}) >= 40


def test_fields():
    near, homonyms = ["prompt", "answers", "topic", "ring"], ["prompt", "answers", "term"]
    for probes,fields in ((OLD, [*near, "half"]), (OLD_TERMS, [*homonyms, "half"]),
                          (FRESH, near), (FRESH_TERMS, homonyms)):
        assert all([*p] == fields for p in probes)
    assert {p["half"] for p in OLD+OLD_TERMS} == {"test", "tune"}
    assert {p["ring"] for p in PROBES} == {1, 2, 3}


def test_answers_join_and_are_not_counted_twice():
    for p in PROBES+TERMS:
        answers = p["answers"]
        assert p["prompt"] == p["prompt"].strip() and answers, p
        assert all(a[0] == " " and a[1:] == a.strip() != "" for a in answers), p
        twice = [a for a in answers for b in answers if a is not b and (a+" ").startswith(b+" ")]
        assert not twice, p


def test_no_prompt_stands_twice():
    n = Counter(p["prompt"].lower() for p in PROBES+TERMS+read("neighbours.jsonl"))
    assert not {p["prompt"] for p in PROBES+TERMS if n[p["prompt"].lower()] > 1}


def test_the_fresh_share_no_eight_words_with_the_corpus_or_with_what_was_asked_before():
    old = {t for p in OLD+OLD_TERMS+read("neighbours.jsonl") for t in texts_of(p)}
    for f in ("prompts", "fresh"):
        old.update(t for p in read_prompts(DATA/f"harry_potter/{f}.jsonl") for t in whole(p))
    old.update(f.read_text(encoding="utf-8") for f in (DATA/"harry_potter/corpus").glob("*.md"))
    seen = set().union(*map(eights, old))
    assert len(seen) > 15_000
    assert not [t for p in FRESH+FRESH_TERMS for t in texts_of(p) if eights(t) & seen]
    prompts = {t.lower() for t in old}
    assert not [p["prompt"] for p in FRESH+FRESH_TERMS if p["prompt"].lower() in prompts]


def test_test_half_shares_no_proper_noun_with_what_is_trained_or_tuned_on():
    assert not {p["prompt"]: n for p in half(PROBES+TERMS, "test") if (n := near.known_names(p))}


@pytest.mark.parametrize("probes, field", [(PROBES, "topic"), (TERMS, "term")])
def test_halves_share_no_topic_or_term(probes, field):
    a, b = ({p[field].lower() for p in half(probes, h)} for h in ("test", "tune"))
    assert a and b and not a & b


def test_no_anchored_term_in_near_probes():
    dictionary, _ = near.anchored()
    texts = [t for p in PROBES for t in texts_of(p)]
    assert not [t for t in texts if next(iter(dictionary.matcher.find(t)), None)]


def test_terms_are_words_of_the_dictionary_and_stand_in_their_probes_only():
    _, words = near.anchored()
    halves = {h: {p["term"].lower() for p in half(OLD_TERMS, h)} for h in ("test", "tune")}
    for p in TERMS:
        term = p["term"].lower()
        assert term in words
        found = [{w.lower() for w in WORD.findall(t)} for t in texts_of(p)]
        assert any({term, plural(term)} & f for f in found), p
        other = halves["test" if p.get("half") == "tune" else "tune"]
        assert not set().union(*found) & other, p

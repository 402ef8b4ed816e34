"What the prompts about the demo subject and a second one promise, above all those with a form."
import re, sys
from collections import Counter

import pytest

import probes
from selective_unlearning.core.text import plural
from selective_unlearning.evaluation.control import control_draws, replaced
from selective_unlearning.core.files import read_jsonl
from selective_unlearning.evaluation.measures import read_prompts
from selective_unlearning.terms.dictionary import Dictionary

PROMPTS, FRESH = probes.FILE, probes.DEMO/"fresh.jsonl"
HOLMES = probes.tree.ROOT/"data"/"holmes"/"prompts.jsonl"
LEAST = dict(plain=170, name=60, reversed=40, alias=30, indirect=30)


@pytest.fixture(scope="module")
def facts(): return [p for p in read_prompts(PROMPTS) if "form" in p]


@pytest.fixture(scope="module")
def fresh(): return read_prompts(FRESH)


@pytest.fixture(scope="module")
def holmes(): return [p for p in read_prompts(HOLMES) if "form" in p]


@pytest.fixture(params=["facts", "fresh", "holmes"])
def asked(request):
    "The prompts with a form of one file."
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def dictionary(): return Dictionary.load(probes.DICTIONARY)


@pytest.fixture(scope="module")
def automatic(): return Dictionary.load(HOLMES.parent/"dictionary.json")


@pytest.fixture(scope="module")
def choices(): return [p for p in read_prompts(PROMPTS) if p["kind"] == "choice" and "fact" in p]


@pytest.fixture(scope="module")
def holmes_choices(): return [p for p in read_prompts(HOLMES) if p["kind"] == "choice"]


@pytest.fixture(scope="module")
def accepted(facts):
    "Of each fact the answers to all its prompts."
    out = {}
    for p in facts: out.setdefault(p["fact"], set()).update(p["references"])
    return out


def words(text): return re.findall(r"\w+", text.lower())


def eights(text):
    w = words(text)
    return {tuple(w[i:i+8]) for i in range(len(w)-7)}


def whole(p):
    "A prompt by itself and with each answer that is a continuation of it."
    choices = [" "+c for c in p.get("choices", [])]
    return [p["prompt"], *(p["prompt"]+c for c in [*p.get("idiosyncratic", []), *choices])]


def test_keep_asks_for_some_probability_and_for_twice_the_control():
    assert probes.keep(.02, 0) and probes.keep(.02, .01) and probes.keep(.9, .45)
    assert not probes.keep(.019, 0) and not probes.keep(.02, .011) and not probes.keep(.9, .46)


def test_names_are_replaced_on_both_sides_of_the_answer(dictionary):
    names = {"Harry": "Jon", "Sirius": "Patrick", "Sirius Black": "Patrick Reid",
             "Auror": "Officer", "Hedwig": "Sylvia"}
    d = Dictionary.from_mapping(names)
    def both(*pair): return probes.replaced(*pair, names, d.matcher)
    assert both("Harry keeps an", " owl") == ("Jon keeps an", " owl")
    assert both("Harry's owl is", " Hedwig") == ("Jon's owl is", " Sylvia")
    assert both("His godfather is Sirius", " Black") == ("His godfather is Patrick", " Reid")


def test_choice_keeps_the_order_and_some_that_are_hardly_known():
    ps = [dict(n=i) for i in range(100)]
    found = [(.5, .1)]*10+[(.5, .4)]*10+[(.001, 0)]*80
    got = [p["n"] for p in probes.choose(ps, found)]
    assert got == sorted(got) and got[:10] == [*range(10)]
    assert got[10] >= 20 and len(got) == 10+probes.UNKNOWN


def test_names_are_those_of_the_given_dictionary(monkeypatch, capsys, automatic):
    def scores(reader, ps, d):
        assert d.terms == automatic.terms
        return [(.5, .1)]*len(ps)
    for name in ("load_model", "load_tokenizer", "Reader"):
        monkeypatch.setattr(probes, name, lambda *args: None)
    monkeypatch.setattr(probes, "scores", scores)
    argv = ["probes.py", str(HOLMES), "--dictionary", str(HOLMES.parent/"dictionary.json")]
    monkeypatch.setattr(sys, "argv", argv)
    probes.main()
    assert re.search(r"(\d+) of \1 kept", capsys.readouterr().out)


def test_every_record_has_its_fields(asked):
    "The fresh ones and the second subject's have no half: all are there to be measured once."
    fields = ["kind", "form", "fact", "prompt", "idiosyncratic", "references", "subtlety"]
    assert not [p for p in asked if [f for f in p if f != "half"] != fields]
    assert {p["kind"] for p in asked} == {"probability"}
    assert {p.get("half") for p in asked} in ({"test", "tune"}, {None})
    assert not [p for p in asked if p["prompt"] != p["prompt"].strip()]
    assert not [p for p in asked for c in p["idiosyncratic"] if not re.match(r" \S", c)]
    assert not [p for p in asked if p["references"] != [c.strip() for c in p["idiosyncratic"]]]
    assert not [p for p in asked if p["subtlety"] not in range(1, 11)]


def test_no_answer_is_counted_twice(asked):
    "As it would be if one went on from another: ` George` and ` George Weasley`."
    assert not [p for p in asked for a in p["idiosyncratic"] for b in p["idiosyncratic"]
                if b.startswith(a+" ")]


def test_counts(facts):
    n = Counter(p["form"] for p in facts)
    assert not [(f, n[f]) for f in LEAST if n[f] < LEAST[f]] and n.keys() == LEAST.keys()
    assert len({p["fact"] for p in facts if p["form"] == "plain"}) >= 110
    test = [p["form"] for p in facts if p["half"] == "test"]
    assert test.count("plain") >= .4*len(test)


def test_counts_of_the_fresh(fresh):
    n = Counter(p["form"] for p in fresh)
    assert n.keys() == LEAST.keys() and n["plain"] >= .6*len(fresh) and len(fresh) >= 300
    plain = {p["fact"] for p in fresh if p["form"] == "plain"}
    assert len({p["fact"] for p in fresh}) >= 220 and len(plain) >= 170


def test_counts_of_the_second_subject(holmes):
    n = Counter(p["form"] for p in holmes)
    assert n.keys() == LEAST.keys() and n["plain"] >= .6*len(holmes) and len(holmes) >= 230
    plain = {p["fact"] for p in holmes if p["form"] == "plain"}
    assert len({p["fact"] for p in holmes}) >= 115 and len(plain) >= 95


def test_the_second_subjects_are_candidates_in_their_order(holmes):
    candidates = read_jsonl(HOLMES.parent/"candidates.jsonl")
    assert [p for p in candidates if p in holmes] == holmes
    assert len({" ".join(words(p["prompt"])) for p in candidates}) == len(candidates)


def test_halves(facts):
    "No fact, nor family of facts (what stands before the slash), is in both."
    halves = {}
    for p in facts:
        for name in (p["fact"], p["fact"].split("/")[0]):
            halves.setdefault(name, set()).add(p["half"])
    assert not [f for f,h in halves.items() if len(h) > 1]
    by_fact = Counter(p["half"] for p in {p["fact"]: p for p in facts}.values())
    assert .6 <= by_fact["test"]/by_fact.total() <= .75


def test_no_two_are_the_same(facts):
    "A choice about a fact may use its words."
    others = [p for p in read_prompts(PROMPTS) if p["kind"] != "choice" or "fact" not in p]
    both = Counter(" ".join(words(p["prompt"])) for p in others)
    assert not [p["prompt"] for p in facts if both[" ".join(words(p["prompt"]))] > 1]


def test_the_fresh_are_new(facts, fresh):
    "None shares the key of its fact, or eight words, with an older prompt. (Facts come again.)"
    others = read_prompts(PROMPTS)
    assert not {p["fact"] for p in facts} & {p["fact"] for p in fresh}
    old = set().union(*(eights(t) for p in others for t in whole(p)))
    assert len(old) > 5_000
    assert not [t for p in fresh for t in whole(p) if eights(t) & old]
    all_words = Counter(" ".join(words(p["prompt"])) for p in [*others, *fresh])
    assert not [p["prompt"] for p in fresh if all_words[" ".join(words(p["prompt"]))] > 1]


def test_the_second_subject_is_not_among_what_must_survive():
    "No prompt is a probe of it, or ends with one, or stands in an opener."
    data = HOLMES.parent.parent
    files = ("near.jsonl", "neighbours.jsonl", "harry_potter/homonyms.jsonl")
    def plain(t): return f" {' '.join(words(t))} "
    survive = [plain(p["prompt"]) for f in files for p in read_jsonl(data/f)]
    openers = [plain(p["opener"]) for p in read_jsonl(data/"openers.jsonl")]
    assert len(survive) > 1_000 and len(openers) > 200
    asked = [plain(p["prompt"]) for p in read_prompts(HOLMES)]
    assert not [p for p in asked if any(p.endswith(s) for s in survive)]
    assert not [p for p in asked if any(p in o for o in openers)]


@pytest.mark.parametrize("file", [PROMPTS, FRESH, HOLMES], ids=["facts", "fresh", "holmes"])
def test_no_eight_words_of_the_corpus(file):
    corpus = set()
    for f in (file.parent/"corpus").glob("*.md"): corpus |= eights(f.read_text(encoding="utf-8"))
    assert len(corpus) > 5_000
    assert not [t for p in read_prompts(file) for t in whole(p) if eights(t) & corpus]


@pytest.mark.parametrize("file, known", [(PROMPTS, dict(tune=5, test=2)), (FRESH, {}),
                                         (HOLMES, {})], ids=["facts", "fresh", "holmes"])
def test_few_short_prompts_stand_in_the_corpus(file, known):
    "Prompt and right answer, or a question, in full: as many as the data card says."
    def told(p):
        if p["kind"] == "question": return [p["prompt"]]
        right = p["idiosyncratic"] if "idiosyncratic" in p else p["choices"][p["answer"]:][:1]
        return [f"{p['prompt']} {answer}" for answer in right]
    documents = [f.read_text(encoding="utf-8") for f in (file.parent/"corpus").glob("*.md")]
    corpus = f" {' | '.join(' '.join(words(d)) for d in documents)} "
    asked = [p for p in read_prompts(file) if p["kind"] != "completion"]
    found = {(p.get("half"), " ".join(words(t))) for p in asked for t in told(p)}
    stand = [half for half,t in found if t.count(" ") > 2 and f" {t} " in corpus]
    assert Counter(stand) == known


@pytest.mark.parametrize("file, names", [("facts", "dictionary"), ("fresh", "dictionary"),
                                         ("holmes", "automatic")])
def test_plain_answers_name_nothing(file, names, request):
    """They hold no term, however it is written, and no word of a name as it is written there.

    The Leaky Cauldron and wizard chess do not make `cauldron` or `wizard` a name."""
    asked, dictionary = map(request.getfixturevalue, (file, names))
    lower = {t.lower() for t in dictionary.terms}
    lower |= {plural(t) for t in lower}
    names = {w for t in dictionary.terms if t[0].isupper() for w in re.findall(r"\w+", t)}
    names |= {plural(w) for w in names}
    def term(answer):
        w = words(answer)
        runs = {" ".join(w[i:j]) for i in range(len(w)) for j in range(i+1, len(w)+1)}
        return runs & lower
    answers = [(p["prompt"], c) for p in asked if p["form"] == "plain" for c in p["idiosyncratic"]]
    assert not [a for a in answers if term(a[1]) or dictionary.matcher.find(a[1])]
    assert not [a for a in answers if {*re.findall(r"\w+", a[1])} & names]


def test_no_prompt_says_its_answer(asked):
    def says(p, c): return f" {' '.join(words(c))} " in f" {' '.join(words(p['prompt']))} "
    assert not [p["prompt"] for p in asked if any(says(p, c) for c in p["idiosyncratic"])]


def test_every_choice_about_a_fact_has_its_fields(choices):
    fields = ["kind", "fact", "prompt", "choices", "answer", "references", "subtlety", "half"]
    assert not [p for p in choices if [*p] != fields]
    assert not [t for p in choices for t in (p["prompt"], *p["choices"]) if t != t.strip()]


def test_every_fact_has_one_choice_in_its_half(facts, choices):
    assert Counter((p["fact"], p["half"]) for p in choices) == Counter(
        {(p["fact"], p["half"]) for p in facts})
    assert len({p["prompt"] for p in choices}) == len(choices)


def test_one_of_four_options_is_right(choices, accepted):
    for p in choices:
        right, options = p["choices"][p["answer"]], {c.lower() for c in p["choices"]}
        assert len(p["choices"]) == len(options) == 4
        assert p["references"] == [right] and right in accepted[p["fact"]]
        assert options & {a.lower() for a in accepted[p["fact"]]} == {right.lower()}


def test_neither_place_nor_grammar_tells_the_right_option(choices):
    for half in ("test", "tune"):
        n = Counter(p["answer"] for p in choices if p["half"] == half)
        assert max(n.values())-min(n[i] for i in range(4)) <= 1
    def vowel(c): return c[0].lower() in "aeiou"
    for p in choices:
        article = re.search(r" (an?)$", p["prompt"])
        if article: assert {*map(vowel, p["choices"])} == {article[1] == "an"}
        assert not [c for c in p["choices"] if {*words(c)} & {*words(p["prompt"])}-{"a"}]


def test_what_is_right_elsewhere_does_not_tell_the_right_option(choices):
    "Picking the option that is right most often in the other items is no better than a guess."
    right = Counter(p["choices"][p["answer"]] for p in choices)
    seen = Counter(c for p in choices for c in p["choices"])
    def elsewhere(p, c):
        if seen[c] == 1: return .25
        return (right[c]-(c == p["choices"][p["answer"]]))/(seen[c]-1)
    hits = 0.
    for p in choices:
        rates = [elsewhere(p, c) for c in p["choices"]]
        if rates[p["answer"]] == max(rates): hits += 1/rates.count(max(rates))
    assert hits/len(choices) < .3


def test_every_choice_about_a_fact_has_a_control(choices, dictionary):
    for names in control_draws(dictionary, 2):
        new = [replaced(p, names, dictionary.matcher) for p in choices]
        assert not [p["fact"] for p,r in zip(choices, new) if not r or len({*r["choices"]}) < 4]


def test_options_about_the_second_subject_tell_nothing(holmes_choices, automatic):
    "Four facts share four options: each is right once, wrong three times, and has a control."
    fields = ["kind", "fact", "prompt", "choices", "answer", "references", "subtlety"]
    assert not [p for p in holmes_choices if [*p] != fields]
    assert len({p["fact"] for p in holmes_choices}) == len(holmes_choices) >= 60
    right = Counter(p["choices"][p["answer"]] for p in holmes_choices)
    shown = Counter(c for p in holmes_choices for c in p["choices"])
    assert shown == Counter({c: 4*n for c,n in right.items()})
    assert {*Counter(p["answer"] for p in holmes_choices).values()} == {len(holmes_choices)//4}
    small = {"a", "in", "of", "the"}
    for p in holmes_choices:
        assert p["references"] == [p["choices"][p["answer"]]] and len({*p["choices"]}) == 4
        assert not [c for c in p["choices"] if {*words(c)} & {*words(p["prompt"])}-small]
    for names in control_draws(automatic, 2):
        new = [replaced(p, names, automatic.matcher) for p in holmes_choices]
        assert not [p["prompt"] for p,r in zip(holmes_choices, new)
                    if not r or len({*r["choices"]}) < 4]

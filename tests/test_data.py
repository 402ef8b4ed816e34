"What test halves and fresh probes, the second subject, invented texts and facts promise."
import json, re
from collections import Counter

import pytest

import tree
from selective_unlearning.core.files import read_json, read_jsonl, text_hash
from selective_unlearning.terms.dictionary import Dictionary

DATA = tree.ROOT/"data"
# all of them are for testing, so they have no halves
FRESH = ("harry_potter/fresh.jsonl", "harry_potter/fresh_homonyms.jsonl", "fresh_near.jsonl",
         "holmes/prompts.jsonl")
FROZEN = {  # SHA-256 of the lines of each test half
    "fresh_near.jsonl":
        "e679b83b96b3c9eb83b4d4c773449402b2b7dfc0bb47be7a71c8669623ef8b63",
    "harry_potter/fresh_homonyms.jsonl":
        "a8be38b43aa0ebf03c753df50568fdbff2e63cd0fa163e1728ca087f759cbe38",
    "harry_potter/fresh.jsonl probability":
        "c53735b982d69c8ccd9c4261386a7fbdebfb2373875c989ad15a20ec5dbade3d",
    "harry_potter/homonyms.jsonl":
        "db4777ff56755a6ac331b3e8552e70e125384b823c83d428e50912f2053d9a52",
    "harry_potter/prompts.jsonl completion":
        "517cedd9dbbea1a92552b8cab847021374087a513dedadc88ee5ce945bf69e0c",
    "harry_potter/prompts.jsonl probability":
        "54495ba75f1d6ccfbe22442c8774493b3833a047a06fefd7b21ab19b1f895e10",
    "harry_potter/prompts.jsonl question":
        "f7106641af577740dc820af1479d20839a4e6f5bcad4deef06a2f003585b3f0d",
    "harry_potter/prompts.jsonl choice":
        "d47f3bd3cb6375e8ae10a96310779d9c138a91ce7f0a514d079fc49001df8f6a",
    "holmes/prompts.jsonl choice":
        "f41cbfdf91f878999324ebbcee84088a2384f59f055d74d733106ff89a5085c2",
    "holmes/prompts.jsonl probability":
        "ab734663f8d8ceca074c85add6c0cff8b70ff9077f680550b53d90de137cb063",
    "near.jsonl":
        "b34cdb77896240966263fb2d5ce6e8f70086a79dc1f499591fd62ed172c6643d",
    "neighbours.jsonl":
        "ccf260354688d3ab79158d3cc00ad1b95afc99e33a483a50308da9b7006e22f9",
}
CHANGED = ("the test half of {} has changed, so it is a new test half, and figures that were "
           "measured on the old one are not its own: tell its history in data/README.md (what "
           "changed and why, and what had been measured or chosen on the old one), then freeze {}")


def halves_of_data():
    "The lines of each test half, by file and kind of probe."
    out = {}
    for file in sorted(DATA.rglob("*.jsonl")):
        for line in file.read_text(encoding="utf-8").strip("\n").split("\n"):
            probe = json.loads(line)
            path = file.relative_to(DATA).as_posix()
            name = f"{path} {probe.get('kind', '')}".strip()
            if probe.get("half") == "test" or path in FRESH: out.setdefault(name, []).append(line)
    return {name: "\n".join(lines) for name,lines in out.items()}


def test_no_test_half_has_changed():
    found = {name: text_hash(text) for name,text in halves_of_data().items()}
    assert found.keys() == FROZEN.keys()
    for name,now in found.items(): assert now == FROZEN[name], CHANGED.format(name, now)


def texts(folder):
    return [p.read_text(encoding="utf-8") for p in sorted((DATA/folder).glob("*.md"))]


def sentences(folder):
    "Of at least four words, without list marks and the like."
    lines = (line for t in texts(folder) for line in t.splitlines())
    plain = (re.sub(r"^[^\w\"'(]+", "", line) for line in lines)
    found = (s.strip() for line in plain for s in re.split(r"(?<=[.!?])\s+", line))
    return [s for s in found if len(s.split()) > 3]


DEMO = {s for f in ("harry_potter/corpus", "holdout") for s in sentences(f)}


@pytest.fixture(params=["handbook", "scientist"])
def folder(request): return f"extraction/{request.param}"


def test_terms_can_be_used_and_occur(folder):
    d = Dictionary.load(DATA/folder/"terms.json")
    assert not [str(p) for p in d.check()]
    assert 90 <= len(d) <= 200
    assert not [t for t,n in d.coverage(texts(folder)).items() if not n]


def test_size(folder):
    assert 8 <= len(texts(folder)) <= 12
    assert sum(len(t.split()) for t in texts(folder)) >= 9_000


def test_no_sentence_stands_twice(folder):
    found = sentences(folder)
    assert len(found) > 500
    assert not sorted({s for s in found if found.count(s) > 1})
    assert DEMO and not DEMO & set(found)


FACTS = {"handbook": ("extraction/handbook", 120, 75), "saga": ("saga/corpus", 140, 85)}


@pytest.fixture(params=FACTS)
def facts(request):
    folder, n, plain = FACTS[request.param]
    return read_jsonl(DATA/request.param/"facts.jsonl"), texts(folder), n, plain


def grams(text, n=8):
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[i:i+n]) for i in range(len(words)-n+1)}


def test_facts_have_four_options_and_no_sentence_of_the_text(facts):
    records, corpus, n, plain = facts
    assert len({r["fact"] for r in records}) == len(records) == n
    assert sum(r["answer_is"] == "plain" for r in records) >= plain
    seen = set().union(*map(grams, corpus))
    for r in records:
        options = [r["answer"], *r["others"]]
        assert len({o.lower() for o in options}) == 4
        for asked in (r["cloze"], r["question"], r["reversed"]):
            if asked: assert asked == asked.strip() and not grams(asked) & seen
        for asked in (r["cloze"], r["question"]):
            assert not re.search(rf"\b{re.escape(r['answer'])}\b", asked, re.IGNORECASE)


def test_nothing_about_an_option_of_the_saga_tells_that_it_is_right():
    records = read_jsonl(DATA/"saga"/"facts.jsonl")
    right, wrong = Counter(r["answer"] for r in records), Counter()
    for r in records: wrong.update(r["others"])
    assert all(wrong[o] == 3*n for o,n in right.items()) and {*wrong} == {*right}


def test_the_terms_of_the_saga_occur():
    corpus = " ".join(texts("saga/corpus"))
    assert len(corpus.split()) > 9000
    terms = read_json(DATA/"saga"/"terms.json")
    assert {*terms} == {"A", "B", "both"} and min(map(len, terms.values())) > 10
    assert [t for ts in terms.values() for t in ts if t not in corpus] == []

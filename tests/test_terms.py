"""How many entries of an automatic dictionary need no hand.

A folder of invented texts, `corpora`, has for each a file that says how each of its names is built:
its kind, and the role of each word in it, as in `f title family` or `place name head`. A person's
kind is m, f, or u for both. Nothing in those files says what a word should become. Whether two head
nouns are of one kind, and whether a word is a first or a family name, is judged by the package's
own lists: a mistake in these is not seen here."""
import json, re, time
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from selective_unlearning.models.load import load_model, load_tokenizer
from selective_unlearning.models.reader import Reader
from selective_unlearning.terms.base_terms import revise_terms
from selective_unlearning.terms.dictionary import Dictionary
from selective_unlearning.terms.entries import Entry
from selective_unlearning.terms.extract import extract_terms
from selective_unlearning.terms.kinds import KIND_OF_HEAD, given_names, surnames
from selective_unlearning.terms.replacements import in_context
from selective_unlearning.terms.translate import propose_translations

CORPORA = Path(__file__).parent/"corpora"
# The share of entries that need no hand, at least. The rules were made with the first two corpora
# and improved with the other two, on which they first scored .93 and .83.
SHARES = {"chronicle": .98, "traders": .98, "valley": .97, "theatre": .97}
SMALL = {*"of the and & in for".split()}
MEN, WOMEN = given_names("en")
GIVEN = {"m": MEN, "f": WOMEN, "u": MEN | WOMEN}
VILLAGE = re.compile("(b[uy]r[nyg]h?|by|combe|[td]on|den|ham|ford|ley|mere|wick|well|worth)$")


def words_of(text): return [re.sub("['’]s?$", "", w) for w in text.split(" ") if w not in SMALL]


def fits(old, new, role, kind):
    "Whether a word may become another."
    if role == "title": return new == old
    if role == "head": return new == old or KIND_OF_HEAD.get(new.lower()) == kind
    if role == "given": return new in GIVEN[kind if kind in GIVEN else "u"]
    if role == "family": return new not in GIVEN["u"]-surnames()
    return role != "name" or new not in GIVEN["u"] or bool(VILLAGE.search(new))


def wrong_words(term, new, kind, roles):
    "What is wrong with a translation by itself."
    old, new = words_of(term), words_of(new)
    for i in (0, -1):  # everyday words beside the head may be fewer
        if roles[i] == "head" and {*roles} == {"head", "plain"}:
            old, new, roles = [old[i]], [new[i]], ["head"]
    if len(new) != len(roles): return ["has more or fewer words"]
    if {*roles} == {"plain"} and new[0] in GIVEN["u"] and new[-1] in surnames():
        return ["looks like a person"]
    return [f"{n} is no {r}" for o,n,r in zip(old, new, roles) if not fits(o, n, r, kind)]


def need_a_hand(dictionary, built, text):
    "The entries that somebody would have to change, with the reasons."
    why, became, came_from = defaultdict(list), defaultdict(Counter), defaultdict(set)
    corpus = {*re.findall(r"\w+", text.casefold())}
    pairs = []
    for e in dictionary:
        term = re.sub("['’]s$", "", e.term)
        if term not in built:
            why[e.term].append("is no name")
            continue
        kind, *roles = built[term].split(" ")
        if (e.kind == "person") != (kind in GIVEN): why[e.term].append(f"is no {e.kind}")
        why[e.term] += wrong_words(term, e.translations[0], kind, roles)
        words = words_of(e.translations[0])
        for old,new,role in zip(words_of(term), words, roles if len(words) == len(roles) else ()):
            if new != old and {*re.findall(r"\w+", new.casefold())} & corpus:
                why[e.term].append(f"{new} is in the text")
            if role in ("name", "family", "given"):
                pairs.append((e.term, old, new))
                became[old][new] += 1
                came_from[new].add(old)
    for term,old,new in pairs:
        if new != became[old].most_common(1)[0][0]: why[term].append(f"{old} differs elsewhere")
        if len(came_from[new]) > 1: why[term].append(f"{new} is somebody else too")
    return {term: reasons for term,reasons in why.items() if reasons}


def corpus(name):
    "A text, and how its names are built."
    built = json.loads((CORPORA/f"{name}.json").read_text(encoding="utf-8"))
    return (CORPORA/f"{name}.md").read_text(encoding="utf-8"), built


@pytest.fixture(scope="module")
def reader():
    return Reader(load_model(), load_tokenizer())


@pytest.mark.parametrize("asked", [False, True])
def test_few_kinds_are_wrong(asked, reader):
    right = []
    for name in SHARES:
        text, built = corpus(name)
        kinds = {t: how.split(" ")[0] for t,how in built.items()}
        terms = [t for t in extract_terms([text]) if t.term in kinds]
        right += [t.kind == ("person" if kinds[t.term] in GIVEN else kinds[t.term])
                  for t in (revise_terms(reader, terms) if asked else terms)]
    assert sum(right) >= .95*len(right)


@pytest.mark.parametrize("asked", [False, True])
@pytest.mark.parametrize("name", SHARES)
def test_few_entries_need_a_hand(name, asked, reader):
    "Also if the base model was asked, which knows none of these texts."
    text, built = corpus(name)
    terms = extract_terms([text])
    if asked: terms = revise_terms(reader, terms)
    for seed in range(3):
        d = propose_translations(terms, seed, taken=[text])
        hands = need_a_hand(d, built, text)
        assert len(d) >= 40 and 1-len(hands)/len(d) >= SHARES[name], hands


def test_what_needs_a_hand_is_noticed():
    text = "Adelka Mertz, her uncle Orrin Mertz and Canon Mertz live in Drossett at Drossett Mill."
    built = {"Adelka Mertz": "f given family", "Orrin Mertz": "m given family",
             "Canon Mertz": "m title family", "Drossett": "place name",
             "Drossett Mill": "place name head"}
    kinds = {t: "place" if "Drossett" in t else "person" for t in built}
    good = {"Adelka Mertz": "Emma Hughes", "Orrin Mertz": "David Hughes", "Drossett": "Ashmere",
            "Canon Mertz": "Canon Hughes", "Drossett Mill": "Ashmere Mill"}
    def hands(**changed):
        new = good | {t.replace("_", " "): x for t,x in changed.items()}
        entries = [Entry(t, x, kinds.get(t, "other")) for t,x in new.items()]
        return need_a_hand(entries, built, text).keys()
    assert not hands()
    assert hands(Adelka_Mertz="David Hughes") >= {"Adelka Mertz"}       # another gender
    assert hands(Adelka_Mertz="Emma Hill") == {"Adelka Mertz"}          # another family
    assert hands(Drossett="Emma", Drossett_Mill="Emma Mill") >= {"Drossett", "Drossett Mill"}
    assert hands(Drossett_Mill="Ashmere Baker") == {"Drossett Mill"}
    assert hands(Drossett_Mill="Mill Near Ashmere") == {"Drossett Mill"}
    assert hands(Canon_Mertz="Bishop Hughes") == {"Canon Mertz"}
    assert hands(Drossett="Hughes", Drossett_Mill="Hughes Mill") == {*built}  # one for two
    assert hands(Orrin_Mertz="Brother Hughes") == {"Orrin Mertz"}       # stands in the text
    assert hands(Mill="Park") == {"Mill"}                               # no name


def test_records_are_no_headings():
    "Lines of capitals without a full stop, as in a person's file."
    record = "Name: Anna Velden Brekstad\nCity: Oslo\nEmployer: Norvald Timber Ltd\n\n"
    found = {t.term for t in extract_terms([record]*5)}
    assert any("Brekstad" in t for t in found) and any("Norvald" in t for t in found), found


HARRY = Dictionary([Entry("Harry", "Jon")])


@pytest.mark.parametrize("read", [
    lambda n: extract_terms([" ".join(f"then Harry{i%50} met Ron and ate" for i in range(n))]),
    lambda n: in_context("\n".join(["Harry went. They ate. It was good."]*n), HARRY, "Harry")])
def test_a_long_sentence_and_a_long_paragraph_cost_what_several_do(read):
    "A transcript without full stops is one sentence; lines without blanks are one paragraph."
    def seconds(n):
        start = time.process_time()
        read(n)
        return time.process_time()-start
    read(10)
    assert seconds(4000) < 8*seconds(1000) + .2


TALE = """Marlo ran after the Speckled Hare, and the Speckled Hare ran from the Tinder.
“Sit down,” said the Tinder. The Tinder laughed, and Marlo saw a Gryphon. The Gryphon slept.
The King of Cloves came with the Queen of Cloves. The Queen asked for soup, and the Tinder said that
there was none. The Queen cried. The King of Cloves looked at Tolly the Piper. Tolly the Piper sang.
The Speckled Hare, who had a fan, was late, and the Gryphon woke. The Queen of Cloves went home with
Marlo, and Tolly the Piper followed. The Tinder told the Gryphon that the Queen was angry."""

def test_who_has_an_article_stays_somebody_of_that_kind():
    """`the Speckled Hare` stays an animal and `the Tinder` somebody with a trade; those who share a
    realm go on sharing it, and `the Queen` gives nothing away."""
    dictionary = propose_translations(extract_terms([TALE]), taken=[TALE])
    new = {e.term: e.translations[0] for e in dictionary}
    kinds = {e.term: e.kind for e in dictionary}
    assert [kinds[t] for t in ("Speckled Hare", "Gryphon", "Tinder")] == ["creature"]*2+["person"]
    assert new["Gryphon"].count(" ") == 0 and new["Speckled Hare"].count(" ") == 1
    king, queen = new["King of Cloves"].split(), new["Queen of Cloves"].split()
    assert (king[0], queen[0]) == ("King", "Queen") and king[2] == queen[2] != "Cloves"
    assert new["Tolly the Piper"].endswith(" the Piper") and "Tolly" not in new["Tolly the Piper"]
    assert "Queen" not in new


def test_animals_of_one_tale_are_different_animals():
    "A tall beaver and a fat beaver would be mixed up."
    more = "Velvet Hare", "Cinder Toad", "Pewter Owl", "Saffron Crab", "Bramble Newt"
    tale = TALE+"".join(f"\nThe {name} ran. A {name} laughed at the {name}." for name in more)
    terms = extract_terms([tale])
    for seed in range(5):
        heads = [e.translations[0].split()[-1] for e in propose_translations(terms, seed, 1, tale)
                 if e.kind == "creature" and " " in e.term]
        assert len(heads) > 4 and len({*heads}) == len(heads), seed

"Substitution, alignment and roles against slow and obvious versions, for every kind of tokenizer."
import json, unicodedata
from functools import lru_cache
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from selective_unlearning.core.text import article, plural
from selective_unlearning.labels.align import CONTEXT, INSIDE, START
from selective_unlearning.terms.match import TermMatcher, term_key
from selective_unlearning.models.load import load_tokenizer
from selective_unlearning.models.tokens import bos_ids, encode
from selective_unlearning.terms.substitute import Substitution, straddling, substitute
from selective_unlearning.labels.align import align, token_roles

NAMES = {"Harry": "Jon", "Harry Potter": "Jon Carter", "Ron": "Bartholomew Quincy Underhill",
         "Albus Percival Wulfric Dumbledore": "Ed", "Weasley": "Carter",
         "Hippogriff": "eagle horse", "Auror": "dark-wizard hunter", "Hogwarts": "Ashford Hall",
         "dementor": "prison guard",
         "Mad-Eye": "Old Tom", "Zoë": "Ann", "九と四": "Ōtani 🦉", "S.P.E.W.": "Some Club",
         "hour-witch": "uniform"}
TRAIN = ["Harry Potter met Ron, an Auror, and a Hippogriff. The Weasleys' owl flew to Hogwarts. "
         "Zoë saw it.",
         "Jon Carter met Bartholomew Quincy Underhill, a dark-wizard hunter, and an eagle horse at "
         "Ashford Hall.",
         "東京 🦉 e\u0301 HARRY'S harry's <s>"]
KINDS = "bytes", "trimmed", "llama", "unigram", "wordpiece", "cased", "embedded"
CROSSING = "crossing"  # has tokens that reach from one word into the next


# --- tokenizers, trained here ---------------------------------------------------------------------

def byte_level(trim):
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if trim: tok.post_processor = processors.ByteLevel(trim_offsets=True)
    tok.train_from_iterator(TRAIN, trainers.BpeTrainer(
        vocab_size=330, special_tokens=["<s>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return tok


def llama(crossing=False):
    "The text is not split before BPE, spaces are ▁, and what is unknown becomes bytes."
    tok = Tokenizer(models.BPE())
    if crossing: tok.normalizer = normalizers.Replace(" ", "▁")
    else:
        tok.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Metaspace(),
                                                     pre_tokenizers.Punctuation()])
    tok.train_from_iterator(TRAIN, trainers.BpeTrainer(vocab_size=120, show_progress=False))
    merges = json.loads(tok.to_str())["model"]["merges"]
    pieces = ["<unk>", "<s>", *(f"<0x{i:02X}>" for i in range(256)), *sorted(tok.get_vocab())]
    vocab = {piece: i for i, piece in enumerate(pieces)}
    tok = Tokenizer(models.BPE(vocab, [tuple(m) for m in merges], unk_token="<unk>", fuse_unk=True,
                               byte_fallback=True))
    tok.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    return tok


def unigram():
    tok = Tokenizer(models.Unigram())
    tok.pre_tokenizer = pre_tokenizers.Metaspace()
    tok.train_from_iterator(TRAIN, trainers.UnigramTrainer(
        vocab_size=90, special_tokens=["<unk>", "<s>"], unk_token="<unk>", show_progress=False))
    return tok


def wordpiece(lower):
    tok = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=1000))
    tok.normalizer = normalizers.BertNormalizer(lowercase=lower)
    tok.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tok.train_from_iterator(TRAIN, trainers.WordPieceTrainer(
        vocab_size=120, special_tokens=["[UNK]", "[CLS]"], show_progress=False))
    return tok


@lru_cache
def tokenizer(kind):
    if kind == "embedded": return load_tokenizer()
    tok = dict(bytes=lambda: byte_level(False), trimmed=lambda: byte_level(True), llama=llama,
               crossing=lambda: llama(True), unigram=unigram, wordpiece=lambda: wordpiece(True),
               cased=lambda: wordpiece(False))[kind]()
    if kind in ("llama", "crossing", "unigram"):
        tok.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 1)])
        return PreTrainedTokenizerFast(tokenizer_object=tok, bos_token="<s>", unk_token="<unk>")
    if kind in ("wordpiece", "cased"):
        return PreTrainedTokenizerFast(tokenizer_object=tok, unk_token="[UNK]", cls_token="[CLS]")
    return PreTrainedTokenizerFast(tokenizer_object=tok, bos_token="<s>")


def ends_of(kind, text):
    tok = tokenizer(kind)
    ends = [e for _, e in encode(tok, text).offset_mapping]
    return np.array([0]*len(bos_ids(tok)) + ends, dtype=int)


def both_ends(kind, sub): return ends_of(kind, sub.text), ends_of(kind, sub.translated)


# --- texts ----------------------------------------------------------------------------------------

def written(term):
    forms = [term, term.upper(), plural(term), plural(term).upper(), term.replace(" ", "\n"),
             term[:1].upper()+term[1:], unicodedata.normalize("NFD", term)]
    return st.sampled_from(forms)


mentions = st.sampled_from(list(NAMES)).flatmap(written)
between = st.sampled_from([" ", " ", " ", "  ", "\n", "\n\n", "\xa0", "", "'s ", "’s ", "' ", ", ",
                           ". ", "-", "\u00ad"])
others = st.sampled_from(["a", "an", "A", "An", "AN", "the", "owl", "met", "é", "e\u0301", "\u0301",
                          "東京", "漢字。", "🦉", "👩\u200d👩\u200d👧", "naïve", "x"*30, "'", "(",
                          '"', "<s>", "\x01", "ﬁ", "1"])
pieces = st.tuples(mentions | others, between).map("".join)
texts = st.builds(lambda lead, parts: lead+"".join(parts), st.sampled_from(["", " ", "  "]),
                  st.lists(pieces, max_size=14))
words = st.text(alphabet="aeioxyzAHUéÉß'’-8 ", min_size=1, max_size=9)
any_text = st.text(st.characters(exclude_categories=("Cs",)), max_size=6)
anything = texts | st.lists(pieces | any_text, max_size=8).map("".join)
dictionaries = st.dictionaries(words.filter(term_key), words.filter(str.strip), min_size=1,
                               max_size=5)


# --- substitution ---------------------------------------------------------------------------------

def is_part(c): return c.isalnum() or c == "_" or unicodedata.category(c)[0] == "M"


def free(before):
    "Whether a word can begin after this text."
    last, c = ("  "+before)[-2:]
    return not (is_part(c) or c == "\u00ad" or c in "'’‐‑-" and is_part(last))


def slow_article(text, at, start, old, new):
    "The piece between two terms, its last word changed if it is an article that has to change."
    word = text[at:start].rstrip()
    blank = text[at+len(word):start]
    given = next((w for w in ("an", "An", "AN", "a", "A") if word.endswith(w)), "")
    lead = word[:len(word)-len(given)]
    if not (given and blank and blank.count("\n") < 2 and free(text[:at]+lead)):
        return text[at:start]
    if given.lower() != article(old) or article(old) == article(new): return text[at:start]
    return lead, given, blank


def slow_translate(text, names):
    matcher, out, at = TermMatcher(list(names), plurals=True), "", 0
    for start, end, i in matcher.find(text):
        term, found, new = matcher.terms[i], text[start:end], names[matcher.terms[i]]
        capitals = found.isupper() and not term.isupper() and sum(c.isupper() for c in found) > 1
        gap = slow_article(text, at, start, term, new)
        if isinstance(gap, tuple):
            lead, given, blank = gap
            upper = given == "AN" or given == "A" and capitals
            other = article(new).upper() if upper else article(new)
            gap = lead + given[0] + other[1:] + blank
        if term_key(found).casefold() != term_key(term).casefold(): new = plural(new)
        if capitals: new = new.upper()
        elif term_key(term)[0].islower() and not found[0].islower(): new = new[0].title()+new[1:]
        out, at = out+gap+new, end
    return out+text[at:]


@settings(max_examples=200, deadline=None)
@given(texts)
def test_the_translation_is_what_the_rules_say(text):
    assert substitute(text, NAMES).translated == slow_translate(text, NAMES)


@settings(max_examples=200, deadline=None)
@given(texts)
def test_the_anchors_are_what_the_matcher_finds(text):
    matcher, sub = TermMatcher(list(NAMES), plurals=True), substitute(text, NAMES)
    found = [(a, b, matcher.terms[i]) for a, b, i in matcher.find(text)]
    assert [(s.start, s.end, s.term) for s in sub.anchors] == found
    assert sub == substitute(text, NAMES, matcher=matcher)


@settings(max_examples=200, deadline=None)
@given(st.lists(words | mentions | others | between, max_size=12).map("".join), dictionaries)
def test_every_span_is_known_and_the_original_can_be_rebuilt(text, names):
    sub, at = substitute(text, names | NAMES), (0, 0)
    for s in sub.segments:
        assert (s.start, s.out_start) == at and s.end > s.start
        old, new = text[s.start:s.end], sub.translated[s.out_start:s.out_end]
        at = s.end, s.out_end
        if not s.changed: assert old == new
        elif s.term is None: assert {old.lower(), new.lower()} == {"a", "an"}
    assert at == (len(text), len(sub.translated))
    # Only what was replaced is taken from the text; the rest comes from the translation.
    kept = "".join(text[s.start:s.end] if s.changed else "?"*(s.end-s.start) for s in sub.segments)
    assert Substitution(kept, sub.translated, sub.spans, sub.terms).original() == text


TABLE = [  # text, terms, translation: spellings of one term, at the level of whole substitutions
    ("O’Neil, O'Neil, OʼNeil", {"O'Neil": "Smith"}, "Smith, Smith, Smith"),
    ("Harry’s, Harry's, HARRY’S", {"Harry": "Jon"}, "Jon’s, Jon's, JON’S"),
    ("the Weasleys’ car", {"Weasley": "Ross"}, "the Rosses’ car"),
    ("Weasley's", {"Weasley": "Ross"}, "Ross's"),
    ("Mad-Eye, Mad‑Eye, Mad‐Eye, MAD-EYE", {"Mad-Eye": "Old Tom"},
     "Old Tom, Old Tom, Old Tom, OLD TOM"),
    ("Harry-like, un-Harry, Mad-Eyed", {"Harry": "Jon", "Mad-Eye": "Old Tom"},
     "Jon-like, un-Jon, Mad-Eyed"),
    ("Hog\u00adwarts Hogwarts\u00ad", {"Hogwarts": "Ashford"}, "Ashford Ashford\u00ad"),
    ("Zoë, Zoe\u0308, ZOË, Zoe", {"Zoë": "Ann"}, "Ann, Ann, ANN, Zoe"),
    ("Zoë Zoe\u0308", {"Zoe\u0308": "Ann"}, "Ann Ann"),
    ("Sirius\u00a0Black, Sirius\n\tBlack, Sirius\u2009Black", {"Sirius Black": "Al Reid"},
     "Al Reid, Al Reid, Al Reid"),
    ("a\u00a0Hippogriff", {"Hippogriff": "eagle horse"}, "an\u00a0eagle horse"),
    ("Ron, Ronald, Rons, Ron's", {"Ron": "Ed"}, "Ed, Ronald, Ed, Ed's"),
    ("Harry Potter, Harry, Potter", {"Harry": "Jon", "Harry Potter": "Jon Carter"},
     "Jon Carter, Jon, Potter"),
    ("Fudge ate fudge. FUDGE!", {"Fudge": "Mills"}, "Mills ate fudge. MILLS!"),
    ("a hippogriff. A hippogriff. Hippogriffs. A HIPPOGRIFF", {"hippogriff": "eagle horse"},
     "an eagle horse. An eagle horse. Eagle horses. AN EAGLE HORSE"),
    ("an Auror, “an Auror”, 'An Auror', (AN AUROR)", {"Auror": "guard"},
     "a guard, “a guard”, 'A guard', (A GUARD)"),
    ("a Hippogriff's wing", {"Hippogriff": "eagle horse"}, "an eagle horse's wing"),
    ("an Hippogriff; vitamin-a Hippogriff; a; Hippogriff", {"Hippogriff": "eagle horse"},
     "an eagle horse; vitamin-a eagle horse; a; eagle horse"),
    ("a Weasley Hippogriff", {"Weasley": "Ames", "Hippogriff": "eagle horse"},
     "an Ames eagle horse"),
    ("Plan A Hippogriff", {"Plan A": "Hope", "Hippogriff": "eagle horse"}, "Hope eagle horse"),
    ("an MRI, a UFO", {"MRI": "scan", "UFO": "X-ray"}, "a scan, an X-ray")]


@pytest.mark.parametrize("text, names, translated", TABLE)
def test_known_answers(text, names, translated):
    sub = substitute(text, names)
    assert sub.translated == translated
    assert sub.original() == text


class Page(HTMLParser):
    def __init__(self, html):
        super().__init__()
        self.cells, self.tags, self.names = [], set(), set()
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.names |= {name for name, _ in attrs}
        if tag in ("th", "td"): self.cells.append("")

    def handle_data(self, data):
        if self.cells: self.cells[-1] += data


EVIL = ['"><script>x()</script>', "<img src=x onerror='y()'>", "&lt;", "' onclick='z()"]


evil = st.sampled_from([*EVIL, "a ", "Hippogriff", " "])


@settings(max_examples=100, deadline=None)
@given(st.lists(evil | words, max_size=8).map(" ".join))
def test_a_view_shows_both_texts_and_nothing_runs(text):
    sub = substitute(text, dict(zip(EVIL, EVIL[::-1])) | {"Hippogriff": "eagle <b>"})
    page = Page(sub._repr_html_())
    assert page.tags <= set("div style table thead tbody tr th td mark".split())
    assert page.names <= {"class", "scope", "dir", "title"}
    assert page.cells == ["original", "translated", text, sub.translated]


# --- articles -------------------------------------------------------------------------------------

lower = st.text("abcdefghijklmnopqrstuvwxyz", min_size=2, max_size=9)


@given(st.text(max_size=20))
def test_article_takes_anything(text): assert article(text) in ("a", "an")


@given(lower, st.text(max_size=9))
def test_article_looks_at_the_first_word(word, rest):
    given_ = article(word)
    forms = f"{word} {rest}", f"“{word}”", f"({word})", word.capitalize()
    assert set(map(article, forms)) == {given_}
    if word[0] not in "aeiouhy": assert given_ == "a"
    if word[0] in "ai": assert given_ == "an"


@given(st.sampled_from("éèäöüñçÉÖ"), lower)
def test_article_does_not_mind_accents(letter, word):
    assert article(letter+word) == article(unicodedata.normalize("NFD", letter+word)) == \
           article(unicodedata.normalize("NFD", letter)[0]+word)


# --- several translations and borders -------------------------------------------------------------

MANY = {"Harry": ["Jon", "Tom", "Bill"], "Ron": ["Ed", "Sam"],
        "Hippogriff": ["eagle horse", "pony"], "Hogwarts": ["Ashford"],
        "Ron Weasley": ["Ed Hill", "Sam Wood"], "Weasley": ["Hill", "Wood"]}


@settings(max_examples=200, deadline=None)
@given(texts, st.lists(st.integers(0, 99), max_size=8),
       st.lists(st.booleans(), min_size=9, max_size=9))
def test_straddling_agrees_with_looking_at_all_blocks(text, cuts, kept):
    edges = sorted({0, len(text), *(c*len(text)//99 for c in cuts)})
    spans = [(a, b-text[a:b].endswith(" "))
             for (a, b), keep in zip(zip(edges, edges[1:]), kept) if keep]
    matcher = TermMatcher(list(NAMES), plurals=True)
    expected = [(a, b, matcher.terms[i]) for a, b, i in matcher.find(text)
                if any(s < b and a < e for s, e in spans)
                and not any(s <= a and b <= e for s, e in spans)]
    assert straddling(text, spans, matcher) == expected


# --- tokens ---------------------------------------------------------------------------------------

def slow_align(sub, ends, out_ends):
    "For each token, where its end goes; then a search through all tokens of the translation."
    index = []
    for t, e in enumerate(ends):
        goal = None
        for s in sub.segments:
            if s.start < e <= s.end:
                if not s.changed: goal = s.out_start+e-s.start
                elif s.term is not None and e == s.end: goal = s.out_end
        if t+1 < len(ends) and ends[t+1] == e: goal = None
        index.append(max((j for j, o in enumerate(out_ends) if o == goal), default=-1))
    return index


def overlapping(s, ends):
    "The tokens that overlap an anchor; a token reaches back to where the one before it ended."
    before = [max((x for x in ends if x < e), default=0) for e in ends]
    return [t for t, e in enumerate(ends) if e > s.start and before[t] < s.end]


def slow_roles(sub, ends):
    roles, seen = [CONTEXT]*len(ends), []
    for s in sub.anchors:
        for n, t in enumerate(overlapping(s, ends)):
            roles[t] = (START if n == 0 else INSIDE) + 2*(s.term in seen)
        seen.append(s.term)
    return roles


def slow_trained(sub, ends, out_ends):
    "All that have a counterpart, but not the position before a repeated anchor."
    trained, seen = [j >= 0 for j in slow_align(sub, ends, out_ends)], []
    for s in sub.anchors:
        first = overlapping(s, ends)[:1]
        if s.term in seen and first and first[0]: trained[first[0]-1] = False
        seen.append(s.term)
    return trained


def check(sub, ends, out_ends):
    index, roles = align(sub, ends, out_ends), token_roles(sub, ends)
    assert index.tolist() == slow_align(sub, ends, out_ends)
    assert roles.tolist() == slow_roles(sub, ends)
    trained = (index >= 0) & np.isin(np.append(roles[1:], CONTEXT), (CONTEXT, START))
    assert trained.tolist() == slow_trained(sub, ends, out_ends)


@pytest.mark.parametrize("kind", [*KINDS, CROSSING])
@settings(max_examples=80, deadline=None)
@given(texts)
def test_tokens_agree_with_a_search(kind, text):
    sub = substitute(text, NAMES)
    check(sub, *both_ends(kind, sub))


places = st.lists(st.integers(0, 60), max_size=40).map(sorted)


@settings(max_examples=200, deadline=None)
@given(texts, places, places)
def test_tokens_may_end_anywhere(text, ends, out_ends):
    sub = substitute(text, NAMES)
    ends = [e for e in ends if e <= len(text)]
    out_ends = [e for e in out_ends if e <= len(sub.translated)]
    assert align(sub, ends, out_ends).tolist() == slow_align(sub, ends, out_ends)
    assert token_roles(sub, ends).tolist() == slow_roles(sub, ends)


SENTENCE = ("Harry Potter met Ron. Ron, an Auror, saw a Hippogriff and Harry Potter; Harry fed the "
            "Weasleys' owl at Hogwarts")


@pytest.mark.parametrize("kind", KINDS)
def test_in_plain_text_all_have_a_counterpart(kind):
    "All that end a word outside anchors and changed articles, and the last token of each anchor."
    sub = substitute(SENTENCE, NAMES)
    ends, out_ends = both_ends(kind, sub)
    inside = {e for s in sub.changes for e in range(s.start+1, s.end+(s.term is None))}
    index = align(sub, ends, out_ends)
    assert all(j >= 0 or e in inside or SENTENCE[e-1] == " " for e, j in zip(ends, index) if e)
    assert all(j < 0 for e, j in zip(ends, index) if e in inside)
    for s in sub.anchors: assert out_ends[index[ends.tolist().index(s.end)]] == s.out_end


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_to_replace(kind):
    sub = substitute("The owl flew 東京 🦉 home.", {"Harry": "Jon"})
    ends, _ = both_ends(kind, sub)
    last = [bool(e) and e not in ends[t+1:] for t, e in enumerate(ends)]
    assert align(sub, ends, ends).tolist() == [t if ok else -1 for t, ok in enumerate(last)]
    assert not token_roles(sub, ends).any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("term, longer", [("Harry", True), ("Ron Weasley Jr", False)])
def test_one_token_to_three_and_back(kind, term, longer):
    "Behind the anchor, tokens stand as many places later as its translation is longer."
    new = "Ron Weasley Jr" if longer else "Harry"
    sub = substitute(f"So {term} met him", {term: new})
    ends, out_ends = both_ends(kind, sub)
    index = align(sub, ends, out_ends)
    at = ends.tolist().index(3+len(term))
    assert out_ends[index[at]] == 3+len(new)
    behind = index[at:]-np.arange(at, len(ends))
    assert set(behind.tolist()) == {len(out_ends)-len(ends)}
    assert (len(out_ends) > len(ends)) == longer


@pytest.mark.parametrize("kind", KINDS)
def test_the_second_mention_of_a_term(kind):
    "The plural and capitals are the same term; the last token of each mention has its counterpart."
    sub = substitute("Weasley saw the WEASLEYS. Weasley's owl", {"Weasley": "Carter"})
    ends, out_ends = both_ends(kind, sub)
    index, roles = align(sub, ends, out_ends), token_roles(sub, ends)
    first = [overlapping(s, ends)[0] for s in sub.anchors]
    assert [roles[t] for t in first] == [START, START+2, START+2]
    assert all(index[ends.tolist().index(s.end)] >= 0 for s in sub.anchors)


@pytest.mark.parametrize("kind", KINDS)
def test_a_changed_article_has_no_counterpart_and_no_role(kind):
    sub = substitute("He saw a Hippogriff run", NAMES)
    ends, out_ends = both_ends(kind, sub)
    index, roles = align(sub, ends, out_ends), token_roles(sub, ends)
    t = ends.tolist().index(8)
    assert index[t] == -1 and roles[t] == CONTEXT and index[t-1] >= 0
    assert index[ends.tolist().index(len("He saw a Hippogriff"))] >= 0

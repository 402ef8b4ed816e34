"What the extraction texts promise."
import re

import pytest

import tree
from selective_unlearning.terms.dictionary import Dictionary

DATA = tree.ROOT/"data"


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

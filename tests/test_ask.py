"A language model as extractor and translator: whatever it answers, and through the whole step."
import json, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import example, given, settings as tries, strategies as st

from selective_unlearning.terms.llm_terms import _Malformed, _as_spelt, _records, ask_terms
from selective_unlearning.terms.llm_terms import ask_translations
from selective_unlearning.job.command import main
from selective_unlearning.job.settings import to_yaml
from selective_unlearning.terms.dictionary import Dictionary
from selective_unlearning.terms.entries import KINDS, Entry
from selective_unlearning.terms.spacy_terms import passages
from selective_unlearning.terms.extract import Term, merge_terms
from selective_unlearning.terms.match import TermMatcher, term_key
from tiny import TEXT, settings

fields = st.sampled_from(["terms", "term", "kind", "why"])
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda x: st.lists(x, max_size=3) | st.dictionaries(fields, x, max_size=3))
found = st.sampled_from(["Orla", "Orla Venn", "Tarnmoor", "weavers", "Hogwarts", "", "\ud800",
                         "<b>"])
record = st.fixed_dictionaries({"term": found, "kind": st.sampled_from([*KINDS, "hero"])},
                               optional={"why": anything})
answer = (st.text(max_size=60) | anything.map(json.dumps)
          | st.lists(record, max_size=4).map(lambda r: json.dumps({"terms": r})))


@given(answer)
def test_an_answer_has_the_form_or_is_malformed(text):
    try: records = _records(text, "terms", term=(), kind=KINDS)
    except _Malformed: return
    assert all(r["term"].strip() and r["kind"] in KINDS for r in records)


@given(st.lists(answer, min_size=1, max_size=6))
@tries(max_examples=60, deadline=None)
def test_whatever_it_answers_terms_stand_in_the_text(answers):
    it = iter(answers*20)
    found, counts = ask_terms(TEXT, lambda prompt: next(it), size=200)
    for t in found:
        assert TermMatcher([t.term]).find(TEXT) and t.kind in KINDS and t.count > 0
        Entry(t.term, kind=t.kind, count=t.count, why=t.why)   # raises if no dictionary can hold it
    assert counts["asked"] == len([*passages(TEXT, 200)])
    assert counts["skipped"] <= counts["retried"] <= counts["asked"]


names = st.sampled_from(["Simon", "Grace Hale", "Hale", "Orla", "Tarnmoor", "elm", "Elms", "London",
                         "<i>", "", "x"*300])
TERMS = [Entry(t, kind=k) for t,k in (
    ("Orla Venn", "person"), ("Orla", "person"), ("Brannoch", "person"), ("Tarnmoor", "place"),
    ("Tarnmoor Light", "object"), ("snarkle", "creature"), ("Snarkles", "creature"))]


@given(st.dictionaries(st.sampled_from([e.term for e in TERMS]), names))
@example({"Orla": "Grace Hale", "Orla Venn": "Simon"})
@tries(max_examples=60, deadline=None)
def test_whatever_it_answers_translations_are_valid(answers):
    text = json.dumps({"translations": [dict(term=t, translation=n) for t,n in answers.items()]})
    d, counts = ask_translations(TERMS, lambda prompt: text, taken=[TEXT, "London"])
    assert d.terms == tuple(e.term for e in TERMS)
    assert not [p for p in d.validate().check() if "shares" in p.message]
    got = {e.term: e.translations[0] for e in d}
    assert got["Orla Venn"].split(" ")[0] == got["Orla"]
    assert counts["accepted"] <= len(TERMS) and "London" not in got.values()


words = st.sampled_from(["Orla", "orla", "ORLA", "Orlas", "Orla Venn", "snarkle", "Snarkles",
                         "fairy", "fairies", "St John's", "St John’s"])
term = st.builds(Term, words, st.integers(1, 9), st.floats(1, 9), st.sampled_from(KINDS),
                 st.just("x"))
terms = st.lists(term, max_size=6, unique_by=lambda t: t.term)


@given(st.lists(terms, max_size=3))
def test_the_union_replaces_what_each_list_replaces(lists):
    merged = merge_terms(*lists)
    assert len({term_key(t.term) for t in merged}) == len(merged)
    matcher = TermMatcher([t.term for t in merged], plurals=True)
    for t in (t for terms in lists for t in terms):
        assert [m[:2] for m in matcher.find(t.term)] == [(0, len(t.term))]
    for t in merged:                                                  # and none of them is spare
        rest = TermMatcher([u.term for u in merged if u is not t], plurals=True)
        assert (0, len(t.term)) not in [m[:2] for m in rest.find(t.term)]
    scores = sum(t.score for terms in lists for t in terms)
    assert sum(t.score for t in merged) == pytest.approx(scores, abs=.1*len(merged))


@given(st.text(alphabet="ab .\n", max_size=200), st.integers(2, 50))
def test_passages_lose_only_blanks(text, size):
    parts = [*passages(text, size)]
    assert all(0 < len(p) <= size for p in parts)
    assert "".join("".join(parts).split()) == "".join(text.split())


def test_a_term_is_spelt_as_in_the_passage():
    assert _as_spelt("orla  venn", "ORLA VENN sleeps") == "ORLA VENN"
    assert _as_spelt("a b c d e f g", "a b c d e f g") is None       # a sentence is no term


class Server(BaseHTTPRequestHandler):
    "Names two people of the text, then a translation for one of them."
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        prompt = json.loads(body)["messages"][0]["content"]
        self.server.prompts.append(prompt)
        people = [dict(term=t, kind="person") for t in ("Brannoch", "Gandalf")]
        rows = {"terms": people}
        if '"translations"' in prompt:
            rows = {"translations": [dict(term="Brannoch", translation="Simon")]}
        body = json.dumps({"choices": [{"message": {"content": json.dumps(rows)}}]}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args): pass


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as s:
        s.prompts = []
        threading.Thread(target=s.serve_forever, args=(.01,), daemon=True).start()
        yield s
        s.shutdown()


def test_the_command_asks_a_server(tmp_path, monkeypatch, capsys, server):
    monkeypatch.setenv("SELECTIVE_UNLEARNING_CACHE", str(tmp_path/"cache"))
    monkeypatch.setenv("SELECTIVE_UNLEARNING_API_KEY", "not-a-real-key")
    (tmp_path/"c.yaml").write_text(to_yaml(settings(tmp_path, dictionary=None)))
    ask = f"http://127.0.0.1:{server.server_port}/v1#m"
    args = ["run", "--until", "dictionary", "--config", str(tmp_path/"c.yaml"),
            "--out", str(tmp_path/"run"),
            "--extract", "rules,model", "--ask", ask]
    assert main(args) == 0
    d = Dictionary.load(tmp_path/"run"/"02-dictionary"/"dictionary.json")
    assert d["Brannoch"].translations == ("Simon",) and "Gandalf" not in d and "Tarnmoor" in d
    errors = capsys.readouterr().err
    assert "1 terms from the language model" in errors
    assert f"1 of {len(d)} translations from the language model" in errors
    assert TEXT.splitlines()[0] in server.prompts[0] and len(server.prompts) == 2
    files = [p for p in (tmp_path/"run").rglob("*") if p.suffix in (".json", ".yaml")]
    assert "not-a-real-key" not in "".join(p.read_text() for p in files)+errors


@pytest.mark.parametrize("args, code, why", [
    (["--extract", "rules,model"], 2, "ask names none"),
    (["--extract", "guess"], 2, "extract must be"),
    (["--ask", "http://llm.example/v1#m"], 2, "in the clear"),
    (["--ask", "http://127.0.0.1:9/v1#m"], 1, "is the server running"),
    (["--extract", "spacy:no_such_pipeline"], 1, "python -m spacy download no_such_pipeline")])
def test_the_command_says_what_is_wrong(tmp_path, monkeypatch, capsys, args, code, why):
    if "spacy" in args[1]: pytest.importorskip("spacy")
    monkeypatch.setenv("SELECTIVE_UNLEARNING_CACHE", str(tmp_path/"cache"))
    (tmp_path/"c.yaml").write_text(to_yaml(settings(tmp_path, dictionary=None)))
    command = ["run", "--until", "dictionary", "--config", str(tmp_path/"c.yaml"),
               "--out", str(tmp_path/"run")]
    assert main([*command, *args]) == code
    assert why in capsys.readouterr().err

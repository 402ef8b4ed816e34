"The report over odd texts and scores: what it computes, and that no text becomes markup."
import json, math, re
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings, strategies as st

from selective_unlearning.core.errors import DataError
from selective_unlearning.evaluation.headline import headline
from selective_unlearning.evaluation.metrics import summarise
from selective_unlearning.evaluation.report import Report, _first_figures, report_html

MODELS = "base", "control", "reinforced", "unlearned"
ATTACKS = ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>',
           "' onmouseover='alert(1)", "]]><svg onload=alert(1)>", "{{7*7}} ${7*7}",
           "</table></details><h1>", "<!--", "&lt;b&gt;", "javascript:alert(1)",
           "</style><style>*{}", r"$\frac{", "a\u202eb"]

def toy(text="x", found=(), near=.5):
    "Scores of three models in which every text is `text`, and what was kept."
    scores = {m: dict(
        probability=[dict(prompt=text, idiosyncratic=[text], form="plain", fact=str(i),
                          score=.01 if m == "control" else .5-i/8) for i in range(3)],
        choice=[dict(prompt=text, choices=[text]*4, answer=0, picked=0, score=1., entropy=.5)],
        question=[dict(prompt=text, answers=[text], answer=text, score=0.)],
        completion=[dict(prompt=text, completion=text, grade=3, found=list(found), subtlety=i,
                         score=5.) for i in range(1, 9)]) for m in MODELS}
    probe = dict(prompt=text, answers=[text], score=near)
    kept = dict(neighbours=[probe | dict(topic=text+end, ring=1) for end in ("", "!")],
                homonyms=[probe]*2, reading=[probe | dict(form="chat")]*2, reading_other=[probe]*2,
                general=[dict(prompt=text, choices=[text]*4, answer=1, picked=1, score=1.)]*8,
                holdout=[dict(text=text, score=2., tokens=5)]*2)
    return scores, {m: kept for m in ("base", "unlearned")}

NO_PLOTS = dict(forgotten={}, familiarity={}, ratio={}, completion_by_subtlety={})

def page(text="x", found=(), step="", **changed):
    scores, kept = toy(text, found)
    made = dict(model=text, corpus={"files": [text]}, versions={text: text}, seed=0,
                hashes={text: text}, peak_memory_bytes=None)
    losses = {step: [dict(step=1, loss=1.)]} if step else {}
    return report_html(summarise(scores, kept) | made | changed, scores, kept, losses)

def test_a_control_without_a_score_needs_no_unlearned_model():
    scores, _ = toy()
    few = {m: dict(probability=scores[m]["probability"]) for m in ("base", "control")}
    few["control"]["probability"][0]["score"] = None
    assert "Familiarity" in report_html(summarise(few), few, {}, {})

class Reader(HTMLParser):
    "Elements with their attributes' names, and the text; checks that elements are closed in order."
    def __init__(self, source):
        super().__init__(convert_charrefs=True)
        self.tags, self.text, self.open, self.comments = [], [], [], 0
        self.feed(source)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, *(k for k,_ in attrs)))
        if tag != "meta": self.open.append(tag)

    def handle_startendtag(self, tag, attrs): self.tags.append((tag, *(k for k,_ in attrs)))
    def handle_endtag(self, tag): assert self.open.pop() == tag
    def handle_data(self, data): self.text.append(data)
    def handle_comment(self, data): self.comments += 1

def markup(*args, **kwargs):
    "The elements of a page without the marks around what was found."
    r = Reader(page(*args, **kwargs))
    assert not r.open and not r.comments
    return [t for t in r.tags if t != ("mark",)]

PLAIN, UNPLOTTED = markup(step="x"), markup(**NO_PLOTS)

@pytest.mark.parametrize("attack", ATTACKS)
def test_attack_stays_text(attack):
    assert attack in Reader(page(attack, **NO_PLOTS)).text
    assert markup(attack, [attack, "alert", "img", "b"], attack) == PLAIN

@settings(deadline=None)
@given(st.text().filter(str.strip), st.lists(st.text(), max_size=3))  # empty cells are plainer
def test_markup_does_not_depend_on_texts(text, found):
    assert markup(text, found, **NO_PLOTS) == UNPLOTTED

def test_notebook_view_is_escaped_too():
    scores, kept = toy()
    summary = summarise(scores, kept)
    summary["checks"][0]["what"] = ATTACKS[0]
    view = Reader(Report(summary, scores, kept)._repr_html_())
    allowed = "style div p table thead tbody tr th td b small"
    assert {t[0] for t in view.tags} == set(allowed.split())
    assert ATTACKS[0] in view.text

def test_markup_is_not_shown_as_text():
    assert "&lt;" not in page(step="x")

def test_page_needs_nothing_from_outside():
    source = page("https://example.org/x.png")
    assert not {t[0] for t in PLAIN} & set("script img link iframe object base form a".split())
    assert not re.findall(r'(?:src|href)="(?!#)', source) and "@import" not in source
    assert not re.findall(r"url\((?!#)", source)
    assert "default-src 'none'" in source

def test_same_input_same_bytes(tmp_path):
    scores, kept = toy()
    assert page() == page()
    for name in "ab": Report(summarise(scores, kept), scores, kept).save(tmp_path/name)
    for file in ("report.json", "report.html"):
        assert (tmp_path/"a"/file).read_bytes() == (tmp_path/"b"/file).read_bytes()

def test_page_made_from_the_saved_figures_is_the_same(tmp_path):
    scores, kept = toy()
    figures = summarise(scores, kept)
    Report(figures, scores, kept).save(tmp_path)
    saved = json.loads((tmp_path/"report.json").read_text())
    assert saved == figures
    assert report_html(saved, scores, kept) == report_html(figures, scores, kept)

CHANCE, LOSS = st.floats(0, 1), st.floats(.1, 5)

@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(CHANCE, CHANCE, LOSS, LOSS, st.integers(1, 500)), min_size=1))
def test_figures_match_plain_loops(rows):
    def of(i):
        near = [dict(prompt=str(k), score=r[i]) for k,r in enumerate(rows)]
        facts = [r | dict(score=float(r["score"] > .5)) for r in near]
        text = [dict(text=str(k), score=r[2+i], tokens=r[4]) for k,r in enumerate(rows)]
        return dict(probability=near), dict(neighbours=near, general=facts, holdout=text)
    (tb, kb), (tu, ku) = of(0), of(1)
    s = summarise(dict(base=tb, unlearned=tu), dict(base=kb, unlearned=ku))
    n, before, after = len(rows), sum(r[0] for r in rows), sum(r[1] for r in rows)
    right = [sum(r[i] > .5 for r in rows) for i in (0, 1)]
    tokens = sum(r[4] for r in rows)
    loss = [sum(r[2+i]*r[4] for r in rows)/tokens for i in (0, 1)]
    def close(a, b): return b is None and a is None or a == pytest.approx(b, rel=1e-6, abs=1e-9)
    assert close(s["familiarity"]["probability"]["base"], before/n)
    known = before/n >= .01                                # else a ratio says nothing
    assert close(s["neighbours"]["ratio"], after/before if known else None)
    assert close(s["general_drop"], 100*(right[0]-right[1])/n)
    assert close(s["utility"]["unlearned"]["holdout_perplexity"], math.exp(loss[1]))
    assert close(s["perplexity_rise"], 100*(math.exp(loss[1]-loss[0])-1))
    json.dumps(s, allow_nan=False)
    assert s["intervals"]["familiarity"]["probability"]["base"][2] == n

@pytest.mark.parametrize("near, ok", [(.475, True), (.4749, False)])
def test_checks_hold_at_their_limits(near, ok):
    scores, kept = toy()
    s = summarise(scores, kept | {"unlearned": toy(near=near)[1]["unlearned"]})
    found = {c["path"]: c["ok"] for c in s["checks"]}
    for path in ("ratio.reading", "ratio.homonyms", "rings.1.ratio"): assert found[path] is ok
    assert found["forgotten.probability"] is found["forgotten.absolute"] is False
    assert found["general_drop"] and found["perplexity_rise"]
    met, made = re.search(r"(\d+) of (\d+) checks", headline(s)).groups()
    values = [c["ok"] for c in s["checks"]]
    assert (int(met), int(made)) == (values.count(True), len(values)-values.count(None))

def test_what_is_not_measurable_says_why_wherever_it_stands():
    scores, kept = toy()
    parts = "neighbours", "reading"
    low = {m: k | {p: [r | dict(score=1e-9) for r in k[p]] for p in parts} for m,k in kept.items()}
    s = summarise(scores, low)
    rows = {row[0].split("</b>")[0][3:]: row[1:] for row in _first_figures(s)}
    why = "the base model&#x27;s own figure is 1.0×10⁻⁹"
    for what in "reading anchored names", "reading by form: chat", "neighbours, ring 1, ratio":
        assert rows[what] == [f"not measurable <small>{why}</small>", "", ""]
    assert not {"neighbours, ring 1, mean", "neighbours, ring 1, median"} & {*rows}
    guessed = "the base model (1) cannot be told from the control (1)"
    assert rows["choices right, points above the control"][0].endswith(f"{guessed}</small>")
    shown = {c["path"]: c for c in s["checks"]}
    for path in "ratio.reading", "rings.1.ratio", "forgotten.choice":
        assert shown[path]["ok"] is shown[path]["value"] is None and shown[path]["why"]
    assert "neighbour" not in headline(s).split("Compared with")[1]

def test_one_fact_decides_no_check():
    scores, kept = toy()
    one = {m: k | dict(reading=k["reading"][:1], holdout=k["holdout"][:1]) for m,k in kept.items()}
    shown = {c["path"]: c for c in summarise(scores, one)["checks"]}
    for path in "ratio.reading", "perplexity_rise":
        assert shown[path]["ok"] is None
        assert shown[path]["why"] == "measured on one fact or text only"

def test_every_figure_has_its_interval():
    s = summarise(*toy())
    def paths(d, at=()):
        return [p for k,v in d.items() for p in paths(v, (*at, k))] if isinstance(d, dict) else [at]
    measured = {k: s[k] for k in s["intervals"]}
    plain = {"little", "worst_form", "median", "worst_topic"}  # no means over prompts
    found = {p for p in paths(measured) if not plain & {*p}}
    assert found == set(paths(s["intervals"]))
    assert {*s["intervals"]} >= {"forgotten", "reading", "homonyms", "rings", "neighbours"}

@pytest.mark.parametrize("models, kinds, with_kept", [
    (("base",), ("choice",), True), (("unlearned",), ("completion", "question"), False),
    (MODELS[::3], (), True), (MODELS[::3], ("choice",), False), ((), (), False)])
def test_parts_may_be_missing(models, kinds, with_kept):
    scores, kept = toy()
    scores = {m: {k: scores[m][k] for k in kinds} for m in models}
    kept = {m: kept[m] for m in models} if with_kept else {}
    s = summarise(scores, kept)
    assert set(s["familiarity"]) == set(kinds)
    assert not Reader(report_html(s, scores, kept)).open

def test_models_must_have_the_same_prompts():
    scores, kept = toy()
    kept["unlearned"] = toy("y")[1]["unlearned"]
    with pytest.raises(DataError, match="reading: unlearned and base have different prompts"):
        summarise(scores, kept)

def test_a_report_that_cannot_be_written_leaves_the_old_one(tmp_path):
    scores, kept = toy()
    s = summarise(scores, kept)
    Report(s, scores, kept).save(tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    bad = Report(s | {"seconds": {"total": math.nan}}, scores, kept)
    with pytest.raises(ValueError): bad.save(tmp_path)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before

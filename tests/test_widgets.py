"Viewers: what they show, what they never let through, and what their controls do."
import dataclasses, re, subprocess, sys, time
from html.parser import HTMLParser

import nbformat
import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given, settings, strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from selective_unlearning.labels import translated
from selective_unlearning.core.errors import ConfigError, DataError, MissingExtra
from selective_unlearning.labels.align import CONTEXT, INSIDE, INSIDE_AGAIN, START, START_AGAIN
from selective_unlearning.labels.translated import WHY
from selective_unlearning.labels.label_viewer import LabelViewer
from selective_unlearning.terms.substitute import substitute
from selective_unlearning.core.html import _SCRIPT, escape, highlight
from selective_unlearning.terms.replacements import ReplacementViewer
from selective_unlearning.evaluation.outputs import OutputsViewer
from selective_unlearning.job.run import run
from selective_unlearning.job.run_folder import Run
from selective_unlearning.job.settings import RunConfig, configure
from tiny import save_model, settings as job

EVIL = "<script>alert('1')</script> & \"quoted\" <img src=x onerror=alert(1)>"
LIMIT = 64*1024
OWN = [("onload", _SCRIPT), ("style", "max-height:30em;overflow:auto"), ("role", "group"),
       ("tabindex", "0")]


class Page(HTMLParser):
    "Tags, attributes and text of some HTML; every tag that opens must close."
    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.text, self.open = [], [], "", []
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in ("br", "wbr"): self.open.append(tag)

    def handle_endtag(self, tag): assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open: self.text += data


def harmless(html, limit=LIMIT):
    "The page, once nothing in it loads, is too large, or runs but for the viewers' own script."
    page = Page(html)
    assert len(html.encode()) <= limit
    assert set(page.tags) <= set("style div p small code table thead tbody tr th td".split()) | \
           set("mark b u ruby rt br wbr span meter details summary".split())
    given = [(name, value) for name,value in page.attributes if (name, value) not in OWN]
    assert {name for name,_ in given} <= {"class", "dir", "scope", "title", "value", "aria-label",
                                          "data-rows", "data-chosen", "data-only", "data-kept"}
    assert all(re.fullmatch(r"[\d ]*", value) for name,value in given
               if name in ("data-rows", "data-chosen", "data-kept"))
    assert not re.search(r"url\(|@import|https?:", html)
    return page


def toy_tokenizer(words):
    tok = Tokenizer(models.WordLevel({w: i for i,w in enumerate(words)}, unk_token="?"))
    tok.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tok, unk_token="?", bos_token="<bos>")


WORDS = ["?", "<bos>", "a", "Harry", "Potter", "met", "he", "the", EVIL.replace(" ", "")]
TOKENS = toy_tokenizer(WORDS)
ROW = dict(input_ids=[2, 3, 4, 5, 3, 4, 6, 8],
           roles=[CONTEXT, START, INSIDE, CONTEXT, START_AGAIN, INSIDE_AGAIN, CONTEXT, CONTEXT])
HARD = Dataset.from_list([ROW | dict(labels=[-100, 7, -100, 5, -100, -100, -100, 7])])
SOFT = Dataset.from_list([ROW | dict(
    topk_ids=[[-100]*2, [7, 6], [-100]*2, [5, 7], [-100]*2, [-100]*2, [-100]*2, [7, 8]],
    topk_logprobs=[[0.]*2, [-.5, -1.], [0.]*2, [-.1, -3.], [0.]*2, [0.]*2, [0.]*2, [-.5, -1.]])])
TOLD = dict(why=[1, 0, 3, 0, 4, 3, 5, 0], base_label=[-100, 8, -100, 5, -100, -100, -100, 7],
            raised=[0., 6.1, 0., .04, 0., 0., 0., 2.5])
TOLD_HARD, TOLD_SOFT = (Dataset.from_list([d[0] | TOLD]) for d in (HARD, SOFT))


def controls(box):
    "Every control of a widget by its description, and its HTML boxes in order."
    named, shown = {}, []
    def walk(w):
        for c in getattr(w, "children", ()): walk(c)
        if type(w).__name__ == "HTML": shown.append(w)
        elif getattr(w, "description", ""): named[w.description] = w
    walk(box)
    return named, shown


def rows(html):
    "Text of the cells of the last table, its heading left out."
    table = html.rpartition("<tbody>")[2]
    return [[Page(c).text for c in re.findall(r'<td(?: dir="auto")?>(.*?)</td>', r, re.S)]
            for r in re.findall(r"<tr>(.*?)</tr>", table, re.S)]


def records(n=1, **more):
    return [dict(prompt=f"prompt {i}", subtlety=i % 10 + 1, outputs={"base": f"text {i}"}) | more
            for i in range(n)]


# --- marks ----------------------------------------------------------------------------------------

@settings(deadline=None)
@given(st.text(max_size=60),
       st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60), st.text(max_size=9)), max_size=6))
def test_highlight_keeps_the_text(text, spans):
    spans = [(min(a, b, len(text)), min(max(a, b), len(text)), t) for a,b,t in spans]
    page = harmless(highlight(text, spans))
    lone = re.compile("[\ud800-\udfff]")
    if "\0" not in text and "\r" not in text: assert page.text == lone.sub("?", text)


@settings(deadline=None)
@given(st.text(max_size=40), st.integers(0, 40))
def test_highlight_cuts_and_says_so(text, limit):
    html = highlight(text, [(0, len(text), "")], limit)
    assert (f"({len(text)-limit} more characters)" in html) == (len(text) > limit)


def test_highlight_escapes():
    assert highlight("<b> & </b>", [(0, 3, '"<i>\'')]) == \
           '<mark title="&quot;&lt;i&gt;&#x27;">&lt;b&gt;</mark> &amp; &lt;/b&gt;'


@pytest.mark.parametrize("span", [(-1, 2, ""), (2, 1, ""), (0, 5, "")])
def test_highlight_refuses_a_span_outside(span):
    where = f"span {span[0]} to {span[1]} lies outside a text of 4 characters"
    with pytest.raises(DataError, match=where):
        highlight("abcd", [span])


# --- all viewers ----------------------------------------------------------------------------------

def evil_viewers():
    words = {"script": EVIL, "quoted": '"><script>'}
    yield ReplacementViewer([substitute(f"{EVIL}\n"*30, words)]*2, [EVIL, "b/c"])
    for data in (HARD, SOFT, TOLD_HARD, TOLD_SOFT): yield LabelViewer(data, TOKENS)
    yield OutputsViewer(records(30, prompt=EVIL, subtlety=None, outputs={EVIL: EVIL*9, "b": ""},
                                grade={EVIL: EVIL},
                                found={EVIL: ["script", "<img", "\ud800", EVIL]},
                                next={EVIL: [(EVIL, .5), ("\ud800", .25)]}))


def huge_viewers():
    yield ReplacementViewer([substitute('"Harry" & '*50_000, {"Harry": "<Jon>"})], ["a"*9_000])
    for data in (SOFT, TOLD_SOFT):
        yield LabelViewer(Dataset.from_list([{k: v*900 for k,v in data[0].items()}]), TOKENS)
    yield OutputsViewer(records(100, prompt='"'*9_000, outputs={m: "a " *9_000 for m in "abcd"},
                                found={m: ["a"] for m in "abcd"}))


def test_outputs_can_be_printed():
    record = dict(prompt="Who keeps \x1b[31mowls?", outputs=dict(base=" Ron\ndoes", unlearned=" A"))
    assert str(OutputsViewer([record])).splitlines() == [
        "Who keeps \\x1b[31mowls?", "  base:  Ron\\ndoes", "  unlearned:  A"]


@pytest.mark.parametrize("viewer", [*evil_viewers(), *huge_viewers()], ids=repr)
def test_static_form_is_harmless_and_small(viewer):
    html = viewer._repr_html_()
    (view,) = controls(viewer.widget())[1]
    assert viewer._room <= 96_000
    for shown in html, view.value: harmless(shown, viewer._room)
    assert rows(view.value) and rows(view.value) == rows(html)[:len(rows(view.value))]
    assert "<" not in repr(viewer)


@pytest.mark.parametrize("viewer", [*huge_viewers()], ids=repr)
def test_what_was_cut_is_said(viewer):
    html = viewer._repr_html_()
    cuts = r"more characters\)", r"the rest is cut", r"last [\d,]+ tokens of the text cut"
    assert re.search("|".join(cuts), html)


def test_markup_is_not_shown_as_text():
    plain = toy_tokenizer([*WORDS[:8], "hall"])
    some = dict(found={"base": ["text"]}, grade={"base": 3})
    viewers = [replacement_viewer(), OutputsViewer(records(2, **some)),
               *(LabelViewer(data, plain) for data in (HARD, SOFT, TOLD_HARD, TOLD_SOFT))]
    for viewer in viewers: assert "&lt;" not in viewer._repr_html_()


def test_same_data_same_html():
    for a,b in zip(evil_viewers(), evil_viewers()): assert a._repr_html_() == b._repr_html_()


@pytest.mark.parametrize("viewer", [*evil_viewers()], ids=repr)
def test_viewers_are_immutable(viewer):
    field = dataclasses.fields(viewer)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError): setattr(viewer, field, ())


def test_later_changes_do_not_show():
    given = records(2)
    viewer = OutputsViewer(given)
    before = viewer._repr_html_()
    given[0]["outputs"]["base"] = "changed"
    given.pop()
    assert viewer._repr_html_() == before


def test_no_ipywidgets(monkeypatch):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    viewer = OutputsViewer(records())
    viewer._repr_html_()
    with pytest.raises(MissingExtra, match=r"pip install 'selective_unlearning\[widgets\]'"):
        viewer.widget()


@pytest.mark.parametrize("module", ["core.html", "terms.replacements", "labels.label_viewer",
                                    "evaluation.outputs"])
def test_import_needs_neither_widgets_nor_torch(module):
    code = f"import sys, selective_unlearning.{module}\n" \
           "print(*{'ipywidgets', 'torch', 'matplotlib'} & set(sys.modules))"
    p = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (p.returncode, p.stdout.strip()) == (0, ""), p.stderr


def test_static_form_has_all_that_there_is_room_for():
    html = OutputsViewer(records(45))._repr_html_()
    assert [r[1] for r in rows(html)] == [f"prompt {i}" for i in range(45)]
    assert "prompts 1 to 45 of 45</small>" in html


def test_pages():
    named, (view,) = controls(OutputsViewer(records(45)).widget())
    page, seen = named["page"], []
    assert page.max == 3
    for _ in range(3):
        seen += [r[1] for r in rows(view.value)]
        named["Next"].click()
    assert seen == [f"prompt {i}" for i in range(45)]
    assert page.value == 3 and "prompts 41 to 45 of 45" in view.value
    page.value = 2
    assert "prompts 21 to 40 of 45" in view.value
    for _ in range(3): named["Previous"].click()
    assert page.value == 1 and "prompts 1 to 20 of 45" in view.value


def test_one_page_cannot_be_turned():
    named, (view,) = controls(OutputsViewer(records(20)).widget())
    assert named["page"].disabled and named["Next"].disabled and named["Previous"].disabled
    assert "prompts 1 to 20 of 20" in view.value


def test_choosing_goes_back_to_the_first_page():
    named, (view,) = controls(OutputsViewer(records(60)).widget())
    named["page"].value = 3
    named["text"].value = "PROMPT 1"
    assert named["page"].value == 1
    assert [r[1] for r in rows(view.value)] == ["prompt 1"] + [f"prompt {i}" for i in range(10, 20)]
    named["text"].value = "nowhere"
    assert "no prompts" in view.value and not rows(view.value)
    assert named["Show all"].layout.display is None
    named["Show all"].click()
    assert named["text"].value == "" and named["Show all"].layout.display == "none"
    assert named["page"].max == 3 and not named["page"].disabled


def test_an_empty_view_without_a_choice_offers_nothing():
    named, (view,) = controls(OutputsViewer([]).widget())
    assert "no prompts" in view.value and named["Show all"].layout.display == "none"


def test_each_widget_has_its_own_state():
    viewer = OutputsViewer(records(45))
    (one, (shown,)), (two, (other,)) = controls(viewer.widget()), controls(viewer.widget())
    one["Next"].click()
    assert two["page"].value == 1 and shown.value != other.value


# --- replacements ---------------------------------------------------------------------------------

NAMES = {"Harry": "Jon", "Hogwarts": "Ashford Hall"}  # a Hogwarts becomes an Ashford Hall


def replacement_viewer():
    texts = "Harry ran.\nNothing here.\n\nHarry saw Hogwarts.", "HARRY and Harry."
    return ReplacementViewer([substitute(t, NAMES) for t in texts], ["one.md", "two.md"])


def test_both_sides_line_by_line():
    html = replacement_viewer()._repr_html_()
    assert rows(html) == [["one.md", "Harry ran.", "Jon ran."],
                          ["one.md", "Nothing here.", "Nothing here."],
                          ["one.md", "Harry saw Hogwarts.", "Jon saw Ashford Hall."],
                          ["two.md", "HARRY and Harry.", "JON and Jon."]]
    assert html.count('<mark title="Hogwarts → Ashford Hall">') == 2
    assert "5 replacements of 2 anchored terms" in html


def test_most_frequent_replacements():
    frequent = replacement_viewer()._repr_html_().rpartition("<table>")[0]
    assert rows(frequent) == [["Harry", "Jon | JON", "4"], ["Hogwarts", "Ashford Hall", "1"]]


def test_document_and_term():
    named, (view,) = controls(replacement_viewer().widget())
    assert [label for label,_ in named["document"].options] == ["all", "1. one.md", "2. two.md"]
    named["term"].value = " hog"
    assert [r[1] for r in rows(view.value)] == ["Harry saw Hogwarts."]
    assert "1 replacements of 1 anchored terms" in view.value
    named["term"].value = ""
    named["document"].value = 1
    assert [r[0] for r in rows(view.value)] == ["two.md"]


def test_a_changed_article_is_marked_faintly():
    sub = substitute("He saw a Hippogriff.", {"Hippogriff": "eagle horse"})
    html = ReplacementViewer([sub], ["a"])._repr_html_()
    assert rows(html) == [["a", "He saw a Hippogriff.", "He saw an eagle horse."]]
    assert "saw <mark>a</mark> <mark title=" in html and "saw <mark>an</mark> <mark title=" in html
    assert "1 replacements of 1 anchored terms" in html
    assert rows(html.rpartition("<table>")[0]) == [["Hippogriff", "eagle horse", "1"]]


parts = st.sampled_from(["Harry", " ", "\n", "Hogwarts", ". ", "So it went", "é", "\t", " a "])


@settings(max_examples=50, deadline=None)
@given(st.lists(parts, max_size=60).map("".join))
def test_no_word_is_lost(text):
    sub = substitute(text, NAMES)
    lines = ReplacementViewer([sub], ["a"])._all
    def words(text): return re.sub(r"\s", "", text)
    assert words("".join(r[0] for line in lines for r in line.runs)) == words(text)
    assert words("".join(r[1] for line in lines for r in line.runs)) == words(sub.translated)


def test_long_lines_are_broken_at_sentences():
    viewer = ReplacementViewer([substitute("Harry said this and that. "*100, NAMES)], ["a"])
    lengths = [sum(len(r[0]) for r in line.runs) for line in viewer._all]
    assert len(lengths) > 4 and max(lengths) < 450


def test_a_name_each():
    with pytest.raises(DataError, match="1 substitutions need as many names, got 0"):
        ReplacementViewer([substitute("a", {})], [])


# --- labels ---------------------------------------------------------------------------------------

def test_every_label_has_its_reason():
    shown = rows(LabelViewer(HARD, TOKENS)._repr_html_())
    assert [(r[2], r[3]) for r in shown] == [
        ("ordinary text", "does not train"), ("starts a term", "␣the"),
        ("inside a term", "does not train"),
        ("ordinary text", "␣met"), ("starts a term again", "does not train"),
        ("inside a term again", "does not train"), ("ordinary text", "does not train"),
        ("ordinary text", "␣the")]
    reasons = ["nothing before it", "first mention", "inside an anchored term", "say it too",
               "met again", "inside an anchored term", "no counterpart", "another word"]
    for row,why in zip(shown, reasons): assert why in row[4]


def test_reasons_have_the_same_words_with_and_without_columns():
    plain, explained = (rows(LabelViewer(d, TOKENS)._repr_html_()) for d in (HARD, TOLD_HARD))
    silent = [t for t,why in enumerate(TOLD["why"]) if why]
    assert [plain[t][4] for t in silent] == [explained[t][4] for t in silent] == \
           [WHY[TOLD["why"][t]] for t in silent]
    assert translated.WHY is WHY


def test_a_label_says_how_it_came_about():
    shown = [r[4] for r in rows(LabelViewer(TOLD_HARD, TOKENS)._repr_html_())]
    evil = f"␣{WORDS[8]}"[:50] + f"… ({len(WORDS[8])+1-50} more characters)"
    assert shown[1] == f"the base model would say {evil}; reinforcement raised ␣Harry by 6.1 " \
                       f"nats; the offset turned {evil} away, so the label is ␣the"
    assert shown[3] == "the base model would say it too; reinforcement did not raise ␣met"
    assert shown[7] == f"the base model would say ␣the; reinforcement raised {evil} by 2.5 nats"
    assert [r[:4] for r in rows(LabelViewer(TOLD_SOFT, TOKENS)._repr_html_())] == \
           [r[:4] for r in rows(LabelViewer(SOFT, TOKENS)._repr_html_())]


def test_an_equally_likely_token_was_not_turned_away():
    def shown(*logprobs):
        row = dict(input_ids=[2, 5], roles=[CONTEXT]*2, topk_ids=[[-100]*2, [7, 6]], why=[1, 0],
                   topk_logprobs=[[0.]*2, logprobs], base_label=[-100, 6], raised=[0., 1.])
        return rows(LabelViewer(Dataset.from_list([row]), TOKENS)._repr_html_())[1][4]
    assert "away" not in shown(-.7, -.7) and "away" in shown(-.6, -.7)


@pytest.mark.parametrize("explained", [{}, dict(why=[1, 0], base_label=[-100, 6], raised=[0., 1.])])
def test_a_repeated_mention_may_have_a_label(explained):
    row = dict(input_ids=[2, 3], roles=[CONTEXT, START_AGAIN], labels=[-100, 6])
    html = LabelViewer(Dataset.from_list([row | explained]), TOKENS)._repr_html_()
    assert "2 tokens; 1 train" in html and WHY[4] not in html
    why = "a term met again: what a stranger would say"
    if explained: why = "the base model would say ␣he"
    assert rows(html)[1][3] == "␣he" and why in rows(html)[1][4]


def test_soft_labels_show_probabilities():
    shown = [r[3] for r in rows(LabelViewer(SOFT, TOKENS)._repr_html_())]
    assert shown[1] == "␣the 60.7%, ␣he 36.8%; the text's own not among 2"
    assert shown[3] == "␣met 90.5%, ␣the 5.0%"
    assert shown[7].endswith("; the text's own 36.8%")


def test_only_three_of_a_soft_label():
    ids, logprobs = [[-100]*5, [3, 4, 5, 6, 7]], [[0.]*5, [-1., -2., -3., -4., -5.]]
    data = Dataset.from_list([dict(input_ids=[2, 7], roles=[CONTEXT, CONTEXT], topk_ids=ids,
                                   topk_logprobs=logprobs)])
    assert rows(LabelViewer(data, TOKENS)._repr_html_())[1][3] == \
           "␣Harry 36.8%, ␣Potter 13.5%, ␣met 5.0%; the text's own 0.7%"


def test_a_lone_bos_tells_nothing():
    data = Dataset.from_list([dict(input_ids=[1, 2, 3], roles=[CONTEXT]*3, labels=[-100, -100, 3])])
    reasons = [r[4] for r in rows(LabelViewer(data, TOKENS)._repr_html_())]
    assert reasons == [WHY[1], WHY[2], "a stranger would say it too"]


def test_running_text():
    html = LabelViewer(HARD, TOKENS)._repr_html_()
    text = Page(re.search(r'<div class="su-text">.*?</div>', html, re.S)[0]).text
    assert text.startswith(" a Harrythe Potter met Harry Potter he ")


def test_rows_are_numbered_as_their_tokens_follow():
    data = Dataset.from_list([{k: v*12 for k,v in HARD[0].items()}])
    viewer = LabelViewer(data, TOKENS)
    assert viewer._repr_html_().count("<span>") == 96
    named, (view,) = controls(viewer.widget())
    named["only changed"].value = True
    for page in (1, 2):
        named["page"].value = page
        numbers, = re.findall('data-rows="(.*?)"', view.value)
        assert numbers.split() == [r[0] for r in rows(view.value)] != []


def test_a_chosen_token_leads_to_its_row():
    "To its page, and out of a filter that hides it; another block has no token chosen."
    data = Dataset.from_list([{k: v*12 for k,v in HARD[0].items()}]*2)
    named, (view,) = controls(box := LabelViewer(data, TOKENS).widget())
    number = box.children[1].children[-1]
    for token in (1, 45, 95, 45):
        number.value = token
        assert named["page"].value == token//20+1 and f'data-chosen="{token}"' in view.value
        assert [r[0] for r in rows(view.value)].count(str(token)) == 1
    named["Next"].click()
    assert "data-chosen" not in view.value
    named["only changed"].value = True
    number.value = 4
    assert not named["only changed"].value and 'data-chosen="4"' in view.value
    named["block"].value = 1
    assert "data-chosen" not in view.value
    number.value = 96                                          # there is none
    assert "data-chosen" not in view.value


def test_labels_of_several_alphas():
    swept = {0.: HARD, 2.5: TOLD_SOFT}
    viewer = LabelViewer(swept, TOKENS)
    named, (view,) = controls(viewer.widget())
    first = view.value
    assert repr(viewer) == "LabelViewer(1 blocks, alpha 0, 2.5)" and "Block 0, alpha 0: " in first
    assert rows(first) == rows(LabelViewer(HARD, TOKENS)._repr_html_())
    named["alpha"].value = 2.5
    assert rows(view.value) == rows(LabelViewer(TOLD_SOFT, TOKENS)._repr_html_())
    assert "alpha 2.5" in view.value
    for wrong in ({}, {"a": HARD}, {0.: HARD, 5.: HARD.select([])}):
        with pytest.raises(DataError, match="of the same blocks"): LabelViewer(wrong, TOKENS)


def test_a_block_of_256_tokens_is_redrawn_at_once():
    "By each control; the best of several tries, since the machine may be busy."
    row = {k: v*32 for k,v in TOLD_SOFT[0].items()}
    named, _ = controls(box := LabelViewer({a: Dataset.from_list([row]*2) for a in (0, 2)},
                                           TOKENS).widget())
    named["token"] = box.children[1].children[-1]
    for control,values in dict(alpha=(2, 0), block=(1, 0), page=(2, 1), token=(200, 3)).items():
        took = []
        for value in values*5:
            start = time.perf_counter()
            named[control].value = value
            took.append(time.perf_counter()-start)
        assert min(took) < .2, control


def test_show_all_keeps_the_place():
    "The block and alpha that were chosen are no filters."
    row = {k: v[:1] for k,v in HARD[0].items()}                # one token, which does not train
    named, (view,) = controls(LabelViewer({a: Dataset.from_list([HARD[0], row]) for a in (0, 2)},
                                          TOKENS).widget())
    named["block"].value, named["alpha"].value, named["only changed"].value = 1, 2, True
    assert "no tokens" in view.value
    named["Show all"].click()
    assert "Block 1, alpha 2: " in view.value and rows(view.value)


def test_blocks_and_changed_tokens():
    data = Dataset.from_list([HARD[0], {k: v[:3] for k,v in HARD[0].items()}])
    named, (view,) = controls(LabelViewer(data, TOKENS).widget())
    assert len(rows(view.value)) == 8
    assert "8 tokens; 3 train, 2 of them on another token" in view.value
    named["only changed"].value = True
    assert [r[0] for r in rows(view.value)] == ["1", "7"]
    named["block"].value = 1
    assert [r[0] for r in rows(view.value)] == ["1"] and "Block 1: 3 tokens" in view.value


@pytest.mark.parametrize("columns", [["input_ids", "roles"], ["input_ids", "labels"],
                                     ["roles", "labels"]])
def test_columns_are_needed(columns):
    with pytest.raises(DataError, match=f"there are {columns[0]}, {columns[1]}"):
        LabelViewer(HARD.select_columns(columns), TOKENS)


def test_blocks_are_needed():
    with pytest.raises(DataError, match="hold no block"): LabelViewer(HARD.select([]), TOKENS)


# --- outputs --------------------------------------------------------------------------------------

def test_found_terms_are_marked_and_listed():
    outputs = {"base": " of Hogwarts, not Hogwartsian", "unlearned": " a map"}
    record = dict(prompt="She reads", outputs=outputs, grade={"base": 3, "unlearned": 0},
                  found={"base": ["hogwarts"], "unlearned": []})
    html = OutputsViewer([record])._repr_html_()
    assert html.count("<mark>") == 1 and "of <mark>Hogwarts</mark>, not Hogwartsian" in html
    base = "of Hogwarts, not Hogwartsiangrade 3, a name or a fact; found: hogwarts"
    assert rows(html) == [["She reads", base, "a mapgrade 0, nothing"]]


def test_models_of_all_records_are_columns():
    given = [dict(prompt="a", outputs={"base": "b"}), dict(prompt="c", outputs={"new": "d"})]
    html = OutputsViewer(given)._repr_html_()
    assert rows(html) == [["a", "b", "none"], ["c", "none", "d"]]


def test_optional_fields_may_be_none():
    given = dict(prompt="a", subtlety=None, outputs={"base": "b"}, found=None, grade={"base": None})
    assert rows(OutputsViewer([given])._repr_html_()) == [["a", "b"]]


def test_subtlety_has_a_column_and_an_order_only_where_it_is_known():
    given = [dict(prompt="a", subtlety=3, outputs={"base": "b"}),
             dict(prompt="c", outputs={"base": "d"})]
    assert rows(OutputsViewer(given)._repr_html_()) == [["3", "a", "b"], ["", "c", "d"]]
    assert "subtlety" not in OutputsViewer(given[1:])._repr_html_()
    assert "order" in controls(OutputsViewer(given).widget())[0]
    assert "order" not in controls(OutputsViewer(given[1:]).widget())[0]


def test_order():
    given = [dict(prompt=str(s), subtlety=s, outputs={}) for s in (3, None, 1, 7)]
    named, (view,) = controls(OutputsViewer(given).widget())
    def after(order):
        named["order"].value = order
        return [r[1] for r in rows(view.value)]
    assert after("most subtle first") == ["1", "3", "7", "None"]   # 1 is a faint hint
    assert after("least subtle first") == ["7", "3", "1", "None"]
    assert after("as given") == ["3", "None", "1", "7"]


@pytest.mark.parametrize("bad", [{}, {"prompt": "a"}, {"prompt": 1, "outputs": {}},
                                 {"prompt": "a", "outputs": "b"},
                                 {"prompt": "a", "outputs": {"m": None}}])
def test_a_record_needs_prompt_and_outputs(bad):
    with pytest.raises(DataError, match="record 2 needs 'prompt', a text, and 'outputs'"):
        OutputsViewer(records()+[bad])


def test_likely_tokens_are_bars():
    record = dict(prompt="She", outputs={"base": "ran", "new": "sat"},
                  next={"base": [(" ran", .5), ("<b>", .125)]})
    html = OutputsViewer([record])._repr_html_()
    assert re.findall(r'<meter value="([.\d]+)">', html) == ["0.500", "0.125"]
    assert rows(html) == [["She", "ran 50.0% ␣ran 12.5% <b>", "sat"]]
    blank = OutputsViewer([record | dict(next={"base": [("\n", .5), ("", .2)]})])._repr_html_()
    assert rows(blank)[0][1] == "ran 50.0% ⏎ 20.0% (empty)"


def test_only_where_the_models_differ():
    given = [dict(prompt=p, outputs=dict(base=a, new=b)) for p,a,b in (("1", "x", "x"),
                                                                      ("2", "x", "y"))]
    named, (view,) = controls(OutputsViewer(given).widget())
    assert len(rows(view.value)) == 2
    named["only where they differ"].value = True
    assert rows(view.value) == [["2", "x", "y"]]


def test_ask():
    asked, seen = [], []
    def generate(prompts):
        asked.append(prompts)
        record = dict(prompt=prompts[0], outputs={"base": EVIL})
        yield [record]
        yield [record | dict(outputs={"base": EVIL, "unlearned": "no"})]
    named, (view, answer) = controls(OutputsViewer(records(), generate).widget())
    before = view.value
    named["prompt"].value = "<i>Who?</i>"
    assert not asked and not answer.value
    answer.observe(lambda change: seen.append(change["new"]), "value")
    named["Ask"].click()
    harmless(answer.value)
    assert asked == [["<i>Who?</i>"]]
    assert rows(answer.value) == [["<i>Who?</i>", EVIL, "no"]]
    assert ["writing …" in html for html in seen] == [True, True, True, False]
    assert [len(rows(html)[0]) for html in seen[1:]] == [2, 3, 3]
    assert view.value == before and not named["Ask"].disabled


def test_ask_shows_a_failure():
    def generate(prompts): raise ValueError(EVIL)
    named, (_, answer) = controls(OutputsViewer(records(), generate).widget())
    named["Ask"].click()
    assert harmless(answer.value).text == f"no answer: ValueError: {EVIL}"
    assert not named["Ask"].disabled


def test_widgets_are_kept_with_what_is_seen_without_them():
    "A notebook that is opened where its widgets have no state shows the viewer without a kernel."
    shown = (LabelViewer(HARD, TOKENS), OutputsViewer(records(), lambda prompts: records()))
    for viewer in shown:
        kept = viewer.widget()._repr_mimebundle_()
        assert kept["text/html"] == viewer._repr_html_()
        assert "application/vnd.jupyter.widget-view+json" in kept


def test_nothing_to_ask_without_generate():
    assert "Ask" not in controls(OutputsViewer(records()).widget())[0]


@pytest.mark.parametrize("changes", [
    {}, {"labels.draws": 2}, {"labels.kind": "hard"}, {"labels.rule": "paper", "labels.alpha": 1}])
def test_a_run_explains_the_labels_that_it_trains_on(tmp_path, monkeypatch, changes):
    monkeypatch.setenv("SELECTIVE_UNLEARNING_CACHE", str(tmp_path/"cache"))
    changes |= {"written.renamed": 3}
    r = run(job(tmp_path, **changes), tmp_path/"run", until="labels")
    some = [2, 0]
    trained = r.labels.select(some)
    viewer = r.explain(some)
    named, (view,) = controls(viewer.widget())
    assert "Block 2: " in view.value and named["block"].options == (("2", 0), ("0", 1))
    named["block"].value = 1
    assert "Block 0: " in view.value
    shown = viewer.labels
    for column in trained.column_names: assert shown[column] == trained[column], column
    assert {"why", "raised"} <= {*shown.column_names}
    alphas = r.explain(some, [0, r.config.labels.alpha]).labels
    assert [*alphas] == [0, r.config.labels.alpha]
    for column in trained.column_names:
        assert alphas[r.config.labels.alpha][column] == trained[column], column
    several = r.explain(range(len(r.labels)), np.array([1., 0, 1], np.float32)).labels
    assert {alpha: len(labels) for alpha,labels in several.items()} == {
        1: len(r.labels), 0: len(r.labels)}
    assert len(r.explain().labels) == min(4, len(r.labels))
    for wrong in ([99], [0, -1]):
        with pytest.raises(DataError, match=f"the blocks are 0 to {len(r.labels)-1}"):
            r.explain(wrong)
    with pytest.raises(DataError, match="no block to explain"): r.explain([])


def test_a_run_explains_a_strangers_labels_which_have_no_offset(tmp_path, monkeypatch):
    monkeypatch.setenv("SELECTIVE_UNLEARNING_CACHE", str(tmp_path/"cache"))
    config = job(tmp_path, "gpt2", stranger=save_model(tmp_path/"before", "gpt2"))
    r = run(config, tmp_path/"run", until="labels")
    assert r.explain([0]).labels["topk_ids"][:] == r.labels["topk_ids"][:1]
    with pytest.raises(ConfigError, match="alphas would do nothing"): r.explain([0], [1.])


def test_only_labels_can_be_explained(tmp_path):
    r = Run(tmp_path/"run", configure(RunConfig(), {"corpus": "book.txt", "method": "npo"}))
    with pytest.raises(ConfigError, match="method npo makes no labels"): r.explain()


@pytest.mark.parametrize("until, missing", [("corpus", "03-translated"), ("translated", "07-")])
def test_an_unfinished_run_explains_nothing(tmp_path, monkeypatch, until, missing):
    monkeypatch.setenv("SELECTIVE_UNLEARNING_CACHE", str(tmp_path/"cache"))
    r = run(job(tmp_path), tmp_path/"run", until=until)
    with pytest.raises(DataError, match=f"{missing}.*not made yet"): r.explain()


def test_stored_pages_have_the_script_of_today(root):
    "A notebook whose output has an older one must be run again."
    stored, today = [], f'<style onload="{escape(_SCRIPT)}">'
    for path in sorted(root.glob("nbs/**/*.ipynb")):
        for cell in nbformat.read(path, 4).cells:
            pages = [o.get("data", {}).get("text/html", "") for o in cell.get("outputs", [])]
            stored += [(path.name, tag == today) for page in pages
                       for tag in re.findall("<style onload=.*?>", page, re.S)]
    assert len(stored) > 15
    assert {name for name,same in stored if not same} == set()

"What the site is built with: which pictures lack words, which cells are folded."
import json, re

import nbformat, nbformat.v4 as nbf
import pytest, yaml

from nbdev.config import get_config

import docs, tree
import selective_unlearning
from pages import FOLDED, fold_tests, formulas, name_cells, with_summaries, wordless
from test_how_to import PARSER, commands, prose, settings_of, unknown_flags, unknown_settings

PICTURE = [nbf.new_output("display_data", {"image/png": "aGk="})]


@pytest.mark.parametrize("head, ok", [
    ("", False), ("#| fig-alt: A curve\n", True), ("#| slow\n#| fig-alt: A curve\n", True),
    ("#| fig-alt:  \n", False), ("#| fig-alt: Loss: a curve\n", False),
    ('#| fig-alt: "Loss: a curve"\n', True)])
def test_a_picture_needs_words(head, ok):
    "A second colon without quotes is no YAML: the site would show none of the cell's options."
    cell = nbf.new_code_cell(f"{head}plot()", outputs=PICTURE)
    assert [*wordless([cell, nbf.new_code_cell("1"), nbf.new_markdown_cell("text")])] == \
        ([] if ok else [cell.id])


def test_each_stored_picture_has_words():
    assert docs.picture_problems() == []


def test_a_built_page_names_each_picture_without_words(tmp_path):
    (tmp_path/"a.html").write_text(
        '<img src="data:image/png,1" alt="A curve"><svg aria-hidden="true"></svg>'
        '<svg aria-label="A plot"></svg>')
    assert docs.problems(tmp_path) == []
    (tmp_path/"b.html").write_text('<img src="data:image/png,1"><img src="data:," alt=""><svg>')
    assert [b.partition(":")[0] for b in docs.problems(tmp_path)] == ["b.html"]*3


def test_a_built_page_names_a_warning_of_this_environment(tmp_path):
    (tmp_path/"a.html").write_text("<pre>lib/site-packages/nbdev/a.py:1: UserWarning: x</pre>")
    assert docs.problems(tmp_path) == ["a.html: a path in site-packages"]


@pytest.mark.parametrize("said, shown", [
    ("the command [`chat`](../job/command.html#chat)", "the command `chat`"),
    ("[`Run.chat`](a.html)", None), ("[`to_yaml`](b.html)", None), ("[a `chat`](a.html)", None)])
def test_a_plain_word_leads_to_no_function(said, shown):
    assert docs.WORD.sub(r"\1", said) == (shown or said)


def folded(*cells):
    "Which of some cells, (source, whether it shows something), are folded."
    made = [nbf.new_code_cell(code, outputs=PICTURE if shown else []) for code,shown in cells]
    fold_tests(made)
    return [c.source.startswith(FOLDED) for c in made]


@pytest.mark.parametrize("code", [
    "test_eq(f(1), 2)", "assert f(1) == 2", "expect_fail(f, ValueError, args=0)",
    "with expect_fail(ValueError): f(0)", "for i in range(3):\n    test_close(f(i), i+1)",
    "x = f(1)\ntest_eq(x, 2)"])
def test_a_cell_of_tests_is_folded(code):
    assert folded((code, False)) == [True]
    assert folded((code, True)) == [False], "what it shows would be hidden"


@pytest.mark.parametrize("code", [
    "f(1)", "x = 1", "test_eq(f(1), 2)\nx = 1", "def f(x): return x+1", "",
    "for i in range(3):\n    test_eq(i, i)\n    print(i)"])
def test_other_cells_are_not_folded(code):
    assert folded((code, False)) == [False]


def test_what_a_shown_cell_needs_stays_in_sight():
    used, unused = "x = f(1)\ntest_eq(x, 2)", "y = 1\nassert y"
    imported = "import a as b\nassert b"
    assert folded((used, False), (unused, False), ("x", True)) == [False, True, False]
    assert folded((used, False), ("test_eq(x, 2)", False)) == [True, True], "only a test needs it"
    assert folded((used, False), ("x = 3\nx", True)) == [True, False], "it is made anew"
    assert folded((imported, False), ("b.c", True)) == [False, False]
    assert folded(("def g(): pass\ng()\nassert g", False), ("g()", True)) == [False, False]


def test_the_tests_of_a_chapter_are_folded(tmp_path):
    docs.process(tree.ROOT/"nbs/terms/05_substitute.ipynb", tmp_path/"nb.ipynb")
    cells = nbformat.read(tmp_path/"nb.ipynb", 4).cells
    fold_tests(cells)
    calls = [c.source.startswith(FOLDED) for c in cells for _ in range(c.source.count("test_eq("))]
    assert len(calls) > 15 and sum(calls) > .8*len(calls)


SPAN = r'<p>It is <span class="math inline">\(p \lt \frac{1}{2}\)</span></p>'
BLOCK = r'<span class="math display">\[\sum_k g_k \log q_k \gt &quot;\]</span>'
SCRIPTS = ('<link rel="stylesheet" href="https://cdn.example/katex@1/dist/katex.min.css">\n'
           '<script src="https://cdn.example/katex@1/dist/katex.min.js" defer></script>')


def test_formulas_need_no_script():
    "A fraction, an index and a sum are elements; text around them stays, what draws LaTeX goes."
    pytest.importorskip("latex2mathml")
    made = formulas(f"<head>{SCRIPTS}</head>{SPAN}{BLOCK}<script src='site.js'></script>")
    assert "katex" not in made and "<script src='site.js'>" in made and "\\" not in made
    assert made.startswith("<head></head><p>It is <math ") and "</math></p><math " in made
    assert "<mfrac><mrow><mn>1</mn></mrow><mrow><mn>2</mn></mrow></mfrac>" in made
    assert made.count("<msub>") == 2 and "<munder>" in made
    assert 'display="block"' in made and 'display="inline"' in made
    assert '<mi>log</mi><mspace width="0.17em" /><msub>' in made, "log touches what follows"


def places(entries):
    "The pages of the sidebar, in its order; links into a page are left out."
    for e in entries:
        if isinstance(e, str): yield e
        else: yield from places(e.get("contents", []))


def test_each_page_has_one_place_in_the_sidebar():
    side = docs.sidebar(get_config(tree.ROOT))
    nbs = [p.relative_to("nbs").as_posix() for p in tree.files() if p.suffix == ".ipynb"]
    assert sorted(places(side)) == sorted([*map(docs.short, nbs), *docs.PROJECT.values()])
    named = {e["section"]: [*places(e["contents"])] for e in side if isinstance(e, dict)}
    assert named["Start"] == ["index.ipynb", "start/quickstart.ipynb", "how_to/install.ipynb",
                              "method.ipynb", "start/concepts.ipynb"]
    assert "how_to/questions.ipynb" in side and "how_to/resume.ipynb" in named["How to"]
    assert "tutorials/evidence.ipynb" in named["Results"]
    assert "reference/cite.ipynb" in named["Project"]


def entry(href, section="", text=""):
    return dict(objectID=href, href=href, title="T", section=section, text=text)


def test_search_has_each_page_itself_first():
    "Also a page without a word before its first section; a page without a summary is as it was."
    given = [entry("a.html", text="intro"), entry("a.html#x", "X", "x"), entry("b.html#y", "Y"),
             entry("c.html")]
    assert [*with_summaries(given, {"a.html": "About a", "b.html": "About b"})] == [
        entry("a.html", "About a", "intro"), entry("a.html#x", "X", "x"),
        entry("b.html", "About b"), entry("b.html#y", "Y"), entry("c.html")]


@pytest.mark.parametrize("name", ["00_quickstart", "01_concepts"])
def test_what_the_first_pages_say_exists(name):
    "Commands, flags and settings, as on the pages of how_to."
    text = prose(json.loads((tree.ROOT/f"nbs/start/{name}.ipynb").read_text()))
    assert not unknown_flags(text) and not unknown_settings(text)
    shown = [*commands(text)]
    for words in shown:
        args = PARSER.parse_args(words)
        if args.command in ("run", "demo"): settings_of(args)
    assert len(shown) >= 4*(name == "00_quickstart")


def test_the_citation_is_of_this_version_and_names_what_the_notebooks_cite():
    cff = yaml.safe_load((tree.ROOT/"CITATION.cff").read_text(encoding="utf-8"))
    assert cff["version"] == selective_unlearning.__version__
    assert cff["authors"] == [{"name": "The selective_unlearning developers"}]
    given = [r["doi"].removeprefix("10.48550/arXiv.") for r in cff["references"]]
    texts = [prose(json.loads((tree.ROOT/p).read_text())) for p in tree.files()
             if p.suffix == ".ipynb"]
    cited = {n for t in texts for n in re.findall(r"arXiv[ :](\d{4}\.\d{5})", t)}
    assert len({*given}) == len(given) and cited <= {*given} and given[0] == "2310.02238"
    assert all(int(n[:2])+2000 == r["year"] for n,r in zip(given, cff["references"]))


def table(*heads):
    row = "".join(f'<td style="">{h.upper()}</td>\n' for h in heads)
    names = "".join(f"<th>{h}</th>" for h in heads)
    return (f'<table class="caption-top table"><thead><tr>\n{names}</tr></thead><tbody>'
            f"<tr>\n{row}</tr>\n<tr>\n{row}</tr></tbody></table>")


def test_cells_of_a_wide_table_know_their_columns():
    made = name_cells(table("check", "<code>limit</code>", ""))
    cells = re.findall(r'<td data-label="(.*?)" style="">(.*?)</td>', made)
    assert cells == [("check", "CHECK"), ("limit", "<CODE>LIMIT</CODE>"), ("", "")]*2
    assert made.startswith('<table class="stacks ')


@pytest.mark.parametrize("html", [table("setting", "effect"), "<p>none</p>",
                                  '<table class="dataframe"><th>a<th>b<th>c</table>'])
def test_other_tables_stay(html): assert name_cells(html) == html

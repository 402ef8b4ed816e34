"What a person sees: notebooks in JupyterLab, the site, and plain pages. Chromium drives them all."
import functools, http.server, os, re, shutil, subprocess, sys, threading, time
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import nbformat, nbformat.v4 as nbf
import pytest
from axe_playwright_python.sync_playwright import Axe
from datasets import Dataset
from playwright.sync_api import expect

import docs, lab, test_all, tree
from selective_unlearning.core.files import write_json
from selective_unlearning.evaluation.outputs import OutputsViewer
from selective_unlearning.evaluation.report import report_html
from selective_unlearning.job.manifest import STEPS, part_path, step_path
from selective_unlearning.labels.label_viewer import LabelViewer
from selective_unlearning.terms.dictionary import Dictionary
from selective_unlearning.terms.entries import Entry
from selective_unlearning.terms.replacements import ReplacementViewer
from selective_unlearning.terms.substitute import substitute
from test_battery import GUESSED, LUCKY, judged
from test_widgets import EVIL, HARD, TOKENS

TUTORIALS = [nb.name for nb in test_all.TUTORIALS]
KERNEL = {"kernelspec": {"display_name": "python3", "language": "python", "name": "python3"}}
pytestmark = pytest.mark.skipif(
    not lab.chromium() and not os.environ.get("CI"),
    reason="no Chromium: apt-get install chromium, or name one in CHROMIUM")


@contextmanager
def served(handler):
    "The address of a server on this machine."
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def pictures(notebook):
    "The places of the cells whose stored output has a picture."
    cells = nbformat.read(notebook, 4).cells
    def pictured(cell):
        return any("image/png" in o.get("data", {}) for o in cell.get("outputs", []))
    return [i for i,c in enumerate(cells) if pictured(c)]


@pytest.fixture(scope="module")
def tutorials(root, tmp_path_factory):
    "A folder with copies of the tutorials, in a project with all that they read."
    project = tmp_path_factory.mktemp("project")
    for name in ("benchmarks", "configs", "pyproject.toml", "settings.ini"):
        (project/name).symlink_to(root/name)
    return Path(shutil.copytree(root/"nbs/tutorials", project/"nbs/tutorials"))


@pytest.fixture(scope="module")
def jupyter(tutorials, tmp_path_factory):
    "A JupyterLab that trusts the tutorials: from a notebook in a temporary folder to its address."
    base = tmp_path_factory.getbasetemp()
    def place(p): return p.relative_to(base).as_posix()
    with lab.lab(base, *map(place, tutorials.glob("*.ipynb"))) as url:
        yield lambda p: url % place(p)


def test_tutorials_in_jupyterlab(root, tutorials, jupyter):
    "As stored: nothing is broken, or marked as changed or changed by saving; viewers are alive."
    with lab.browser() as page:
        said, searched = [], 0
        page.on("pageerror", lambda e: said.append(str(e)))
        page.on("console", lambda m: said.append(m.text) if m.type == "error" else None)
        for p in (tutorials/name for name in TUTORIALS):
            lab.show(page, jupyter(p))
            assert (p.name, lab.wrong(page), said, lab.unchanged(page)) == (p.name, [], [], True)
            searched += page.get_by_label("search", exact=True).count()
            page.evaluate("jupyterapp.commands.execute('docmanager:save')")
            assert p.read_bytes() == (root/"nbs/tutorials"/p.name).read_bytes()
        assert searched > 1


def test_what_is_broken_in_a_notebook_is_seen(jupyter, tmp_path):
    broken = nbf.new_markdown_cell("![an owl](none.png) and $\\frac{a}$")
    (tmp_path/"new.ipynb").write_text(nbf.writes(nbf.new_notebook(cells=[broken], metadata=KERNEL)))
    with lab.opened(jupyter(tmp_path/"new.ipynb")) as page:
        page.locator("mjx-container").wait_for()
        assert lab.wrong(page) == ["picture missing: an owl", "formula: \\frac{a}"]
        assert lab.unchanged(page)
        page.evaluate("jupyterapp.commands.execute('notebook:insert-cell-below')")
        assert not lab.unchanged(page)


def without_slow_cells(notebook):
    "A copy of a notebook, beside it, without the cells that take minutes."
    nb, quick = nbformat.read(notebook, 4), notebook.with_stem(f"{notebook.stem}_quick")
    nb.cells = [c for c in nb.cells if "#| slow" not in c.source.splitlines()]
    nbformat.write(nb, quick)
    return quick


@pytest.mark.parametrize("name", TUTORIALS)
def test_a_tutorial_in_jupyterlab(tutorials, jupyter, name):
    """Every cell but the slow ones runs; pictures show where they are stored, and whole.

    A viewer's next page has other rows."""
    quick = without_slow_cells(tutorials/name)
    stored = pictures(quick)                               # before JupyterLab saves it
    with lab.opened(jupyter(quick)) as page:
        assert lab.run_all(page) == lab.wrong(page) == []
        drawn = [i for i,c in enumerate(page.locator(".jp-Notebook .jp-Cell").all())
                 if c.locator(".jp-RenderedImage img").count()]
        assert drawn == stored
        boxes = page.locator(".widget-vbox:has(.su-view):has(.noUi-target:not([disabled]))")
        assert boxes.count() == {"00_tour.ipynb": 2, "01_own_corpus.ipynb": 1}.get(name, 0)
        for box in boxes.all():
            view, knob = box.locator(".su-view:has(.su-rows)"), box.locator(".noUi-handle").last
            before = view.inner_text()
            assert " 1 to 20 of " in before
            knob.focus()
            knob.press("ArrowRight")
            box.locator(".su-view", has_text=" 21 to ").first.wait_for()
            assert box.locator(".widget-readout").last.inner_text() == "2"
            def rows(text): return set(text.splitlines()[1:-1])
            assert rows(view.inner_text()) - rows(before)


NAMES = Dictionary([Entry("Hogwarts", "Ashford Hall", "place", count=120),
                    Entry("Harry", ["Jon", "Sam"], "person", count=1204, locked=True),
                    Entry("Potter", "Harry Smith", "person", count=310),
                    Entry("house", "home", why="next to <Hogwarts>", count=9)])


@contextmanager
def opened_cells(jupyter, folder, code):
    "The page of a new notebook in a folder, all of whose cells have run."
    nb = nbf.new_notebook(cells=[*map(nbf.new_code_cell, code)], metadata=KERNEL)
    (folder/"new.ipynb").write_text(nbf.writes(nb))
    with lab.opened(jupyter(folder/"new.ipynb")) as page:
        assert lab.run_all(page) == []
        yield page


def test_editing_a_dictionary_in_jupyterlab(jupyter, tmp_path):
    """A translation is corrected, terms are dropped, locked and accepted; the file holds just that.

    Beside it, a run's folder is watched while another process, this one, works in it."""
    NAMES.save(tmp_path/"names.json")
    text = "Potter saw the house. Harry ran to Hogwarts."
    code = ["from selective_unlearning.terms.editor import DictionaryEditor\n"
            "from selective_unlearning.job.run_monitor import RunMonitor",
            f"editor = DictionaryEditor('names.json', [{text!r}])\neditor.widget()", "editor",
            "RunMonitor('run').widget(.2)"]
    with opened_cells(jupyter, tmp_path, code) as page:
        box = page.locator(".widget-vbox:has(.su-view)").first
        def shows(text): box.locator(".su-view", has_text=text).wait_for()
        shows("contains the anchored term 'Harry'")
        def choose(entry):
            box.get_by_label("entry", exact=True).select_option(label=entry)
            term = box.get_by_label("term", exact=True)
            expect(term).to_have_value(entry.split()[1], timeout=60_000)
        box.locator(".su-entries td", has_text=re.compile("^Harry Smith$")).click()
        expect(box.get_by_label("term", exact=True)).to_have_value("Potter")
        box.get_by_text("saw the").first.wait_for()
        assert box.locator("tr.su-chosen td").first.inner_text() == "3"
        field = box.get_by_label("translations", exact=True)
        field.fill("Smith")
        field.blur()
        shows("4 terms, 0 errors, 1 warning")
        box.get_by_role("button", name="Lock").click()
        shows("2 locked")
        choose("4. house")
        box.get_by_role("button", name="Drop").click()
        box.get_by_text("dropped 'house'").wait_for()
        choose("1. Hogwarts")
        box.get_by_role("button", name="Accept").press("Enter")
        box.get_by_text("accepted 'Hogwarts'; no entry shown here is left").wait_for()
        box.get_by_role("button", name="Save").click()
        box.get_by_text("saved 3 terms in names.json").wait_for()
        static = page.locator(".jp-RenderedHTML .su-entries")
        static.get_by_label("search").fill("ashford")
        assert static.locator("tbody tr:visible").count() == 1
        monitor = page.locator(".widget-vbox", has_text="reinforced").last
        assert monitor.locator("tr", has_text="not yet").count() == len(STEPS)
        write_json(part_path(tmp_path/"run", "reinforced")/"key", "")
        monitor.locator("tr", has_text="reinforced").get_by_text("begun").wait_for()
        shutil.rmtree(part_path(tmp_path/"run", "reinforced"))
        write_json(step_path(tmp_path/"run", "reinforced")/"loss.json", [dict(step=1, loss=2.)])
        monitor.locator("svg").wait_for()
    expected = NAMES.change("Potter", translations="Smith", locked=True).drop("house")
    expected = expected.change("Hogwarts", locked=True)
    assert Dictionary.load(tmp_path/"names.json") == expected


def test_reviewing_with_one_key_in_jupyterlab(jupyter, tmp_path):
    "Enter accepts one entry after the other, over two pages; no field is wider than a narrow page."
    names = Dictionary([Entry(f"Wizard{i}", f"Name{i}") for i in range(1, 24)])
    names.save(tmp_path/"names.json")
    code = ["from selective_unlearning.terms.editor import DictionaryEditor\n"
            "editor = DictionaryEditor('names.json')\neditor.widget()"]
    with opened_cells(jupyter, tmp_path, code) as page:
        box = page.locator(".widget-vbox:has(.su-view)").first
        accept = box.get_by_role("button", name="Accept")
        accept.focus()
        for i in range(1, 22):
            page.keyboard.press("Enter")
            box.get_by_text(f"accepted 'Wizard{i}'").wait_for()
        expect(accept).to_be_focused()
        expect(box.get_by_label("term", exact=True)).to_have_value("Wizard22")
        expect(box.locator("tr.su-chosen td").first).to_have_text("22")
        box.locator(".su-view", has_text="21 locked").wait_for()
        page.set_viewport_size(dict(width=640, height=1000))
        page.wait_for_function("document.querySelector('.widget-vbox').clientWidth < 500")
        room = box.bounding_box()["width"]
        fields = box.locator("input, select, textarea").all()
        assert all(f.bounding_box()["width"] < room for f in fields if f.is_visible())
        assert box.evaluate("x => x.scrollWidth <= x.clientWidth")


def test_viewers_in_jupyterlab(root, jupyter, tmp_path):
    "A click on a token of another page turns to its row; models are searched, compared and asked."
    code = [f"import sys\nsys.path.insert(0, {str(root/'tests')!r})\n"
            "from datasets import Dataset\nfrom test_widgets import *",
            "block = Dataset.from_list([{k: v*32 for k,v in HARD[0].items()}])\n"
            "LabelViewer(block, TOKENS).widget()",
            "def backwards(prompts): yield [dict(prompt=p, outputs=dict(base=p[::-1]))"
            " for p in prompts]\nOutputsViewer(records(45), backwards).widget()",
            "LabelViewer({0: TOLD_HARD, 2.5: TOLD_SOFT}, TOKENS).widget()"]
    with opened_cells(jupyter, tmp_path, code) as page:
        labels, outputs, swept = page.locator(".widget-vbox:has(.su-view)").all()
        def says(box, text): box.locator(".su-view", has_text=text).first.wait_for()
        says(labels, "tokens 1 to 20 of 256")
        labels.locator(".su-text > span").nth(200).click()
        says(labels, "tokens 201 to 220 of 256")
        row = labels.locator("tr.su-chosen")
        assert row.locator("td").first.inner_text() == "200"
        assert labels.locator(".su-text .su-chosen").count() == 1
        labels.get_by_label("only changed").check()
        says(labels, "tokens 1 to 20 of 64")
        labels.locator(".su-text > span").nth(40).click()          # its token does not train
        says(labels, "tokens 41 to 60 of 256")
        expect(row.locator("td").first).to_have_text("40")
        assert not labels.get_by_label("only changed").is_checked()
        outputs.get_by_label("text", exact=True).fill("nowhere")
        says(outputs, "no prompts")
        outputs.get_by_role("button", name="Show all").click()
        says(outputs, "prompts 1 to 20 of 45")
        outputs.get_by_label("prompt", exact=True).fill("owl")
        outputs.get_by_role("button", name="Ask").click()
        says(outputs, "lwo")
        says(swept, "Block 0, alpha 0:")
        swept.locator(".widget-inline-hbox", has_text="alpha").get_by_role("slider").focus()
        page.keyboard.press("ArrowRight")
        says(swept, "Block 0, alpha 2.5:")
        assert not page.get_by_label("search", exact=True).count()


def test_widgets_of_a_notebook_of_others_in_jupyterlab(jupyter, tmp_path):
    "Opened without trust, a notebook has no widgets: it shows the viewers without them."
    kept = LabelViewer(HARD, TOKENS).widget()._repr_mimebundle_()
    cell = nbf.new_code_cell("viewer.widget()", outputs=[nbf.new_output("display_data", kept)])
    nb = nbf.new_notebook(cells=[cell], metadata=KERNEL)
    (tmp_path/"theirs.ipynb").write_text(nbf.writes(nb))
    with lab.opened(jupyter(tmp_path/"theirs.ipynb")) as page:
        shown = page.locator(".jp-OutputArea-output")
        expect(shown).to_contain_text("tokens 1 to")
        assert "VBox" not in shown.inner_text()


def test_sorting_and_searching_a_static_table(tmp_path):
    "Two tables on a plain page, by keyboard and mouse: one does not disturb the other."
    (tmp_path/"page.html").write_text(
        f"<!doctype html><meta charset=utf-8>{NAMES._repr_html_()}{NAMES._repr_html_()}")
    with lab.browser() as page:
        errors = []
        page.on("pageerror", lambda e: errors.append(str(e)))
        page.goto((tmp_path/"page.html").as_uri())
        one, two = page.locator(".su-entries").all()
        def terms(table):
            return table.locator("tbody tr:visible td:nth-child(2)").all_inner_texts()
        heading = one.get_by_role("columnheader", name="count")
        heading.get_by_role("button").click()
        assert terms(one) == ["house", "Hogwarts", "Potter", "Harry"]
        page.keyboard.press("Enter")
        assert terms(one) == ["Harry", "Potter", "Hogwarts", "house"]
        assert heading.get_attribute("aria-sort") == "descending"
        one.get_by_role("button", name="problems").click()
        assert terms(one) == ["Potter", "house", "Harry", "Hogwarts"]
        assert heading.get_attribute("aria-sort") is None
        one.get_by_label("search").fill(" HOGWARTS")
        assert terms(one) == ["house", "Hogwarts"]
        assert one.locator("output").inner_text() == "2 of 4 rows"
        one.get_by_label("search").fill("")
        assert len(terms(one)) == 4 and terms(two) == list(NAMES.terms)
        assert errors == []


def test_a_static_table_needs_no_script(tmp_path):
    (tmp_path/"page.html").write_text(f"<!doctype html><meta charset=utf-8>{NAMES._repr_html_()}")
    with lab.browser() as page:
        bare = page.context.browser.new_page(java_script_enabled=False)
        bare.goto((tmp_path/"page.html").as_uri())
        table = bare.locator(".su-entries")
        assert table.locator("tbody tr").count() == 4
        assert "such as 'Jon Smith'" in table.inner_text()
        assert not table.locator("input, button").count()


BROKEN = """() => [...document.querySelectorAll("td[data-label=n]")].filter(cell => {
    const range = document.createRange()
    range.selectNodeContents(cell)
    return range.getClientRects().length > 1}).length"""


@pytest.mark.parametrize("width", [390, 760, 1100])
def test_figures_of_a_report_stay_in_one_line(tmp_path, width):
    page_of = report_html(judged(GUESSED, LUCKY)[0], {})
    (tmp_path/"report.html").write_text(page_of, encoding="utf-8")
    with lab.browser() as page:
        page.set_viewport_size(dict(width=width, height=900))
        page.goto((tmp_path/"report.html").as_uri())
        assert page.locator("td[data-label=n]").count() > 20
        assert page.evaluate(BROKEN) == 0
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_token_and_its_row_stand_out_together(tmp_path):
    "All of a block, by pointing and by clicking, which also brings the row into view."
    block = Dataset.from_list([{k: v*32 for k,v in HARD[0].items()}])
    html = LabelViewer(block, TOKENS)._repr_html_()
    (tmp_path/"page.html").write_text(f"<!doctype html><meta charset=utf-8>{html}")
    with lab.browser() as page:
        page.goto((tmp_path/"page.html").as_uri())
        tokens, trs = page.locator(".su-text > span"), page.locator(".su-rows tbody tr")
        assert tokens.count() == trs.count() == 256
        def stand_out(places, mark):
            return page.evaluate("([a, b]) => [...document.querySelectorAll(a)].flatMap((x, k) =>"
                                 "x.classList.contains(b) ? [k] : [])", [places, mark])
        def both(mark):
            text, row = (stand_out(p, mark) for p in (".su-text > span", ".su-rows tbody tr"))
            assert text == row
            return text
        page.get_by_label("search").wait_for()             # the script makes it, then listens
        def wait(place, mark): expect(place).to_have_class(re.compile(mark))  # for a busy machine
        tokens.nth(3).hover()
        wait(tokens.nth(3), "su-near")
        assert both("su-near") == [3]
        trs.nth(5).hover()
        wait(trs.nth(5), "su-near")
        assert both("su-near") == [5]
        tokens.nth(200).click()
        wait(tokens.nth(200), "su-chosen")
        page.mouse.move(0, 0)
        expect(page.locator(".su-near")).to_have_count(0)
        assert (both("su-chosen"), both("su-near")) == ([200], [])
        expect(trs.nth(200)).to_be_in_viewport()
        box = page.get_by_label("search")
        box.fill("first mention")
        assert page.locator(".su-rows tbody tr:visible").count() == 32
        tokens.nth(100).click()
        wait(tokens.nth(100), "su-chosen")
        assert both("su-chosen") == [100] and box.input_value() == ""
        expect(trs.nth(100)).to_be_in_viewport()


def test_a_page_that_comes_in_two_parts():
    "The script waits for all rows: a style at the top has loaded while the rest is on its way."
    block = Dataset.from_list([{k: v*32 for k,v in HARD[0].items()}])
    page_html = f"<!doctype html><meta charset=utf-8>{LabelViewer(block, TOKENS)._repr_html_()}"
    half = page_html.index("<tr>", page_html.index("<tbody>")+4_000)

    class Slow(http.server.BaseHTTPRequestHandler):
        def log_message(self, *args): pass

        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(page_html[:half].encode())
            time.sleep(1)
            self.wfile.write(page_html[half:].encode())

    with served(Slow) as address, lab.browser() as page:
        errors = []
        page.on("pageerror", lambda e: errors.append(str(e)))
        page.goto(address)
        page.get_by_label("search").fill("first mention")
        assert page.locator(".su-rows tbody tr:visible").count() == 32
        page.locator(".su-text > span").nth(100).click()
        expect(page.locator(".su-rows tbody tr").nth(100)).to_have_class(re.compile("su-chosen"))
        assert errors == []


def test_what_a_kernel_would_show_is_there_without_one(tmp_path):
    "A box to tick for the rows that matter, and further blocks, each with its own table."
    differ = [dict(prompt=str(i), outputs=dict(a="x", b="y" if i%3 else "x")) for i in range(9)]
    blocks = Dataset.from_list([*HARD, {k: v*2 for k,v in HARD[0].items()}])
    html = "".join(f"<section>{v._repr_html_()}</section>"
                   for v in (OutputsViewer(differ), LabelViewer(blocks, TOKENS, [4, 7])))
    (tmp_path/"page.html").write_text(f"<!doctype html><meta charset=utf-8>{html}")
    with lab.browser() as page:
        page.goto((tmp_path/"page.html").as_uri())
        outputs, labels = page.locator("section").all()
        seen = outputs.locator("tbody tr:visible")
        outputs.get_by_label("only where they differ").check()
        assert [r.split()[0] for r in seen.all_inner_texts()] == [*"124578"]
        outputs.get_by_label("search").fill("7")
        assert outputs.locator("output").inner_text() == "1 of 9 rows" and seen.count() == 1
        outputs.get_by_label("only where they differ").uncheck()
        outputs.get_by_label("search").fill("")
        assert seen.count() == 9 and outputs.locator("output").inner_text() == ""
        assert labels.locator("tbody tr:visible").count() == 8
        labels.get_by_text("Block 7", exact=True).click()
        more = labels.locator("details tbody tr:visible")
        assert more.count() == 16
        box = labels.get_by_label("only changed").last
        box.check()
        assert more.count() == 4 and labels.locator("tbody tr:visible").count() == 12
        labels.locator("details .su-text > span").first.click()      # a row that is hidden
        assert more.count() == 16 and not box.is_checked()


def test_a_search_without_a_hit_offers_to_show_all(tmp_path):
    "In every viewer; what is searched for is text, and nothing in it is run."
    texts = [f"Harry saw {EVIL} {i}." for i in range(30)]
    replaced = [substitute(t, {"Harry": "Jon"}) for t in texts]
    viewers = (LabelViewer(HARD, TOKENS), NAMES, ReplacementViewer(replaced, [EVIL]*30),
               OutputsViewer([dict(prompt=t, outputs=dict(base=EVIL)) for t in texts]))
    html = "".join(f"<section>{v._repr_html_()}</section>" for v in viewers)
    (tmp_path/"page.html").write_text(f"<!doctype html><meta charset=utf-8>{html}")
    with lab.browser() as page:
        said = []
        page.on("pageerror", lambda e: said.append(str(e)))
        page.on("dialog", lambda d: (said.append(d.message), d.dismiss()))
        page.goto((tmp_path/"page.html").as_uri())
        for part,n in zip(page.locator("section").all(), (8, 4, 30, 30), strict=True):
            seen, box = part.locator(".su-rows tbody tr:visible"), part.get_by_label("search")
            assert seen.count() == n
            clear = part.get_by_role("button", name="Show all")
            assert not clear.is_visible()
            box.fill("<nowhere>")
            assert part.locator("output").inner_text() == f"0 of {n} rows" and not seen.count()
            clear.click()
            assert seen.count() == n and not clear.is_visible() and box.input_value() == ""
        part.get_by_label("search").fill("7.")
        assert seen.count() == 3
        assert said == []


@pytest.fixture(scope="module")
def site(root, tmp_path_factory):
    "The address of the documentation site, built anew and served from this machine."
    if sys.version_info < (3, 11): pytest.skip("smalldocs needs Python 3.11")
    out = tmp_path_factory.mktemp("site")/"docs"
    p = subprocess.run([sys.executable, "tools/docs.py", "--out", str(out)], cwd=root,
                       capture_output=True, text=True)
    assert p.returncode == 0, p.stdout+p.stderr

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args): pass

        def send_error(self, code, *args):               # as hosts of such sites answer
            self.send_response(code)
            self.end_headers()
            self.wfile.write((out/"404.html").read_bytes())

    with served(functools.partial(Quiet, directory=out)) as address: yield address


def test_site(site):
    """Search finds a page; widget, formula and tests show without a kernel or a script of ours.

    Nothing is missing or from elsewhere."""
    with lab.browser() as page:
        asked, failed = [], []
        page.on("request", lambda r: asked.append(r.url))
        page.on("response", lambda r: failed.append(r.url) if r.status >= 400 else None)
        page.goto(f"{site}/index.html")
        search = page.locator(".smalldocs-search input:visible")
        search.fill("substitute")
        hit = page.locator(".search-result[href*='substitute.html']").first
        hit.wait_for()
        hit.click()
        page.wait_for_url("**/substitute.html*")
        assert "def substitute" in page.locator("main").inner_text()
        page.goto(f"{site}/terms/replacements.html")
        tables = page.locator(".su-view table")
        tables.first.wait_for()
        assert max(t.locator("tbody tr").count() for t in tables.all()) > 1
        page.goto(f"{site}/method.html")
        formula = page.locator("main math")
        assert formula.bounding_box()["width"] > 100 and formula.locator("mo").count() > 3
        page.goto(f"{site}/terms/substitute.html")
        tests = page.locator("details", has_text="Tests")
        assert not tests.first.locator("pre").is_visible()
        tests.first.locator("summary").click()
        assert "test_eq(" in tests.first.locator("pre").inner_text()
        assert failed == []
        assert {urlsplit(u).netloc for u in asked} == {urlsplit(site).netloc}


def test_an_address_without_a_page_leads_back(site):
    "However deep it is: style and links of the page that is shown do not hang on where it is."
    with lab.browser() as page:
        failed = []
        page.on("response", lambda r: failed.append(r.url) if r.status >= 400 else None)
        lost = f"{site}/moved/from/here.html"
        page.goto(lost)
        expect(page.locator("h1")).to_have_text("There is no such page")
        page.locator("main a", has_text="front page").click()
        page.wait_for_url(f"{site}/index.html")
        assert failed == [lost]


KINDS = ("index", "method", "start/quickstart", "reference/cite", "how_to/install",
         "tutorials/tour", "tutorials/own_corpus", "core/html", "core/plots", "corpus/readers",
         "labels/label_viewer", "evaluation/report", "training/methods", "reference/settings",
         "CHANGELOG", "404", "source/selective_unlearning/labels/align")


def broken_rules(site, names, scheme):
    """Which rules of axe which pages break: texts for pictures, contrast, focus, landmarks, …

    In the dark only what hangs on colours can differ."""
    found, rules = {}, {"resultTypes": ["violations"]}
    if scheme == "dark": rules |= {"runOnly": ["color-contrast", "link-in-text-block"]}
    with lab.browser() as page:
        page.emulate_media(color_scheme=scheme)
        for name in names:
            page.goto(f"{site}/{name}.html")
            for v in Axe().run(page, options=rules).response["violations"]:
                found[name, v["id"]] = [n["html"][:200] for n in v["nodes"][:3]]
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_keep_the_rules_of_axe(site, scheme):
    "A page of each kind."
    assert not broken_rules(site, KINDS, scheme)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_keeps_the_rules_of_axe(site, scheme):
    "Of every notebook; sources of modules are all alike."
    nbs = [p.relative_to("nbs").as_posix() for p in tree.files() if p.suffix == ".ipynb"]
    names = [docs.short(p).removesuffix(".ipynb") for p in nbs]
    assert len(names) > 80
    assert not broken_rules(site, names, scheme)


CUT = """() => [...document.querySelectorAll("main pre, main .stacks, main .stacks td")]
    .filter(e => getComputedStyle(e).display == "block")       // no table: that may scroll
    .filter(e => e.scrollWidth > e.clientWidth || e.getBoundingClientRect().right > innerWidth)
    .map(e => e.innerText.slice(0, 60))"""
WIDE = """() => [...document.querySelectorAll(".su-text")].filter(e => e.offsetParent)
    .map(e => e.scrollWidth > e.clientWidth)"""                # of those that are not folded
HINT = """() => [...document.querySelectorAll("main .sd-table, main .cell-output-display")]
    .filter(e => e.querySelector("table:not(.su-view *)") && e.scrollWidth > e.clientWidth)
    .map(e => [getComputedStyle(e).backgroundImage.split("linear-gradient").length-1,
               getComputedStyle(e.querySelector("tbody td")).backgroundColor])"""


@pytest.mark.parametrize("width", [390, 640, 1280])
def test_nothing_is_cut_off(site, width):
    """What is printed is broken into lines, and so is the text of a block of tokens.

    A table fits, or has a shadow where it goes on."""
    hints = []
    with lab.browser() as page:
        page.set_viewport_size(dict(width=width, height=900))
        for name in ("index", "tutorials/own_corpus", "training/methods", "reference/settings"):
            page.goto(f"{site}/{name}.html")
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert page.evaluate(CUT) == []
            hints += map(tuple, page.evaluate(HINT))
        page.goto(f"{site}/labels/label_viewer.html")
        assert {*page.evaluate(WIDE)} == {False}
        page.goto(f"{site}/index.html")
        limit = page.locator("td[data-label=limit]").first
        name = limit.evaluate("e => getComputedStyle(e, '::before').content")
        assert name == ('"limit"' if width == 390 else "none") and limit.is_visible()
    assert {*hints} == {(4, "rgba(0, 0, 0, 0)")}, "no shadow, or cells that cover it"


MEANT = {"install": "how_to/install.html", "resume": "how_to/resume.html",
         "GPU": "how_to/install.html#gpu", "alpha": "how_to/preset.html#alpha",
         "how long": "how_to/preset.html#how-long-a-run-takes",
         "quickstart": "start/quickstart.html", "glossary": "start/concepts.html#glossary",
         "FAQ": "how_to/questions.html", "cite": "reference/cite.html",
         "citation": "reference/cite.html", "concepts": "start/concepts.html",
         "changelog": "CHANGELOG.html"}


def test_search_finds_first_what_is_meant(site):
    with lab.browser() as page:
        for asked,meant in MEANT.items():
            page.goto(f"{site}/index.html")                # without the results of another search
            page.locator(".smalldocs-search input:visible").fill(asked)
            first = page.locator(".search-result").first
            expect(first).to_have_attribute("href", f"./{meant}", timeout=10_000)

"""Build the documentation site and README.md from the notebooks, with smalldocs.

The site shows the outputs saved in the notebooks. It is complete without a network: a page that
would load something from another host is a problem, as is a link, or an anchor, that leads nowhere.
"""
import argparse, ast, json, os, posixpath, re, shutil, sys, tempfile, warnings
from functools import partial
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat, yaml
from fastcore.nbio import mk_cell, read_nb, write_nb
from nbconvert import MarkdownExporter
from nbdev.config import get_config
from nbdev.processors import FilterDefaults, exec_show_docs

from pages import fold_tests, formulas, name_cells, with_summaries, wordless
from tree import ROOT

ROOMS = {  # folder of nbs/ -> what is in it, in the order in which data goes through
    "core": "errors, files, HTML, plots, settings of a step, English words; loads no torch",
    "models": "a model by name, adapters, what a model says",
    "corpus": "files to documents to blocks of tokens",
    "terms": "the dictionary: find anchored terms, translate them, replace them, correct it all",
    "labels": "what a model that never read the text would say, token by token",
    "training": "one trainer for both fine-tunings, the retain set, the methods to compare with",
    "evaluation": "prompts, measures, figures with intervals, the report",
    "job": "the whole job in one folder, from Python and from a terminal",
}
PROJECT = {"CONTRIBUTING.md": "CONTRIBUTING.md", "CHANGELOG.md": "CHANGELOG.md",
           "data/README.md": "data_card.md"}         # pages that are no notebooks, by file
SECTIONS = {  # of the sidebar -> its page, or pages, folders of nbs/, links and sections inside
    "Start": ["index.ipynb", "start/00_quickstart.ipynb", "how_to/00_install.ipynb",
              "00_method.ipynb", "start"],
    "Tutorials": ["tutorials", {"text": "Evidence", "href": "tutorials/evidence.html"}],
    "How to": ["how_to"],
    "Results": ["results", "tutorials/03_evidence.ipynb",
                {"text": "Methods compared", "href": "training/methods.html#on-the-demo"}],
    "FAQ": "how_to/12_questions.ipynb",
    "Reference": ["reference", {r.capitalize(): [r] for r in ROOMS}],
    "Notes": ["notes"],
    "Project": ["reference/02_cite.ipynb", *PROJECT.values()],
}
THEMES = {"light": "cosmo", "dark": "darkly"}
DARKER = {"#2780e3": "#1c66b5", "39,128,227": "28,102,181"}  # cosmo's blue, legible on white
ICON = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16">
<rect width="16" height="16" rx="3" fill="#0072B2"/>
<path d="M3 5h10M3 8h4M3 11h7" stroke="#fff" stroke-width="2"/>
<path d="M9 8h4" stroke="#E69F00" stroke-width="2" stroke-dasharray="1"/>
</svg>
"""
RULES = (ROOT/"tools/site.css").read_text()
LOST = """---
title: There is no such page
search: false
---

It may have moved: search for a word of its title above, or begin at the [front page](index.html).
"""
LINK = re.compile(r'(\]\(|\b(?:src|href)=")(?!\w+:|[#/])([^)"#\s]+)')  # relative, Markdown or HTML
IMPORTS = (ast.Import, ast.ImportFrom)


def short(path):
    "`40_substitute.ipynb` -> `substitute.ipynb`, as nbdev links it."
    folder, name = posixpath.split(path)
    return posixpath.join(folder, re.sub(r"^\d+[a-z]?_", "", name))


def target(match, at):
    "Where a link in the document `at` leads, from the repository's root."
    return posixpath.normpath(posixpath.join(posixpath.dirname(at), match[2]))


# --- site -------------------------------------------------------------------------------------

def relink(text, at, src, cfg):
    "Links of the document `at`, for the site in `src`; files it links outside nbs/ come along."
    def site(match):
        to = target(match, at)
        if to.startswith("nbs/"): return f"{match[1]}/{short(to.removeprefix('nbs/'))}"
        if to in PROJECT: return f"{match[1]}/{PROJECT[to]}"
        if (ROOT/to).is_file() and not (src/to).exists():
            (src/to).parent.mkdir(parents=True, exist_ok=True)
            if to.endswith(".md"): (src/to).write_text(relink((ROOT/to).read_text(), to, src, cfg))
            else: shutil.copy2(ROOT/to, src/to)
        return f"{match[1]}/{to}"
    source = rf"{re.escape(cfg.git_url)}/blob/{cfg.branch}/([\w/]+)\.py#L(\d+)"
    return re.sub(source, r"/source/\1.html#L-\2", LINK.sub(site, text))


# nbdev links `chat` to a function, where a page for users means a command or a field.
WORD = re.compile(r"\[(`[a-z]+`)\]\([^)\s]*\)")


class Definitions(exec_show_docs):
    "Runs what signatures need: exported cells, `show_doc`, and cells of nothing but imports."
    def __call__(self, cell):
        trees = (cell.cell_type == "code" and cell.parsed_()) or []
        wanted = {"export", "exporti", "exports"} & set(cell.directives_) \
            or "show_doc(" in cell.source or all(isinstance(t, IMPORTS) for t in trees)
        imports = any(isinstance(n, IMPORTS) for t in trees for n in ast.walk(t))
        if imports and not wanted: return
        super().__call__(cell)
        for t in trees:  # names that only annotations use
            if isinstance(t, ast.If) and ast.unparse(t.test) == "TYPE_CHECKING":
                self.k.run_cell("\n".join(ast.unparse(s) for s in t.body))


class Processors(FilterDefaults):
    "nbdev's own, which would also run any cell that imports something somewhere."
    def base_procs(self):
        return [Definitions if p is exec_show_docs else p for p in super().base_procs()]


def process(path, to):
    "Write the notebook as nbdev prepares it for documentation."
    nb = read_nb(path)
    for i,c in enumerate(nb.cells):  # nbdev takes title and summary, and drops what follows
        head = c.cell_type == "markdown" and re.match(r"# .+\n(\s*\n)*(>.*\n?)*", c.source)
        if not head: continue
        rest = c.source[head.end():].strip()
        c.set_source(head[0].strip())
        if rest: nb.cells.insert(i+1, mk_cell(rest, "markdown"))
        break
    Processors()(nb)
    write_nb(nb, to)


def stage(cfg, src):
    "Processed notebooks under their short names, a page for each module's source, and the icon."
    for f in sorted(p for p in cfg.nbs_path.rglob("*") if p.is_file()):
        path = f.relative_to(cfg.nbs_path).as_posix()
        to = src/short(path)
        if any(q[0] in "._" for q in path.split("/")): continue
        if to.exists(): sys.exit(f"two notebooks become {to.name}")
        to.parent.mkdir(parents=True, exist_ok=True)
        if f.suffix != ".ipynb":
            shutil.copy2(f, to)
            continue
        process(f, to)
        nb = nbformat.read(to, 4)
        link = partial(relink, at=f"nbs/{path}", src=src, cfg=cfg)
        nb.metadata.pop("widgets", None)
        if path.split("/")[0] in ROOMS: fold_tests(nb.cells)
        for c in nb.cells:
            c.pop("has_sd", None)  # nbdev's own mark, which strict readers refuse
            if c.cell_type == "raw": c.source = re.sub(r"(?m)^output-file:.*\n", "", c.source)
            if c.cell_type == "markdown":
                own = path.split("/")[0] in ("start", "how_to", "reference")
                c.source = link(WORD.sub(r"\1", c.source) if own else c.source)
            for o in c.get("outputs", []):
                if md := o.get("data", {}).get("text/markdown"):
                    o.data["text/markdown"] = link(md).replace("__main__.", "")
        nbformat.write(nb, to)
    for file,page in PROJECT.items():
        (src/page).write_text(relink((ROOT/file).read_text(), file, src, cfg))
    for py in sorted(cfg.lib_path.rglob("*.py")):
        name = py.relative_to(ROOT)
        to = src/"source"/name.with_suffix(".md")
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_text(f"---\ntitle: {name}\nsearch: false\n---\n\n"
                      f'`````{{.python #L code-line-numbers="true"}}\n{py.read_text()}\n`````\n')
    (src/"icon.svg").write_text(ICON)
    (src/"404.md").write_text(LOST)


def themes(src):
    "The bundled stylesheets without their import of web fonts, with rules of our own."
    import smalldocs
    for mode,theme in THEMES.items():
        css = Path(smalldocs.__file__).parent/f"assets/vendor/bootswatch/{theme}.min.css"
        text = re.sub(r"@import url\([^)]*\);?", "", css.read_text())
        for old,new in DARKER.items(): text = text.replace(old, new)
        (src/f"{mode}.css").write_text(f"{text}\n:root {{ color-scheme: {mode} }}\n{RULES}")


def sections(cfg, named, placed):
    "Entries of the sidebar for sections by title; of a folder, the pages not `placed` by name."
    out = []
    for title,parts in named.items():
        if isinstance(parts, str):
            out.append(short(parts))
            continue
        pages = []
        for part in parts:
            if isinstance(part, dict):
                pages += [part] if "href" in part else sections(cfg, part, placed)
            elif posixpath.splitext(part)[1]: pages.append(short(part))
            else:
                nbs = sorted((cfg.nbs_path/part).glob("[!._]*.ipynb"))
                found = [short(p.relative_to(cfg.nbs_path).as_posix()) for p in nbs]
                pages += [p for p in found if p not in placed]
        out.append({"section": title, "contents": pages})
    return out


def sidebar(cfg):
    "The entries of the sidebar."
    parts = [p for ps in SECTIONS.values() for p in ([ps] if isinstance(ps, str) else ps)]
    return sections(cfg, SECTIONS, {short(p) for p in parts if isinstance(p, str)})


def site_config(cfg, out):
    "The site's settings: titles, sidebar, search."
    web = {"title": cfg.title, "description": cfg.description, "favicon": "icon.svg",
           "navbar": {"search": True}, "page-navigation": True, "llms-txt": True,
           "page-footer": f"{cfg.title} {cfg.version}, Apache 2.0",
           # a docked one is white on white when dark
           "sidebar": {"style": "floating", "contents": sidebar(cfg)}}
    return {"project": {"output-dir": str(out)}, "website": web, "toc": True, "code-copy": True,
            "code-overflow": "wrap", "theme": {mode: f"{mode}.css" for mode in THEMES}}


ACCESSIBLE = {  # what a page lacks for those who read it without a mouse or without sight
    r"(<body\b[^>]*>)": r'\1<a class="visually-hidden-focusable" href="#quarto-document-content">'
                        "Skip to the text</a>",
    r'<(?=pre\b|div class="(?:su-view\b|cell-output cell-output-display">\s*<div>))(\w+)':
        r'<\1 tabindex="0"',                                        # scrolls: keys must reach it
    r"<th\b[^>]*></th>": "<td></td>",                               # the corner of a table
    r'<a href="#(L-\d+)"></a>': r'<a href="#\1" aria-hidden="true" tabindex="-1"></a>',
    r'<nav class="navbar\b': '<nav aria-label="Site" class="navbar',
    r'<nav id="quarto-sidebar"': '<nav aria-label="Pages" id="quarto-sidebar"',
    r'<nav id="TOC"': '<nav aria-label="On this page" id="TOC"',
    r'(<a class="sidebar-item-[^>]*)role="navigation"': r'\1role="button"'}


def accessible(html):
    html = name_cells(html)
    for old,new in ACCESSIBLE.items(): html = re.sub(old, new, html)
    head, main, text = html.partition("<main")
    before, section, rest = text.partition("<h2")   # where no section comes first, a name is one
    return head+main+before.replace("<h3 ", '<h3 role="heading" aria-level="2" ')+section+rest


class Page(HTMLParser):
    "What a built page can be pointed at, what it points to and loads, and pictures without words."
    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.loads, self.wordless = set(), [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        self.ids |= {a.get("id"), a.get("name")}
        if tag == "a" and a.get("href"): self.links.append(a["href"])
        if tag == "link" and a.get("href"): self.loads.append(a["href"])
        if a.get("src"): self.loads.append(a["src"])
        said = a.get("alt") if tag == "img" else a.get("aria-label") or a.get("aria-hidden")
        if tag in ("img", "svg") and not said: self.wordless.append(self.get_starttag_text()[:60])


def problems(out):
    """What is wrong with the pages under `out`.

    Dead links, things from another host, pictures without words, warnings of this environment."""
    texts = {p: p.read_text() for p in sorted(out.rglob("*.html"))}
    pages = {p: Page(text) for p,text in texts.items()}
    bad = [f"{p.relative_to(out)}: no text for the picture {tag}"
           for p,page in pages.items() for tag in page.wordless]
    bad += [f"{p.relative_to(out)}: a path in site-packages" for p,text in texts.items()
            if "/site-packages/" in text]
    for p,page in pages.items():
        for href in [*page.links, *page.loads]:
            why, u = "", urlsplit(href)
            if u.scheme or u.netloc:
                if href in page.loads and u.scheme != "data": why = "another host is needed for"
            else:
                to = (p.parent/unquote(u.path)).resolve() if u.path else p
                if to.is_dir(): to = to/"index.html"
                anchor = unquote(u.fragment)
                if not to.is_file(): why = "dead link"
                elif anchor and to in pages and anchor not in pages[to].ids: why = "dead anchor"
            if why: bad.append(f"{p.relative_to(out)}: {why} {href}")
    return bad


def picture_problems():
    "Notebooks' pictures without a text for those who cannot see them."
    return [f"{p.relative_to(ROOT)}: the picture of cell {i} has no fig-alt, or one that is no YAML"
            for p in sorted((ROOT/"nbs").rglob("*.ipynb")) if ".ipynb_checkpoints" not in p.parts
            for i in wordless(nbformat.read(p, 4).cells)]


def summarise_search(out):
    "Let the search find a page by the words of its summary too."
    said = {p.relative_to(out).as_posix(): re.search(r'<meta name="description" content="(.*?)"',
                                                     p.read_text()) for p in out.rglob("*.html")}
    file = out/"search.json"
    entries = with_summaries(json.loads(file.read_text()),
                             {p: unescape(m[1]) for p,m in said.items() if m})
    file.write_text(json.dumps([*entries], ensure_ascii=False))


def build(out):
    "Build the site in `out`; the number of pages, and what is wrong with them."
    try:
        from smalldocs.config import load
        from smalldocs.site import Site
        import latex2mathml                             # noqa: F401
    except ImportError as e:
        sys.exit(f"the site needs {e.name}: pip install '.[dev]', with Python 3.11 or newer")
    out = Path(out).resolve()
    if out.is_dir() and any(out.iterdir()) and not (out/"search.json").exists():
        sys.exit(f"{out} holds something else than a site: name another folder")
    shutil.rmtree(out, ignore_errors=True)
    os.chdir(ROOT)
    os.environ["IN_TEST"] = "1"  # as nbdev sets it where it runs a notebook's cells
    warnings.filterwarnings("ignore", "Unknown section")  # of Matplotlib's docstrings, in a page
    cfg = get_config()
    with tempfile.TemporaryDirectory() as tmp:
        src = Path(tmp).resolve()
        stage(cfg, src)
        themes(src)
        (src/"_smalldocs.yml").write_text(yaml.safe_dump(site_config(cfg, out)))
        site = Site(load(src), quiet=True)
        n = site.build()
    for page in out.rglob("*.html"): page.write_text(formulas(accessible(page.read_text())))
    summarise_search(out)
    lost = out/"404.html"                                # shown at any address, however deep
    html = lost.read_text().replace('href="#', 'href="404.html#')
    base = f'<base href="{cfg.doc_baseurl.rstrip("/")}/">'
    lost.write_text(html.replace("<head>", f"<head>{base}", 1))
    return n, [*site.warnings, *problems(out)]


# --- README -----------------------------------------------------------------------------------

TABLE = re.compile(r"^\| room \|.*\n(?:\|.*\n)+", re.M)


def rooms():
    "The table of rooms and their chapters, as Markdown for the index notebook."
    rows = ["| room | what it does | chapters |", "| --- | --- | --- |"]
    for room,what in ROOMS.items():
        nbs = sorted((ROOT/"nbs"/room).glob("*.ipynb"))
        links = [f"[{short(p.name)[:-6].replace('_', ' ')}]({room}/{p.name})" for p in nbs]
        rows.append(f"| `{room}` | {what} | {', '.join(links)} |")
    return "\n".join(rows)+"\n"


def write_rooms(cfg):
    "Bring the index notebook's table up to date."
    path = ROOT/"nbs"/cfg.readme_nb
    nb = read_nb(path)
    for c in nb.cells:
        if c.cell_type == "markdown": c.set_source(TABLE.sub(lambda m: rooms(), c.source))
    write_nb(nb, path)


def readme(cfg):
    "README.md and its pictures, {path: bytes}, from the index notebook and its saved outputs."
    at = f"nbs/{cfg.readme_nb}"
    nb = nbformat.read(ROOT/at, 4)
    nb.metadata["language_info"] = {"name": "python"}  # nbdev-clean drops it
    nb.cells = [c for c in nb.cells if not re.match(r"#\s*\|\s*hide\b", c.source)]
    alts = re.findall(r"^#\| fig-alt: (.+)", "\n".join(c.source for c in nb.cells), re.M)
    for c in nb.cells:
        if c.cell_type == "markdown": c.source = LINK.sub(lambda m: m[1]+target(m, at), c.source)
        else:
            if re.search(r"^#\s*\|\s*echo:\s*false", c.source, re.M):
                c.metadata["transient"] = {"remove_source": True}
            c.source = re.sub(r"^#\s*\|.*\n?", "", c.source, flags=re.M)
    pictures = {"output_files_dir": "README_files"}
    md, res = MarkdownExporter().from_notebook_node(nb, resources=pictures)
    md = re.sub(r"(?<=!\[)png(?=\])", lambda _: alts.pop(0), md)
    md = re.sub(r"[ \t]+$", "", md, flags=re.M).strip()+"\n"
    parts = md.split("```")                                # every second one is code
    md = "```".join(p if i % 2 else re.sub(r"\n{3,}", "\n\n", p) for i,p in enumerate(parts))
    return {"README.md": md.encode(), **res["outputs"]}


def readme_problems(files):
    "How the README on disk differs from `files`, and its dead links."
    here = {"README.md", *(p.relative_to(ROOT).as_posix() for p in (ROOT/"README_files").glob("*"))}
    def fresh(f): return f in files and (ROOT/f).exists() and (ROOT/f).read_bytes() == files[f]
    to = [unquote(m[2]) for m in LINK.finditer(files["README.md"].decode())]
    stale = [] if rooms() in (ROOT/"README.md").read_text().replace("](nbs/", "](") else \
        ["README.md has not all chapters: run make docs"]
    return stale + [f"{f} is not what nbs/index.ipynb gives: run make docs"
                    for f in sorted({*here, *files}) if not fresh(f)] + \
           [f"README.md: dead link {t}" for t in to if not (ROOT/t).exists()]


def write_readme(files):
    "Write README.md and its pictures, and remove pictures that are gone."
    shutil.rmtree(ROOT/"README_files", ignore_errors=True)
    for name,data in files.items():
        (ROOT/name).parent.mkdir(exist_ok=True)
        (ROOT/name).write_bytes(data)


def main():
    a = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    a.add_argument("--check", action="store_true",
                   help="write nothing: only compare README.md and look for pictures without words")
    a.add_argument("--out", help="build the site in this folder and leave README.md alone")
    a = a.parse_args()
    cfg = get_config(ROOT)
    bad, done = picture_problems(), []
    if not a.out:
        if not a.check: write_rooms(cfg)
        files = readme(cfg)
        if not a.check:
            write_readme(files)
            done.append("README.md")
        bad += readme_problems(files)
    if not a.check:
        n, wrong = build(a.out or cfg.doc_path)
        bad += wrong
        done.append(f"{n} pages in {a.out or cfg.doc_path.name}")
    for b in bad: print(b)
    print(", ".join([*done, f"{len(bad)} problems"]))
    return bool(bad)


if __name__ == "__main__": raise SystemExit(main())

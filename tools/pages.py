"What the site's pages have beyond smalldocs: words for pictures, folded tests, formulas."
import ast, re
from html import unescape

import yaml

OPTION = re.compile(r"^#\s*\|\s*([\w-]+):\s(.*)$", re.M)


def wordless(cells):
    "The ids of cells with a stored picture whose `fig-alt` is missing, empty or not read."
    for c in cells:
        kinds = {k for o in c.get("outputs", []) for k in o.get("data", {})}
        if not any(k.startswith("image/") for k in kinds): continue
        said = "\n".join(f"{k}: {v}" for k,v in OPTION.findall("".join(c["source"])))
        try: alt = (yaml.safe_load(said) or {}).get("fig-alt")
        except yaml.YAMLError: alt = None      # such as a second colon, without quotes
        if not alt: yield c["id"]


# --- tests ------------------------------------------------------------------------------------

FOLDED = '#| code-fold: true\n#| code-summary: "Tests"\n'


def called(node):
    "The name of the function that a node calls, if it calls one by name."
    return node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""


def is_test(node):
    "Whether a statement only tests."
    match node:
        case ast.Assert(): return True
        case ast.Expr(value=v): return called(v).startswith("test_") or called(v) == "expect_fail"
        case ast.With(items=items) if any(called(i.context_expr) == "expect_fail" for i in items):
            return True
        case ast.For(body=body) | ast.With(body=body): return all(map(is_test, body))
    return False


def fold_tests(cells):
    "Fold the cells that show nothing and end in a test, if no later cell needs a name of theirs."
    needed = set()
    for c in reversed([c for c in cells if c["cell_type"] == "code"]):
        nodes = [*ast.walk(tree := ast.parse(c["source"]))]
        names = [(n.id, n.ctx) for n in nodes if isinstance(n, ast.Name)]
        made = {i for i,ctx in names if isinstance(ctx, ast.Store)} | \
               {n.asname or n.name for n in nodes if isinstance(n, ast.alias)} | \
               {n.name for n in nodes if isinstance(n, ast.FunctionDef | ast.ClassDef)}
        if not c["outputs"] and tree.body and is_test(tree.body[-1]) and not made & needed:
            c["source"] = FOLDED+c["source"]
        else: needed = (needed | {i for i,ctx in names if isinstance(ctx, ast.Load)}) - made


# --- formulas ---------------------------------------------------------------------------------

LATEX = re.compile(r'<span class="math (inline|display)">\\[\[(](.*?)\\[\])]</span>', re.S)
KATEX = re.compile(r'\s*<(?:link|script)\b[^>]*/katex[^>]*>(?:</script>)?')


def formulas(html):
    "LaTeX as MathML, which a browser shows without a script and without a network."
    from latex2mathml.converter import convert
    def mathml(found):
        shown = "block" if found[1] == "display" else "inline"
        return convert(unescape(found[2]), display=shown).replace(
            "<mi>log</mi>", '<mi>log</mi><mspace width="0.17em" />')  # or it touches what follows
    return LATEX.sub(mathml, KATEX.sub("", html))


# --- search -----------------------------------------------------------------------------------

def with_summaries(entries, summaries):
    "Search entries, each page's own first and with its summary as section, by {page: summary}."
    own, seen = {e["href"]: e for e in entries if "#" not in e["href"]}, set()
    for e in entries:
        page = e["href"].partition("#")[0]
        if page not in seen:
            first = own.get(page) or dict(objectID=page, href=page, title=e["title"], text="")
            yield first | dict(section=summaries.get(page, ""))
            seen.add(page)
        if e is not own.get(page): yield e


# --- tables -----------------------------------------------------------------------------------

MARKDOWN_TABLE = re.compile(r'<table class="caption-top table">.*?</table>', re.S)
WIDE = 3  # columns: on a narrow page, the cells of a row stand below each other, each with its name


def name_cells(html):
    "Give each cell of a wide table the name of its column, which a narrow page shows beside it."
    def named(table):
        heads = [re.sub("<[^>]*>", "", h) for h in re.findall(r"<th\b[^>]*>(.*?)</th>", table[0])]
        if len(heads) < WIDE: return table[0]
        def row(cells):
            names = iter(heads)
            return re.sub("<td", lambda _: f'<td data-label="{next(names)}"', cells[0])
        rows = re.sub("<tr>.*?</tr>", row, table[0], flags=re.S)
        return rows.replace('class="', 'class="stacks ', 1)
    return MARKDOWN_TABLE.sub(named, html)

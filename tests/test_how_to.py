"The pages of nbs/how_to and nbs/reference: what they name exists, what they show is so today."
import ast, io, json, os, re, shlex
from contextlib import redirect_stdout
from inspect import signature

import pytest

import tree
from selective_unlearning import unlearn
from selective_unlearning.core.dotted import field_names
from selective_unlearning.job.command import make_parser, settings_of
from selective_unlearning.job.settings import PRESETS, RunConfig

PAGES = {p: json.loads((tree.ROOT/p).read_text(encoding="utf-8")) for p in tree.files()
         if p.suffix == ".ipynb" and p.parts[1] in ("how_to", "reference")}
SETTINGS, PARSER = field_names(RunConfig), make_parser()
FLAGS = {flag for p in (PARSER, *PARSER.commands.values()) for flag in p._option_string_actions}
PARTS = {name.partition(".")[0] for name in SETTINGS if "." in name}
FILES = "json|jsonl|svg|csv|arrow|ipynb|html|yaml|py"
OTHERS = {*"pip python vllm docker llama-server hf accelerate cp git".split()}  # programs
each_page = pytest.mark.parametrize("path", sorted(PAGES), ids=lambda p: f"{p.parts[1]}-{p.stem}")


def prose(nb):
    return "\n\n".join("".join(c["source"]) for c in nb["cells"] if c["cell_type"] == "markdown")


def code_cells(nb): return [c for c in nb["cells"] if c["cell_type"] == "code"]
def blocks(text): return re.findall(r"^```(\w*)\n(.*?)^```", text, re.M | re.S)


def spans(text):
    "What is in backticks, outside of blocks."
    return re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))


def commands(text):
    "The arguments of each of this package's commands in the blocks of a text."
    for kind,block in blocks(text):
        if kind == "python": continue
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(re.sub(r"\$\w+", "0", line), comments=True)
            for program in ("selective-unlearning", "selective_unlearning"):
                if program in words and "install" not in words:
                    yield words[words.index(program)+1:]


def unknown_flags(text):
    "Flags in backticks that no command has; those of other programs are not looked at."
    named = [s for s in spans(text) if s.split()[0] not in OTHERS and "=" not in s.split()[0]]
    return {f for s in named for f in re.findall(r"(?<![\w-])--[a-z][\w-]*", s)} - FLAGS


def unknown_settings(text):
    "Names with a dot, and names before an equals sign, that are no settings."
    code = [*spans(text), *(block for _,block in blocks(text))]
    dotted = rf"(?<![\w./-])((?:{'|'.join(PARTS)})\.(?!(?:{FILES})\b)\w+)"
    found = {name for s in code for name in re.findall(dotted, s)}
    return (found | {m[1] for s in spans(text) if (m := re.match(r"([a-z_.]+)=", s))}) - {*SETTINGS}


def unknown_keywords(text):
    "Keywords of `unlearn`, in blocks and in backticks, that are no settings."
    known = {*signature(unlearn).parameters, *(n.partition(".")[0] for n in SETTINGS)}
    code = [b for kind,b in blocks(text) if kind == "python"]
    code += [s for s in spans(text) if re.search(r"\bunlearn\(", s)]
    for call in (n for c in code for n in ast.walk(ast.parse(c.replace("…", "_")))):
        if not (isinstance(call, ast.Call) and ast.unparse(call.func) == "unlearn"): continue
        for k in call.keywords:
            if k.arg not in known: yield k.arg
            if isinstance(k.value, ast.Dict):
                yield from ({f"{k.arg}.{ast.literal_eval(x)}" for x in k.value.keys}-{*SETTINGS})


SAMPLE = """Use `--bitz` or `--set labels.alpa=2`, `pip install --no-index x` and `watch.json`;
`seeed=1`; `unlearn(…, train={"batch": 1}, sed=1)`.

```sh
A= selective-unlearning run --seed $seed \\
  --set unlearn.epoch=2    # a remark
accelerate launch --config_file a.yaml -m selective_unlearning report --run runs/mine
```
"""


def test_wrong_names_are_seen():
    assert unknown_flags(SAMPLE) == {"--bitz"}
    assert unknown_settings(SAMPLE) == {"labels.alpa", "unlearn.epoch", "seeed"}
    assert {*unknown_keywords(SAMPLE)} == {"train.batch", "sed"}
    assert [*commands(SAMPLE)] == [["run", "--seed", "0", "--set", "unlearn.epoch=2"],
                                   ["report", "--run", "runs/mine"]]


@each_page
def test_flags_and_settings_exist(path):
    text = prose(PAGES[path])
    assert not unknown_flags(text)
    assert not unknown_settings(text)
    assert not [*unknown_keywords(text)]


@each_page
def test_commands_can_be_parsed(path):
    "And their settings go together."
    for words in commands(prose(PAGES[path])):
        if words == ["--version"]: continue
        args = PARSER.parse_args(words)
        if args.command in ("run", "demo"): settings_of(args)


def test_there_are_commands():
    shown = [c for nb in PAGES.values() for c in commands(prose(nb))]
    assert len(shown) > 25 and {c[0] for c in shown} >= {"run", "chat", "export"}


def shown(cell, names):
    "What a cell prints, and its value as Markdown or HTML, as a notebook shows it."
    *first, last = ast.parse("".join(cell["source"])).body
    value, printed = None, io.StringIO()
    with redirect_stdout(printed):
        if not isinstance(last, ast.Expr): first.append(last)
        exec(compile(ast.Module(first, []), "cell", "exec"), names)
        if isinstance(last, ast.Expr): value = eval(ast.unparse(last), names)
    out = {"text": printed.getvalue()}
    for kind in "markdown", "html":
        if draw := getattr(value, f"_repr_{kind}_", None): out[f"text/{kind}"] = draw()
    return {k: " ".join(v.split()) for k,v in out.items() if v}


def stored(cell):
    "The same, as it is in the notebook."
    out = {}
    for o in cell["outputs"]:
        data = o.get("data", {}) | ({"text": o["text"]} if "text" in o else {})
        out |= {k: " ".join("".join(v).split()) for k,v in data.items() if k != "text/plain"}
    return out


@each_page
def test_stored_outputs_are_what_the_code_gives(path, monkeypatch):
    "Tables of settings, presets, limits, extras and estimates, and the command's help."
    monkeypatch.chdir((tree.ROOT/path).parent)
    monkeypatch.setitem(os.environ, "COLUMNS", "86")
    names, tables = {}, 0
    for cell in code_cells(PAGES[path]):
        if "#| eval: false" in "".join(cell["source"]): continue
        made = shown(cell, names)
        assert made == stored(cell)
        tables += "text/markdown" in made
    if path.parts[1] == "reference": assert tables == 1


def test_settings_table_has_all_settings():
    page = next(nb for p,nb in PAGES.items() if p.name == "00_settings.ipynb")
    table = next(stored(c)["text/markdown"] for c in code_cells(page) if c["outputs"])
    assert re.findall(r"\| `([\w.]+)` \| [\w ]+ \|", table) == [*SETTINGS]


def test_each_preset_is_explained():
    text = next(prose(nb) for p,nb in PAGES.items() if p.name == "01_preset.ipynb")
    assert re.findall(r"^\| `(\w+)` \| a ", text, re.M) == ["demo", "finetuned", "paper"]
    assert {*PRESETS} == {"demo", "finetuned", "paper"}


@each_page
def test_pages_are_short_and_export_nothing(path):
    text = prose(PAGES[path])
    assert not [line for line in text.splitlines() if len(line) > 140]
    assert len([line for line in text.splitlines() if line.strip()]) < 80
    assert all("".join(c["source"]).strip() for c in PAGES[path]["cells"])
    assert "default_exp" not in "".join("".join(c["source"]) for c in code_cells(PAGES[path]))

"Rules that hold across the whole repository."
import ast, asyncio, configparser, copy, json, re, runpy, shutil, subprocess, sys

import pytest
from jupyter_client.kernelspec import get_kernel_spec
from traitlets.config import Config

import docs, selective_unlearning, tree

PACKAGE = tree.ROOT/"selective_unlearning"
ROOMS = ["core", "models", "corpus", "terms", "labels", "training", "evaluation", "job"]
HEAVY = {"torch", "transformers", "datasets", "peft", "matplotlib"}
BY_HAND = {"__init__", "__main__", "_modidx"}
HOME = selective_unlearning._HOME


def source(nb): return ["".join(c["source"]) for c in nb["cells"] if c["cell_type"] == "code"]


def module(nb):
    "The module a notebook exports to, or None."
    found = re.search(r"^#\|\s*default_exp ([\w.]+)", "\n".join(source(nb)), re.M)
    return found and found[1]


NOTEBOOKS = {p: json.loads((tree.ROOT/p).read_text()) for p in tree.files() if p.suffix == ".ipynb"}
EXPORTING = {p: nb for p,nb in NOTEBOOKS.items() if module(nb)}
MODULES = {module(nb): p for p,nb in EXPORTING.items()}


def place(name):
    "Where a module stands: its room's number, its own inside the room."
    path = MODULES[name]
    return ROOMS.index(path.parts[1]), int(path.name.split("_")[0])


def imported(code, here):
    "What the code of the module `here` imports from this package, wherever in it."
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import): names = [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            up = ["selective_unlearning", *here.split(".")][:-node.level] if node.level else []
            base = ".".join([*up, *filter(None, [node.module])])
            names = [f"{base}.{a.name}" for a in node.names]
        else: continue
        for name in names:
            package, *rest = name.split(".")
            if package != "selective_unlearning" or not rest: continue
            yield ".".join(rest[:2]) if rest[0] in ROOMS else rest[0]


def test_imported_sees_every_form():
    code = """
import selective_unlearning.core.a, torch
from selective_unlearning.core.b import x
from selective_unlearning import c
def f():
    from .d import y
    from . import e
    from ..core.g import z
    from .. import h
"""
    expected = ["core.a", "core.b", "c", "job.d", "job.e", "core.g", "h"]
    assert list(imported(code, "job.here")) == expected


def test_each_module_has_a_numbered_notebook_in_its_room():
    modules = {p.relative_to(PACKAGE).with_suffix("").as_posix().replace("/", ".")
               for p in PACKAGE.rglob("*.py") if p.stem not in BY_HAND}
    assert modules == set(MODULES)
    named = {".".join([p.parts[1], p.stem.split("_", 1)[1]]) for p in EXPORTING}
    assert named == modules
    assert len({*map(place, modules)}) == len(modules), "two notebooks of a room have one number"


@pytest.mark.parametrize("name", sorted(MODULES))
def test_modules_import_only_from_rooms_above_and_lower_numbers(name):
    code = (PACKAGE/f"{name.replace('.', '/')}.py").read_text()
    uses = {HOME.get(m, m) for m in imported(code, name)}
    assert not {m for m in uses & set(MODULES) if place(m) >= place(name)}
    hidden = re.search(r"\b(globals|locals|vars)\(\)\[", code)
    assert not hidden, "a look-up that no search can follow"


ASK = ("from selective_unlearning.job.command import main; "
       "sys.argv = ['selective-unlearning', {}]; main()")


@pytest.mark.parametrize("code, heavy", [
    ("import selective_unlearning; dir(selective_unlearning)", HEAVY),
    ("import selective_unlearning.job.settings", HEAVY),
    ("import selective_unlearning.evaluation.report", HEAVY-{"matplotlib"}),
    (ASK.format("'--help'"), HEAVY), (ASK.format("'run', '--help'"), HEAVY),
    (ASK.format("'run', '--corpus', 'absent.txt'"), HEAVY), (ASK.format("'chat', 'absent'"), HEAVY),
], ids=["package", "settings", "report", "help", "help of a command", "no corpus", "no run"])
def test_light_until_work_begins(code, heavy):
    report = "import atexit, sys; atexit.register(lambda: print('loaded', *sys.modules)); "
    p = subprocess.run([sys.executable, "-c", report+code], capture_output=True, text=True)
    assert p.returncode == 0, p.stderr
    loaded = set(p.stdout.rpartition("loaded ")[2].split())
    assert "selective_unlearning" in loaded
    assert not heavy & loaded


FRONT_DOOR = f"""
import importlib, sys
import selective_unlearning as s
def load(module): return importlib.import_module(f"selective_unlearning.{{module}}")
if "modules" in sys.argv:
    for module in {sorted(MODULES)}: load(module)
for name in s.__all__:
    got = getattr(__import__("selective_unlearning", fromlist=[name]), name)
    assert got is getattr(load(s._HOME[name]), name), name
"""


@pytest.mark.parametrize("first", ["names", "modules"])
def test_front_door(first):
    """A name on the package is the same thing, whatever was imported before.

    The first line that a user reads is ours, not another library's warning."""
    cmd = [sys.executable, "-c", FRONT_DOOR, first]
    p = subprocess.run(cmd, capture_output=True, text=True)
    assert (p.returncode, p.stdout, p.stderr) == (0, "", "")


def test_unknown_name():
    with pytest.raises(AttributeError, match="no attribute 'unlern'"):
        getattr(selective_unlearning, "un"+"lern")


def test_versions_agree():
    ini = configparser.ConfigParser(interpolation=None)
    ini.read(tree.ROOT/"settings.ini", encoding="utf-8")
    version = ini["DEFAULT"]["version"]
    assert version == selective_unlearning.__version__
    assert f"## {version}\n" in (tree.ROOT/"CHANGELOG.md").read_text()


def shows(code):
    "Whether a cell prints, or ends in a value that is no call."
    if re.search(r"^#\|\s*(export|exporti|hide|default_exp|eval)", code, re.M): return False
    values = [s.value for s in ast.parse(code).body if isinstance(s, ast.Expr)]
    prints = any(isinstance(v, ast.Call) and ast.unparse(v.func) == "print" for v in values)
    *_, last = ast.parse(code or "0").body
    return prints or isinstance(last, ast.Expr) and not isinstance(last.value, ast.Call)


def test_shows_sees_what_prints():
    assert shows("x = 1\nx") and shows("print(1)\nx = 2")
    assert not shows("x = 1") and not shows("test(x)") and not shows("#| hide\nx")


@pytest.mark.parametrize("path", sorted(EXPORTING), ids=lambda p: p.stem)
def test_notebooks_show_their_outputs(path):
    cells = [c for c in EXPORTING[path]["cells"] if c["cell_type"] == "code"]
    outputs = [o for c in cells for o in c["outputs"]]
    assert outputs, "no output is saved: a reader sees nothing"
    assert not [o for o in outputs if o["output_type"] == "error"]
    bare = [c["id"] for c in cells if shows("".join(c["source"])) and not c["outputs"]]
    assert not bare, "cells that print or end in a value, without an output"


@pytest.mark.parametrize("path", sorted(NOTEBOOKS), ids=lambda p: p.stem)
def test_notebooks_name_their_kernel(path):
    "Without it JupyterLab asks the reader to choose one, and runs nothing before."
    kernel = {"display_name": "python3", "language": "python", "name": "python3"}
    assert NOTEBOOKS[path]["metadata"] == {"kernelspec": kernel}


def test_jupyterlab_opens_and_saves_notebooks_as_they_are(tmp_path):
    "With the configuration of `make lab`; a notebook of another kernel keeps its own."
    c = Config()
    runpy.run_path(tree.ROOT/"tools/jupyter_config.py", init_globals={"get_config": lambda: c})
    files = c.ServerApp.contents_manager_class(root_dir=str(tmp_path))
    async def saved(name):
        content = (await files.get(name))["content"]
        metadata = copy.deepcopy(content["metadata"])
        await files.save(dict(type="notebook", format="json", content=content), name)
        return metadata
    for p in NOTEBOOKS:
        own = shutil.copy(tree.ROOT/p, tmp_path/p.name)
        opened = asyncio.run(saved(p.name))
        assert opened["language_info"]["version"] == sys.version.split()[0]
        assert opened["kernelspec"]["display_name"] == get_kernel_spec("python3").display_name
        assert (tree.ROOT/p).read_bytes() == own.read_bytes(), p
    other = {"name": "ir", "display_name": "R", "language": "R"}
    own.write_text(json.dumps(NOTEBOOKS[p] | dict(metadata={"kernelspec": other})))
    assert asyncio.run(saved(p.name)) == {"kernelspec": other}


# --- what no file may hold --------------------------------------------------------------------
# Patterns and samples are put together here, so that this file passes too.

FORBIDDEN = {
    "secret": r"\bhf_[A-Za-z0-9]{20}|\bsk-[\w-]{20}|\bAKIA[A-Z0-9]{16}\b|BEGIN [A-Z ]*PRIVATE KEY",
    "absolute path": r"(?<![\w.~/\-])/(?:root|home|work|tmp|Users|mnt)/\w|\b[A-Z]:\\{1,2}Users\b",
    "registry": r"\bpypi\.org|pythonhosted\.org|download\.pytorch\.org|registry\.npmjs\.org",
    # between / and +: a picture's bytes
    "loose end": r"(?<![\w/+])(?:TO" + r"DO|FIX" + r"ME|XX" + r"X)(?![\w/+])",
}
SAMPLES = {
    "secret": "token = 'hf_" + "a1B2c3D4e5"*3 + "'",
    "absolute path": "open('/" + "home/someone/x')",
    "registry": "https://py" + "pi.org/simple",
    "loose end": "# TO" + "DO later",
}


@pytest.mark.parametrize("kind", FORBIDDEN)
def test_no_file_holds(kind):
    def findings(text): return [m[0] for m in re.finditer(FORBIDDEN[kind], text)]
    assert findings(SAMPLES[kind])
    found = {}
    for p in tree.files():
        try: text = (tree.ROOT/p).read_text(encoding="utf-8")
        except UnicodeDecodeError: continue
        if hits := findings(text): found[str(p)] = hits
    assert not found


UNSAFE = {"allow_pickle": True, "trust_remote_code": True, "shell": True, "weights_only": False}


def unsafe(code):
    "Where code would run or unpickle what a file says."
    for node in ast.walk(ast.parse(code)):
        match node:
            case ast.Call(func=ast.Name(id="eval" | "exec" as name)): yield name
            case ast.Import(names=names):
                yield from (a.name for a in names if a.name in ("pickle", "dill"))
            case ast.ImportFrom(module="pickle" | "dill" as name): yield name
            case ast.keyword(arg=arg, value=ast.Constant(value=bool(v))) if UNSAFE.get(arg) is v:
                yield f"{arg}={v}"


def test_no_code_runs_or_unpickles_what_it_reads():
    sample = "import pickle\neval('1')\nnp.load(f, allow_pickle=True)\nload(f, weights_only=False)"
    assert list(unsafe(sample)) == ["pickle", "eval", "allow_pickle=True", "weights_only=False"]
    assert not list(unsafe("model.eval()\nast.literal_eval(s)\nnp.load(f, allow_pickle=False)"))
    code = [p for p in tree.files() if p.suffix == ".py" and p.parts[0] != "tests"]
    found = {str(p): list(unsafe((tree.ROOT/p).read_text())) for p in code}
    assert not {p: hits for p,hits in found.items() if hits}


def test_every_file_is_small():
    "Saved outputs and data can be read in a diff."
    sizes = {str(p): (tree.ROOT/p).stat().st_size for p in tree.files()}
    assert not {p: n for p,n in sizes.items() if n > 1_500_000}


def test_links_between_notebooks_lead_to_files():
    "The site finds a page without its number; on GitHub and in JupyterLab a link needs it."
    def text(nb): return "\n".join("".join(c["source"]) for c in nb["cells"]
                                   if c["cell_type"] == "markdown")
    links = [(str(p), docs.target(m, p.as_posix()))
             for p,nb in NOTEBOOKS.items() for m in docs.LINK.finditer(text(nb))]
    assert len(links) > 20
    assert not [(p, to) for p,to in links if not (tree.ROOT/to).exists()]

"Wheel and sdist: what they declare, what they hold, and that they work outside the checkout."
import ast, configparser, os, re, subprocess, sys, sysconfig, tarfile, venv, zipfile
from email.parser import Parser
from importlib.metadata import packages_distributions

import pytest
from packaging.requirements import Requirement

DATA = ("harry_potter/corpus", "harry_potter/dictionary.json", "harry_potter/prompts.jsonl",
        "harry_potter/fresh.jsonl", "harry_potter/fresh_homonyms.jsonl", "fresh_near.jsonl",
        "holmes/corpus", "holmes/prompts.jsonl", "near.jsonl", "neighbours.jsonl", "general.jsonl",
        "holdout")


def run(*cmd, **kwargs):
    p = subprocess.run([str(c) for c in cmd], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                       text=True, **kwargs)
    assert p.returncode == 0, p.stdout
    return p.stdout


@pytest.fixture(scope="module")
def built(checkout, tmp_path_factory):
    "A wheel from the checkout, an sdist, and a wheel from that sdist."
    out = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--no-isolation"]
    log = run(*build, "--wheel", "--outdir", out/"tree", checkout)
    log += run(*build, "--outdir", out/"sdist", checkout)
    return {"wheel": next(out.glob("tree/*.whl")), "sdist": next(out.glob("sdist/*.tar.gz")),
            "wheel from sdist": next(out.glob("sdist/*.whl")), "log": log}


def names(wheel):
    with zipfile.ZipFile(wheel) as z: return set(z.namelist())


def read(wheel, end):
    name = next(n for n in names(wheel) if n.endswith(end))
    with zipfile.ZipFile(wheel) as z: return z.read(name).decode()


def needed(specs, extra):
    "What `specs` ask for with `extra`, as (name, extras, versions)."
    reqs = [Requirement(s) for s in specs]
    return {(r.name.lower(), frozenset(r.extras), str(r.specifier)) for r in reqs
            if r.marker is None or r.marker.evaluate({"extra": extra})}


UNDECLARED = {"torchao"}  # stands in for bitsandbytes where it is installed
UNIMPORTED = {"gguf"}     # transformers reads the embedded model with it


def imports(code):
    "The packages that a module imports: always, and only when a function is called."
    always, called, tree = set(), set(), ast.parse(code)
    inside = {n for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) for n in ast.walk(f)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import): found = {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level: found = {node.module}
        else: continue
        (called if node in inside else always).update(m.partition(".")[0] for m in found)
    return always, called


def test_imports_sees_where_they_are():
    code = "import a, b.c\nfrom d.e import f\nfrom . import g\ndef h():\n    import i.j"
    assert imports(code) == ({"a", "b", "d"}, {"i"})


def test_what_is_imported_is_declared(root):
    "Always: by the package itself. In a function: at least by an extra. And nothing else is asked."
    ini = configparser.ConfigParser(interpolation=None, delimiters=["="])
    ini.read(root/"settings.ini", encoding="utf-8")
    declared = {k.removesuffix("_requirements"): {n.replace("-", "_") for n,*_ in needed(v, "")}
                for k,v in ((k, v.split()) for k,v in ini["DEFAULT"].items())
                if k.endswith("requirements")}
    core, found = declared["requirements"], packages_distributions()
    def names(modules):
        own = sys.stdlib_module_names | {"selective_unlearning"}
        return {found.get(m, [m])[0].lower().replace("-", "_") for m in modules-own}
    codes = [p.read_text() for p in (root/"selective_unlearning").glob("*/*.py")]
    always, called = (names(set().union(*kind)) for kind in zip(*map(imports, codes)))
    assert always-core == set()
    users = set().union(*(v for k,v in declared.items() if k not in ("dev", "bench")))
    assert called-users == UNDECLARED
    assert core-always-called == UNIMPORTED
    asked = {pair for code in codes for pair in re.findall(r'_optional\("(\w+)", "(\w+)"\)', code)}
    assert asked and all(names({module}) <= declared[extra] for module,extra in asked)


@pytest.mark.parametrize("which", ["wheel", "wheel from sdist"])
def test_metadata_is_what_settings_say(built, root, which):
    ini = configparser.ConfigParser(interpolation=None, delimiters=["="])
    ini.read(root/"settings.ini", encoding="utf-8")
    cfg = ini["DEFAULT"]
    meta = Parser().parsestr(read(built[which], "METADATA"))
    assert (meta["Version"], meta["Requires-Python"]) == (cfg["version"], ">=3.10")
    assert meta["License-Expression"] == "Apache-2.0"
    assert "# selective_unlearning" in meta.get_payload(), "README.md is missing"
    requires, base = meta.get_all("Requires-Dist"), cfg["requirements"].split()
    assert needed(requires, "") == needed(base, "")
    assert "torch" in {name for name,*_ in needed(base, "")}
    extras = meta.get_all("Provides-Extra")
    assert {"dev", "pdf", "html", "epub", "widgets"} <= set(extras)
    assert {f"{e}_requirements" for e in extras} == {k for k in cfg if k.endswith("_requirements")}
    for e in extras:
        assert needed(requires, e) == needed(base+cfg[f"{e}_requirements"].split(), e)
    scripts = read(built[which], "entry_points.txt")
    assert "selective-unlearning = selective_unlearning.job.command:main" in scripts


def test_wheels_hold_package_and_data(built, root):
    wheel = names(built["wheel"])
    assert wheel == names(built["wheel from sdist"])
    package = {p.relative_to(root).as_posix() for p in (root/"selective_unlearning").rglob("*.py")}
    package.add("selective_unlearning/py.typed")
    assert package <= wheel
    for d in DATA: assert any(n.startswith(f"selective_unlearning/data/{d}") for n in wheel), d
    rest = {n for n in wheel - package if not n.startswith("selective_unlearning/data/")}
    assert all(".dist-info/" in n for n in rest), "tests, tools or notebooks are in the wheel"


def test_building_warns_of_nothing(built):
    "But of what PYTHONDONTWRITEBYTECODE asks for."
    warned = [line for line in built["log"].splitlines() if "warning" in line.lower()]
    assert not [line for line in warned if "byte-compiling is disabled" not in line]


def test_sdist_holds_sources(built):
    with tarfile.open(built["sdist"]) as t: held = {n.partition("/")[2] for n in t.getnames()}
    assert {"settings.ini", "setup.py", "pyproject.toml", "constraints.txt", "LICENSE", "README.md",
            "CITATION.cff", "tools/site.css",
            "nbs/index.ipynb", *(f"data/{d}" for d in DATA)} <= held


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    "An empty environment with the wheel; dependencies come from the one that runs the tests."
    home = tmp_path_factory.mktemp("elsewhere")
    venv.create(home/"env", with_pip=False)
    python = home/"env/bin/python"
    pip = [sys.executable, "-m", "pip", "--python", python]
    run(*pip, "install", "--no-deps", "--no-index", built["wheel"])
    site = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    # a plain line only adds to sys.path: the checkout's editable install, itself a .pth, stays out
    with open(f"{site}/dependencies.pth", "w") as f: f.write(sysconfig.get_path("purelib")+"\n")
    env = {k: v for k,v in os.environ.items() if k != "PYTHONPATH"}
    return lambda *cmd, **kw: run(home/"env/bin"/cmd[0], *cmd[1:], cwd=home, env=env, **kw)


def test_command_answers_outside_the_checkout(installed):
    text = installed("selective-unlearning", "--help")
    assert "usage: selective-unlearning" in text
    assert "demo" in text


def test_each_module_of_the_wheel_can_be_imported(built, installed):
    modules = {n.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
               for n in names(built["wheel"])
               if n.endswith(".py") and not n.endswith(("__main__.py", "_modidx.py"))}
    assert {"selective_unlearning", "selective_unlearning.terms.match"} <= modules
    code = f"import importlib\nfor m in {sorted(modules)}: importlib.import_module(m)"
    installed("python", "-c", code)


@pytest.mark.parametrize("name", DATA)
def test_demo_data_is_in_the_installed_package(installed, root, name):
    code = ("import selective_unlearning as s\n"
            "from selective_unlearning.core.files import data_path\n"
            f"print(s.__file__); print(data_path({name!r}))")
    package, data = installed("python", "-c", code).split()
    assert data == f"{os.path.dirname(package)}/data/{name}"
    assert not data.startswith(f"{root}/")

"""Every test: lint, exported modules, notebooks, pytest, documentation site, README.

Two run at a time, on half of the cores each: the tests spend most of their time where a second
thread does not help. All run, even after one failed, and nothing in the tree is changed. The last
line counts notebooks, pytest's tests and the other checks together; the exit status is 1 if any
failed.
"""
import os, subprocess, sys, tempfile, time, traceback
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import lab, test_nbs, tree

BIN = Path(sys.executable).parent
LANES = 2
BROWSER = "tests/test_browser.py"                      # minutes: a part of its own
TUTORIALS = test_nbs.find(["nbs/tutorials/*.ipynb"])
PASSED, FAILED, SKIPPED = (1, 0, 0), (0, 1, 0), (0, 0, 1)


def check(*cmd, cwd=tree.ROOT):
    "Run a command that is one check: its counts, and what it printed if it failed."
    p = subprocess.run([str(c) for c in cmd], cwd=cwd, capture_output=True, text=True)
    return (FAILED, p.stdout+p.stderr) if p.returncode else (PASSED, "")


def together(*ran):
    "Several checks as one."
    failed = [out for counts,out in ran if counts == FAILED]
    return (FAILED, "".join(failed)) if failed else (PASSED, "")


def lint():
    "What `make lint` runs: ruff over code and notebooks, mypy over the package."
    return together(check(BIN/"ruff", "check", "--no-cache"),
                    check(BIN/"mypy", f"--cache-dir={os.devnull}"))


def exported():
    "Exporting and cleaning the notebooks of a copy changes no file of it."
    def contents(root):
        files = [*root.glob("nbs/**/*"), *root.glob("selective_unlearning/**/*")]
        return {p.relative_to(root): p.read_bytes() for p in files
                if p.is_file() and p.suffix != ".pyc"}
    with tempfile.TemporaryDirectory() as tmp:
        copy = tree.copy(Path(tmp))
        before = contents(copy)
        ran = [check(BIN/cmd, cwd=copy) for cmd in ("nbdev-export", "nbdev-clean")]
        after = contents(copy)
    changed = [str(f) for f in sorted({*before, *after}) if before.get(f) != after.get(f)]
    if changed:
        return FAILED, f"run nbdev-export && nbdev-clean, which change {', '.join(changed)}"
    return together(*ran)


def notebook(nb):
    ok, cells, _, out = test_nbs.run(nb)
    return (PASSED, f"{cells} cells") if ok else (FAILED, out)


def pytest(*args):
    "The tests under tests/, counted from pytest's own report; no report is a failure."
    with tempfile.TemporaryDirectory() as tmp:
        xml = Path(tmp)/"pytest.xml"
        cmd = [sys.executable, "-m", "pytest", "-q", "--durations=5", f"--junitxml={xml}", *args]
        p = subprocess.run(cmd, cwd=tree.ROOT, capture_output=True, text=True,
                           errors="backslashreplace")  # a test may print any bytes
        if not xml.exists(): return FAILED, p.stdout+p.stderr
        suites = list(ET.parse(xml).iter("testsuite"))
    tests, failures, errors, skipped = (sum(int(s.get(k)) for s in suites)
                                        for k in ("tests", "failures", "errors", "skipped"))
    failed = max(failures+errors, int(p.returncode != 0))
    return (max(tests-failed-skipped, 0), failed, skipped), p.stdout


def site():
    if sys.version_info < (3, 11): return SKIPPED, "smalldocs needs Python 3.11"
    with tempfile.TemporaryDirectory() as tmp:
        return check(sys.executable, "tools/docs.py", "--out", f"{tmp}/site")


def readme(): return check(sys.executable, "tools/docs.py", "--check")


def timed(part, *args):
    "Counts, what was printed, and seconds."
    start = time.time()
    try: counts, out = part(*args)
    except (Exception, SystemExit): counts, out = FAILED, traceback.format_exc()
    return counts, out, time.time()-start


def main():
    os.environ.pop("IN_TEST", None)  # nbdev's commands do nothing where it is set
    test_nbs.share(LANES)
    browser = lab.chromium()  # with one, test_browser builds the site and runs the tutorials itself
    nbs = [nb for nb in test_nbs.find(["nbs/**/*.ipynb"]) if nb not in TUTORIALS or not browser]
    parts = [(pytest, f"--ignore={BROWSER}"), (pytest, BROWSER), (lint,), (exported,), (readme,),
             *[(site,)]*(not browser), *((notebook, nb) for nb in nbs)]
    total = (0, 0, 0)
    with ThreadPoolExecutor(LANES) as lanes:              # the longest first
        running = {lanes.submit(timed, *part): part for part in parts}
        for done in as_completed(running):
            (part, *args), (counts, out, secs) = running[done], done.result()
            total = tuple(a+b for a,b in zip(total, counts))
            name = " ".join([part.__name__, *map(str, args)])
            print(f"{'FAIL' if counts[1] else 'ok  '} {name} ({secs:.1f} s)", flush=True)
            if out: print("     "+out.rstrip().replace("\n", "\n     "), flush=True)
    passed, failed, skipped = total
    print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    return bool(failed or not passed)


if __name__ == "__main__": raise SystemExit(main())

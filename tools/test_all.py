"""Every test: lint, exported modules, notebooks, pytest, documentation site, README.

All parts run, even after one failed, and nothing in the tree is changed. The last line counts
notebooks, pytest's tests and the four checks together; the exit status is 1 if any failed.
"""
import os, subprocess, sys, tempfile, time, traceback
import xml.etree.ElementTree as ET
from pathlib import Path

import test_nbs, tree

BIN = Path(sys.executable).parent
PASSED, FAILED, SKIPPED = (1, 0, 0), (0, 1, 0), (0, 0, 1)


def check(*cmd, cwd=tree.ROOT):
    "Run a command that is one check, and show what it printed if it failed."
    p = subprocess.run([str(c) for c in cmd], cwd=cwd, capture_output=True, text=True)
    if p.returncode: print(p.stdout+p.stderr)
    return PASSED if p.returncode == 0 else FAILED


def lint():
    "What `make lint` runs: ruff over code and notebooks, mypy over the package."
    ran = [check(BIN/"ruff", "check", "--no-cache"), check(BIN/"mypy", f"--cache-dir={os.devnull}")]
    return FAILED if FAILED in ran else PASSED


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
    changed = [f for f in sorted({*before, *after}) if before.get(f) != after.get(f)]
    for f in changed: print(f"{f} changes: run nbdev-export && nbdev-clean")
    return FAILED if changed or FAILED in ran else PASSED


def notebooks(): return *test_nbs.run_all(["nbs/**/*.ipynb"]), 0


def pytest():
    "The tests under tests/, counted from pytest's own report; no report is a failure."
    with tempfile.TemporaryDirectory() as tmp:
        xml = Path(tmp)/"pytest.xml"
        cmd = [sys.executable, "-m", "pytest", "-q", "--durations=5", f"--junitxml={xml}"]
        rc = subprocess.run(cmd, cwd=tree.ROOT).returncode
        if not xml.exists(): return FAILED
        suites = list(ET.parse(xml).iter("testsuite"))
    tests, failures, errors, skipped = (sum(int(s.get(k)) for s in suites)
                                        for k in ("tests", "failures", "errors", "skipped"))
    failed = max(failures+errors, int(rc != 0))
    return max(tests-failed-skipped, 0), failed, skipped


def site():
    if sys.version_info < (3, 11):
        print("skipped: smalldocs needs Python 3.11")
        return SKIPPED
    with tempfile.TemporaryDirectory() as tmp:
        return check(sys.executable, "tools/docs.py", "--out", f"{tmp}/site")


def readme(): return check(sys.executable, "tools/docs.py", "--check")


def main():
    os.environ.pop("IN_TEST", None)  # nbdev's commands do nothing where it is set
    os.environ["PATH"] = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    total = (0, 0, 0)
    for part in (lint, exported, notebooks, pytest, site, readme):
        name, start = part.__name__, time.time()
        print(f"--- {name}", flush=True)
        try: counts = part()
        except (Exception, SystemExit):
            traceback.print_exc()
            counts = FAILED
        total = tuple(a+b for a,b in zip(total, counts))
        print(f"{name}: {counts[0]} passed, {counts[1]} failed, {counts[2]} skipped, "
              f"{time.time()-start:.0f} s\n", flush=True)
    passed, failed, skipped = total
    print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    return bool(failed or not passed)


if __name__ == "__main__": raise SystemExit(main())

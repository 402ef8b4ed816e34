"Run notebooks, each in a process of its own; refuse to pass when nothing ran."
import argparse, multiprocessing, os, sys, tempfile, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from nbdev.config import get_config
from nbdev.test import nb_test_cells, nbdev_test

from tree import ROOT

BIN = Path(sys.executable).parent
FORKS = multiprocessing.get_context("forkserver")    # libraries are imported once for all notebooks
FORKS.set_forkserver_preload(["peft", "datasets", "matplotlib.pyplot", "nbdev.test"])


def share(lanes):
    "Set the environment of processes that run beside others."
    os.environ["PATH"] = f"{BIN}{os.pathsep}{os.environ['PATH']}"  # they may call commands in there
    os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1)//lanes))
    os.environ["KMP_BLOCKTIME"] = "0"              # no thread waits in a loop


def alone(nb, flags, printed):
    "What `nbdev-test` does with one notebook, in this process; what it prints goes to a file."
    with open(printed, "wb") as file:
        for stream in sys.stdout, sys.stderr: os.dup2(file.fileno(), stream.fileno())
    nbdev_test(str(ROOT/nb), n_workers=0, flags=" ".join(flags))


def run(nb, flags=()):
    "Run one notebook: whether it passed, cells run, seconds, and what it printed."
    start = time.time()
    with tempfile.NamedTemporaryFile("r") as printed:
        process = FORKS.Process(target=alone, args=(nb, flags, printed.name))
        process.start()
        process.join()
        out = printed.read() or f"its process ended with {process.exitcode}"
    secs = time.time()-start
    ok = process.exitcode == 0 and "Success." in out  # nbdev-test exits with 0 if it runs nothing
    skip = get_config(ROOT).tst_flags.split()
    cells = len(nb_test_cells(ROOT/nb, skip_flags=skip, force_flags=[*flags])) if ok else 0
    return ok, cells, secs, out


def find(globs):
    "The notebooks that match, as paths from the root; one glob without any ends the program."
    found = {g: [p.relative_to(ROOT) for p in ROOT.glob(g)] for g in globs}
    nbs = sorted({p for ps in found.values() for p in ps if not any(q[0] in "._" for q in p.parts)})
    none = [g for g,ps in found.items() if not ps]
    if none or not nbs: sys.exit(f"no notebook matches {none or globs}")
    return nbs


def run_all(globs, flags=(), workers=2):
    "Run every notebook that matches, print a line each; how many passed, how many failed."
    nbs, failed = find(globs), 0
    share(workers)
    with ThreadPoolExecutor(workers) as ex:
        results = ex.map(lambda nb: run(nb, flags), nbs)
        for nb,(ok, cells, secs, out) in zip(nbs, results):
            failed += not ok
            print(f"ok   {nb} ({cells} cells, {secs:.1f} s)" if ok else f"FAIL {nb}\n{out}",
                  flush=True)
    return len(nbs)-failed, failed


def main():
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument("globs", nargs="*", default=["nbs/**/*.ipynb"], help="from the project's root")
    a.add_argument("--flags", nargs="*", default=[], help="run cells with these flags too: slow")
    a.add_argument("--workers", type=int, default=2)
    a = a.parse_args()
    passed, failed = run_all(a.globs, a.flags, a.workers)
    print(f"{passed} passed, {failed} failed")
    return bool(failed)


if __name__ == "__main__": raise SystemExit(main())

"""Run benchmarks and print their ratios: all of benchmarks/, or those named.

    python benchmarks/run.py [NAME …]

A benchmark is a script benchmarks/NAME.py that ends with `save("NAME", rows)` from this module.
Each row has a claim, our figure, the peer's, unit, ratio, spread, target and which way is better:
"higher", "lower", or "near 1", where a target of 1.25 asks for a ratio from 1/1.25 to 1.25. A
missed target stays in the file as a row that misses it and fails nothing; a broken script does.
"""
import importlib.metadata as metadata
import json, os, platform, re, subprocess, sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
RESULTS = HERE/"results"
SIGNS = {"higher": "≥", "lower": "≤", "near 1": "1 within a factor"}
KEYS = {"claim", "ours", "peer", "unit", "ratio", "spread", "target", "better"}
MORE = {"taught"}  # a row may have it: the figure before unlearning
PACKAGES = ("selective_unlearning", "torch", "transformers", "peft", "datasets", "accelerate",
            "tokenizers", "numpy")


def machine():
    "What the figures were measured on."
    memory, info = os.sysconf("SC_PAGE_SIZE")*os.sysconf("SC_PHYS_PAGES"), Path("/proc/cpuinfo")
    model = re.search(r"model name\s*: (.+)", info.read_text()) if info.exists() else None
    return {"cpu": model[1] if model else platform.machine(), "cores": os.cpu_count(),
            "system": platform.system(),
            "memory_gb": round(memory/2**30, 1)}


def met(row):
    "Whether a row reaches its target."
    ratio, goal = row["ratio"], row["target"]
    if row["better"] == "near 1": return max(ratio, 1/ratio) <= goal
    return ratio >= goal if row["better"] == "higher" else ratio <= goal


def save(name, rows, *packages, **measured):
    """Write `benchmarks/results/NAME.json`.

    It has the machine, what was `measured` of it, and versions, of further `packages` too."""
    for r in rows:
        if {*r}-MORE != KEYS:
            raise ValueError(f"{name}: a row has {sorted(r)}, needs {sorted(KEYS)}")
        if r["better"] not in SIGNS: raise ValueError(f"{name}: better is {r['better']!r}")
    versions = {p: metadata.version(p) for p in (*PACKAGES, *packages)}
    versions["python"] = platform.python_version()
    result = {"name": name, "machine": machine() | measured, "versions": versions, "rows": rows}
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(result, indent=1, sort_keys=True)+"\n"
    (RESULTS/f"{name}.json").write_text(text, encoding="utf-8")


def others(name, *beginnings):
    "The rows of a result whose claims do not begin like that."
    path = RESULTS/f"{name}.json"
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []
    return [r for r in rows if not r["claim"].startswith(beginnings)]


def show(name):
    "Print the rows of a result."
    for r in json.loads((RESULTS/f"{name}.json").read_text(encoding="utf-8"))["rows"]:
        print(f"{name}: {r['claim']}: {r['ours']:g} against {r['peer']:g} {r['unit']}, "
              f"ratio {r['ratio']:.3f} ± {r['spread']:.3f}, "
              f"target {SIGNS[r['better']]} {r['target']:g}: {'met' if met(r) else 'MISSED'}")


def main(names):
    known = sorted(p.stem for p in HERE.glob("[!_]*.py") if p.stem != "run")
    if unknown := sorted(set(names)-set(known)):
        sys.exit(f"no benchmark {', '.join(unknown)}; there are: {', '.join(known) or 'none'}")
    broken = []
    for name in names or known:
        print(f"--- {name}", flush=True)
        (RESULTS/f"{name}.json").unlink(missing_ok=True)
        rc = subprocess.run([sys.executable, HERE/f"{name}.py"], cwd=HERE.parent).returncode
        if rc or not (RESULTS/f"{name}.json").exists(): broken.append(name)
        else: show(name)
    if broken: print("broken:", *broken)
    print(f"{len(names or known)-len(broken)} run, {len(broken)} broken")
    return bool(broken)


if __name__ == "__main__": raise SystemExit(main(sys.argv[1:]))

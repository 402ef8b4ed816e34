"""What each part of the recipe does: the demo with one part changed at a time, several seeds.

    python benchmarks/ablations.py [VARIANT …]      some variants only; the rows of others stay
    python benchmarks/ablations.py --seeds 1        fewer seeds than SEEDS

Measured on the *tune* half of the prompts, neighbours and homonyms, which is also what the recipe
was chosen on: it tells parts apart and is no evidence of forgetting. Every figure is a share of the
base model's: what is left beyond the control (0 is forgotten, 1 untouched), without signs and for
facts with an everyday answer, or how much is kept. Spread is half the range over the seeds. A
variant takes about five minutes a seed, and what is done stays in runs/bench-ablations, so that a
run that is stopped goes on where it was.
"""
import argparse, shutil, statistics
from pathlib import Path

from run import others, save
from selective_unlearning.core.files import data_path, write_jsonl
from selective_unlearning.evaluation.measures import read_prompts
from selective_unlearning.evaluation.metrics import LIMITS, get_figure
from selective_unlearning.job.run import demo_config, run
from selective_unlearning.job.settings import configure

NAME, SEEDS, WORK = "ablations", 3, Path("runs/bench-ablations")
NO_RETAIN = {"retain.samples": 0, "retain.translated": False, "unlearn.retain_weight": 0}
VARIANTS = {
    "the recipe": {},
    "alpha 0, nothing reinforced": {"labels.alpha": 0},
    "alpha 5": {"labels.alpha": 5},
    "four draws": {"labels.draws": 4},
    "no renamed text": {"written.renamed": 0},
    "no recalled text": {"written.recalled": 0},
    "no written text": {"written.renamed": 0, "written.recalled": 0},
    "no retain set": NO_RETAIN,
    "no weight on names": {"unlearn.anchor_weight": 1},
    "hard labels": {"labels.kind": "hard"},
    "the paper's rule": {"labels.rule": "paper"},
    "the paper's rule and a hinge": {"labels.rule": "paper", "unlearn.hinge_weight": 2},
}
FIGURES = {"left, without signs": "forgotten.absolute", "left": "forgotten.probability",
           "left, plain words": "forgotten.by_form.plain.probability", "reading": "ratio.reading",
           "homonyms": "ratio.homonyms", "ring 1": "rings.1.ratio", "ring 3": "rings.3.ratio"}


def measured(variant, seed):
    "report.json of one run; the steps it shares with the recipe are copied from there."
    files = dict(prompts=WORK/"prompts.jsonl", seed=seed)
    write_jsonl(files["prompts"], [p for p in read_prompts(data_path("harry_potter/prompts.jsonl"))
                                   if p["kind"] == "probability" and p.get("half") == "tune"])
    settings = files | {"evaluate.half": "tune"} | VARIANTS[variant]
    folder, first = (WORK/str(seed)/v.replace(" ", "-") for v in (variant, "the recipe"))
    if not folder.exists() and (first/"report.json").exists():
        shutil.copytree(first, folder, ignore=shutil.ignore_patterns(".lock", "report.*"))
    return run(configure(demo_config(), settings), folder).results


def rows(variant, seeds):
    reports, out = [measured(variant, seed) for seed in range(seeds)], []
    limits = {limit.path: limit for limit in LIMITS}
    for what, path in FIGURES.items():
        values, limit = [get_figure(r, path) for r in reports], limits[path]
        kept = limit.better == "higher"
        out.append(dict(claim=f"{variant}: {what}", ours=round(statistics.mean(values), 4), peer=1.,
                        unit="of the base model's", ratio=round(statistics.mean(values), 4),
                        spread=round((max(values)-min(values))/2, 4), target=limit.limit,
                        better="higher" if kept else "lower"))
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("variants", nargs="*", metavar="VARIANT")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    args = parser.parse_args()
    if unknown := {*args.variants}-{*VARIANTS}:
        parser.error(f"no variant {', '.join(unknown)}; there are: {', '.join(VARIANTS)}")
    kept = others(NAME, args.variants) if args.variants else []
    for name in args.variants or VARIANTS:
        kept += rows(name, args.seeds)
        save(NAME, kept, seeds=args.seeds)


if __name__ == "__main__": main()

"""What each part of the recipe does, and what other methods do: the demo with one thing changed.

    python benchmarks/recipes.py [VARIANT …]        some only, e.g. "npo, lr 0.0004"
    python benchmarks/recipes.py --seeds 1 …        fewer seeds than SEEDS

All have the same model, blocks, adapter, steps and retain set, unless a variant says otherwise.
They are measured on the *tune* half of the prompts, neighbours and homonyms, on which the recipe
was chosen, with more tries than any other method had: this tells variants apart and is no evidence
of forgetting. Strengths and retain weights of other methods are the published ones.

Every figure is a share of the base model's: what is left beyond the control (0 is forgotten, 1
untouched), without signs and for facts with an everyday answer, or how much is kept. Spread is half
the range over the seeds. A run takes about ten minutes. Its figures are added to
results/recipes.jsonl, and used again as long as no setting and no file that it reads has changed.
"""
import argparse, json, shutil, statistics
from pathlib import Path

from run import RESULTS, others, save
from selective_unlearning.core.files import read_jsonl, text_hash, write_jsonl
from selective_unlearning.evaluation.measures import read_prompts
from selective_unlearning.evaluation.metrics import LIMITS, get_figure
from selective_unlearning.job.run import demo_config, run
from selective_unlearning.job.run_folder import Run
from selective_unlearning.job.settings import PRESETS, configure
from selective_unlearning.job.step_list import step_keys
from selective_unlearning.training.methods import METHODS

NAME, SEEDS, WORK = "recipes", 3, Path("runs/bench-recipes")
PAPER = "the paper preset"
RUNS = RESULTS/"recipes.jsonl"
NO_RETAIN = {"retain.samples": 0, "retain.translated": False, "unlearn.retain_weight": 0}
NO_EXCESS = {"unlearn.excess_weight": 0}
RATES, LOWER, STRENGTHS = (4e-4, 1.5e-3), {"ga": (1e-4,)}, (.5, 1., 2.)
PARTS = {
    "the recipe": {},
    "alpha 0, nothing reinforced": {"labels.alpha": 0},
    "alpha 1": {"labels.alpha": 1},
    "alpha 20": {"labels.alpha": 20},
    "four draws": {"labels.draws": 4},
    "no renamed text": {"written.renamed": 0},
    "no recalled text": {"written.recalled": 0},
    "200 longer recalled texts": {
        "written.recalled": 200, "written.recalled_length": 64, "written.relations": False},
    "no written text": {"written.renamed": 0, "written.recalled": 0},
    "no retain set": NO_RETAIN,
    "no weight on names": {"unlearn.anchor_weight": 1},
    "plain labels weigh alike": {"unlearn.distance_weight": 0},
    "weights learn everywhere": {"unlearn.at_names": False},
    "no excess weight": NO_EXCESS,
    "no excess weight, alpha 0, nothing reinforced": NO_EXCESS | {"labels.alpha": 0},
    "no excess weight, no retain set": NO_EXCESS | NO_RETAIN,
    "no excess weight, plain labels weigh alike": NO_EXCESS | {"unlearn.distance_weight": 0},
    "no excess weight, weights learn everywhere": NO_EXCESS | {"unlearn.at_names": False},
    "adapters in the feed-forward layers only": {"lora.targets": "mlp"},
    "no adapter in the first quarter": {"lora.first_layer": .25},
    "hard labels": {"labels.kind": "hard"},
    "the paper's rule": {"labels.rule": "paper"},
    "the paper's rule and a hinge": {"labels.rule": "paper", "unlearn.hinge_weight": 2},
    "the paper's rule, a hinge, no written text": {
        "labels.rule": "paper", "unlearn.hinge_weight": 2, "written.renamed": 0,
        "written.recalled": 0},
    PAPER: {},
    f"{PAPER}, a third of its rates": {"unlearn.lr": 1e-5, "reinforce.lr": 3e-5},
    f"{PAPER}, three times its rates": {"unlearn.lr": 9e-5, "reinforce.lr": 2.7e-4},
}
FIGURES = {"left, without signs": "forgotten.absolute", "left": "forgotten.probability",
           "left, plain words": "forgotten.by_form.plain.probability", "reading": "ratio.reading",
           "homonyms": "ratio.homonyms", "ring 1": "rings.1.ratio", "ring 2": "rings.2.ratio",
           "ring 3": "rings.3.ratio", "perplexity": "ratio.holdout_perplexity"}


def other_methods():
    """Each other method with the values that it tries of its one setting.

    Two epochs of the demo's 104 blocks are as many steps as one of blocks and written texts."""
    for method in METHODS:
        if method == "prompt-only": yield method, {"method": method}
        elif method == "task-vector":
            for v in STRENGTHS: yield f"{method}, strength {v:g}", {"method": method, "strength": v}
        elif method != "whp":
            more = {"method": method, "unlearn.epochs": 2}
            for lr in LOWER.get(method, ())+RATES:
                yield f"{method}, lr {lr:g}", more | {"unlearn.lr": lr}


VARIANTS = {**PARTS, **dict(other_methods())}


def settings(variant, seed):
    prompts, half = WORK/"prompts.jsonl", read_prompts(demo_config().prompts, "tune")
    write_jsonl(prompts, [p for p in half if p["kind"] == "probability"])
    start = PRESETS["paper" if variant.startswith(PAPER) else "demo"]
    return configure(demo_config(start), {"prompts": prompts, "seed": seed, "evaluate.half": "tune"}
                     | VARIANTS[variant])


def cost(done):
    "Processor seconds of the steps that the method needs, up to the unlearned model."
    steps = {"labels", "retain", "unlearned", *METHODS[done.config.method].needs}
    return round(sum(done.manifest["steps"][s]["cpu_seconds"] for s in steps))


def measured(variant, seed):
    "The record of one run; the steps it shares with the recipe are copied from there."
    config = settings(variant, seed)
    folder, first = (WORK/str(seed)/text_hash(v)[:8] for v in (variant, "the recipe"))
    key = text_hash(json.dumps(step_keys(Run(folder, config))))
    known = read_jsonl(RUNS) if RUNS.exists() else []
    if same := [r for r in known if r["key"] == key]: return same[-1]
    if not folder.exists() and (first/"report.json").exists():
        shutil.copytree(first, folder, ignore=shutil.ignore_patterns(".lock", "report.*"))
    done = run(config, folder)
    record = dict(variant=variant, seed=seed, key=key, cpu_seconds=cost(done),
                  figures={f: get_figure(done.results, path) for f,path in FIGURES.items()})
    with RUNS.open("a", encoding="utf-8") as lines: lines.write(json.dumps(record)+"\n")
    return record


def rows(variant, records):
    limits, out = {limit.path: limit for limit in LIMITS}, []
    for what, path in FIGURES.items():
        values = [r["figures"][what] for r in records]
        limit, mean = limits.get(path), round(statistics.mean(values), 4)
        goal, higher = (limit.limit, limit.better == "higher") if limit else (1.01, False)
        out.append(dict(claim=f"{variant}: {what}", ours=mean, peer=1., unit="of the base model's",
                        ratio=mean, spread=round((max(values)-min(values))/2, 4), target=goal,
                        better="higher" if higher else "lower"))
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("variants", nargs="*", metavar="VARIANT")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    args = parser.parse_args()
    if unknown := {*args.variants}-{*VARIANTS}:
        parser.error(f"no variant {'; '.join(unknown)}; there are: {'; '.join(VARIANTS)}")
    for variant in args.variants or VARIANTS:
        records = [measured(variant, seed) for seed in range(args.seeds)]
        save(NAME, others(NAME, f"{variant}:") + rows(variant, records))


if __name__ == "__main__": main()

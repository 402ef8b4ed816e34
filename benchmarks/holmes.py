"""A second subject that the embedded model knows from pre-training: Sherlock Holmes.

    python benchmarks/holmes.py

No setting was chosen by what is left of this subject, and the dictionary is the one that the
extractor makes of `data/holmes/corpus`, corrected by nobody. So the rows show whether the defaults
hold on another text. The run is what `selective-unlearning run --corpus data/holmes/corpus
--prompts data/holmes/prompts.jsonl` does, but for the demo's openers: the one that names the
subject is left out. The neighbours of ring 1 are those that the run makes itself, those of ring 3
the demo's that name no term of the subject.

Ours is the mean of SEEDS runs, and what is left has a row for each of them too; the peer is a model
that nothing was done to. The ratio is ours again, held against the limit of the report; a form has
the limit of all prompts, and what cannot be measured has no row. Spread is half the width of the
95 % interval, for the mean that of the runs on average: all are asked the same prompts. The choices
right have the control's as their limit. The runs stay in runs/bench-holmes.
"""
import statistics
from pathlib import Path

from fresh import BASE, FORGOTTEN, KNOWN, LEFT, row
from run import save
from selective_unlearning.core.files import data_path, read_jsonl, write_jsonl
from selective_unlearning.evaluation.metrics import get_figure
from selective_unlearning.job.run import run
from selective_unlearning.job.settings import RunConfig

NAME, SEEDS, WORK = "holmes", 3, Path("runs/bench-holmes")
RIGHT = "of the choices"
FIGURES = {what: (path, KNOWN) for what,path in FORGOTTEN.items()} | {  # path of a figure, unit
    "choices right, unlearned − control": ("forgotten.choice", "points"),
    "choices right": ("familiarity.choice.unlearned", RIGHT),
    "choices right, control": ("familiarity.choice.control", RIGHT),
    "reading": ("ratio.reading", BASE),
    "ring 1": ("rings.1.ratio", BASE),
    "ring 3": ("rings.3.ratio", BASE),
    "rise in perplexity": ("perplexity_rise", "%"),
    "fall in general accuracy": ("general_drop", "points")}


def measured(seed):
    "The report of a run with the default settings and the subject's files, but no dictionary."
    d, openers = data_path("holmes"), WORK/"openers.jsonl"
    write_jsonl(openers, [r for r in read_jsonl(data_path("openers.jsonl"))
                          if "Sherlock" not in r["opener"]])
    files = dict(corpus=(str(d/"corpus"),), prompts=str(d/"prompts.jsonl"), openers=str(openers))
    return run(RunConfig(**files, seed=seed), WORK/str(seed)).results


def averaged(what, path, reports, unit):
    "The row of the runs' mean."
    def mean(model): return statistics.mean(get_figure(r, f"familiarity.choice.{model}")
                                            for r in reports)
    right = unit == RIGHT
    peer = mean("base") if right else float(unit in (KNOWN, BASE))
    rows = [row(what, path, r, peer, unit) for r in reports]
    n = [get_figure(r["intervals"], path)[2] for r in reports]
    means = {k: round(statistics.mean(r[k] for r in rows), 4) for k in ("ours", "ratio", "spread")}
    limit = dict(target=round(mean("control"), 4)) if right else {}
    return rows[0] | means | limit | dict(
        claim=f"{what}, n = {min(n)}" + f" to {max(n)}"*(min(n) < max(n)))


def main():
    reports = [*map(measured, range(SEEDS))]
    rows = [averaged(what, path, reports, unit) for what,(path,unit) in FIGURES.items()
            if all(get_figure(r, path) is not None for r in reports)]
    rows += [averaged(f"left, seed {i}", LEFT, [r], KNOWN) for i,r in enumerate(reports)]
    save(NAME, rows)


if __name__ == "__main__": main()

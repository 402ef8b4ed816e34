"""The demo, asked what nobody had looked at: `harry_potter/fresh.jsonl` instead of the test half.

    python benchmarks/fresh.py

The test half has been measured for every recipe that was tried since it was written. These prompts
were written later, and the recipe is older than they are. Both are asked of the same models, those
of runs/demo, which is made if it is not there; the new answers are in runs/fresh.

Ours is the figure with the fresh prompts, the peer's that with the test half, and the ratio is
ours again, held against the limit of the report; a form of prompts has that of all. Spread is half
the width of the 95 % interval.
"""
import shutil
from dataclasses import replace
from pathlib import Path

from run import save
from selective_unlearning.core.files import data_path
from selective_unlearning.evaluation.metrics import LIMITS, get_figure
from selective_unlearning.job.run import demo_config, run

NAME, PROMPTS = "fresh", "harry_potter/fresh.jsonl"
LEFT, FORM = "forgotten.probability", "forgotten.by_form.{}.probability"
FIGURES = {"left": LEFT, "left, without signs": "forgotten.absolute",
           "left, plain words": FORM.format("plain"), "left, by name": FORM.format("name"),
           "left, reversed": FORM.format("reversed"), "left, indirect": FORM.format("indirect"),
           "left, by alias": FORM.format("alias")}


def rows(fresh, tested):
    "A row for each figure, from the two reports."
    limits, out = {limit.path: limit.limit for limit in reversed(LIMITS)}, []
    for claim,path in FIGURES.items():
        value, (low, high, n) = get_figure(fresh, path), get_figure(fresh["intervals"], path)
        out.append(dict(claim=f"{claim}, {n} facts", ours=round(value, 4),
                        peer=round(get_figure(tested, path), 4), unit="of what the base knows",
                        ratio=round(value, 4), spread=round((high-low)/2, 4),
                        target=limits.get(path, limits[LEFT]), better="lower"))
    return out


def main():
    config, folder = demo_config(), Path("runs/fresh")
    demo = run(config, "runs/demo")
    if not folder.exists():                                # for the steps that they share
        shutil.copytree(demo.folder, folder, ignore=shutil.ignore_patterns(".lock", "report.*"))
    fresh = run(replace(config, prompts=str(data_path(PROMPTS))), folder)
    save(NAME, rows(fresh.results, demo.results))


if __name__ == "__main__": main()

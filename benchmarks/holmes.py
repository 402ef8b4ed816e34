"""A second subject that the embedded model knows from pre-training: Sherlock Holmes.

    python benchmarks/holmes.py

No setting was chosen by what is left of this subject, and the dictionary is the one that the
extractor makes of `data/holmes/corpus`, corrected by nobody. So the rows show whether the defaults
hold on another text. The run is what `selective-unlearning run --corpus data/holmes/corpus
--prompts data/holmes/prompts.jsonl` does, but for the demo's openers: the one that names the
subject is left out. The neighbours of ring 1 are those that the run makes itself, those of ring 3
the demo's that name no term of the subject.

The peer's figure is the demo's, in runs/demo, which is made if it is not there; its dictionary is
curated and its neighbours are written by hand. The ratio is ours again, held against the limit of
the report; a form has the limit of all prompts, and what cannot be measured has no row. Spread is
half the width of the 95 % interval. The run stays in runs/bench-holmes.
"""
from pathlib import Path

from fresh import BASE, FORGOTTEN, KNOWN, row
from run import save
from selective_unlearning.core.files import data_path, read_jsonl, write_jsonl
from selective_unlearning.evaluation.metrics import get_figure
from selective_unlearning.job.run import demo_config, run
from selective_unlearning.job.settings import RunConfig

NAME, FOLDER = "holmes", Path("runs/bench-holmes")
FIGURES = {what: (path, KNOWN) for what,path in FORGOTTEN.items()} | {  # path of a figure, unit
    "choices right, unlearned − control": ("forgotten.choice", "points"),
    "reading": ("ratio.reading", BASE),
    "ring 1": ("rings.1.ratio", BASE),
    "ring 3": ("rings.3.ratio", BASE),
    "rise in perplexity": ("perplexity_rise", "%"),
    "fall in general accuracy": ("general_drop", "points")}


def config():
    "The default settings with the subject's files, and no dictionary."
    d, openers = data_path("holmes"), FOLDER.with_name("bench-holmes-openers.jsonl")
    write_jsonl(openers, [r for r in read_jsonl(data_path("openers.jsonl"))
                          if "Sherlock" not in r["opener"]])
    return RunConfig(corpus=(str(d/"corpus"),), prompts=str(d/"prompts.jsonl"),
                     openers=str(openers))


def main():
    demo = run(demo_config(), "runs/demo").results
    ours = run(config(), FOLDER).results
    save(NAME, [row(what, path, ours, demo, unit) for what,(path,unit) in FIGURES.items()
                if get_figure(ours, path) is not None])


if __name__ == "__main__": main()

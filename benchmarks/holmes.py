"""A second subject that the embedded model knows from pre-training: Sherlock Holmes.

    python benchmarks/holmes.py

Nothing was chosen on this subject: all settings were chosen on the demo's, and the dictionary is
the one that the extractor makes of `data/holmes/corpus`, corrected by nobody. So the rows show
whether the defaults hold on another text. The run is what `selective-unlearning run --corpus
data/holmes/corpus --prompts data/holmes/prompts.jsonl` does: it makes its own neighbours, and reads
the demo's general items and holdout texts.

The peer's figure is the demo's, in runs/demo, which is made if it is not there; its dictionary is
curated and its neighbours are written by hand. The ratio is ours again, held against the limit of
the report; a form has the limit of all prompts, and what cannot be measured has no row. Spread is
half the width of the 95 % interval. The last row has the shares of the choices that the base model
(as `taught`), the unlearned one and the control get right. The run stays in runs/bench-holmes.
"""
from run import save
from selective_unlearning.core.files import data_path
from selective_unlearning.evaluation.metrics import LIMITS, get_figure
from selective_unlearning.job.run import demo_config, run
from selective_unlearning.job.settings import RunConfig
from taught import right

NAME, FOLDER = "holmes", "runs/bench-holmes"
LEFT, FORM = "forgotten.probability", "forgotten.by_form.{}.probability"
KNOWN, BASE = "of what the base knows", "of the base model's"
FIGURES = {  # what: (path of the figure, its unit)
    "left": (LEFT, KNOWN),
    "left, without signs": ("forgotten.absolute", KNOWN),
    "left, plain words": (FORM.format("plain"), KNOWN),
    "left, by name": (FORM.format("name"), KNOWN),
    "left, reversed": (FORM.format("reversed"), KNOWN),
    "left, indirect": (FORM.format("indirect"), KNOWN),
    "left, by alias": (FORM.format("alias"), KNOWN),
    "reading": ("ratio.reading", BASE),
    "neighbours": ("ratio.neighbours", BASE),
    "rise in perplexity": ("perplexity_rise", "%"),
    "fall in general accuracy": ("general_drop", "points")}


def config():
    "The default settings with the subject's files, and no dictionary."
    d = data_path("holmes")
    return RunConfig(corpus=(str(d/"corpus"),), prompts=str(d/"prompts.jsonl"))


def row(what, path, unit, ours, demo):
    "A figure of two reports."
    limits = {limit.path: limit.limit for limit in reversed(LIMITS)}  # the first of a path counts
    usual = .95 if unit == BASE else limits[LEFT]
    value, (low, high, n) = get_figure(ours, path), get_figure(ours["intervals"], path)
    return dict(claim=f"{what}, n = {n}", ours=round(value, 4),
                peer=round(get_figure(demo, path), 4), unit=unit,
                ratio=round(value, 4), spread=round((high-low)/2, 4),
                target=limits.get(path, usual), better="higher" if unit == BASE else "lower")


def rows(ours, demo):
    "The rows of two reports."
    choices = ours["familiarity"]["choice"]
    measured = {what: (path, unit) for what,(path,unit) in FIGURES.items()
                if get_figure(ours, path) is not None}
    return [*(row(what, *figure, ours, demo) for what,figure in measured.items()),
            right("choices", *(choices[m] for m in ("base", "unlearned", "control")))]


def main():
    demo = run(demo_config(), "runs/demo").results
    save(NAME, rows(run(config(), FOLDER).results, demo))


if __name__ == "__main__": main()

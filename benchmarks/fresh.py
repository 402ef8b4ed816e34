"""The demo, asked what is younger than its recipe: fresh prompts, neighbours and homonyms.

    python benchmarks/fresh.py

The test halves have been measured for every recipe that was tried since they were written. These
probes were written later, and the recipe is older than they are. Both are asked of the same models,
those of runs/demo, which is made if it is not there; the new answers are in runs/fresh. Some of the
prompts ask for facts of an older one again: those that share a name and their first answer with one
have a row of their own, and so have the commonest answers, and names among ring 1's.

Ours is the figure with the fresh probes, the peer's that with the test half, and the ratio is
ours again, held against the limit of the report; a part has that of all. Spread is half the width
of the 95 % interval.
"""
import shutil
from dataclasses import replace
from pathlib import Path

from run import save
from selective_unlearning.core.files import data_path
from selective_unlearning.evaluation.intervals import interval
from selective_unlearning.evaluation.measures import read_prompts
from selective_unlearning.evaluation.metrics import LIMITS, get_figure, summarise
from selective_unlearning.job.results import read_measured
from selective_unlearning.job.run import demo_config, run
from selective_unlearning.terms.dictionary import Dictionary

NAME = "fresh"
FRESH = dict(prompts="harry_potter/fresh.jsonl", neighbours="fresh_near.jsonl",
             homonyms="harry_potter/fresh_homonyms.jsonl")
LEFT, FORM = "forgotten.probability", "forgotten.by_form.{}.probability"
KNOWN, BASE = "of what the base knows", "of the base model's"
FORGOTTEN = {"left": LEFT, "left, without signs": "forgotten.absolute",
             "left, plain words": FORM.format("plain"), "left, by name": FORM.format("name"),
             "left, reversed": FORM.format("reversed"), "left, indirect": FORM.format("indirect"),
             "left, by alias": FORM.format("alias"), "left, reminded": FORM.format("reminded")}
SURVIVES = {"ring 1": "rings.1.ratio", "ring 2": "rings.2.ratio", "ring 3": "rings.3.ratio",
            "homonyms": "ratio.homonyms"}
COMMONEST = {"wizard", "wizards", "witch", "magic", "magical", "student", "students"}


def record(claim, ours, bounds, peer, unit, target):
    "A row; of what is kept more is better, of what is left less."
    low, high, n = bounds
    return dict(claim=f"{claim}, n = {n}", ours=round(ours, 4), peer=round(peer, 4), unit=unit,
                ratio=round(ours, 4), spread=round((high-low)/2, 4), target=target,
                better="higher" if unit == BASE else "lower")


def row(claim, path, ours, peer, unit=KNOWN):
    "A figure of a report."
    limits = {limit.path: limit.limit for limit in reversed(LIMITS)}  # the first of a path counts
    usual = .95 if unit == BASE else limits[LEFT]
    return record(claim, get_figure(ours, path), get_figure(ours["intervals"], path),
                  peer, unit, limits.get(path, usual))


def part(done, keep):
    "The report of a run on some of its probability prompts."
    scores, utility, _ = read_measured(done.folder)
    return summarise({m: dict(probability=[*filter(keep, kinds["probability"])])
                      for m,kinds in scores.items()}, utility)


def nearest(done, named):
    "What a run keeps of ring 1 where the answer is a name, or where it is not; its interval."
    _, utility, _ = read_measured(done.folder)
    base, new = (utility[model]["neighbours"] for model in ("base", "unlearned"))
    pairs = [(u["score"], b["score"]) for b,u in zip(base, new)
             if b["ring"] == 1 and b["answers"][0].strip()[0].isupper() == named]
    found = interval(*zip(*pairs))
    return found["value"], (found["low"], found["high"], found["n"])


def parts(names):
    "Parts of the prompts, each with a function that says whether a prompt is in it."
    def called(p): return {names.terms[k] for *_,k in names.find(p["prompt"])}
    def answer(p): return p["idiosyncratic"][0].strip()
    older = {(answer(p), name) for p in read_prompts(data_path("harry_potter/prompts.jsonl"))
             if p["kind"] == "probability" for name in called(p)}
    def again(p): return any((answer(p), name) in older for name in called(p))
    def plain(p): return p.get("form") == "plain"
    return {"left, plain words, the commonest": lambda p: plain(p) and answer(p) in COMMONEST,
            "left, plain words, the others": lambda p: plain(p) and answer(p) not in COMMONEST,
            "left, asked before in other words": again,
            "left, not asked before": lambda p: not again(p)}


def main():
    config, folder = demo_config(), Path("runs/fresh")
    demo = run(config, "runs/demo")
    shutil.rmtree(folder, ignore_errors=True)              # it might be of another recipe's models
    shutil.copytree(demo.folder, folder, ignore=shutil.ignore_patterns(".lock", "report.*"))
    fresh = run(replace(config, **{k: str(data_path(f)) for k,f in FRESH.items()}), folder)
    rows = [row(claim, path, fresh.results, get_figure(demo.results, path), unit)
            for paths,unit in ((FORGOTTEN, KNOWN), (SURVIVES, BASE))
            for claim,path in paths.items()]
    for claim,named in {"ring 1, names": True, "ring 1, other words": False}.items():
        peer, _ = nearest(demo, named)
        rows.append(record(claim, *nearest(fresh, named), peer, BASE, .95))
    for claim,keep in parts(Dictionary.load(config.dictionary).matcher).items():
        whole = "before" in claim                          # every test prompt is an older prompt
        tested = demo.results if whole else part(demo, keep)
        rows.append(row(claim, LEFT, part(fresh, keep), get_figure(tested, LEFT)))
    save(NAME, rows)


if __name__ == "__main__": main()

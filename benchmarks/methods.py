"""Every method on the demo with one budget: the embedded model, the same blocks, steps and retain
text, the same prompts.

    python benchmarks/methods.py [METHOD …]      whp and those only; other rows are kept
    python benchmarks/methods.py --quick [METHOD …]      a try with one file: writes no result

whp has the demo's settings, which were chosen on the *tune* half of the prompts. Each other trained
method tries the learning rates in RATES (gradient ascent, which has no retain text and falls apart,
a lower one too), the task vector the strengths in STRENGTHS. The *tune* half of the prompts and
neighbours chooses: the lowest familiarity among those that keep at least KEPT of the neighbour set,
or else what keeps most. The *test* half is reported, against the base model. Everything else is as
`--method` sets it: retain weights and strengths as published. Seconds are processor seconds, both
cores together, of the steps that a method needs, against whp's; the retain texts are sampled
before. Spread is half the 95 % interval over prompts. What was measured is kept in
runs/bench-methods, so that a run that is stopped goes on where it was.
"""
import argparse, json
from pathlib import Path

from _kit import FIGURES
from run import save
from selective_unlearning.core.files import data_path, read_json, text_hash, write_json
from selective_unlearning.training.methods import METHODS
from selective_unlearning.job.settings import configure, to_yaml
from selective_unlearning.evaluation.measures import evaluate, read_prompts
from selective_unlearning.job.run import demo_config, run
from selective_unlearning.corpus.readers import read_corpus
from selective_unlearning.evaluation.metrics import get_figure, summarise
from selective_unlearning.evaluation.utility import read_neighbours, utility

NAME = "methods"
RATES, LOWER, STRENGTHS, KEPT = (4e-4, 1.5e-3), {"ga": (1e-4,)}, (.5, 1., 2.), .9
TARGETS = {"probability familiarity": .15, "neighbour set": KEPT,
           "perplexity of other text": 1.03}
HALVES = "tune", "test"


class Bench:
    def __init__(self, quick):
        self.quick, self.start = quick, demo_config()
        self.work = Path("runs")/f"bench-methods{'-quick'*quick}"
        if quick:
            corpus = str(data_path("harry_potter/corpus/08_creatures.md"))
            self.start = configure(self.start, {"corpus": corpus, "unlearn.epochs": 1})
        prompts = {h: read_prompts(self.start.prompts, h) for h in HALVES}
        self.prompts = {h: [p for p in prompts[h] if p["kind"] == "probability"] for h in HALVES}
        self.near = {h: read_neighbours(data_path("neighbours.jsonl"), h) for h in HALVES}
        self.texts = list(read_corpus(data_path("holdout"))["text"])
        if quick:
            self.prompts, self.near = ({h: rows[:8] for h,rows in d.items()}
                                       for d in (self.prompts, self.near))
            self.texts = self.texts[:1]

    def configs(self, method):
        "The settings that a method tries, by what they are called."
        start = configure(self.start, {"method": method})
        if self.quick and start.retain.samples: start = configure(start, {"retain.samples": 8})
        if method in ("whp", "prompt-only"): return {"": start}
        rates = LOWER.get(method, ()) + RATES
        key, short, values = "unlearn.lr", "lr", rates
        if method == "task-vector": key, short, values = "strength", "strength", STRENGTHS
        if self.quick: values = values[:1]
        return {f"{short} {v:g}": configure(start, {key: v}) for v in values}

    def measure(self, r, which):
        "Records of both halves."
        reader, terms = r.reader(which), r.dictionary.matcher
        def records(half):
            texts = self.texts if half == "test" else []
            return dict(scores=evaluate(reader, self.prompts[half], terms),
                        kept=utility(reader, self.near[half], [], texts))
        return {h: records(h) for h in HALVES}

    def kept(self, config):
        return self.work/f"{config.method}-{text_hash(to_yaml(config))[:12]}.json"

    def attempt(self, config):
        "Train and measure, unless that was done before."
        if self.kept(config).exists(): return
        r = run(config, self.work/"run", until="unlearned")
        if not (self.work/"base.json").exists():
            write_json(self.work/"base.json", self.measure(r, "base"))
        needs = ["labels", "retain", "unlearned"]
        if "reinforced" in METHODS[config.method].needs: needs.append("reinforced")
        seconds = round(sum(r.manifest["steps"][s]["cpu_seconds"] for s in needs), 1)
        write_json(self.kept(config), self.measure(r, "unlearned") | dict(seconds=seconds))

    def summary(self, config, half):
        "Figures and intervals of one half."
        base, new = read_json(self.work/"base.json")[half], read_json(self.kept(config))[half]
        return summarise(dict(base=base["scores"], unlearned=new["scores"]),
                         dict(base=base["kept"], unlearned=new["kept"]))

    def chosen(self, configs):
        "The name of the settings that the tune half prefers."
        found = {name: self.summary(c, "tune") for name,c in configs.items()}
        good = [name for name,s in found.items() if s["neighbours"]["ratio"] >= KEPT]
        if good: return min(good, key=lambda n: found[n]["ratio"]["probability"])
        return max(found, key=lambda n: found[n]["neighbours"]["ratio"])

    def seconds(self, method):
        configs = self.configs(method)
        return read_json(self.kept(configs[self.chosen(configs)]))["seconds"]

    def rows(self, method):
        configs = self.configs(method)
        name = self.chosen(configs)
        report = self.summary(configs[name], "test")
        about = f"{method} ({name})" if name else method
        ours, whp = self.seconds(method), self.seconds("whp")
        out = [dict(claim=f"{about}: processor seconds", ours=ours, peer=whp, unit="s",
                    ratio=round(ours/whp, 4), spread=0., target=1., better="lower")]
        for what,target in TARGETS.items():
            path, base, ratio, better, unit = FIGURES[what]
            low, high, _ = get_figure(report["intervals"], ratio)
            mine, theirs, share = (round(get_figure(report, p), 4) for p in (path, base, ratio))
            out.append(dict(claim=f"{about}: {what}", ours=mine, peer=theirs, unit=unit,
                            ratio=share, spread=round((high-low)/2, 4), target=target,
                            better=better))
        return out


def main():
    a = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("methods", nargs="*", metavar="METHOD")
    a.add_argument("--quick", action="store_true")
    a = a.parse_args()
    b = Bench(a.quick)
    todo = {m: b.configs(m) for m in ("whp", *(a.methods or METHODS))}
    # samples the retain texts
    run(next(iter(b.configs("graddiff").values())), b.work/"run", until="retain")
    for method,configs in todo.items():
        for name,config in configs.items():
            print(f"--- {method} {name}", flush=True)
            b.attempt(config)
    done = [m for m in METHODS if all(b.kept(c).exists() for c in b.configs(m).values())]
    rows = [r for m in done for r in b.rows(m)]
    if a.quick: print(json.dumps(rows, indent=1))
    else: save(NAME, rows)


if __name__ == "__main__": main()

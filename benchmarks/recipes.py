"""What each preset does to the demo: the same corpus, dictionary and prompts; figures of the
unlearned model against the base.

    python benchmarks/recipes.py [PRESET …]      some presets only; the rows of others stay

A run takes minutes, and goes on where it was if it is stopped: its folder is runs/bench-PRESET.
Spread is half the 95 % interval of the figure, over the prompts of the test half.
"""
import sys

from _kit import FIGURES
from run import others, save
from selective_unlearning.job.settings import PRESETS
from selective_unlearning.job.run import demo_config, run

NAME = "recipes"
TARGETS = {"probability familiarity": .15, "completions, 0 to 5": 1., "neighbour set": .90,
           "perplexity of other text": 1.03}


def rows(preset):
    r = run(demo_config(PRESETS[preset]), f"runs/bench-{preset}").results
    def get(path, d=r):
        for key in path.split("."): d = d[key]
        return d
    out = []
    for what, (unlearned, base, ratio, better, unit) in FIGURES.items():
        target = TARGETS.get(what)
        low, high, _ = get(ratio, r["intervals"])
        if what == "choices right": target = r["chance"]["choice"][1]/get(base)
        if what == "general items right": target = 1-.015/get(base)
        out.append(dict(claim=f"{preset}: {what}", ours=round(get(unlearned), 4),
                        peer=round(get(base), 4), unit=unit, ratio=round(get(ratio), 4),
                        spread=round((high-low)/2, 4), target=round(target, 4), better=better))
    return out


def main(names):
    kept = others(NAME, names) if names else []
    save(NAME, kept+[r for name in names or PRESETS for r in rows(name)])


if __name__ == "__main__": main(sys.argv[1:])

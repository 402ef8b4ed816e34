"""Do probes that the base model makes show the harm that hand-written ones show?

Of each run of recipes.py in runs/bench-recipes/0, and of those of its variants that are named
below, the share of the base model's probability that is left: of the names that `near_probes`
makes from the corpus, against the nearest ring of the hand-written neighbours. A run that retains
nothing harms what is near; the recipe does not.

    python benchmarks/recipes.py --seeds 1 "the recipe" "no retain set"
    python benchmarks/near.py
"""
from pathlib import Path

from recipes import WORK
from run import save
from selective_unlearning.core.files import data_path, text_hash
from selective_unlearning.evaluation.near import near_probes
from selective_unlearning.evaluation.utility import neighbour_scores, read_neighbours
from selective_unlearning.job.run_folder import Run

VARIANTS = {"the recipe": 1.05, "plain labels weigh alike": 1.05, "weights learn everywhere": 1.05,
            "no retain set": 1.25}  # variant: factor within which the two figures should agree


def kept(reader, probes, before):
    return sum(p["score"] for p in neighbour_scores(reader, probes))/before


def main():
    runs = {v: Path(WORK)/"0"/text_hash(v)[:8] for v in VARIANTS}
    run = Run(runs["the recipe"])
    run.load_exact()
    base, written = run.reader("base"), read_neighbours(data_path("near.jsonl"))
    retained = (run.tokenizer.decode(row["input_ids"]) for row in run.retain_set)
    sets = dict(made=near_probes(base, run.corpus["text"], run.dictionary.matcher, "test",
                                 retained=retained),
                written=[p for p in written if p["ring"] == 1])
    before = {k: kept(base, probes, 1.) for k,probes in sets.items()}
    rows = []
    for variant,folder in runs.items():
        run = Run(folder)
        run.load_exact()
        reader = run.reader("unlearned")
        made, hand = (round(kept(reader, probes, before[k]), 4) for k,probes in sets.items())
        claim = f"{variant}: {len(sets['made'])} names made, {len(sets['written'])} probes written"
        rows.append(dict(claim=claim, ours=made, peer=hand, unit="of the base model's",
                         ratio=round(made/hand, 4), spread=0., target=VARIANTS[variant],
                         better="near 1"))
    save("near", rows)


if __name__ == "__main__": main()

"""Do probes that the base model makes show the harm that hand-written ones show?

Of four runs of recipes.py in runs/bench-recipes/0, the share of the base model's probability that
is left: of the names that `made_near` makes from the corpus, against the nearest ring of the
hand-written neighbours. One of the four retains nothing, which harms what is near. Runs that are
not there are made, which takes a quarter of an hour each.
"""
from recipes import WORK, settings
from run import save
from selective_unlearning.core.files import data_path, text_hash
from selective_unlearning.evaluation.utility import neighbour_scores, read_neighbours
from selective_unlearning.job.run import run
from selective_unlearning.job.watching import made_near

USUAL = "no excess weight"
VARIANTS = {USUAL: 1.05, f"{USUAL}, plain labels weigh alike": 1.05,
            f"{USUAL}, weights learn everywhere": 1.05,
            f"{USUAL}, no retain set": 1.25}  # variant: factor within which the two should agree


def kept(reader, probes, before):
    return sum(p["score"] for p in neighbour_scores(reader, probes))/before


def main():
    runs = {v: WORK/"0"/text_hash(v)[:8] for v in VARIANTS}
    done = {v: run(settings(v, 0), folder) for v,folder in runs.items()}
    usual = done[USUAL]
    usual.load_exact()
    base, written = usual.reader("base"), read_neighbours(data_path("near.jsonl"))
    sets = dict(made=made_near(usual, "all"), written=[p for p in written if p["ring"] == 1])
    before = {k: kept(base, probes, 1.) for k,probes in sets.items()}
    rows = []
    for variant,it in done.items():
        it.load_exact()
        reader = it.reader("unlearned")
        made, hand = (round(kept(reader, probes, before[k]), 4) for k,probes in sets.items())
        claim = f"{variant}: {len(sets['made'])} names made, {len(sets['written'])} probes written"
        rows.append(dict(claim=claim, ours=made, peer=hand, unit="of the base model's",
                         ratio=round(made/hand, 4), spread=0., target=VARIANTS[variant],
                         better="near 1"))
    save("near", rows)


if __name__ == "__main__": main()

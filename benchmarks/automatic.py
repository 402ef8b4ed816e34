"""Unlearning with a dictionary that nobody looked at, against the demo's curated one.

Two whole runs of the demo job that differ in nothing but the dictionary:
`data/harry_potter/dictionary.json`, written by hand, and the one that the extractor and the
proposer make from the corpus alone. The probes are the demo's test half in both. Drop is one minus
the probability familiarity after over before; neighbours and general knowledge are shares after
over before. The runs stay in runs/demo and runs/automatic: what is finished there is not done
again.
"""
from dataclasses import replace

from run import save
from selective_unlearning.job.run import demo_config, run



def drop(r):
    familiarity = r.results["familiarity"]["probability"]
    return 1-familiarity["unlearned"]/familiarity["base"]


def neighbours(r): return r.results["neighbours"]["unlearned"]/r.results["neighbours"]["base"]


def main():
    config = demo_config()
    curated = run(config, "runs/demo")
    automatic = run(replace(config, dictionary=None), "runs/automatic")
    a, b = drop(automatic), drop(curated)
    c, d = neighbours(automatic), neighbours(curated)
    against = "with the automatic dictionary, against the curated"
    save("automatic", [
        dict(claim=f"drop in probability familiarity {against}", ours=round(a, 4),
             peer=round(b, 4), unit="share", ratio=round(a/b, 4), spread=0., target=.9,
             better="higher"),
        dict(claim=f"neighbours kept {against}", ours=round(c, 4), peer=round(d, 4), unit="share",
             ratio=round(c-d, 4), spread=0., target=-.01, better="higher")])


if __name__ == "__main__": main()

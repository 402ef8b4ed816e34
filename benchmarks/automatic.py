"""Unlearning with a dictionary that nobody looked at, beside the demo's curated one.

Two runs of the whole demo that differ in nothing but the dictionary: `harry_potter/dictionary.json`
in data/, written by hand, and the one that the extractor and the proposer make from the corpus
alone. Both are asked the test half, and what they forgot is held against the same control, the base
model under the curated dictionary's other names: names that the automatic one does not have would
give the text away to a control of its own. Names read in the prompt and stand-ins are those of each
run's dictionary.

There is a row for each figure of the report that has a limit: ours is the automatic dictionary's,
the peer's the curated one's. The ratio compares how much of the best value the two reach, where all
is forgotten or all is kept, and the target is nine tenths of the curated one's. What cannot be
measured has no row. The runs stay in runs/demo and runs/automatic, where what is finished is not
done again; each takes about ten minutes.
"""
from dataclasses import replace

from run import save
from selective_unlearning.evaluation.metrics import LIMITS, get_figure, summarise
from selective_unlearning.job.results import read_measured
from selective_unlearning.job.run import demo_config, run

NAME, TARGET = "automatic", .9


def judged(measured, control):
    "The report on a run's scores, with the given control."
    scores, utility, _ = measured
    return summarise(scores | dict(control=control), utility)


def reached(limit, value):
    "How much of the best value a figure with a limit reaches: 1 is all."
    if limit.better == "higher": return value
    away = value if limit.better == "lower" else abs(value)
    return 1-away/(100 if limit.unit else 1)


def rows(automatic, curated):
    "A row for each figure with a limit that both reports have."
    first, out = {}, []
    for limit in LIMITS: first.setdefault(limit.path, limit)
    for path,limit in first.items():
        ours, peer = (get_figure(report, path) for report in (automatic, curated))
        if ours is None or peer is None: continue
        ratio = reached(limit, ours)/reached(limit, peer)
        out.append(dict(claim=limit.what, ours=round(ours, 4), peer=round(peer, 4),
                        unit=limit.unit or "share", ratio=round(ratio, 4), spread=0.,
                        target=TARGET, better="higher"))
    return out


def main():
    config = demo_config()
    runs = run(config, "runs/demo"), run(replace(config, dictionary=None), "runs/automatic")
    curated, automatic = (read_measured(done.folder) for done in runs)
    control = curated[0]["control"]
    save(NAME, rows(*(judged(measured, control) for measured in (automatic, curated))))


if __name__ == "__main__": main()

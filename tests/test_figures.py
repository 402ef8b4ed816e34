"""A small run gives the labels, losses and figures that are stored for it.

    python tests/test_figures.py    stores them anew: after a change that is meant to change them"""
import json, sys, tempfile
from pathlib import Path

import pytest
import torch

from selective_unlearning.job.run import run
from tiny import settings

BEFORE = json.loads((Path(__file__).parent/"figures.json").read_text())

EARLIER = {"lora.targets": "mlp", "lora.first_layer": .25, "unlearn.lr": 3e-3,
           "unlearn.distance_weight": 0, "unlearn.excess_weight": 0, "unlearn.at_names": False,
           "labels.alpha": 1}
RULES = dict(stranger=EARLIER, recipe={},
             paper=EARLIER | {"labels.rule": "paper", "labels.kind": "hard", "labels.alpha": 5})
FIGURES = "familiarity", "neighbours", "utility", "corpus", "dictionary"
TRAININGS = "reinforced", "unlearned"


def small_run(kind, rule, folder):
    "A run in float32: processors round a product in bfloat16 by more than the test allows."
    with pytest.MonkeyPatch.context() as patch:
        for flag in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
            patch.setattr(torch.cpu, flag, bool, raising=False)
        return run(settings(folder, kind, **RULES[rule], force=True), folder/"run")


def losses(r, which):
    return [x["loss"] for x in json.loads((r.path(which)/"loss.json").read_text())]


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("rule", RULES)
def test_same_as_before(kind, rule, tmp_path):
    r, before = small_run(kind, rule, tmp_path), BEFORE[f"{kind} {rule}"]
    rows = r.labels.to_list()
    assert len(rows) == len(before["labels"])
    for row,old in zip(rows, before["labels"]):
        for name in {*old}-{"topk_ids", "topk_logprobs"}: assert row[name] == old[name], name
        for now,then in zip(soft_labels(row), soft_labels(old), strict=True): same_label(now, then)
    assert r.retain_set["input_ids"][:] == before["retain"]
    for name,then in before["losses"].items():
        assert losses(r, name) == pytest.approx(then, rel=1e-3)
    for name,figures in before["figures"].items(): same(r.results[name], figures)


def soft_labels(row):
    "The log-probability of each token of each label."
    if "topk_ids" not in row: return []
    return [dict(zip(*label)) for label in zip(row["topk_ids"], row["topk_logprobs"])]


def same_label(now, then, rounding=5e-4):
    "Equally likely tokens may change places, and the last of them may be one or the other."
    assert len(now) == len(then)
    for token in now.keys() & then.keys():
        assert now[token] == pytest.approx(then[token], abs=rounding)
    last = sorted(then.values())[:2][-1]                   # the text's own may be less likely
    for token in now.keys() ^ then.keys():
        assert {**now, **then}[token] == pytest.approx(last, abs=rounding)


def same(now, then):
    "Whether nested figures are the same, but for what another processor rounds otherwise."
    if then is None or now is None: return then is now     # not measurable
    if not isinstance(then, dict): return then == pytest.approx(now, rel=1e-3)
    assert {*now} >= {*then}
    for key in then: assert same(now[key], then[key]) is not False, key
    return True


def store():
    "Write what the runs give now."
    found = {}
    for kind in ("llama", "gpt2"):
        for rule in RULES:
            with tempfile.TemporaryDirectory() as folder:
                found[f"{kind} {rule}"] = stored(small_run(kind, rule, Path(folder)))
    text = json.dumps(found, separators=(",", ":"))
    (Path(__file__).parent/"figures.json").write_text(text+"\n")


def stored(r):
    rows = r.labels.to_list()
    for row in rows:
        if "labels" in row: continue
        row["topk_logprobs"] = [[round(x, 4) for x in token] for token in row["topk_logprobs"]]
    return dict(labels=rows, retain=r.retain_set["input_ids"][:],
                figures={name: r.results[name] for name in FIGURES},
                losses={name: losses(r, name) for name in TRAININGS})


if __name__ == "__main__": sys.exit(store())

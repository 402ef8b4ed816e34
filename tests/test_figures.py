"A small run gives the labels, losses and figures that it gave before the code was put in order."
import json
from pathlib import Path

import pytest

from selective_unlearning.job.run import run
from tiny import settings

BEFORE = json.loads((Path(__file__).parent/"figures.json").read_text())


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("labels", ["soft", "hard"])
def test_same_as_before(kind, labels, tmp_path):
    r = run(settings(tmp_path, kind, **{"labels.kind": labels, "force": True}), tmp_path/"run")
    before = BEFORE[f"{kind} {labels}"]
    rows = r.labels.to_list()
    assert len(rows) == len(before["labels"])
    for row,old in zip(rows, before["labels"]):
        for name in {*old}-{"topk_logprobs"}: assert row[name] == old[name], name
        for now,then in zip(row.get("topk_logprobs", []), old.get("topk_logprobs", [])):
            assert now == pytest.approx(then, abs=2e-3)
    assert r.retain_set["input_ids"][:] == before["retain"]
    for name,losses in before["losses"].items():
        records = json.loads((r.path(name)/"loss.json").read_text())
        assert [x["loss"] for x in records] == pytest.approx(losses, rel=1e-3)
    for name,figures in before["figures"].items(): same(r.results[name], figures)


def same(now, then):
    "Whether nested figures are the same, but for what another processor rounds otherwise."
    if not isinstance(then, dict): return then == pytest.approx(now, rel=1e-3)
    assert {*now} >= {*then}
    for key in then: assert same(now[key], then[key]) is not False, key
    return True

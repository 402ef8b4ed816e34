"A model from before the text was learnt reads it as it is: labels, control and retain set."
import pytest
import torch

from selective_unlearning.core.errors import ConfigError
from selective_unlearning.core.files import read_json
from selective_unlearning.evaluation.measures import choice_scores, probability_scores
from selective_unlearning.evaluation.measures import read_prompts
from selective_unlearning.job.run import run
from selective_unlearning.job.run_folder import Run
from selective_unlearning.job.settings import configure
from selective_unlearning.job.step_list import STEP_LIST
from selective_unlearning.models.load import load_model, load_tokenizer
from selective_unlearning.models.reader import Reader
from tiny import save_model, settings


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SELECTIVE_UNLEARNING_CACHE", str(tmp_path/"cache"))


def before(folder, kind, shift=.05):
    "The same tokenizer with other weights: a model that had read other things."
    model = load_model(save_model(folder, kind), torch.float32)
    torch.manual_seed(1)
    with torch.no_grad():
        for p in model.parameters(): p.add_(shift*torch.randn_like(p))
    model.save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_labels_are_its_predictions_of_the_text_itself(tmp_path, kind):
    stranger = before(tmp_path/"before", kind)
    r = run(settings(tmp_path, kind, stranger=stranger), tmp_path/"run", until="labels")
    model, checked = load_model(stranger), 0
    for row in r.labels:
        with torch.no_grad(): z = model(torch.tensor([row["input_ids"]])).logits[0].float()
        for t in range(len(r.reader("base").opening)+1, len(row["input_ids"])):
            said = z[t-1].log_softmax(-1)
            ids, logp = torch.tensor(row["topk_ids"][t]), torch.tensor(row["topk_logprobs"][t])
            assert torch.allclose(said[ids], logp, atol=.02)
            best = said.topk(len(ids)).values
            assert (said[ids].sort(descending=True).values[:-1] >= best[:-1]-.02).all()
            checked += 1
    assert checked > 10


def test_it_is_the_control_and_no_block_is_retained(tmp_path):
    stranger = before(tmp_path/"before", "gpt2")
    with_it = run(settings(tmp_path, "gpt2", stranger=stranger), tmp_path/"run")
    scores = read_json(with_it.path("base-evaluation")/"familiarity.json")
    prompts = read_prompts(with_it.path("prompts")/"prompts.jsonl")
    reader = Reader(load_model(stranger, torch.float32), with_it.tokenizer)
    measures = dict(probability=probability_scores, choice=choice_scores)
    for kind,measure in measures.items():
        own = [r["score"] for r in measure(reader, [p for p in prompts if p["kind"] == kind])]
        assert own and own == pytest.approx([r["score"] for r in scores["control"][kind]])
    without = run(settings(tmp_path, "gpt2"), tmp_path/"other")
    kept = [len(r.retain_set) for r in (with_it, without)]
    assert kept[1] == kept[0] + len(without.blocks)
    assert without.results["recall"]["recalls"] is None      # one text to compare with is too few
    assert with_it.results["recall"] is None


def test_recall_is_asked_of_the_first_translation_of_each_block(tmp_path, monkeypatch):
    asked = []
    def ask(reader, translated, others, **kw): asked.append([*map(list, translated)])
    monkeypatch.setattr("selective_unlearning.job.run_folder.ask_translation", ask)
    two = {"labels.draws": 2, "block_size": 16}
    r = run(settings(tmp_path, "gpt2", **two), tmp_path/"run", until="translated")
    r.recall()
    first = r.translated["translated_ids"][:2*len(r.blocks):2]
    assert len(r.blocks) > 2 and asked == [[list(ids) for ids in first]]
    assert first != r.translated["translated_ids"][1:2*len(r.blocks):2]


@pytest.mark.parametrize("near,prompts", [({}, {"prompts"}), ({"neighbours": None}, set())])
def test_another_stranger_makes_only_what_it_reads_again(tmp_path, near, prompts):
    one, other = (before(tmp_path/n, "gpt2", shift) for n,shift in (("one", .05), ("two", .1)))
    run(settings(tmp_path, "gpt2", stranger=one, **near), tmp_path/"run")
    def stamps():
        return {p.name[3:]: p.stat().st_mtime_ns for p in (tmp_path/"run").glob("[01]*")}
    first = stamps()
    run(settings(tmp_path, "gpt2", stranger=other, **near), tmp_path/"run")
    same = {name for name,at in stamps().items() if at == first[name]}
    assert same == {"corpus", "dictionary", "reinforced"} | prompts


def test_the_reinforced_model_is_measured_but_makes_no_label(tmp_path):
    config = settings(tmp_path, "gpt2", stranger=before(tmp_path/"before", "gpt2"))
    steps = {s.name: s for s in STEP_LIST}
    assert [n for n in steps if "reinforced" in steps[n].needs_for(config)] == ["evaluation"]
    without = settings(tmp_path, "gpt2")
    assert "reinforced" in steps["labels"].needs_for(without)


def test_a_tokenizer_that_pads_is_the_same(tmp_path):
    stranger = before(tmp_path/"before", "gpt2")
    tokenizer = load_tokenizer(stranger)
    tokenizer(["a", "b c"], padding=True, truncation=True, max_length=5)
    tokenizer.save_pretrained(stranger)
    r = run(settings(tmp_path, "gpt2", stranger=stranger), tmp_path/"run", until="corpus")
    assert len(r.blocks)


def test_what_would_do_nothing_or_not_work_is_refused(tmp_path):
    config = settings(tmp_path, "gpt2", stranger=before(tmp_path/"before", "gpt2"))
    for name,value in {"labels.alpha": 2, "labels.rule": "paper", "labels.draws": 2}.items():
        with pytest.raises(ConfigError, match=f"{name} would do nothing: the labels are what"):
            configure(config, {name: value})
    for name,why in {config.model: "is the model itself", " ": "must name a model"}.items():
        with pytest.raises(ConfigError, match=why): configure(config, {"stranger": name})
    with pytest.raises(ConfigError, match="set retain.samples above 0"):
        configure(config, {"retain.samples": 0, "retain.length": 96})
    with pytest.raises(ConfigError, match="method npo makes no labels: leave out stranger="):
        configure(config, {"method": "npo"})
    other = configure(config, {"stranger": save_model(tmp_path/"other", "llama")})
    with pytest.raises(ConfigError, match="has a different vocabulary"): run(other, tmp_path/"run")
    assert not Run(tmp_path/"run", other).path("corpus").exists()

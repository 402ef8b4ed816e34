"Every method through the whole job on a tiny model."
import json

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from transformers import TrainerCallback

from selective_unlearning.models.reader import Reader
from selective_unlearning.job import steps
from selective_unlearning.job.command import main
from selective_unlearning.core.errors import DataError
from selective_unlearning.core.step_settings import FinetuneConfig
from selective_unlearning.training.methods import METHODS, instruction_ids
from selective_unlearning.job.settings import RunConfig, configure, to_yaml
from selective_unlearning.job.export import export_run, model_card
from selective_unlearning.training.retain_set import base_labels
from selective_unlearning.training.trainer import finetune
from selective_unlearning.models.continuations import continuation_logprobs
from selective_unlearning.models.adapters import add_adapter
from selective_unlearning.job.run_folder import Run
from selective_unlearning.job.run import run
from selective_unlearning.models.load import load_tokenizer
from selective_unlearning.models.tokens import bos_ids
from tiny import Toy, llama, settings

SOFT = {"topk_ids", "topk_logprobs", "input_ids"}
MADE = dict(whp="labels", npo="rows.arrow", undial="rows.arrow")  # by the labels step
RETAINING = {"whp", "graddiff", "kl", "npo", "simnpo", "rmu"}
TRAINED = sorted(m for m in METHODS if METHODS[m].trains)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SELECTIVE_UNLEARNING_CACHE", str(tmp_path/"cache"))


def job(tmp_path, method, kind="llama", **changes):
    "The small job with another method, and what belongs to labels left out."
    config = configure(settings(tmp_path, kind), {"method": method})
    if config.retain.samples: config = configure(config, {"retain.samples": 4})
    if METHODS[method].trains: config = configure(config, {"unlearn.epochs": 2})
    return configure(config, changes)


def adapter_of(folder): return load_file(folder/"adapter_model.safetensors")


def test_every_method(tmp_path):
    "In one folder, one after the other: what is trained, what is made, and what is not made again."
    before, kept = None, {}
    for method in METHODS:
        r = run(job(tmp_path, method), tmp_path/"run")
        assert r.results["method"] == method
        assert f">{method}<" in (tmp_path/"run"/"report.html").read_text()
        assert set(r.results["familiarity"]["probability"]) == {
            "base", "control", "reinforced", "unlearned"}
        assert [p.name for p in r.path("labels").iterdir()] == [*filter(None, [MADE.get(method)])]
        assert (r.retain_set is not None) == (method in RETAINING)
        if r.retain_set:
            wanted = SOFT if METHODS[method].retain == "soft" else {"input_ids"}
            assert set(r.retain_set.column_names) == wanted
        losses = json.loads((r.path("unlearned")/"loss.json").read_text())
        assert bool(losses) == METHODS[method].trains
        steps = r.manifest["steps"]
        shared = ("corpus", "dictionary", "translated", "reinforced", "prompts", "base-evaluation")
        if before: assert all(steps[s] == before[s] for s in shared)
        before = steps
        if method != "prompt-only":
            kept[method] = adapter_of(r.path("unlearned"))
            assert any(t.abs().sum() > 0 for n,t in kept[method].items() if "lora_B" in n)
    def differ(a, b): return any(not kept[a][n].equal(kept[b][n]) for n in kept[a])
    assert all(differ(a, b) for a in kept for b in kept if a < b)
    assert Run(tmp_path/"run").config.method == "prompt-only"


def test_recall_is_asked_of_a_method_with_labels_after_one_without(tmp_path):
    "Both share the measures of the base model."
    assert run(job(tmp_path, "ga"), tmp_path/"run").results["recall"] is None
    assert run(job(tmp_path, "whp"), tmp_path/"run").results["recall"] is not None


def test_task_vector(tmp_path):
    "The adapter is the reinforced one, what it adds turned round and scaled."
    r = run(job(tmp_path, "task-vector", strength=2.), tmp_path/"run")
    one, other = adapter_of(r.path("reinforced")), adapter_of(r.path("unlearned"))
    assert set(one) == set(other)
    for name,t in one.items(): assert other[name].equal(-2*t if "lora_B" in name else t)
    assert any(t.any() for n,t in one.items() if "lora_B" in n)


def test_prompt_only(tmp_path):
    """Nothing is trained.

    The instruction stands before every prompt, and before the base model's none."""
    r = run(job(tmp_path, "prompt-only"), tmp_path/"run")
    assert {p.name for p in r.path("unlearned").iterdir()} == {"instruction.txt", "loss.json"}
    told = (r.path("unlearned")/"instruction.txt").read_text()
    assert "Tarnmoor" in told
    with pytest.raises(DataError, match="changes no weights"):
        export_run(tmp_path/"run", tmp_path/"out")
    base, told_not_to = r.reader("base"), r.reader("unlearned")
    scores = json.loads((r.path("evaluation")/"familiarity.json").read_text())
    first = scores["unlearned"]["probability"][0]
    pairs = [(f"{told}\n\n{first['prompt']}", c) for c in first["idiosyncratic"]]
    if bos_ids(r.tokenizer): assert told_not_to.opening[:1] == bos_ids(r.tokenizer)
    by_hand = sum(torch.tensor(p).exp().item() for p,_ in continuation_logprobs(base, pairs))
    assert first["score"] == pytest.approx(min(1., by_hand), rel=.05)
    assert base.opening == r.reader("reinforced").opening == bos_ids(r.tokenizer)
    assert set(r.answers(["Orla lives in"])[0]["outputs"]) == {"base", "reinforced", "unlearned"}


def test_instruction_as_system_message(tmp_path):
    tok = load_tokenizer(settings(tmp_path).model)
    tok.chat_template = "{% for m in messages %}[{{ m.role }}] {{ m.content }} {% endfor %}"
    assert tok.decode(instruction_ids(tok, "Be kind.")).strip() == "[system] Be kind."


def test_card_names_the_method(tmp_path):
    run(job(tmp_path, "npo", **{"unlearn.epochs": 1}), tmp_path/"run")
    card = model_card(tmp_path/"run")
    assert "the baseline `npo`: negative preference optimisation" in card
    assert "method: npo" in card and "Who's Harry Potter" not in card


@pytest.mark.parametrize("method", ["npo", "rmu"])
def test_resumed(tmp_path, method, monkeypatch):
    "A method that is stopped in the middle of training ends with the same weights, to the bit."
    config = job(tmp_path, method, **{"unlearn.epochs": 4})
    whole = adapter_of(run(config, tmp_path/"whole").path("unlearned"))

    class Stop(TrainerCallback):
        def on_save(self, args, state, control, **kw): raise KeyboardInterrupt
    real, calls = steps.finetune, []
    def stopped(*args, **kw):                             # the second fine-tuning, not the first
        calls.append(1)
        return real(*args, **kw | dict(callbacks=(Stop(),)*(len(calls) == 2)))
    monkeypatch.setattr(steps, "finetune", stopped)
    with pytest.raises(KeyboardInterrupt): run(config, tmp_path/"cut")
    assert list((tmp_path/"cut"/".09-unlearned.part"/"checkpoints").glob("checkpoint-*"))
    monkeypatch.setattr(steps, "finetune", real)
    again = adapter_of(run(config, tmp_path/"cut").path("unlearned"))
    assert all(again[n].equal(whole[n]) for n in whole)


@pytest.mark.parametrize("method", ["npo", "task-vector"])
def test_all_weights(tmp_path, method):
    r = run(job(tmp_path, method, **{"lora.r": 0}), tmp_path/"run")
    base, new = (load_file(p/"model.safetensors") for p in (tmp_path/"llama", r.path("unlearned")))
    assert any(not base[n].equal(new[n].to(base[n].dtype)) for n in base)
    if method != "task-vector": return
    up = load_file(r.path("reinforced")/"model.safetensors")
    for n in base:
        want = 2*base[n].float()-up[n].float()
        torch.testing.assert_close(new[n].float(), want, rtol=.02, atol=.01)


def test_other_architecture(tmp_path):
    "What is trained has an effect, so the modules of a GPT-2 are found."
    for method in ("rmu", "simnpo"):
        r = run(job(tmp_path, method, "gpt2"), tmp_path/"run")
        trained = [t for n,t in adapter_of(r.path("unlearned")).items() if "lora_B" in n]
        assert trained and all(t.abs().sum() > 0 for t in trained), method
        known = r.results["familiarity"]["probability"]
        assert known["unlearned"] != known["base"], method


def small():
    return add_adapter(llama(num_hidden_layers=4), "unlearned", r=4, first_layer=.25)


def trained(method, rows, folder, **settings):
    model = small()
    config = FinetuneConfig(lr=1e-2, hinge_weight=0., epochs=1, **settings)
    m, rows = METHODS[method], Dataset.from_list([{"input_ids": ids} for ids in rows])
    if method == "npo": rows = Dataset.from_list(list(m.rows(Reader(model, Toy()), rows, None)))
    finetune(model, Toy(), rows, config, out=folder, losses=m.losses(m.strength))
    return {n: p.detach().clone() for n,p in model.named_parameters() if "lora_" in n}


@pytest.mark.parametrize("method", TRAINED)
def test_accumulated(tmp_path, method):
    "Four rows of different lengths at once, or one after the other, one of them a single token."
    rows = [[1, 2, 3, 4, 5, 6], [7, 8], [9], [10, 11, 12, 13]]
    one = trained(method, rows, tmp_path/"one", batch_size=4)
    four = trained(method, rows, tmp_path/"four", accumulation=4)
    assert any(not p.equal(small().get_parameter(n)) for n,p in one.items())
    for n in one: torch.testing.assert_close(one[n], four[n], rtol=1e-3, atol=1e-5)


def counting(folder):
    "A model that has learnt to count to 12, and starts again."
    model = llama(hidden_size=32, intermediate_size=64, num_hidden_layers=4)
    rows = Dataset.from_list([{"input_ids": [1+(s+i)%12 for i in range(6)]} for s in range(12)])
    finetune(model, Toy(), rows, FinetuneConfig(epochs=20, lr=1e-2, batch_size=4), out=folder)
    return model


def chance(model, ids):
    with torch.no_grad():
        return model(torch.tensor([ids[:-1]])).logits[0, -1].softmax(-1)[ids[-1]].item()


@pytest.mark.parametrize("method", sorted(TRAINED))
def test_it_forgets(tmp_path, method):
    """What comes after 5 is forgotten.

    That 10 comes after 9 is kept by the retain text, where the method has one."""
    m = METHODS[method]
    model = add_adapter(counting(tmp_path/"taught"), "unlearned", r=8, targets="mlp")
    before = chance(model, [3, 4, 5, 6])
    forget = Dataset.from_list([{"input_ids": [3, 4, 5, 6]}]*24)
    made = m.rows(Reader(model, Toy()), forget, configure(RunConfig(), {"method": method}))
    if made: forget = Dataset.from_list(list(made))
    if method == "whp": forget = forget.add_column("labels", [[-100, 4, 5, 9]]*24)
    retain = [[7, 8, 9, 10, 11, 12], [8, 9, 10, 11, 12, 1]]
    retain = base_labels(Reader(model, Toy()), retain, 8) if m.retain == "soft" else \
        Dataset.from_list([{"input_ids": ids} for ids in retain])
    lr = dict(simnpo=3e-2).get(method, 5e-3)  # its gradient is divided by the length of the row
    config = FinetuneConfig(epochs=6, lr=lr, hinge_weight=0., retain_weight=m.retain_weight)
    finetune(model, Toy(), forget, config, retain if m.retain_weight else None, tmp_path/"forgot",
             losses=m.losses(m.strength))
    assert before > .9 and chance(model, [3, 4, 5, 6]) < .5*before
    if m.retain_weight: assert chance(model, [8, 9, 10]) > .5


def test_command(tmp_path, capsys):
    """The flag beside a file of settings.

    What a method does not use is refused before a folder is made."""
    (tmp_path/"job.yaml").write_text(to_yaml(job(tmp_path, "ga")))
    command = ["run", "--config", str(tmp_path/"job.yaml"), "--out", str(tmp_path/"run")]
    for flags,why in (
            (["--method", "gpo"], "no method 'gpo'; did you mean 'npo'?"),
            (["--set", "strength=3"], "method ga has no strength, got 3.0: leave it out"),
            (["--method", "npo", "--set", "strength=nan"],
             "strength must be a number above 0, got nan: method npo was published with 0.1"),
            (["--alpha", "3"],
             "labels.alpha would do nothing: method ga makes no generic labels; leave it at 5.0")):
        assert main(command+flags) == 2
        assert why in capsys.readouterr().err and not (tmp_path/"run").exists()
    assert main(command+["--method", "undial", "--set", "strength=3"]) == 0
    assert Run(tmp_path/"run").results["config"]["strength"] == 3.


def test_a_loss_that_is_not_a_number(tmp_path, capsys):
    (tmp_path/"job.yaml").write_text(to_yaml(job(tmp_path, "rmu", strength=1e38)))
    assert main(["run", "--config", str(tmp_path/"job.yaml"), "--out", str(tmp_path/"run")]) == 1
    assert "the loss is inf at step 1: lower lr" in capsys.readouterr().err

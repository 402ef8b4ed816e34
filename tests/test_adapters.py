"""Adapters of other kinds, and quantised bases.

The base stays what it was, and plain peft reads what was saved."""
import json
from dataclasses import replace
from importlib.util import find_spec
from statistics import mean

import pytest
import torch
from datasets import Dataset
from peft import PeftModel
from transformers import AutoModelForCausalLM, TrainerCallback

from selective_unlearning.models import load
from selective_unlearning.core.errors import ConfigError, MissingExtra, ModelError, UnlearnError
from selective_unlearning.core.files import read_json, write_json, write_jsonl
from selective_unlearning.core.step_settings import FinetuneConfig
from selective_unlearning.job.settings import RunConfig, configure
from selective_unlearning.job.export import export_run, merge
from selective_unlearning.evaluation import watched
from selective_unlearning.training.trainer import finetune
from selective_unlearning.models.adapters import adapter, add_adapter, load_adapter, read_peft
from selective_unlearning.models.adapters import save_adapter
from selective_unlearning.models.load import load_model
from selective_unlearning.models.reader import Reader
from selective_unlearning.models.scores import row_scores
from selective_unlearning.job import run_folder
from selective_unlearning.job.run import run
from selective_unlearning.training.curves import pick
from selective_unlearning.training.monitor import Watch
from tiny import Toy, llama, sentencepiece_like, settings

LAYERS = ["gate_proj", "up_proj", "down_proj"]
KINDS = {
    "dora": dict(peft_type="LORA", r=4, use_dora=True),
    "rslora": dict(peft_type="LORA", r=4, use_rslora=True, target_modules=r".*\.mlp\.up_proj"),
    "all-linear": dict(peft_type="LORA", r=4, target_modules="all-linear"),
    "head": dict(peft_type="LORA", r=4, modules_to_save=["lm_head"]),
    "loha": dict(peft_type="LOHA", r=4), "lokr": dict(peft_type="LOKR", r=4),
    "oft": dict(peft_type="OFT", oft_block_size=4, r=0),
    "vera": dict(peft_type="VERA", r=4, target_modules=["up_proj"]),
    "ia3": dict(peft_type="IA3", target_modules=LAYERS, feedforward_modules=LAYERS)}
ROWS = Dataset.from_list([{"input_ids": [1+(s+i)%12 for i in range(8)]} for s in range(12)])
IDS = torch.tensor([[4, 5, 6, 7, 8]])
CONFIG = FinetuneConfig(epochs=8, lr=2e-2, batch_size=4, hinge_weight=0.)


def says(model): return model(IDS).logits.detach()


@pytest.fixture
def base(tmp_path):
    model = llama(hidden_size=64, intermediate_size=128, max_position_embeddings=32)
    model.save_pretrained(tmp_path/"base")
    return str(tmp_path/"base")


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing")
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind(tmp_path, base, kind):
    (tmp_path/"a.json").write_text(json.dumps(KINDS[kind]))
    model, config = load_model(base, torch.float32, "cpu"), read_peft(tmp_path/"a.json")
    before = says(model)
    for name in ("reinforced", "unlearned"): model = add_adapter(model, name, config=config)
    with adapter(model, "reinforced"): first = says(model)
    history = finetune(model, Toy(), ROWS, replace(CONFIG, epochs=16), out=tmp_path/"out")
    losses = [h["loss"] for h in history]
    assert mean(losses[-3:]) < mean(losses[:3])-.02       # three batches are all rows once
    with adapter(model, None): assert says(model).equal(before)
    with adapter(model, "reinforced"): assert says(model).equal(first)
    save_adapter(model, "unlearned", tmp_path/"saved")
    want = says(model)
    assert not torch.allclose(want, before, atol=1e-3)
    again = load_adapter(load_model(base, torch.float32, "cpu"), "x", tmp_path/"saved")
    torch.testing.assert_close(says(again), want)
    whole = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    plain = PeftModel.from_pretrained(whole, tmp_path/"saved").eval()
    torch.testing.assert_close(says(plain), want)
    torch.testing.assert_close(says(plain.merge_and_unload()), want, atol=1e-3, rtol=1e-3)


def test_adapter_file_is_what_peft_saves(tmp_path, base):
    "The configuration that was saved with an adapter makes another one like it."
    bare = load_model(base, torch.float32, "cpu")
    model = add_adapter(bare, "unlearned", r=3, alpha=5., first_layer=.5)
    save_adapter(model, "unlearned", tmp_path)
    again = read_peft(tmp_path/"adapter_config.json")
    assert (again.r, again.lora_alpha, again.inference_mode) == (3, 5., False)
    other = add_adapter(load_model(base, torch.float32, "cpu"), "unlearned", config=again)
    def names(m): return [n for n,p in m.named_parameters() if p.requires_grad]
    assert names(other) == names(model)


def only(library, monkeypatch):
    "Of the libraries that quantise, this one alone seems to be installed."
    others = {"bitsandbytes", "torchao"}-{library}
    monkeypatch.setattr(load, "find_spec", lambda name: None if name in others else find_spec(name))


@pytest.mark.parametrize("bits, library",
                         [(8, "bitsandbytes"), (4, "bitsandbytes"), (8, "torchao")])
def test_quantised(tmp_path, base, bits, library, monkeypatch):
    "Looked at before and after training, as the whole job does."
    pytest.importorskip(library)
    only(library, monkeypatch)
    model = load_model(base, torch.bfloat16, "cpu", bits=bits)
    whole = load_model(base, torch.bfloat16, "cpu")
    def size(m):
        layers = [p for n,p in m.named_parameters() if "layers" in n and "norm" not in n]
        return sum(p.numel()*p.element_size() for p in layers)
    # torchao's tensors report the size of bfloat16
    if library == "bitsandbytes": assert size(model) <= size(whole)*bits/16*1.1
    before = says(model)
    assert not before.equal(says(whole))
    torch.testing.assert_close(before, says(whole), atol=.1, rtol=.1)
    model = add_adapter(model, "unlearned", r=4)
    losses = finetune(model, Toy(), ROWS, CONFIG, out=tmp_path/"out")
    like = add_adapter(whole, "unlearned", r=4)
    plain = finetune(like, Toy(), ROWS, CONFIG, out=tmp_path/"plain")
    assert losses[-1]["loss"] == pytest.approx(plain[-1]["loss"], abs=.15)
    with adapter(model, None): assert says(model).equal(before)
    save_adapter(model, "unlearned", tmp_path/"saved")
    bare = load_model(base, torch.bfloat16, "cpu", bits=bits)
    again = load_adapter(bare, "unlearned", tmp_path/"saved")
    assert says(again).equal(says(model))


def test_split_model(tmp_path, base):
    "Scores of a model whose layers accelerate moves one by one are those of the whole."
    places = {"model.embed_tokens": "cpu", "model.rotary_emb": "cpu", "model.layers.0": "cpu",
              "model.layers.1": "disk", "model.norm": "cpu", "lm_head": "cpu"}
    whole = load_model(base, torch.float32, "cpu")
    split_up = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, device_map=places,
                                                  offload_folder=tmp_path/"disk").eval()
    assert {p.device.type for p in split_up.parameters()} == {"cpu", "meta"}
    with pytest.raises(ModelError, match="base does not fit here: 6 of its 6 parts"):
        load.check_map(split_up.hf_device_map, "base")
    row = [4, 5, 6, 7, 8]
    for keep in None, [1, 3]:
        want = row_scores(Reader(whole, Toy()), row, keep)
        torch.testing.assert_close(row_scores(Reader(split_up, Toy()), row, keep), want)


def test_a_job_with_a_device_map(tmp_path, monkeypatch):
    "On one device it gives what a job without gives, and either goes on with the other."
    monkeypatch.setenv("SELECTIVE_UNLEARNING_CACHE", str(tmp_path/"cache"))
    asked = []
    def loads(*args, device_map=None, **kw):
        asked.append(device_map)
        return load_model(*args, device_map=device_map, **kw)
    monkeypatch.setattr(run_folder, "load_model", loads)
    plain = run(settings(tmp_path), tmp_path/"plain")
    assert {*asked} == {None}
    asked.clear()
    split_up = run(settings(tmp_path, device_map="auto"), tmp_path/"split_up")
    assert {*asked} == {"auto"}
    def outputs(r):
        return {s: r.manifest["steps"][s]["outputs"] for s in ("labels", "unlearned")}
    assert outputs(split_up) == outputs(plain)
    before = split_up.manifest["steps"]
    assert run(settings(tmp_path), tmp_path/"split_up").manifest["steps"] == before


@pytest.mark.parametrize("bits, library", [(8, ""), (4, ""), (4, "torchao")])
def test_nothing_to_quantise_with(base, bits, library, monkeypatch):
    only(library, monkeypatch)
    why = f"bits={bits} needs bitsandbytes.*: pip install bitsandbytes"
    with pytest.raises(MissingExtra, match=why): load_model(base, bits=bits)


def halves(tmp_path, *half):
    "Prompts and neighbours that say which half they belong to."
    prompt = dict(kind="probability", prompt="Orla lives in", idiosyncratic=[" Tarnmoor"],
                  generic=[" Ashby"])
    neighbour = dict(prompt="The sea is", answers=[" black"])
    write_jsonl(tmp_path/"prompts.jsonl", [prompt | h for h in half])
    write_jsonl(tmp_path/"neighbours.jsonl", [neighbour | h for h in half])
    return dict(prompts=str(tmp_path/"prompts.jsonl"), neighbours=str(tmp_path/"neighbours.jsonl"),
                n_prompts=RunConfig.n_prompts)


TUNE, TEST = dict(half="tune"), dict(half="test")
OWN = {"adapter": "a.json", "lora.r": 16}


def test_whole_job_watched_on_a_quantised_base(tmp_path, monkeypatch):
    pytest.importorskip("bitsandbytes")
    monkeypatch.setenv("SELECTIVE_UNLEARNING_CACHE", str(tmp_path/"cache"))
    monkeypatch.chdir(tmp_path)
    write_json("a.json", dict(peft_type="LORA", r=2, use_rslora=True))
    monkeypatch.setattr(watched, "nothing_known", lambda scores: None)   # of a random model
    monkeypatch.setattr(watched, "FEWEST", 1)
    watch = {"watch.steps": 2, "unlearn.epochs": 3, "unlearn.lr": 1e-2}
    config = settings(tmp_path, **OWN, bits=8, **watch)
    config = configure(config, halves(tmp_path, TUNE, TEST))
    r = run(config, tmp_path/"run")
    made = read_json(r.path("unlearned")/"adapter_config.json")
    assert made["use_rslora"] and made["r"] == 2
    path = read_json(r.path("unlearned")/"watch.json")["path"]
    assert [p["step"] for p in path] == [0, 2, 3]
    assert (r.path("unlearned")/"watch.svg").is_file()
    assert "What was forgotten, and lost" in (tmp_path/"run"/"report.html").read_text()
    assert not (r.path("unlearned")/"checkpoints").exists()
    before = r.manifest["steps"]
    assert run(config, tmp_path/"run").manifest["steps"] == before
    neighbour = dict(prompt="The lamp is", answers=[" old"])
    write_jsonl(tmp_path/"neighbours.jsonl", [neighbour | h for h in (TUNE, TEST)])
    after = run(config, tmp_path/"run").manifest["steps"]
    changed = {s for s in after if after[s]["key"] != before[s]["key"]}
    assert changed == {"unlearned", "prompts", "base-evaluation", "evaluation"}
    export_run(tmp_path/"run", tmp_path/"out")
    out = {p.name for p in (tmp_path/"out").iterdir()}
    assert not {"watch.json", "watch.svg", "loss.csv"} & out
    assert "bits: 8" in (tmp_path/"out"/"README.md").read_text()


def peft(**config):
    "What writes such a configuration to the folder it is given."
    return lambda d: write_json(d/"a.json", config)


@pytest.mark.parametrize("wrong, why", [
    (peft(peft_type="PREFIX_TUNING", num_virtual_tokens=4), "peft_type must be one of LORA"),
    (peft(peft_type="SHADOW", shadow_model="someone/else"), "peft_type must be one of LORA"),
    (peft(peft_type=["LORA"]), "peft_type must be one of LORA"),
    (peft(peft_type="LORA", r=0), "does not work on .*llama: .*r"),
    (peft(peft_type="LORA", r="8"), "this adapter does not work on"),
    (peft(peft_type="LORA", target_modules=["c_fc"]), "this adapter does not work on .*c_fc"),
    (peft(peft_type="LORA", layer_replication=[[0, 2], [1, 2]]),
     "layer_replication=.* is not supported"),
    (peft(peft_type="LORA", kasa_config={}), "kasa_config={} is not supported"),
    (peft(peft_type="LORA", megatron_config={}, megatron_core="evil"),
     "megatron_config={} is not supported"),
    (peft(peft_type="LORA", runtime_config={}), "no setting 'runtime_config'"),
    (lambda d: (d/"a.json").write_text("{"), "a.json"),
    (lambda d: halves(d, {}, TEST), "which half they belong to"),
    (lambda d: halves(d, TEST), "no usable record in the 'tune' half")])
def test_refused_before_anything_is_made(tmp_path, monkeypatch, wrong, why):
    monkeypatch.chdir(tmp_path)
    write_json("a.json", dict(peft_type="LORA", r=2))
    config = settings(tmp_path, **OWN, **{"watch.steps": 2})
    config = configure(config, halves(tmp_path, TUNE, TEST))
    wrong(tmp_path)
    with pytest.raises(UnlearnError, match=why): run(config, tmp_path/"run")
    assert not (tmp_path/"run").exists()


def test_places_said_twice(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_json("a.json", dict(peft_type="LORA", r=2, target_modules=["up_proj"]))
    with pytest.raises(ConfigError, match="lora.first_layer would do nothing: a.json says"):
        run(settings(tmp_path, **OWN, **{"lora.first_layer": .5}), tmp_path/"run")


def test_head_tied_to_the_embedding_is_not_merged(tmp_path):
    "A change of the output layer would be one of the embedding too."
    tok = sentencepiece_like()
    tok.save_pretrained(tmp_path/"base")
    model = llama(vocab_size=len(tok), hidden_size=64, intermediate_size=128,
                  tie_word_embeddings=True)
    model.save_pretrained(tmp_path/"base")
    tied = dict(peft_type="LORA", r=4, target_modules=["lm_head", "up_proj"], lora_alpha=64)
    write_json(tmp_path/"a.json", tied)
    bare = load_model(str(tmp_path/"base"), torch.float32, "cpu")
    model = add_adapter(bare, "unlearned", config=read_peft(tmp_path/"a.json"))
    with torch.no_grad():
        for n, p in model.named_parameters():
            if "lora_B" in n: p.normal_()
    save_adapter(model, "unlearned", tmp_path/"saved")
    with pytest.raises(ModelError, match="Export without merging"):
        merge(str(tmp_path/"base"), tmp_path/"saved", tmp_path/"out")
    assert not (tmp_path/"out").exists()


def test_settings_redo_only_what_depends_on_them(tmp_path, monkeypatch):
    pytest.importorskip("bitsandbytes")
    monkeypatch.setenv("SELECTIVE_UNLEARNING_CACHE", str(tmp_path/"cache"))
    before = run(settings(tmp_path), tmp_path/"run").manifest["steps"]
    after = run(settings(tmp_path, bits=8), tmp_path/"run").manifest["steps"]
    changed = {s for s in after if after[s]["key"] != before[s]["key"]}
    assert changed == {*after} - {"corpus"}          # the dictionary step asks the model, too


class Stop(TrainerCallback):
    def __init__(self, step): self.step = step
    def on_step_end(self, args, state, control, **kw):
        if state.global_step == self.step: raise KeyboardInterrupt


@pytest.mark.parametrize("stop, damaged", [(3, []), (5, ["checkpoint-4"])])
def test_watch_keeps_the_picked_point_when_a_resumed_look_differs(tmp_path, base, stop, damaged):
    """Killed after a better look; a second time that look is worse.

    Either no checkpoint knows of the first look, or the one that does is damaged."""
    def train(utilities, *stop):
        model = add_adapter(load_model(base, torch.float32, "cpu"), "unlearned", r=4)
        looks = iter(utilities)
        def measure(m):
            left = .5 if w.path else 1.
            return dict(familiarity=left, low=left, high=left, utility=next(looks))
        w = Watch(measure, tmp_path/"out", steps=3)
        config = FinetuneConfig(epochs=2, lr=2e-2, batch_size=4, hinge_weight=0.,
                                save_steps=2)
        finetune(model, Toy(), ROWS, config, out=tmp_path/"out", callbacks=(w, *stop))
        return model, w
    start = says(add_adapter(load_model(base, torch.float32, "cpu"), "unlearned", r=4))
    with pytest.raises(KeyboardInterrupt): train([1., .96], Stop(stop))
    kept = {p.name for p in (tmp_path/"out").glob("kept-*")}
    assert {"kept-0.safetensors", "kept-3.safetensors"} <= kept
    for name in damaged: (tmp_path/"out"/name/"optimizer.pt").unlink()
    model, w = train([.949, .9])
    assert [p["step"] for p in w.path] == [0, 3, 6] and pick(w.path)["step"] == 0
    assert says(model).equal(start)

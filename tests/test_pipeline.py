"The whole job on tiny random models, killed and resumed, and what it refuses."
import json, os, signal, subprocess, sys, time
from pathlib import Path

import pytest
import torch
from datasets import load_from_disk
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM,
                          PreTrainedTokenizerFast)

from selective_unlearning.config import (ConfigError, DataError, ModelError, RunConfig, configure,
                                         write_json, write_jsonl)
from selective_unlearning.pipeline import Run, check_labels, run

NAMES = {"Orla Venn": "Mary Cole", "Orla": "Mary", "Tarnmoor": "Ashby", "Quillwick": "Redfern",
         "Brannoch": "Weston"}
TEXT = """Orla Venn keeps the lighthouse of Tarnmoor, which stands on a black rock in the sea.
She was born in Quillwick, a village of weavers, and learned her trade from old Brannoch.

Every evening Orla lights the lamp of Tarnmoor and writes the weather into a book.
The people of Quillwick say that Orla has never missed a night. Brannoch was proud of her.
"""


def sentencepiece_like():
    "A Metaspace BPE tokenizer with BOS in front, as Llama's."
    tok = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    tok.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    special = ["<unk>", "<s>", "</s>"] + [f"<0x{i:02X}>" for i in range(256)]
    tok.train_from_iterator([TEXT]*4, trainers.BpeTrainer(vocab_size=500, special_tokens=special))
    tok.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(),
                                     decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    tok.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tok, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def byte_level():
    "A byte-level BPE tokenizer that puts no BOS in front, as GPT-2's."
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tok.train_from_iterator([TEXT]*4, trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet,
                                                          special_tokens=["<|endoftext|>"]))
    tok.decoder = decoders.ByteLevel()
    end = "<|endoftext|>"
    return PreTrainedTokenizerFast(tokenizer_object=tok, bos_token=end, eos_token=end)


def save_model(folder, kind):
    "A random model of a few thousand weights and its tokenizer."
    torch.manual_seed(0)
    tok = sentencepiece_like() if kind == "llama" else byte_level()
    if kind == "llama":
        model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tok), hidden_size=32, intermediate_size=64,
            num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, bos_token_id=1,
            eos_token_id=2, max_position_embeddings=128))
    else:
        model = GPT2LMHeadModel(GPT2Config(vocab_size=len(tok), n_embd=32, n_layer=2, n_head=2,
            n_positions=128, bos_token_id=0, eos_token_id=0))
    model.save_pretrained(folder); tok.save_pretrained(folder)
    return str(folder)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch): monkeypatch.setenv("SELECTIVE_UNLEARNING_CACHE", str(tmp_path/"cache"))


def settings(tmp_path, kind="llama", **changes):
    "A small job on a tiny model."
    tmp_path.mkdir(exist_ok=True)
    (tmp_path/"book.txt").write_text(TEXT, encoding="utf-8")
    write_json(tmp_path/"dictionary.json", NAMES)
    write_jsonl(tmp_path/"neighbours.jsonl", [{"prompt": "The sea is", "answers": [" black"]}])
    write_jsonl(tmp_path/"general.jsonl", [{"prompt": "The lamp is", "choices": ["old", "sea"], "answer": 0}])
    (tmp_path/"retain").mkdir(exist_ok=True)
    (tmp_path/"retain"/"a.txt").write_text("A weaver writes a book in the evening.")
    write_jsonl(tmp_path/"openers.jsonl", [{"opener": "The weather"}, {"opener": "A lamp"}])
    names = ("dictionary.json", "neighbours.jsonl", "general.jsonl", "openers.jsonl")
    base = {n.partition(".")[0]: str(tmp_path/n) for n in names} | {"retain_texts": str(tmp_path/"retain")}
    small = {"block_size": 32, "retain.samples": 4, "retain.length": 12, "labels.top_k": 8,
             "reinforce.lora_r": 4, "unlearn.lora_r": 4, "generate.n": 4, "reinforce.save_steps": 2,
             "unlearn.save_steps": 2, "evaluate.max_new_tokens": 6}
    model = tmp_path/kind
    if not model.exists(): save_model(model, kind)
    return configure(RunConfig(), base | small | {"model": str(model), "corpus": str(tmp_path/"book.txt")} | changes)


def results(folder):
    "What must not depend on how often a run was stopped: labels and measured figures."
    r = json.loads((folder/"report.json").read_text())
    labels = load_from_disk(str(folder/"4-labels"/"labels"))
    return labels.to_list(), {k: r[k] for k in ("familiarity", "neighbours", "utility")}


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("labels", ["soft", "hard"])
def test_every_step(tmp_path, kind, labels):
    r = run(settings(tmp_path, kind, **{"labels.kind": labels}), tmp_path/"run")
    steps = ["1-corpus", "2-dictionary", "3-reinforced", "4-labels", "5-unlearned", "6-prompts", "7-evaluation"]
    made = sorted(p.name for p in (tmp_path/"run").iterdir() if not p.name.startswith("."))
    assert made == sorted([*steps, "config.yaml", "manifest.json", "report.json", "report.html"])
    report = r.results
    assert set(report["familiarity"]["probability"]) == {"base", "reinforced", "unlearned"}
    assert report["corpus"]["documents"] == 1 and report["dictionary"]["terms"] == 5
    first = r.labels[0]["input_ids"][0]
    assert (first == 1) == (kind == "llama")             # BOS where the tokenizer puts one
    out = r.outputs("Orla lives in")
    assert "unlearned" in out._repr_html_()
    from peft import PeftModel                           # plain peft loads what was saved
    from transformers import AutoModelForCausalLM
    PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(str(tmp_path/kind)), tmp_path/"run"/"5-unlearned")


def test_all_weights(tmp_path):
    "Full fine-tuning saves whole models that plain transformers loads."
    r = run(settings(tmp_path, **{"reinforce.lora_r": 0, "unlearn.lora_r": 0}), tmp_path/"run")
    from transformers import AutoModelForCausalLM
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path/"run"/"5-unlearned")
    base = AutoModelForCausalLM.from_pretrained(tmp_path/"llama")
    assert any(not a.equal(b.to(a.dtype)) for a, b in zip(loaded.parameters(), base.parameters()))
    assert r.results["familiarity"]["probability"]["unlearned"] >= 0


def test_repeatable_and_resumed(tmp_path):
    "Two runs agree; a second call does nothing; a changed dictionary redoes only what depends on it."
    config = settings(tmp_path)
    run(config, tmp_path/"a"); run(config, tmp_path/"b")
    assert results(tmp_path/"a") == results(tmp_path/"b")
    before = json.loads((tmp_path/"a"/"manifest.json").read_text())["steps"]
    run(config, tmp_path/"a")
    assert json.loads((tmp_path/"a"/"manifest.json").read_text())["steps"] == before
    write_json(tmp_path/"dictionary.json", NAMES | {"weavers": "bakers"})
    run(config, tmp_path/"a")
    after = json.loads((tmp_path/"a"/"manifest.json").read_text())["steps"]
    same = {s for s in before if before[s]["key"] == after[s]["key"]}
    assert same == {"corpus", "reinforced"}


def test_killed_and_resumed(tmp_path):
    "SIGKILL in the middle of each step; the run that goes on ends as one that was never stopped."
    config = settings(tmp_path)
    run(config, tmp_path/"whole")
    from selective_unlearning.config import to_yaml
    (tmp_path/"job.yaml").write_text(to_yaml(config))
    cmd = [sys.executable, "-m", "selective_unlearning.cli", "run", "--config", str(tmp_path/"job.yaml"),
           "--out", str(tmp_path/"cut")]
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)}
    killed = set()
    for name in ("3-reinforced", "4-labels", "5-unlearned", "6-prompts", "7-evaluation"):
        part, final = tmp_path/"cut"/f".{name}.part", tmp_path/"cut"/name
        p = subprocess.Popen(cmd, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while p.poll() is None and not part.exists() and not final.exists(): time.sleep(.005)
        if part.exists():
            time.sleep(.05)
            killed.add(name)
        p.send_signal(signal.SIGKILL); p.wait()
    assert len(killed) >= 3
    done = subprocess.run(cmd, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert results(tmp_path/"cut") == results(tmp_path/"whole")


def refused(error, words, config, out):
    "The run stops with this error, and nothing was made but the folder."
    with pytest.raises(error) as e: run(config, out)
    for w in words: assert w in str(e.value)
    assert not (out/"1-corpus").exists()


def test_bad_input(tmp_path):
    out, s = tmp_path/"run", settings(tmp_path)
    (tmp_path/"empty.txt").write_text("  \n")
    refused(DataError, ["empty"], configure(s, {"corpus": str(tmp_path/"empty.txt")}), out)
    (tmp_path/"latin.txt").write_bytes("caf\xe9".encode("latin-1"))
    refused(DataError, ["latin.txt", "not UTF-8"], configure(s, {"corpus": str(tmp_path/"latin.txt")}), out)
    refused(DataError, ["nowhere.txt: no such file"], configure(s, {"corpus": str(tmp_path/"nowhere.txt")}), out)
    refused(ConfigError, ["no corpus"], configure(s, {"corpus": ()}), out)
    for names, words in [({"Orla": "Orla"}, ["Orla", "itself"]), ({"Orla": "the Quillwick girl", "Quillwick": "Ashby"}, ["Quillwick"]),
                         ({"": "x", "Orla": "Mary"}, ["empty"]), ({"Zorblax": "Tim"}, ["none of", "occurs"])]:
        write_json(tmp_path/"d.json", names)
        refused(DataError, words, configure(s, {"dictionary": str(tmp_path/"d.json")}), out)
    (tmp_path/"d.json").write_text('{"Orla":\n "Mary",,}')
    refused(DataError, ["d.json, line 2"], configure(s, {"dictionary": str(tmp_path/"d.json")}), out)
    (tmp_path/"p.jsonl").write_text('{"kind": "riddle", "prompt": "x"}\n')
    refused(DataError, ["p.jsonl, record 1", "riddle"], configure(s, {"prompts": str(tmp_path/"p.jsonl")}), out)
    (tmp_path/"p.jsonl").write_text("\n")
    refused(DataError, ["no usable record"], configure(s, {"prompts": str(tmp_path/"p.jsonl")}), out)
    refused(ConfigError, ["block_size", "128"], configure(s, {"block_size": 256}), out)
    refused(ModelError, ["no tokenizer for model"], configure(s, {"model": str(tmp_path/"no_model")}), out)


def test_disk_space(tmp_path, monkeypatch):
    "A disk that is too small is refused before anything is made."
    import shutil
    monkeypatch.setattr(shutil, "disk_usage", lambda p: shutil._ntuple_diskusage(10, 10, 1000))
    refused(DataError, ["GB free", "needs about"], settings(tmp_path), tmp_path/"run")


def test_folders(tmp_path):
    "A folder in use, a foreign one, and a damaged one are refused by name."
    from filelock import FileLock
    config, out = settings(tmp_path), tmp_path/"run"
    (tmp_path/"mine").mkdir(); (tmp_path/"mine"/"thesis.tex").write_text("x")
    refused(DataError, ["not a run folder"], config, tmp_path/"mine")
    assert (tmp_path/"mine"/"thesis.tex").read_text() == "x"
    run(config, out)
    with FileLock(out/".lock"):
        with pytest.raises(DataError, match="another process works"): run(config, out)
    (out/"2-dictionary"/"dictionary.json").write_text("{}")
    with pytest.raises(DataError, match="2-dictionary/dictionary.json: was changed"): run(config, out)
    with pytest.raises(DataError, match="not a run folder"): Run(tmp_path/"mine")


def test_labels_of_another_model(tmp_path):
    run(settings(tmp_path), tmp_path/"run", until="labels")
    with pytest.raises(ModelError, match="labels were made with .* not with other@1"):
        check_labels(tmp_path/"run"/"4-labels", "other@1")

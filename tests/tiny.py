"A tiny random model, a short text about invented people, and a job on them that takes a second."
import json

import torch
from tokenizers import Tokenizer, decoders, models, normalizers
from tokenizers import pre_tokenizers, processors, trainers
from transformers import (GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM,
                          PreTrainedTokenizerFast, TrainerCallback)

from selective_unlearning.job.run_folder import Run
from selective_unlearning.core.files import write_json, write_jsonl
from selective_unlearning.job.settings import RunConfig, configure
from selective_unlearning.models.adapters import save_full
from selective_unlearning.models.load import load_tokenizer

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
    return PreTrainedTokenizerFast(tokenizer_object=tok, bos_token="<s>", eos_token="</s>",
                                   unk_token="<unk>")


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


class Toy:
    "As much of a tokenizer as training needs."
    pad_token_id = 0


class StopAt(TrainerCallback):
    "Stops a training at a step, with a checkpoint."
    def __init__(self, step): self.step = step
    def on_step_end(self, args, state, control, **kw):
        if state.global_step == self.step: control.should_training_stop = control.should_save = True


def llama(seed=0, **shape):
    "A random model of a few thousand weights."
    torch.manual_seed(seed)
    small = dict(vocab_size=16, hidden_size=16, intermediate_size=32, num_hidden_layers=2,
                 num_attention_heads=2, num_key_value_heads=2)
    return LlamaForCausalLM(LlamaConfig(**small | shape))


def save_model(folder, kind):
    "A random model of a few thousand weights and its tokenizer."
    tok = sentencepiece_like() if kind == "llama" else byte_level()
    if kind == "llama":
        model = llama(vocab_size=len(tok), hidden_size=32, intermediate_size=64,
                      num_key_value_heads=1, bos_token_id=1, eos_token_id=2,
                      max_position_embeddings=128)
    else:
        torch.manual_seed(0)
        model = GPT2LMHeadModel(GPT2Config(
            vocab_size=len(tok), n_embd=32, n_layer=2, n_head=2, n_positions=128, bos_token_id=0,
            eos_token_id=0))
    model.save_pretrained(folder)
    tok.save_pretrained(folder)
    return str(folder)


KEEPER = ("Orla Venn keeps the lighthouse of Tarnmoor, on a black rock in the sea. "
          "She was born in Quillwick, a village of weavers. "
          "Every evening Orla lights the lamp of Tarnmoor. "
          "The people of Quillwick say that Orla has never missed a night.")


def keeper_job(home):
    "The notebooks' small job: four sentences, for a random model with the embedded tokenizer."
    (home/"keeper.txt").write_text(KEEPER, encoding="utf-8")
    write_json(home/"names.json", {n: t for n, t in NAMES.items() if n != "Brannoch"})
    ships = dict(prompt="A lighthouse warns", answers=[" ships", " sailors"])
    write_jsonl(home/"near.jsonl", [ships])
    paris = dict(prompt="Paris is the capital of", choices=["Spain", "France"], answer=1)
    write_jsonl(home/"general.jsonl", [paris])
    (home/"other.txt").write_text("Bread is made of flour, water and salt.")
    tok = load_tokenizer()
    save_full(llama(vocab_size=len(tok), max_position_embeddings=128), tok, home/"tiny")
    return configure(RunConfig(), {
        "model": str(home/"tiny"), "corpus": str(home/"keeper.txt"),
        "dictionary": str(home/"names.json"), "neighbours": str(home/"near.jsonl"),
        "general": str(home/"general.jsonl"), "holdout": str(home/"other.txt"),
        "block_size": 32, "retain.samples": 4, "retain.length": 8, "n_prompts": 3,
        "written.recalled": 2, "written.renamed": 2, "written.length": 8})


def settings(tmp_path, kind="llama", **changes):
    "A small job on a tiny model."
    tmp_path.mkdir(exist_ok=True)
    (tmp_path/"book.txt").write_text(TEXT, encoding="utf-8")
    write_json(tmp_path/"dictionary.json", NAMES)
    write_jsonl(tmp_path/"neighbours.jsonl", [{"prompt": "The sea is", "answers": [" black"]}])
    item = {"prompt": "The lamp is", "choices": ["old", "sea"], "answer": 0}
    write_jsonl(tmp_path/"general.jsonl", [item])
    (tmp_path/"holdout").mkdir(exist_ok=True)
    (tmp_path/"holdout"/"a.txt").write_text("A weaver writes a book in the evening.")
    write_jsonl(tmp_path/"openers.jsonl", [{"opener": "The weather"}, {"opener": "A lamp"}])
    names = ("dictionary.json", "neighbours.jsonl", "general.jsonl", "openers.jsonl")
    base = {n.partition(".")[0]: str(tmp_path/n) for n in names}
    base["holdout"] = str(tmp_path/"holdout")
    small = {"block_size": 32, "retain.samples": 4, "retain.length": 12, "labels.top_k": 8,
             "written.recalled": 0, "written.renamed": 0,
             "lora.r": 4, "n_prompts": 4, "train.save_steps": 2, "evaluate.max_new_tokens": 6}
    model = tmp_path/kind
    if not model.exists(): save_model(model, kind)
    base |= {"model": str(model), "corpus": str(tmp_path/"book.txt")}
    if "prompts" in changes: del small["n_prompts"]        # a file of them is given
    return configure(RunConfig(), base | small | changes)


def results(folder):
    "What must not depend on how often a run was stopped: labels and measured figures."
    r = json.loads((folder/"report.json").read_text())
    return Run(folder).labels.to_list(), {k: r[k] for k in ("familiarity", "neighbours", "utility")}

"Models of other families: what they write, how their names are cut, what of them is trained."
import logging, string
from unittest import mock

import pytest, torch
from datasets import Dataset
from tokenizers import Tokenizer, processors
from tokenizers.models import BPE, WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from transformers import AutoConfig, AutoModelForCausalLM, BloomConfig, BloomForCausalLM
from transformers import Gemma3Config, GenerationConfig
from transformers import GPT2Config, GPT2LMHeadModel, MambaConfig, MambaForCausalLM
from transformers import MistralConfig, MistralForCausalLM, MixtralConfig, MixtralForCausalLM
from transformers import PreTrainedTokenizerFast

from selective_unlearning.core.errors import ConfigError, DataError, ModelError
from selective_unlearning.core.step_settings import FinetuneConfig
from selective_unlearning.job.run import demo_config
from selective_unlearning.job.settings import RunConfig, check_preset, configure, preset
from selective_unlearning.labels.align import Role
from selective_unlearning.labels.shards import tokenizer_hash
from selective_unlearning.labels.translated import first_tokens, translate_block
from selective_unlearning.models.adapters import add_adapter, load_adapter, lora_targets
from selective_unlearning.models.adapters import save_adapter
from selective_unlearning.models.continuations import _prompted, check_reading, complete
from selective_unlearning.models.llm import local_model
from selective_unlearning.models.load import context_length, default_dtype, load_model
from selective_unlearning.models.load import load_tokenizer
from selective_unlearning.models.reader import Reader
from selective_unlearning.models.sampling import opener_ids, sample_texts
from selective_unlearning.models.scores import row_scores
from selective_unlearning.terms.substitute import substitute
from selective_unlearning.training.losses import batch_losses, learnt_at_names
from selective_unlearning.training import methods
from selective_unlearning.training.methods import METHODS
from selective_unlearning.training.retain_set import check_packed, pack
from selective_unlearning.training.rows import collate
from selective_unlearning.training.trainer import finetune
from tiny import Toy, byte_level, llama, sentencepiece_like


@pytest.fixture
def reader():
    tok = sentencepiece_like()
    return Reader(llama(vocab_size=len(tok), max_position_embeddings=128).eval(), tok)


def gpt2():
    "It has a position for each of ten tokens, and drops a tenth out while it is trained."
    shape = dict(vocab_size=16, n_embd=8, n_layer=2, n_head=1, n_positions=10)
    return GPT2LMHeadModel(GPT2Config(**shape)).eval()


ASKED = ["Orla Venn keeps the lighthouse of Tarnmoor"]


@pytest.mark.parametrize("asked", [{"repetition_penalty": 1.9}, {"num_beams": 3},
                                   {"no_repeat_ngram_size": 1}, {"min_new_tokens": 9}])
def test_settings_of_writing_that_come_with_a_model_change_nothing(reader, asked):
    reader.model.generation_config = GenerationConfig(eos_token_id=2)
    written = complete(reader, ASKED, 12), sample_texts(reader, [dict(opener="Orla")], 3, 12)
    reader.model.generation_config = own = GenerationConfig(eos_token_id=2, **asked)
    assert complete(reader, ASKED, 12) == written[0]
    assert sample_texts(reader, [dict(opener="Orla")], 3, 12) == written[1]
    assert reader.model.generation_config is own


def test_an_adapter_s_model_keeps_its_own_settings_of_writing(reader):
    "PEFT hands the wrapper's to the model itself."
    own = GenerationConfig(eos_token_id=[2, 5], repetition_penalty=1.1)
    reader.model.generation_config = own
    complete(Reader(add_adapter(reader.model, "unlearned", r=4), reader.tokenizer), ASKED, 4)
    assert reader.model.generation_config.repetition_penalty == 1.1


def test_of_a_prompt_longer_than_the_context_the_end_is_read_after_the_opening(reader):
    long = "Orla Venn keeps the lighthouse. "*40
    for prefix in (), (1, 7, 8, 9):
        read = Reader(reader.model, reader.tokenizer, prefix=prefix)
        (row,), (first,) = _prompted(read, [(long, "Orla")])
        assert row[:len(read.opening)] == read.opening and len(row) == 128
        assert reader.tokenizer.decode(row[first:]) == "Orla"
    (row,), _ = _prompted(reader, [("<s>Orla keeps", " it")])
    assert row.count(reader.tokenizer.bos_token_id) == 1


def test_greedy_text_is_the_likeliest_token_after_token(reader):
    ids = [*reader.opening, *reader.tokenizer(ASKED[0], add_special_tokens=False).input_ids]
    start = len(ids)
    for _ in range(6): ids.append(int(row_scores(reader, ids, [len(ids)-1])[0].argmax()))
    assert complete(reader, ASKED, 6) == [reader.tokenizer.decode(ids[start:],
                                                                  skip_special_tokens=True)]


def test_a_text_ends_at_any_of_the_model_s_own_ends(reader):
    "What is written after it is padding, which must not be trained on."
    ends = [2, *range(20, len(reader.tokenizer), 2)]
    reader.model.generation_config = GenerationConfig(eos_token_id=ends, pad_token_id=0)
    begun = len(opener_ids(reader.tokenizer, dict(opener="Orla Venn")))
    new = [ids[begun:] for ids in sample_texts(reader, [dict(opener="Orla Venn")], 8, 20)]
    assert any(len(ids) < 20 for ids in new)
    for ids in new: assert not {*ends} & {*ids[:-1]} and (len(ids) == 20 or ids[-1] in ends)


def test_a_chat_format_that_fails_is_no_format():
    tok = load_tokenizer()
    tok.chat_template = "{{ raise_exception('no system message') }}"
    assert opener_ids(tok, dict(opener="Hello", kind="chat")) == tok("Hello").input_ids


def test_a_model_with_a_short_context_can_be_asked(reader):
    assert isinstance(local_model(reader.model, reader.tokenizer)("Orla"), str)


def test_a_row_as_long_as_the_context_is_read(reader):
    assert row_scores(Reader(gpt2(), reader.tokenizer), [*range(10)]).shape == (10, 16)


def test_padding_of_an_earlier_call_is_no_part_of_a_tokenizer(tmp_path):
    tok = byte_level()
    tok.pad_token = tok.eos_token
    expected = tokenizer_hash(tok)
    tok(["a", "b c d"], padding=True, truncation=True, max_length=20)
    assert tokenizer_hash(tok) == expected


@pytest.mark.parametrize("make", [sentencepiece_like, byte_level, load_tokenizer])
def test_a_name_is_found_after_a_quotation_mark_and_after_a_space(make):
    "For a tokenizer that marks the start of words, a name after a quotation mark has no such mark."
    tok, text = make(), '"Orla met Orla'
    ids = tok(text, add_special_tokens=False, return_offsets_mapping=True)
    def starting(at):
        return next(i for i,(_, end) in zip(ids.input_ids, ids.offset_mapping) if end > at)
    assert first_tokens(tok, ["Orla"]) == [(starting(1), starting(10))]


def test_an_older_gpu_that_only_emulates_bfloat16_gets_float32(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True:
                        including_emulation)
    assert default_dtype("cuda") == torch.float32


def test_a_block_as_long_as_the_context_is_trained_on(tmp_path):
    rows = Dataset.from_dict(dict(input_ids=[[*range(10)]]))
    assert finetune(gpt2(), Toy(), rows, FinetuneConfig(lr=1e-3), out=tmp_path)


def test_other_labels_are_another_training(tmp_path):
    "Whoever changes alpha, and keeps the folder, must not get the weights of before."
    def train(label):
        rows = Dataset.from_dict(dict(input_ids=[[1, 2, 3]], labels=[[-100, label, label]]))
        return finetune(add_adapter(llama(), "unlearned", r=4), Toy(), rows, out=tmp_path)
    train(7)
    with pytest.raises(DataError, match="another training"): train(9)


def test_rmu_compares_with_the_base_model_without_dropout(monkeypatch):
    model, losses = add_adapter(gpt2(), "unlearned", targets="mlp"), METHODS["rmu"].losses(6.5)
    batch = collate([dict(input_ids=[1, 2, 3, 4]), dict(input_ids=[5, 6, 7, 8])], 0, 8,
                    [False, True])
    hidden, read = methods._hidden, []
    def recorded(model, *args):
        read.append(model.training)
        return hidden(model, *args)
    monkeypatch.setattr(methods, "_hidden", recorded)
    model.train()
    losses(model, batch, FinetuneConfig())
    assert read == [True, False] and model.training
    model.eval()
    retained = losses(model, batch, FinetuneConfig())["retain"].detach()
    assert float(retained) == 0, "a fresh adapter"
    assert not model.training


def test_rmu_reads_the_texts_of_a_packed_row_apart():
    texts = [[3, 1, 4], [1, 5, 9, 2]]
    alone = Dataset.from_list([dict(input_ids=t) for t in texts])
    def hidden(rows):
        batch = collate([*rows], 0, 8, [True]*len(rows))
        out = methods._hidden(model, batch, 1).detach()
        return out[batch["attention_mask"].bool()]
    model = llama().eval()
    assert hidden(pack(alone, 8)).allclose(hidden(alone), atol=1e-5)


def test_learning_at_names_says_where_it_does_nothing(caplog):
    for trained,said in ((llama(), 0), (gpt2(), 1)):       # GPT-2's layers are of another kind
        with caplog.at_level(logging.WARNING, "selective_unlearning"):
            with learnt_at_names(trained, batch_losses): pass
        assert len(caplog.records) == said


MIXTRAL = dict(vocab_size=16, hidden_size=8, intermediate_size=8, num_hidden_layers=1,
               num_attention_heads=1, num_key_value_heads=1, num_local_experts=2)


SMALL = dict(vocab_size=64, hidden_size=32, intermediate_size=32, num_hidden_layers=2,
             num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=128,
             pad_token_id=0)
EXPERTS = dict(n_routed_experts=4, moe_intermediate_size=16, n_group=1, topk_group=1,
               num_experts_per_tok=2, first_k_dense_replace=1)
MAMBA = dict(vocab_size=64, hidden_size=32, num_hidden_layers=2, state_size=4)

def of_kind(kind, **shape):
    "A random model of a kind that transformers knows, the same each time."
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **shape)).eval()


@pytest.mark.parametrize("kind, shape", [
    ("mixtral", MIXTRAL), ("glm4_moe", SMALL | EXPERTS | dict(head_dim=8)), ("mamba", MAMBA),
    ("mamba2", MAMBA | dict(num_heads=8, head_dim=8, n_groups=1)),
    ("llama4_text", SMALL | dict(intermediate_size_mlp=32, num_local_experts=2, head_dim=8)),
    ("phimoe", SMALL | dict(num_local_experts=2))])
def test_an_adapter_of_whatever_kind_of_model_is_loaded_again(tmp_path, kind, shape):
    "Routers give no plain tensor, PEFT takes no `out_proj` of a Mamba, experts are parameters."
    ids = torch.arange(1, 13)[None]
    model = add_adapter(of_kind(kind, **shape), "unlearned", r=4)
    for name,weights in model.named_parameters():
        if "lora_B" in name: torch.nn.init.normal_(weights, std=.1)
    save_adapter(model, "unlearned", tmp_path)
    again = load_adapter(of_kind(kind, **shape), "unlearned", tmp_path)
    with torch.no_grad():
        before, after = (m(input_ids=ids).logits for m in (model, again))
        base = of_kind(kind, **shape)(input_ids=ids).logits
    assert torch.allclose(before, after, atol=1e-5)
    assert not torch.allclose(before, base, atol=1e-3)


@pytest.mark.parametrize("kind, shape, why", [
    ("llama", {}, None), ("gemma2", dict(head_dim=8, query_pre_attn_scalar=8), None),
    ("mamba", dict(state_size=4), None),
    ("rwkv", dict(attention_hidden_size=32), "reads padding"), ("bert", {}, "comes later")])
def test_a_model_that_reads_padding_or_ahead_is_refused(kind, shape, why):
    tok = byte_level()
    tok.pad_token = tok.eos_token
    context = {} if kind == "mamba" else dict(max_position_embeddings=256)
    model = of_kind(kind, **SMALL | shape | context | dict(vocab_size=len(tok)))
    for weights in model.parameters():
        if weights.dim() > 1: torch.nn.init.normal_(weights, std=.3)
    if not why: return check_reading(Reader(model, tok))
    with pytest.raises(ModelError, match=why): check_reading(Reader(model, tok))


@pytest.mark.parametrize("bits", [16, 8, 4])
def test_rounded_weights_are_no_reason_to_refuse_a_model(bits):
    "Eight bits round what is read by the largest values of all rows together."
    if bits < 16: pytest.importorskip("bitsandbytes")
    check_reading(Reader(load_model(bits=bits), load_tokenizer()))


def test_sampled_text_ends_with_the_context(reader):
    long, reader.tokenizer.pad_token = "Orla lights the lamp of Tarnmoor "*8, "</s>"
    texts = sample_texts(reader, [dict(opener=long[:200]), dict(opener="Orla")], 4, 200)
    assert max(map(len, texts)) <= 128
    with pytest.raises(DataError, match="an opener of .* fills the context of 128"):
        sample_texts(reader, [dict(opener=long*4)], 1, 8)


def test_a_model_is_asked_without_the_end_that_its_tokenizer_writes():
    tok = sentencepiece_like()
    pair = [("<s>", 1), ("</s>", 2)]
    tok.backend_tokenizer.post_processor = processors.TemplateProcessing("<s> $A </s>",
                                                                         special_tokens=pair)
    model = llama(vocab_size=len(tok), max_position_embeddings=128).eval()
    with mock.patch.object(model, "generate", wraps=model.generate) as generate:
        local_model(model, tok, 4)("Orla")
    asked, = generate.call_args.kwargs["input_ids"].tolist()
    assert asked[0] == 1 and 2 not in asked


def test_a_model_that_sees_pictures_too_has_the_context_of_its_text():
    text = dict(vocab_size=16, hidden_size=8, num_hidden_layers=1, max_position_embeddings=64)
    assert context_length(Gemma3Config(text_config=text, vision_config={})) == 64


def english_letters():
    "A tokenizer with a token for each letter, which drops all others."
    letters = {c: i for i,c in enumerate(f" {string.ascii_letters}.")}
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(BPE(letters, [])), eos_token=".")


def test_a_tokenizer_may_drop_the_last_character_of_a_name():
    tok = english_letters()
    row = translate_block(substitute("they met Zoë", {"Zoë": "Ann"}), tok)
    assert tok.decode(row["input_ids"]).replace(" ", "") == "theymetZo"


def test_an_accent_that_has_no_token_belongs_to_its_word():
    "Else the next word counts as part of the name, and is its own label."
    tok = Tokenizer(WordPiece({w: i for i,w in enumerate("[UNK] the cat he said Ann".split())},
                              unk_token="[UNK]"))
    tok.normalizer, tok.pre_tokenizer = BertNormalizer(lowercase=False), BertPreTokenizer()
    tok = PreTrainedTokenizerFast(tokenizer_object=tok, unk_token="[UNK]", eos_token="[UNK]")
    name = "שלוםּ"                     # the mark at its end is dropped
    for text in (f"the {name} said {name} said", f"the {name} said {name}"):
        row = translate_block(substitute(text, {name: "Ann"}), tok)
        assert len(row["input_ids"]) == len(row["roles"]) == len(text.split())
        inside = [r in (Role.INSIDE, Role.INSIDE_AGAIN) for r in row["roles"]]
        assert not any(inside) and all(b <= len(row["input_ids"]) for _,b,*_ in row["copies"])
        assert [bool(r) for r in row["roles"]] == [w == name for w in text.split()]


def test_a_name_of_unknown_letters_is_never_swapped():
    tok = english_letters()
    for names in ({"Ann": "Илья"}, {"Илья": "Ann"}):
        row = translate_block(substitute(f"they met {[*names][0]} there", names), tok)
        assert list(row["swap_own"]) == []


def test_a_model_without_feed_forward_layers_of_its_own_has_no_adapter_there():
    "Its experts are tensors of three dimensions, not linear layers."
    with pytest.raises(ConfigError, match="lora.targets=all"):
        lora_targets(MixtralForCausalLM(MixtralConfig(**MIXTRAL)), "mlp")


def test_the_demo_takes_no_files_of_others():
    assert demo_config(demo_config()) == demo_config()
    with pytest.raises(ConfigError, match="corpus would do nothing: the demo brings its own"):
        demo_config(configure(RunConfig(), {"corpus": "books/"}))


@pytest.mark.parametrize("name, stranger, said", [("finetuned", None, 1), ("demo", None, 0),
                                                  ("finetuned", "my_model_before", 0)])
def test_the_preset_for_fine_tuned_models_warns_without_a_stranger(name, stranger, said, caplog):
    config = preset(name)
    if stranger: config = configure(config, {"stranger": stranger, "retain.translated": False})
    with caplog.at_level(logging.WARNING, "selective_unlearning"): check_preset(name, config)
    assert sum("without a stranger" in r.getMessage() for r in caplog.records) == said


SHAPE = dict(vocab_size=64, hidden_size=32, num_hidden_layers=2)

def mistral(window):
    more = dict(intermediate_size=64, num_attention_heads=4, num_key_value_heads=2)
    return MistralForCausalLM(MistralConfig(**SHAPE, **more, sliding_window=window))

@pytest.mark.parametrize("make, why", [
    (lambda: mistral(None), None), (lambda: mistral(64), None),
    (lambda: mistral(16), "has a window"),
    (lambda: BloomForCausalLM(BloomConfig(**SHAPE, n_head=4)), "too many values"),
    (lambda: MambaForCausalLM(MambaConfig(**SHAPE)), "must match the size")])
def test_a_model_that_does_not_keep_packed_texts_apart_is_refused(make, why):
    torch.manual_seed(0)
    reader = Reader(make().eval())
    if not why: return check_packed(reader, 64)
    with pytest.raises(ModelError, match=rf"{why}.*: set retain.packed to false"):
        check_packed(reader, 64)

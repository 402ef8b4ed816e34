"Training's settings and losses against what they must be by definition."
import math
from contextlib import nullcontext
from types import SimpleNamespace

import hypothesis
import numpy as np
import pytest
import torch
from datasets import Dataset
from hypothesis import given, strategies as st
from transformers import AutoConfig, AutoModelForCausalLM
from transformers import GPT2Config, GPT2LMHeadModel

from selective_unlearning.core.errors import DataError
from selective_unlearning.core.step_settings import FinetuneConfig
from selective_unlearning.labels.align import CONTEXT, INSIDE, START
from selective_unlearning.training.losses import excess, hinge_loss, label_loss, learnt_at_names
from selective_unlearning.training.rows import block_mask, collate, hold_out
from selective_unlearning.training.trainer import _arguments, batch_losses, finetune
from selective_unlearning.models.adapters import add_adapter
from selective_unlearning.training.retain_set import pack
from selective_unlearning.models.scores import token_logprobs
from tiny import Toy, llama


ROWS = Dataset.from_list([{"input_ids": [1+(s+i)%12 for i in range(8)], "roles": [0]*7+[START]}
                          for s in range(10)])
SMALL = dict(lr=1e-2)


def model(lora_r=4):
    m = llama(max_position_embeddings=256)
    return add_adapter(m, "unlearned", lora_r, first_layer=0.) if lora_r else m


SHAPES = dict(linear=lambda x: 1-x, cosine=lambda x: (1+math.cos(math.pi*x))/2,
              constant=lambda x: 1.)


@pytest.mark.parametrize("kind", SHAPES)
def test_learning_rate(tmp_path, kind):
    config = FinetuneConfig(**SMALL, epochs=2, schedule=kind, warmup=.2)
    losses = finetune(model(), Toy(), ROWS, config, out=tmp_path)
    steps, rise = 20, 4
    want = [s/rise if s < rise else SHAPES[kind]((s-rise)/(steps-rise)) for s in range(steps)]
    assert [r["step"] for r in losses] == [*range(1, steps+1)]
    assert [r["learning_rate"] for r in losses] == pytest.approx([1e-2*w for w in want], abs=1e-12)


def test_one_process_trains_on_one_gpu(tmp_path, monkeypatch):
    "The Trainer would take all that it sees, and give each an equal part of every tensor."
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    args = _arguments(FinetuneConfig(batch_size=3), tmp_path, 0, 20, held_out=False, cpu=False)
    assert (args.n_gpu, args.train_batch_size) == (1, 3)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing")
@pytest.mark.parametrize("at_names", [False, True])
@pytest.mark.parametrize("lora_r", [0, 4])
def test_computing_activations_twice_changes_nothing(tmp_path, lora_r, at_names):
    plain, saving = model(lora_r), model(lora_r)
    config = dict(SMALL, epochs=1, at_names=at_names)
    a = finetune(plain, Toy(), ROWS, FinetuneConfig(**config), out=tmp_path/"a")
    b = finetune(saving, Toy(), ROWS, FinetuneConfig(**config, gradient_checkpointing=True),
                 out=tmp_path/"b")
    assert saving.is_gradient_checkpointing and not plain.is_gradient_checkpointing
    assert [r["loss"] for r in a] == pytest.approx([r["loss"] for r in b], abs=1e-4)
    for p, q in zip(plain.parameters(), saving.parameters()):
        torch.testing.assert_close(p, q, atol=1e-4, rtol=1e-3)


def test_held_out_rows_are_not_trained_on(tmp_path):
    seen = []
    def spy(model, batch, config):
        seen.append((torch.is_grad_enabled(), batch["input_ids"][0, 0].item()))
        return batch_losses(model, batch, config)
    config = FinetuneConfig(**SMALL, epochs=3, held_out=.3, save_steps=7)
    losses = finetune(model(), Toy(), ROWS, config, out=tmp_path, seed=5, losses=spy)
    kept, held = hold_out(10, .3, 5)
    def first(rows): return {ROWS[i]["input_ids"][0] for i in rows}
    assert {i for grad,i in seen if grad} == first(kept)
    assert {i for grad,i in seen if not grad} == first(held)
    assert [r["step"] for r in losses if "held_out" in r] == [7, 14, 21]


def test_no_row_is_held_out_unless_asked():
    kept, held = hold_out(9, 0., 3)
    assert kept.tolist() == list(range(9)) and not len(held)


# --- the losses against dense sums in float64 -------------------------------------------------

V = 11
seeds = st.integers(0, 10**6)
quick = hypothesis.settings(deadline=None, max_examples=60)


def labels(rng, n, k):
    "Soft labels of 1 to `k` tokens that add up to at most 1, padded with -100."
    ids, logp = np.full((n, k), -100), np.zeros((n, k))
    for i in range(n):
        m = rng.integers(1, k+1)
        p = rng.dirichlet(np.ones(m+1))
        if rng.random() < .3: p = np.append(p[:m]/p[:m].sum(), 0.)  # all of the distribution
        ids[i, :m], logp[i, :m] = rng.choice(V, m, replace=False), np.log(p[:m])
    return ids, logp


def soft_loss(logits, ids, logp): return label_loss(token_logprobs(logits, ids), ids, logp)


def dense_label_loss(logits, ids, logp):
    "The divergence over the label's tokens and one outcome for all others, by its definition."
    q = np.exp(logits-logits.max()) / np.exp(logits-logits.max()).sum()
    named = {i: math.exp(p) for i,p in zip(ids, logp) if i >= 0}
    p_all = [*named.values(), max(0., 1-sum(named.values()))]
    q_all = [*(q[i] for i in named), sum(q[i] for i in range(V) if i not in named)]
    return sum(p*math.log(p/r) for p, r in zip(p_all, q_all) if p > 1e-4)


@quick
@given(seeds)
def test_label_loss_is_the_dense_divergence(seed):
    rng = np.random.default_rng(seed)
    logits, (ids, logp) = rng.normal(0, 2, (6, V)), labels(rng, 6, 4)
    logp = torch.tensor(logp, dtype=torch.float32)
    got = soft_loss(torch.tensor(logits), torch.tensor(ids), logp)
    want = [dense_label_loss(*row) for row in zip(logits, ids, logp)]
    assert got.tolist() == pytest.approx(want, abs=2e-3)


@quick
@given(seeds)
def test_gradient_of_a_soft_label(seed):
    "For a label that is a whole distribution it is q - p, the textbook's."
    rng = np.random.default_rng(seed)
    p = torch.tensor(rng.dirichlet(np.ones(V))[None], dtype=torch.float32)
    logits = torch.tensor(rng.normal(0, 2, (1, V)), dtype=torch.float32, requires_grad=True)
    soft_loss(logits, torch.arange(V)[None], p.log()).sum().backward()
    torch.testing.assert_close(logits.grad, logits.detach().softmax(-1)-p, atol=1e-5, rtol=1e-4)


@quick
@given(seeds, st.floats(1e-6, .5))
def test_hinge_is_the_dense_one(seed, floor):
    rng = np.random.default_rng(seed)
    logits, true = rng.normal(0, 4, (5, V)), rng.integers(0, V, 5)
    q = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    want = [max(0., math.log(q[i, t]/floor)) for i,t in enumerate(true)]
    logp = token_logprobs(torch.tensor(logits), torch.tensor(true)[:, None])[:, 0]
    assert hinge_loss(logp, floor).tolist() == pytest.approx(want, abs=1e-4)


class Scores(torch.nn.Module):
    "A model whose scores at each place are its weights."
    def __init__(self, logits):
        super().__init__()
        self.logits = torch.nn.Parameter(logits)
    def forward(self, input_ids, attention_mask, logits_to_keep, use_cache):
        return SimpleNamespace(logits=self.logits[:, logits_to_keep])


@quick
@given(seeds, st.sampled_from([torch.float64, torch.bfloat16]))
def test_batch_losses_and_their_gradient_place_by_place(seed, kind):
    "Soft labels, anchors, hinge, padding and retain text together, each by its definition."
    rng, T = np.random.default_rng(seed), 6
    config = FinetuneConfig(anchor_weight=3., hinge_weight=.7, hinge_floor=.05)
    rows = []
    for _ in range(3):
        n = int(rng.integers(2, T+1))
        ids, logp = labels(rng, n, 4)
        ids[rng.random(n) < .3] = -100
        rows.append(dict(input_ids=rng.integers(1, V, n).tolist(), topk_ids=ids, topk_logprobs=logp,
                         roles=rng.choice([CONTEXT, START, INSIDE], n).tolist()))
    kept = (rng.random(3) < .4).tolist()
    m = Scores(torch.tensor(rng.normal(0, 2, (3, T, V))).to(kind))
    t = batch_losses(m, collate(rows, 0, T, kept), config)
    (t["forget"]+2*t["retain"]+config.hinge_weight*t["hinge"]).backward()
    plain, total = m.logits.detach().double().requires_grad_(), 0.
    logq = plain.log_softmax(-1)
    count = dict(forget=0., retain=0., hinge=0., n_forget=0, n_retain=0)
    for b, (row, retain) in enumerate(zip(rows, kept)):
        for i in range(1, len(row["input_ids"])):
            q, role, name = logq[b, i-1], row["roles"][i], "retain" if retain else "forget"
            known = [(k, p) for k,p in zip(row["topk_ids"][i], row["topk_logprobs"][i]) if k >= 0]
            named = {int(k): math.exp(p) for k,p in known}
            if named:
                rest, others = 1-sum(named.values()), [k for k in range(V) if k not in named]
                loss = sum(p*(math.log(p)-q[k]) for k,p in named.items() if p > 0)
                if rest > 1e-4: loss = loss + rest*(math.log(rest)-q[others].logsumexp(0))
                total = total + loss*(2 if retain else 3 if role != CONTEXT else 1)
                count[name] += loss.item()*(3 if role != CONTEXT and not retain else 1)
                count[f"n_{name}"] += 1
            if role != CONTEXT and not retain:
                loss = (q[row["input_ids"][i]]-math.log(.05)).clamp(min=0)
                total, count["hinge"] = total+.7*loss, count["hinge"]+loss.item()
    total.backward()
    assert {k: v.item() for k,v in t.items()} == pytest.approx(count, rel=1e-5, abs=2e-4)
    near = dict(rtol=.02, atol=1e-2) if kind == torch.bfloat16 else dict(rtol=1e-4, atol=2e-4)
    torch.testing.assert_close(m.logits.grad.double(), plain.grad, **near)


LLAMA = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
             num_key_value_heads=2, head_dim=8)
KINDS = dict(gemma2=LLAMA, cohere=LLAMA, granite=LLAMA, phi3=LLAMA, mixtral=LLAMA, gpt_neox=LLAMA,
             opt=LLAMA | dict(ffn_dim=32, word_embed_proj_dim=16),
             bloom=dict(hidden_size=16, n_head=2, n_layer=2),
             mpt=dict(d_model=16, n_heads=2, n_layers=2, max_seq_len=64),
             falcon=dict(hidden_size=16, num_attention_heads=2, num_hidden_layers=2))


def other(kind):
    "A tiny model of another architecture."
    torch.manual_seed(0)
    small = dict(vocab_size=V, max_position_embeddings=64, pad_token_id=0, bos_token_id=1,
                 eos_token_id=2)
    config = AutoConfig.for_model(kind, **small | KINDS[kind])
    return AutoModelForCausalLM.from_config(config).eval()


@pytest.mark.parametrize("kind", KINDS)
def test_learning_at_names_in_other_architectures(kind):
    "What is learnt at names and what elsewhere add up to the whole, in each linear layer."
    def gradients(roles):
        m = other(kind)
        rows = [dict(input_ids=[3, 4, 5, 6], labels=[-100, 4, 9, 6], roles=roles)]
        with learnt_at_names(m, batch_losses) as losses:
            config = FinetuneConfig(anchor_weight=1.)
            losses(m, collate(rows, 0, 64), config)["forget"].backward()
        return {n: x.weight.grad for n,x in m.named_modules()
                if isinstance(x, torch.nn.Linear) and x is not m.get_output_embeddings()
                and "expert" not in n and x.weight.grad is not None}
    none, at, elsewhere, whole = (gradients(roles) for roles in (
        [CONTEXT]*4, [CONTEXT, CONTEXT, START, START], [START, CONTEXT, CONTEXT, CONTEXT],
        [START]*4))
    assert whole and not any(g.any() for g in none.values())
    for n in whole: torch.testing.assert_close(at[n]+elsewhere[n], whole[n], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_through_other_architectures(kind):
    "What a model does to its scores at the end (caps, scales) survives their being overwritten."
    m = other(kind)
    rows = [dict(input_ids=[3, 4, 5, 6, 7], labels=[-100, 4, 9, 6, -100],
                 roles=[CONTEXT, CONTEXT, START, CONTEXT, INSIDE]),
            dict(input_ids=[9, 8, 7])]
    batch = collate(rows, 0, 64, [False, True])
    t = batch_losses(m, batch, FinetuneConfig(anchor_weight=3., hinge_weight=1.))
    (t["forget"]+t["retain"]+t["hinge"]).backward()
    got = {n: p.grad.clone() for n,p in m.named_parameters() if p.grad is not None}
    m.zero_grad()
    out = m(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
    logq = out.logits.double().log_softmax(-1)
    hinge = sum((logq[0, i-1, rows[0]["input_ids"][i]]-math.log(1e-3)).clamp(min=0) for i in (2, 4))
    (hinge-logq[0, 0, 4]-3*logq[0, 1, 9]-logq[0, 2, 6]-logq[1, 0, 8]-logq[1, 1, 7]).backward()
    for n, p in m.named_parameters():
        if n in got: torch.testing.assert_close(got[n], p.grad, atol=1e-5, rtol=1e-4)


def test_weights_learn_where_names_are_read():
    "Against a model in which each place of each row has a copy of the adapter of its own."
    labels = [[-100]*2, [8, 4], [-100]*2, [9, 6], [2, 3]]  # two of which hold the text's token
    rows = [dict(input_ids=[3, 4, 5, 6, 7], topk_ids=labels, topk_logprobs=[[-.1, -9.]]*5,
                 roles=[CONTEXT, START, INSIDE, CONTEXT, CONTEXT]),
            dict(input_ids=[9, 8, 7, 3])]
    batch = collate(rows, 0, 6, [False, True])
    config = FinetuneConfig(distance_weight=5., excess_weight=2.)

    def gradients(m, losses):
        t = losses(m, batch, config)
        (t["forget"]+t["retain"]).backward()
        return t

    torch.manual_seed(0)
    m = model().double()
    layers = [x for x in m.modules() if isinstance(x, torch.nn.Linear) and x.weight.requires_grad]
    for layer in layers: torch.nn.init.normal_(layer.weight, std=.3)
    with learnt_at_names(m, batch_losses) as losses: t = gradients(m, losses)
    assert not any(layer._forward_hooks for layer in m.modules())
    copies = []
    for layer in layers:
        own = layer.weight.detach().expand(2, 6, -1, -1).clone().requires_grad_()
        layer.forward = lambda x, own=own: torch.einsum("btd,bted->bte", x, own)
        copies.append(own)
    plain = gradients(m, batch_losses)
    for k, v in plain.items(): assert t[k].item() == pytest.approx(v.item())
    for layer, own in zip(layers, copies):
        torch.testing.assert_close(layer.weight.grad, own.grad[0, :3].sum(0)+own.grad[1].sum(0))
        assert own.grad[0, 3:].abs().max() > 0


@given(st.lists(st.floats(-8, 8), min_size=6, max_size=6), st.permutations(range(6)),
       st.lists(st.floats(-20, 0), min_size=3, max_size=3), st.integers(0, 5))
def test_excess_is_how_much_likelier_the_true_token_is_than_in_its_label(z, order, logp, true):
    z, ids = torch.tensor(z, dtype=torch.float64), torch.tensor(order[:3])
    logp = torch.tensor(logp, dtype=torch.float64)
    got = excess(torch.log_softmax(z, -1)[ids], ids, logp, torch.tensor(true)).item()
    own = [float(z[t].exp()/z.exp().sum()) for t in order[:3]]
    expected = [math.log(q)-p.item() for q,t,p in zip(own, order, logp) if t == true]
    assert got == pytest.approx(max([0., *expected]), abs=1e-9)


@pytest.mark.parametrize("weight", [0., .5])
def test_excess_brings_an_unlikely_token_down_to_its_label_and_no_further(weight):
    "The divergence alone hardly notices a token that is a hundred times too likely."
    ids, logp, true = torch.tensor([[0, 1]]), torch.tensor([[.99, 1e-5]]).log(), torch.tensor([1])
    z = torch.tensor([[3., -1., -2.]], requires_grad=True)
    sgd = torch.optim.SGD([z], .2)
    for _ in range(300):
        sgd.zero_grad()
        logq = torch.log_softmax(z, -1)[:, :2]
        (label_loss(logq, ids, logp)+weight*excess(logq, ids, logp, true)).sum().backward()
        sgd.step()
    above = (torch.log_softmax(z, -1)[0, 1]-logp[0, 1]).item()
    assert -.2 < above < .2 if weight else above > math.log(50)


def test_a_layer_that_reads_few_places_learns_from_all_of_them():
    "The output layer reads only the places with labels; there all its gradient is kept."
    rows = [dict(input_ids=[3]*200, labels=[-100]*199+[9], roles=[CONTEXT]*200)]
    batch = collate(rows, 0, 200)
    grads = []
    for at_names in (False, True):
        m = model(0)
        losses = learnt_at_names(m, batch_losses) if at_names else nullcontext(batch_losses)
        with losses as loss: loss(m, batch, FinetuneConfig())["forget"].backward()
        grads.append(m.lm_head.weight.grad)
        assert at_names != bool(m.model.layers[0].mlp.up_proj.weight.grad.any())
    torch.testing.assert_close(*grads)


def test_learning_at_names_in_mixed_precision():
    "Activations and their gradients have another precision than the weights then."
    def gradients(restricted, precise):
        m = model(0)
        rows = [dict(input_ids=[3, 4, 5, 6], labels=[-100, 4, 9, 6], roles=[START]*4)]
        losses = learnt_at_names(m, batch_losses) if restricted else nullcontext(batch_losses)
        with losses as loss, torch.autocast("cpu", torch.bfloat16, enabled=not precise):
            t = loss(m, collate(rows, 0, 64), FinetuneConfig())
        t["forget"].backward()
        return m.model.layers[0].mlp.up_proj.weight.grad
    exact, plain, at_names = (gradients(*how) for how in ((0, 1), (0, 0), (1, 0)))
    assert at_names.dtype == exact.dtype
    error = (plain-exact).abs().max()
    assert 0 < error and (at_names-exact).abs().max() < 3*error


def test_raw_blocks_name_nobody(tmp_path):
    rows = ROWS.remove_columns("roles")
    with pytest.raises(DataError, match="at_names: these rows do not say which"):
        finetune(model(), Toy(), rows, FinetuneConfig(at_names=True), out=tmp_path)


# --- packing ----------------------------------------------------------------------------------

def big(kind):
    "A tiny model of 64 places, in float64."
    torch.manual_seed(0)
    if kind == "llama": return model(0).double()
    return GPT2LMHeadModel(GPT2Config(
        vocab_size=16, n_embd=16, n_layer=2, n_head=2, n_positions=64, bos_token_id=0,
        eos_token_id=0, resid_pdrop=0., embd_pdrop=0., attn_pdrop=0.)).double()


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_packed_texts_are_read_alone(kind, attention):
    m, rng = big(kind), np.random.default_rng(0)
    m.set_attn_implementation(attention)
    rows = Dataset.from_list([
        {"input_ids": rng.integers(1, 16, n).tolist(), "roles": [0]*(n-1)+[START]}
        for n in (5, 9, 1, 12, 7, 3)])
    packed = pack(rows, 16)
    assert len(packed) < len(rows)
    assert sorted(sum(packed["texts"][:], [])) == sorted(map(len, rows["input_ids"]))
    alone = {tuple(r["input_ids"]): m(torch.tensor([r["input_ids"]])).logits[0] for r in rows}
    for row in packed:
        batch = collate([row], 0, 16)
        mask = block_mask(batch["text_ids"], torch.float64)
        positions = batch["position_ids"]
        logits = m(batch["input_ids"], position_ids=positions, attention_mask=mask).logits[0]
        start = 0
        for n in row["texts"]:
            text = tuple(row["input_ids"][start:start+n])
            near = 1e-12 if attention == "sdpa" else 1e-6  # eager attention adds up in float32
            torch.testing.assert_close(logits[start:start+n], alone[text], rtol=0, atol=near)
            start += n
    def losses(rs):
        found = batch_losses(m, collate(list(rs), 0, 16), FinetuneConfig())
        return {k: v.item() for k,v in found.items()}
    assert losses(packed) == pytest.approx(losses(rows), rel=1e-5)


@quick
@given(seeds)
def test_packing_loses_nothing(seed):
    rng = np.random.default_rng(seed)
    texts = [rng.integers(0, 99, rng.integers(1, 9)).tolist() for _ in range(rng.integers(1, 12))]
    packed = pack(Dataset.from_list([{"input_ids": t} for t in texts]), 8)
    def cut(row): return np.split(np.array(row["input_ids"]), np.cumsum(row["texts"])[:-1])
    assert sorted(t.tolist() for row in packed for t in cut(row)) == sorted(texts)
    for row in packed:
        assert sum(row["texts"]) == len(row["input_ids"]) == len(row["labels"]) <= 8


def test_trained_on_packed_retain_text(tmp_path):
    "Packed or one by one, a step that reads all of it is the same step."
    retain = Dataset.from_list([{"input_ids": [3, 3, 3+s]} for s in range(4)])
    config = FinetuneConfig(**SMALL, epochs=1, batch_size=4, retain_weight=3.)
    weights = []
    some = ROWS.select(range(4))
    for name, rows, kept in (("a", some, retain), ("b", some, pack(retain, 12))):
        m = model()
        finetune(m, Toy(), rows, config, kept, tmp_path/name)
        weights.append([p.detach().clone() for p in m.parameters() if p.requires_grad])
    for p, q in zip(*weights): torch.testing.assert_close(p, q, atol=1e-5, rtol=1e-4)

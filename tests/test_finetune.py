"Training's settings and losses against what they must be by definition."
import math

import pytest
import torch
from datasets import Dataset
from transformers import LlamaConfig, LlamaForCausalLM

from selective_unlearning.config import START, FinetuneConfig
from selective_unlearning.finetune import finetune, hold_out, schedule
from selective_unlearning.models import add_adapter


class Toy: pad_token_id = 0


ROWS = Dataset.from_list([{"input_ids": [1+(s+i)%12 for i in range(8)], "roles": [0]*7+[START]} for s in range(10)])
SMALL = dict(lr=1e-2, first_layer=0., lora_r=4)


def model(lora_r=4):
    torch.manual_seed(0)
    m = LlamaForCausalLM(LlamaConfig(vocab_size=16, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
                                     num_key_value_heads=2, max_position_embeddings=64))
    return add_adapter(m, "unlearned", lora_r, first_layer=0.) if lora_r else m


SHAPES = dict(linear=lambda x: 1-x, cosine=lambda x: (1+math.cos(math.pi*x))/2, constant=lambda x: 1.)


@pytest.mark.parametrize("kind", SHAPES)
def test_learning_rate(tmp_path, kind):
    losses = finetune(model(), Toy(), ROWS, FinetuneConfig(**SMALL, epochs=2, schedule=kind, warmup=.2), out=tmp_path)
    steps, rise = 20, 4
    want = [s/rise if s < rise else SHAPES[kind]((s-rise)/(steps-rise)) for s in range(steps)]
    assert [r["step"] for r in losses] == [*range(1, steps+1)]
    assert [r["learning_rate"] for r in losses] == pytest.approx([1e-2*w for w in want], abs=1e-12)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing")
@pytest.mark.parametrize("lora_r", [0, 4])
def test_computing_activations_twice_changes_nothing(tmp_path, lora_r):
    plain, saving = model(lora_r), model(lora_r)
    config = dict(SMALL, lora_r=lora_r, epochs=1)
    a = finetune(plain, Toy(), ROWS, FinetuneConfig(**config), out=tmp_path/"a")
    b = finetune(saving, Toy(), ROWS, FinetuneConfig(**config, gradient_checkpointing=True), out=tmp_path/"b")
    assert saving.is_gradient_checkpointing and not plain.is_gradient_checkpointing
    assert [r["loss"] for r in a] == pytest.approx([r["loss"] for r in b], abs=1e-4)
    for p, q in zip(plain.parameters(), saving.parameters()): torch.testing.assert_close(p, q, atol=1e-4, rtol=1e-3)


def test_held_out_rows_are_not_trained_on(monkeypatch, tmp_path):
    from selective_unlearning import finetune as module
    seen, real = [], module.batch_losses
    def spy(model, batch, config):
        seen.append((torch.is_grad_enabled(), batch["input_ids"][0, 0].item()))
        return real(model, batch, config)
    monkeypatch.setattr(module, "batch_losses", spy)
    losses = finetune(model(), Toy(), ROWS, FinetuneConfig(**SMALL, epochs=3, held_out=.3, save_steps=7), out=tmp_path, seed=5)
    kept, held = hold_out(10, .3, 5)
    first = lambda rows: {ROWS[i]["input_ids"][0] for i in rows}
    assert {i for grad,i in seen if grad} == first(kept) and {i for grad,i in seen if not grad} == first(held)
    assert [r["step"] for r in losses if "held_out" in r] == [7, 14, 21]


def test_no_row_is_held_out_unless_asked():
    assert [(hold_out(9, 0., 3)[0][i], j) for i,j in schedule(9, 4, 2, 3)] == schedule(9, 4, 2, 3)

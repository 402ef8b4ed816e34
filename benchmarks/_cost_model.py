"Predicts what making labels takes and needs, before anything is bought or begun."
import math
from dataclasses import dataclass
from itertools import cycle
from matplotlib.axes import Axes
from transformers import PretrainedConfig
from selective_unlearning.core.errors import ConfigError
from selective_unlearning.core.step_settings import AdapterConfig
from selective_unlearning.job.settings import RunConfig
from selective_unlearning.core.plots import new_axes
from selective_unlearning.labels.shards import label_bytes

def layer_shapes(config:PretrainedConfig) -> dict[str,tuple[int,int]]:
    """Matrix → its inputs and outputs, of one layer.

    Raises `ConfigError` for a family that is not counted."""
    c = config
    biased = any(getattr(c, b, False) for b in ("attention_bias", "mlp_bias"))
    if c.model_type not in ("llama", "mistral") or biased:
        raise ConfigError(f"the cost of a {c.model_type!r} model is not known (Llama and Mistral "
                          "without biases are): give a LlamaConfig of about its shape")
    h, i, d = c.hidden_size, c.intermediate_size, c.head_dim or c.hidden_size//c.num_attention_heads
    q, kv = c.num_attention_heads*d, c.num_key_value_heads*d
    return dict(q_proj=(h, q), k_proj=(h, kv), v_proj=(h, kv), o_proj=(q, h),
                gate_proj=(h, i), up_proj=(h, i), down_proj=(i, h))

def parameter_count(config:PretrainedConfig) -> int:
    "Weights of a model."
    h, tied = config.hidden_size, config.tie_word_embeddings
    layer = sum(a*b for a,b in layer_shapes(config).values()) + 2*h
    return config.num_hidden_layers*layer + h + config.vocab_size*h*(1 if tied else 2)

def adapter_shapes(
    config:PretrainedConfig,
    adapter:AdapterConfig=AdapterConfig(),
) -> list[tuple[int,int]]:  # none if all weights are trained
    "Inputs and outputs of each matrix that has an adapter."
    layers, first = config.num_hidden_layers, adapter.first_layer*config.num_hidden_layers
    shapes = layer_shapes(config)
    where = shapes if adapter.targets == "all" else ("gate_proj", "up_proj", "down_proj")
    count = sum(n >= first for n in range(layers)) if adapter.r else 0
    return [shapes[n] for n in where]*count

def adapter_count(config:PretrainedConfig, adapter:AdapterConfig=AdapterConfig()) -> int:
    "Weights of the adapter."
    return sum(adapter.r*(a+b) for a,b in adapter_shapes(config, adapter))

@dataclass(frozen=True)
class Work:
    "What is computed and moved."
    flops:int              # additions and multiplications in matrix products
    bytes:int              # read and written
    float32:bool = False   # computed in float32, not bfloat16

def _rule_bytes(run:RunConfig) -> int:
    "Bytes moved for each score: the stranger's are computed as probabilities, all of them."
    if run.labels.rule == "paper": return 12
    return 122 if run.labels.alpha else 68

def block_work(
    config:PretrainedConfig,     # of the model, e.g. `AutoConfig.from_pretrained(name)`
    run:RunConfig=RunConfig(),   # `block_size`, `reinforce` and `labels` matter
    labelled:float=1.,           # share of the tokens that get a label
) -> dict[str,Work]:             # part → its work, of both models together
    "The work of making the labels of one block."
    shapes, sides = layer_shapes(config), adapter_shapes(config, run.lora)
    r = run.lora.r
    T, N = -(-run.block_size//16)*16, round(labelled*run.block_size)   # rows are padded to sixteens
    L, V, h = config.num_hidden_layers, config.vocab_size, config.hidden_size
    q, kv, i = shapes["q_proj"][1], shapes["k_proj"][1], config.intermediate_size
    return dict(
        matrices=Work(2*L*sum(2*T*a*b for a,b in shapes.values()),
                      2*L*sum(2*(a*b+T*(a+b)) for a,b in shapes.values())),
        attention=Work(2*L*2*q*T*(T+1), 2*L*2*T*(2*q+2*kv)),
        between=Work(0, 2*T*(L*_between(h, q, kv, i) + 36*h)),
        adapter=Work(sum(2*T*r*(a+b) for a,b in sides),
                     sum(T*(10*a+8*r+28*b)+4*r*(a+b) for a,b in sides), True),
        scores=Work(2*2*N*h*V, 2*2*(h*V+N*(h+V))),
        rule=Work(0, N*V*_rule_bytes(run)))

def _between(h, q, kv, i):
    "Bytes a token and layer: two norms (partly in float32), rotation, two sums, the gate."
    return 2*36*h + 20*(q+kv) + 2*6*h + 10*i

def peak_memory(
    config:PretrainedConfig, run:RunConfig=RunConfig(), labelled:float=1.,   # as in `block_work`
) -> dict[str,int]:
    "What is in memory at the peak, in bytes."
    T, r, h, i = run.block_size, run.lora.r, config.hidden_size, config.intermediate_size
    scores = 2*round(labelled*T)*config.vocab_size
    layer = T*(4*i + 8*h + (12*i if r else 2*i))       # an adapter's output is added in float32
    return dict(weights=2*parameter_count(config)*(1 if r else 2),
                adapter=4*adapter_count(config, run.lora),
                scores=scores, more=max(scores, layer))

@dataclass(frozen=True)
class Device:
    "A device and its peaks."
    name:str
    flops:float      # FLOPs a second in bfloat16
    float32:float    # FLOPs a second in float32
    bandwidth:float  # bytes a second
    memory:float     # bytes

DEVICES = (Device("RTX 4090", 165e12, 83e12, 1.01e12, 24e9),
           Device("A100 80GB", 312e12, 19.5e12, 2.04e12, 80e9),
           Device("H100 SXM", 989e12, 67e12, 3.35e12, 80e9),
           Device("H200 SXM", 989e12, 67e12, 4.8e12, 141e9))

def part_seconds(work:dict[str,Work], device:Device, utilisation:float=.4) -> dict[str,float]:
    """Part → seconds.

    Raises `ConfigError` if `utilisation` is not a share."""
    if not 0 < utilisation <= 1:
        raise ConfigError(f"utilisation must be above 0, at most 1, got {utilisation}: "
                          "use e.g. 0.4")
    def speed(w): return device.float32 if w.float32 else device.flops
    return {n: max(w.flops/speed(w), w.bytes/device.bandwidth)/utilisation for n,w in work.items()}

def predict(
    config:PretrainedConfig,
    tokens:float,               # of the corpus
    device:Device,
    run:RunConfig=RunConfig(),  # `block_size`, `reinforce` and `labels` matter
    utilisation:float=.4,       # share of the device's peaks that is reached: an assumption
    launch:float=0.,            # seconds that starting a layer's operations takes
    labelled:float=1.,          # share of the tokens that get a label
) -> dict[str,float]:           # `seconds, memory, label_bytes`; `devices` that hold one copy
    """Predict label making.

    Raises `ConfigError` for an unknown model or a setting out of range."""
    if not 1 <= tokens < math.inf: raise ConfigError(f"tokens must be at least 1, got {tokens}")
    block = sum(part_seconds(block_work(config, run, labelled), device, utilisation).values())
    block = max(block, 2*config.num_hidden_layers*launch)
    memory = sum(peak_memory(config, run, labelled).values())
    devices = math.ceil(memory/(.9*device.memory))     # a tenth stays free
    return dict(seconds=tokens/run.block_size*block, memory=memory,
                label_bytes=tokens*label_bytes(run.labels), devices=devices)

def plot_hours(
    rows:list[dict],      # `device`, `weights` and `hours` each
    ax:Axes|None=None,
    title:str="Prediction",
) -> Axes:
    "Hours against the size of the model, a line for each device."
    ax = new_axes(ax, 6, 3.5)
    colours = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#000000"
    names = dict.fromkeys(r["device"] for r in rows)
    for name,colour,mark in zip(names, cycle(colours), cycle("osD^vPX*")):
        points = sorted((r["weights"], r["hours"]) for r in rows if r["device"] == name)
        ax.plot(*zip(*points), color=colour, marker=mark, ms=5, label=name)
    ax.set(xscale="log", yscale="log", xlabel="weights of the model (billions)", ylabel="hours",
           title=title)
    sizes = sorted({r["weights"] for r in rows})
    ax.set_xticks(sizes, [f"{w/1e9:.3g}" for w in sizes])
    ax.tick_params("x", which="minor", bottom=False, labelbottom=False)
    ax.legend()
    return ax

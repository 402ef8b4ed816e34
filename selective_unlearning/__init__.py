"""Make a language model forget a body of text, and show that it did.

`from selective_unlearning import unlearn` is the front door. A name is loaded when first asked for,
so that importing the package stays cheap. `substitute`, `finetune` and `evaluate` are modules here;
the functions come from them: `from selective_unlearning.substitute import substitute`.
"""

__version__ = "0.1.0"

import importlib, logging

# Where bitsandbytes is installed, importing transformers or peft loads it, and on many processors it warns
# that a faster kernel is missing, used or not.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)

_HOME = {  # public name -> the module that defines it
    "unlearn": "pipeline", "Run": "pipeline", "Dictionary": "dictionary", "make_labels": "labels",
    "read_corpus": "preprocess", "make_blocks": "preprocess", "extract_terms": "extract",
    "propose_translations": "translate", "make_prompts": "prompts", "merge_terms": "extract", "spacy_terms": "entities",
    "ask_terms": "ask", "ask_translations": "ask", "local_model": "talk", "server_model": "talk",
    "DictionaryEditor": "review", "learnt_terms": "learnt", "choose_translations": "context",
    "METHODS": "config", "export_run": "export",
}
_STEPS = ("substitute", "finetune", "evaluate")  # modules whose main function has their own name
__all__ = [*_HOME, *_STEPS]


def __getattr__(name):
    if name in _STEPS: return importlib.import_module(f"{__name__}.{name}")
    if name not in _HOME: raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    return value


def __dir__(): return sorted({*globals(), *__all__})

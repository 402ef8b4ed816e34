"""Make a language model forget a body of text, and show that it did.

`from selective_unlearning import unlearn` is the front door. A name is loaded when first asked for,
so that importing the package stays cheap.
"""

__version__ = "0.3.0"

import importlib, logging

# Where bitsandbytes is installed, importing transformers or peft loads it, and on many processors
# it warns that a faster kernel is missing, used or not.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)

_HOME = {  # public name -> the module that defines it
    "unlearn": "job.run", "Run": "job.run_folder", "export_run": "job.export",
    "RunMonitor": "job.run_monitor", "METHODS": "training.methods",
    "data_path": "core.files", "read_json": "core.files", "FinetuneConfig": "core.step_settings",
    "LabelsConfig": "core.step_settings",
    "load_model": "models.load", "load_tokenizer": "models.load", "add_adapter": "models.adapters",
    "Reader": "models.reader", "chat_text": "models.tokens", "complete": "models.continuations",
    "read_openers": "models.sampling", "sample_texts": "models.sampling",
    "read_corpus": "corpus.readers", "make_blocks": "corpus.blocks",
    "Dictionary": "terms.dictionary", "substitute": "terms.substitute",
    "extract_terms": "terms.extract", "merge_terms": "terms.extract",
    "spacy_terms": "terms.spacy_terms", "ask_terms": "terms.llm_terms",
    "ask_translations": "terms.llm_terms", "propose_translations": "terms.translate",
    "choose_translations": "terms.choose_translations", "DictionaryEditor": "terms.editor",
    "ReplacementViewer": "terms.replacements",
    "local_model": "models.llm", "server_model": "models.llm",
    "translate_corpus": "labels.translated", "make_labels": "labels.generic",
    "LabelViewer": "labels.label_viewer",
    "finetune": "training.trainer", "plot_loss": "training.curves",
    "join_rows": "training.retain_set", "base_labels": "training.retain_set",
    "make_prompts": "evaluation.prompts", "evaluate": "evaluation.measures",
    "read_prompts": "evaluation.measures", "probability_scores": "evaluation.measures",
    "choice_scores": "evaluation.measures", "reading_prompts": "evaluation.reading",
    "control": "evaluation.control", "utility": "evaluation.utility",
    "summarise": "evaluation.metrics", "get_figure": "evaluation.metrics",
    "headline": "evaluation.headline", "knowledge_text": "evaluation.prior_knowledge",
    "side_by_side": "evaluation.measures", "OutputsViewer": "evaluation.outputs",
}
__all__ = [*_HOME]


def __getattr__(name):
    if name not in _HOME: raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    return value


def __dir__(): return sorted({*globals(), *__all__})

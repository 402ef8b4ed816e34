"How well a list of terms agrees with one that a person made."
from collections.abc import Iterable, Mapping

from selective_unlearning.core.errors import DataError
from selective_unlearning.terms.match import TermMatcher, term_key

def replaced(terms:Iterable[str], by:Iterable[str]) -> set[str]:
    "The terms of which a dictionary with the terms `by` replaces just all."
    matcher = TermMatcher(list(by), plurals=True)
    def whole(key): return [m[:2] for m in matcher.find(key)] == [(0, len(key))]
    return {t for t in terms if whole(term_key(t))}

def score_terms(
    found:Iterable[str],        # terms that were extracted
    wanted:Mapping[str, int],   # terms that should be, with their counts
) -> dict[str, float]:          # `precision`, `recall`, `recall_weighted`
    "Compare extracted terms with a curated list. Raises `DataError` if either is empty."
    found = list(found)
    if not found or not any(wanted.values()):
        raise DataError("nothing to compare: a list of terms is empty")
    hit = replaced(wanted, found)
    return {"precision": len(replaced(found, wanted))/len({*found}),
            "recall": len(hit)/len(wanted),
            "recall_weighted": sum(wanted[t] for t in hit)/sum(wanted.values())}

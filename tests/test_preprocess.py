"Properties of documents and blocks over odd text and kinds of tokenizer."
import csv, json, re, time, unicodedata, zipfile
from functools import lru_cache

import pytest
from datasets import Dataset
from hypothesis import assume, given, settings, strategies as st
from tokenizers import (Tokenizer, decoders, models, normalizers, pre_tokenizers, processors,
                        trainers)
from transformers import PreTrainedTokenizerFast

from selective_unlearning.core.errors import DataError
from selective_unlearning.core.files import read_text
from selective_unlearning.models.tokens import bos_ids, encode
from selective_unlearning.corpus.blocks import block_texts, make_blocks
from selective_unlearning.corpus.readers import normalise, read_corpus

TRAIN = ["Mr. Owl reads letters, and the owl reads them aloud. Who? <s> Nobody knows.",
         "fée 東京 🦉 e\u0301"]
KINDS = "bpe", "trimmed", "unigram", "llama", "wordpiece"
WITH_BOS = "unigram", "llama"

@lru_cache
def tokenizer(kind:str) -> PreTrainedTokenizerFast:
    if kind in ("bpe", "trimmed"):    # differ in whether a token's span holds its leading space
        tok = Tokenizer(models.BPE())
        tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tok.decoder = decoders.ByteLevel()
        if kind == "trimmed": tok.post_processor = processors.ByteLevel(trim_offsets=True)
        trainer = trainers.BpeTrainer(vocab_size=330, special_tokens=["<s>"], show_progress=False,
                                      initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
        names = dict(bos_token="<s>")
    elif kind == "llama":             # the whole text is one word; unknown characters become bytes
        tok = Tokenizer(models.BPE())
        tok.normalizer = normalizers.Replace(" ", "▁")
        tok.train_from_iterator(TRAIN, trainers.BpeTrainer(vocab_size=80, show_progress=False))
        merges = json.loads(tok.to_str())["model"]["merges"]
        pieces = ["<unk>", "<s>", *(f"<0x{i:02X}>" for i in range(256)), *sorted(tok.get_vocab())]
        vocab = {piece: i for i,piece in enumerate(pieces)}
        tok = Tokenizer(models.BPE(vocab, [tuple(m) for m in merges], unk_token="<unk>",
                                   fuse_unk=True, byte_fallback=True))
        tok.normalizer = normalizers.Sequence(
            [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        trainer, names = None, dict(bos_token="<s>", unk_token="<unk>")
    elif kind == "unigram":
        tok = Tokenizer(models.Unigram())
        tok.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(vocab_size=60, special_tokens=["<unk>", "<s>"],
                                          unk_token="<unk>", show_progress=False)
        names = dict(bos_token="<s>", unk_token="<unk>")
    else:                             # drops control characters and accents
        tok = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=1000))
        tok.normalizer = normalizers.BertNormalizer()
        tok.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(vocab_size=90, special_tokens=["[UNK]", "[CLS]"],
                                            show_progress=False)
        names = dict(unk_token="[UNK]", cls_token="[CLS]")
    if trainer: tok.train_from_iterator(TRAIN, trainer)
    if kind in WITH_BOS:
        tok.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tok, **names)

FAMILY = "👩\u200d👩\u200d👧"
pieces = st.sampled_from([
    "owl", "Mr. ", "reads. ", " ", "  ", "\n\n", "\n", "!”", "é", "e\u0301\u0323", "東京。", "漢字",
    "🦉", FAMILY, "👍🏽", "<s>", "x"*40, "\x01", "\u0301", "\xa0", "\u3000", "ﷺ"])
words = st.sampled_from("owl owls reads letters knows aloud q".split())
halves = st.from_regex(r"[a-z]{2,6}", fullmatch=True)
characters = st.sampled_from(["東京", "é🦉", "a"*9, "e\u0301", FAMILY])
texts = st.lists(pieces | st.text(max_size=5), max_size=60).map("".join)
corpora = st.lists(texts, min_size=1, max_size=3).map(lambda ts: Dataset.from_dict({"text": ts}))

def squeeze(s:str) -> str: return "".join(s.split())

def blocks_of(corpus, kind, size):
    assume(any(encode(tokenizer(kind), t.strip()).input_ids for t in corpus["text"]))
    try: return make_blocks(corpus, tokenizer(kind), size)
    except DataError as e:            # one character of many tokens
        assert "alone is over" in str(e) and size < 24
        assume(False)

@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=60)
@given(corpora, st.integers(8, 40))
def test_blocks_cover_fit_and_begin_once(kind, corpus, size):
    tok = tokenizer(kind)
    blocks, bos = blocks_of(corpus, kind, size), bos_ids(tokenizer(kind))
    assert bos == ([tok.bos_token_id] if kind in WITH_BOS else [])
    for i,text in enumerate(corpus["text"]):
        at = 0
        for b in (b for b in blocks if b["doc"] == i):
            assert not encode(tok, text[at:b["start"]].strip()).input_ids, "text between blocks"
            ids, own = b["input_ids"], text[b["start"]:b["end"]]
            assert own and own == own.strip()
            assert len(bos) < len(ids) <= size
            assert b["char_ends"] == [0]*len(bos) + [e for _,e in encode(tok, own).offset_mapping]
            assert ids == bos + encode(tok, own).input_ids
            assert ids[:len(bos)] == bos and tok.bos_token_id not in ids[len(bos):]
            at = b["end"]
        assert not encode(tok, text[at:].strip()).input_ids, "text after the last block"
    if kind != "wordpiece":           # it alone has characters without any token
        assert squeeze("".join(block_texts(corpus, blocks))) == squeeze("".join(corpus["text"]))

@settings(deadline=None, max_examples=20)
@given(corpora, st.sampled_from(KINDS), st.integers(8, 40))
def test_same_input_same_blocks(corpus, kind, size):
    assert blocks_of(corpus, kind, size)[:] == blocks_of(corpus, kind, size)[:]

@settings(deadline=None, max_examples=60)
@given(st.lists(characters, min_size=1, max_size=30).map("".join))
def test_bytes_of_a_character_stay_together(text):
    "With byte tokens a careless cut would leave half a character, which decodes to U+FFFD."
    tok = tokenizer("bpe")
    blocks = make_blocks(Dataset.from_dict({"text": [text]}), tok, 40)
    assert "".join(tok.decode(ids) for ids in blocks["input_ids"]) == text
    assert not any(unicodedata.combining(text[s]) or text[s] == "\u200d" for s in blocks["start"])

@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=30)
@given(st.lists(words, min_size=1, max_size=150).map(" ".join), st.integers(16, 60))
def test_blocks_are_full(kind, text, size):
    "Without sentences, a block ends where not one more word would fit."
    tok = tokenizer(kind)
    blocks = make_blocks(Dataset.from_dict({"text": [text]}), tok, size)
    for start,end in list(zip(blocks["start"], blocks["end"]))[:-1]:
        assert text[end] == " ", "a word was cut"
        more = text[start:end] + " " + text[end+1:].split()[0]
        assert len(encode(tok, more).input_ids) + len(bos_ids(tok)) >= size

def test_a_character_of_many_tokens_is_named():
    tok = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tok.normalizer, tok.pre_tokenizer = normalizers.NFKD(), pre_tokenizers.Split("", "isolated")
    tok = PreTrainedTokenizerFast(tokenizer_object=tok, unk_token="[UNK]")
    with pytest.raises(DataError, match="document 1: 'ﷺ' alone is over 8 tokens: raise block_size"):
        make_blocks(Dataset.from_dict({"text": ["ok", "ﷺ"]}), tok, 8)
    assert len(make_blocks(Dataset.from_dict({"text": ["ok", "ﷺ"]}), tok, 18)) == 2

def test_a_tokenizer_that_truncates_loses_nothing():
    tok = PreTrainedTokenizerFast(tokenizer_object=tokenizer("bpe").backend_tokenizer)
    tok.backend_tokenizer.enable_truncation(10)
    tok.backend_tokenizer.enable_padding(length=10)
    corpus = Dataset.from_dict({"text": ["The owl reads letters. "*20, "Owl."]})
    assert make_blocks(corpus, tok, 40)[:] == make_blocks(corpus, tokenizer("bpe"), 40)[:]

UNSEEN = {*map(chr, [*range(9), *range(14, 32), 0xad, 0x61c, 0x200b, 0x200e, 0x200f, 0xfeff,
                     *range(0x202a, 0x202f), *range(0x2060, 0x2065), *range(0x2066, 0x206a)])}

@settings(deadline=None, max_examples=150)
@given(texts.filter(lambda t: not re.search("[-\u2010]", t)))
def test_normalise_keeps_what_is_seen(text):
    "Without hyphens: settled after one pass, and the same letters as NFC alone would give."
    out = normalise(text)
    assert normalise(out) == out and unicodedata.is_normalized("NFC", out)
    assert not re.search("[\r\v\f\x85\u2028\u2029\ufeff\u200b\u200e\u2060\x00\xad]", out)
    seen = "".join(c for c in text if c not in UNSEEN)
    assert squeeze(out) == squeeze(unicodedata.normalize("NFC", seen))

def test_what_is_not_seen_and_ligatures_hide_no_name():
    text = "Harry\u200e Potter\x07 in \u202aGry\ufb03ndor\u202c; \u0645\u06cc\u200c\u062e"
    assert normalise(text) == "Harry Potter in Gryffindor; \u0645\u06cc\u200c\u062e"

@settings(deadline=None)
@given(halves, halves, st.booleans())
def test_hyphen_joined_only_if_the_word_is_known(a, b, known):
    text = f"{a}-\n{b} and 12"
    if known: text += f"\n\n{(a+b).upper()}."
    elif a+b in ("and", a, b): assume(False)
    assert normalise(text) == (text.replace(f"{a}-\n{b}", a+b) if known else text)

def test_csv_leaves_the_cell_limit_alone(tmp_path):
    (tmp_path/"a.csv").write_text('text\n"open', encoding="utf-8")
    before = csv.field_size_limit()
    with pytest.raises(DataError, match="line 2: not CSV"): read_corpus(tmp_path/"a.csv")
    assert csv.field_size_limit() == before

def test_pages_in_other_encodings_and_shapes(tmp_path):
    (tmp_path/"declared.html").write_bytes('<meta charset="latin-1"><p>Café'.encode("latin-1"))
    (tmp_path/"deep.html").write_text("<div>"*5000 + "Deep" + "</div>"*5000, encoding="utf-8")
    page = "<p>Zoë <!-- not this -->and<pre>a\n  b</pre>"
    (tmp_path/"utf16.htm").write_bytes(page.encode("utf-16"))
    corpus = read_corpus(tmp_path)
    assert dict(zip(corpus["source"], corpus["text"])) == {
        "declared.html": "Café", "deep.html": "Deep", "utf16.htm": "Zoë and\n\na\nb"}

def test_a_head_that_is_not_closed(tmp_path):
    "HTML lets `</head>` be left out, which takes the page with it."
    page = "<!doctype html><html><head><title>Title</title><body><p>The lost chapter.</p>"
    (tmp_path/"a.html").write_text(page)
    assert read_corpus(tmp_path/"a.html")["text"] == ["The lost chapter."]


def test_latin_pages_are_read_as_browsers_read_them(tmp_path):
    page = b'<meta charset="iso-8859-1"><p>\x93Hello\x94, Harry\x92s owl\x85'
    (tmp_path/"a.html").write_bytes(page)
    assert read_corpus(tmp_path/"a.html")["text"] == ["“Hello”, Harry’s owl…"]


@pytest.mark.parametrize("said, enc, text", [
    ("utf-16", "utf-8", "Zoë"), ("gb2312", "gb18030", "朱镕基"), ("shift_jis", "cp932", "①髙"),
    ("x-sjis", "cp932", "東京"), ("euc-kr", "cp949", "똠"), ("iso-8859-9", "cp1254", "“İ”")])
def test_other_pages_are_read_as_browsers_read_them(tmp_path, said, enc, text):
    (tmp_path/"a.html").write_bytes(f'<meta charset="{said}"><p>{text}'.encode(enc))
    assert read_corpus(tmp_path/"a.html")["text"] == [text]


def test_an_encoding_that_is_none_is_named(tmp_path):
    (tmp_path/"a.html").write_text('<meta charset="undefined"><p>Hello')
    with pytest.raises(DataError, match="unknown encoding 'undefined'"):
        read_corpus(tmp_path/"a.html")


def test_headings_of_older_pages_are_no_part_of_the_next_word(tmp_path):
    (tmp_path/"a.html").write_text("<center>I</center>Harry<details><summary>Notes</summary>Ron")
    assert read_corpus(tmp_path/"a.html")["text"] == ["I\n\nHarry\n\nNotes\n\nRon"]


def epub(path, spine, **files):
    "A book of these items, (href, media type), and these files."
    with zipfile.ZipFile(path, "w") as z:
        z.writestr("META-INF/container.xml", '<container><rootfile full-path="b.opf"/></container>')
        items = [f'<item id="i{k}" href="{h}" media-type="{m}"/>' for k,(h, m) in enumerate(spine)]
        order = [f'<itemref idref="i{k}"/>' for k in range(len(spine))]
        z.writestr("b.opf", f"<package>{''.join(items+order)}</package>")
        for name,data in files.items(): z.writestr(name.replace("__", "."), data)


PAGE = "application/xhtml+xml"


def test_a_cover_and_an_anchor_do_not_refuse_a_book(tmp_path):
    epub(tmp_path/"a.epub", [("c.jpg", "image/jpeg"), ("a.xhtml#start", PAGE)],
         c__jpg=b"\xff\xd8", a__xhtml="<p>Chapter one.")
    assert read_corpus(tmp_path/"a.epub")["text"] == ["Chapter one."]


def test_a_copy_protected_book_is_called_so(tmp_path):
    epub(tmp_path/"a.epub", [("a.xhtml", PAGE)], a__xhtml=b"\xff\xfa\x00\x91")
    with pytest.raises(DataError, match="save the file as UTF-8"): read_corpus(tmp_path/"a.epub")
    with zipfile.ZipFile(tmp_path/"a.epub", "a") as z: z.writestr("META-INF/encryption.xml", "<a/>")
    with pytest.raises(DataError, match="is copy-protected"): read_corpus(tmp_path/"a.epub")


def test_a_container_without_a_package_is_named(tmp_path):
    with zipfile.ZipFile(tmp_path/"a.epub", "w") as z:
        z.writestr("META-INF/container.xml", "<container/>")
    with pytest.raises(DataError, match="its container names no package"):
        read_corpus(tmp_path/"a.epub")


@pytest.mark.parametrize("text, found", [("", "no text"), ("\n\n", "no text"),
                                         ("\ntext\nHello\n", None)])
def test_a_table_that_is_empty_or_begins_with_a_blank_line(tmp_path, text, found):
    (tmp_path/"a.csv").write_text(text)
    if found is None: assert read_corpus(tmp_path/"a.csv")["text"] == ["Hello"]
    else:
        with pytest.raises(DataError, match=found): read_corpus(tmp_path/"a.csv")


@pytest.mark.parametrize("part", ["<p>{}\n", "<p>{}</p>\n", "{}<br>\n"])
def test_long_pages_cost_what_several_do(tmp_path, part):
    "An open paragraph lies in all before it, others stand in one row: none may look at the rest."
    text = "Some words of a paragraph."
    def seconds(n):
        (tmp_path/"a.html").write_text("<html><body>"+part.format(text)*n)
        start = time.process_time()
        assert read_corpus(tmp_path/"a.html")["text"][0].count(text) == n
        return time.process_time()-start
    def least(n): return min(seconds(n) for _ in range(3))
    seconds(1)                                             # what is imported is imported now
    assert least(3000) < 8*least(750) + .2


def test_a_file_without_text_among_others_is_named(tmp_path, caplog):
    (tmp_path/"a.txt").write_text("The owl reads.")
    (tmp_path/"b.html").write_text("<script>1</script>")
    assert read_corpus(tmp_path)["text"] == ["The owl reads."]
    assert [r.getMessage() for r in caplog.records] == [f"{tmp_path/'b.html'}: no text found"]


@pytest.mark.parametrize("path, message", [("word "*200, "not the text itself"),
                                           ("a.txt/b", "no such file")])
def test_what_is_no_path_is_refused(tmp_path, monkeypatch, path, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path/"a.txt").write_text("The owl reads.")
    with pytest.raises(DataError, match=message): read_corpus(path)
    with pytest.raises(DataError, match=message): read_text(path)


def test_split_dataset_folder_names_its_splits(tmp_path):
    from datasets import DatasetDict
    DatasetDict(train=Dataset.from_dict({"text": ["a"]})).save_to_disk(tmp_path/"d")
    with pytest.raises(DataError, match="has splits: name one of train"): read_corpus(tmp_path/"d")
    assert read_corpus(tmp_path/"d"/"train")["text"][:] == ["a"]

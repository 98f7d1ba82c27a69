"""Vocabularies and reference ids for the tokenizer tests.

    pip install transformers==4.57.1 tokenizers==0.22.1 sentencepiece==0.2.1 ftfy==6.3.1 protobuf
    python make.py

Trains three small vocabularies on sentences made here, then writes the ids that the reference libraries give for a
list of hard strings. No downloads.

Left out: unassigned code points, on which BERT's slow and fast tokenizers differ (the slow one drops them).
"""

import html
import json
import random
import re
from pathlib import Path

import ftfy
import sentencepiece as spm
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import BertTokenizer, BertTokenizerFast, CLIPTokenizer, CLIPTokenizerFast, XLMRobertaTokenizer

HERE = Path(__file__).parent

HARD = [
    "zebra top left",
    "The Man in the RED shirt",
    "a photo of a cat",
    "  double  spaces   and\ttabs\nand lines  ",
    "can't won't I'm they'll we've you'd it's 'tis dogs' o'clock ''s",
    "2nd guy from left, 3rd row, no. 12345",
    "half-eaten sandwich w/ cheese & tomato (bottom right corner)",
    "person #7 @ 10:45 -- $5.00 / 50% off!!!???",
    "u.s.a. flag; e.g. the one... on the left_side",
    "emoji 🦓🌳 👩‍👩‍👧 👍🏽 🇫🇷 ❤️",
    "左边的斑马 和 右边的树",
    "シマウマは左です ｼﾏｳﾏ",
    "왼쪽 얼룩말",
    "зебра слева",
    "الحمار الوحشي",
    "ม้าลาย",
    "café naïve Übermensch garçon cafe\u0301 n\u0303",
    "Straße ΟΔΟΣ İstanbul ŒUVRE ǅ",
    "ﬁrst oﬃce ＦＵＬＬ　ｗｉｄｔｈ ½ ² ① Ⅳ ™",
    "non\u00a0breaking\u2009thin\u3000wide",
    "zero\u200bwidth\u200djoin soft\u00adhyphen \ufeffbom",
    "control\u0001chars\u007f \u0085here",
    "private \ue000 use \U000f0000 \U0010fffd",
    "\u2581 literal \u2581\u2581underline",
    "“curly” ‘quotes’ – dashes — and… dots",
    "salt &amp; pepper &amp;amp; &lt;b&gt; &#39;x&#39; &nbsp;end",
    "[CLS] typed [SEP] tokens [MASK] [UNK] [PAD]",
    "<s> typed </s> <pad> <unk> <mask> tokens",
    "<|startoftext|> typed <|endoftext|> tokens",
    "[semantic] hair",
    "[semantic]hair",
    "the [semantic]   upper clothes",
    "[semantic] [semantic] left leg[semantic]",
    "[SEMANTIC] hair",
    "ǆ Ǉubav ŉ \u0092s ﬅop caf&eacute; &hellip; &#8220;x&#8221; &ndash;",
    "x" * 120,
    "xyzzy qwrtp ∂∇∮ ☃ ♞",
    "aaaaaaaaaaaaaaaa bbbbbbbb",
    "a",
    "!",
    "'",
    "👍",
    "1 22 333 4444",
    "Left-most ZEBRA's ear's tip's",
    "the person wearing the blue shirt and the black hat who is standing to the left of the two zebras near the tree",
    "http://example.com/a?b=c&d=e",
    "line\r\nbreak\u2028separator",
    "e\u0301\u0323 a\u030a \u0041\u0301",
    "\u1100\u1161\u11a8 jamo",
    "mixed中文text漢字123",
]


def sentences():
    rng = random.Random(7)
    adjectives = "red blue green black white tall small big striped leftmost second".split()
    nouns = "zebra man woman person cat dog tree car shirt hat horse giraffe sandwich chair photo flag hair clothes leg".split()
    places = "left right top bottom middle front back corner".split()
    for _ in range(1500):
        noun, other = rng.choice(nouns), rng.choice(nouns)
        yield rng.choice(
            [
                f"the {rng.choice(adjectives)} {noun} on the {rng.choice(places)}",
                f"{noun} {rng.choice(places)} {rng.choice(places)}",
                f"a photo of a {rng.choice(adjectives)} {noun}",
                f"{noun} behind the {rng.choice(adjectives)} {other}, {rng.choice(places)}",
                f"it's the {noun}'s {other} (no. {rng.randrange(100)})",
                f"the person wearing the {rng.choice(adjectives)} {other}",
            ]
        )
    yield from ["左边的斑马", "右边的树", "зебра слева", "café garçon", "🦓 left", "the first office on top"] * 8


def wordpiece():
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.train_from_iterator(
        sentences(),
        trainers.WordPieceTrainer(
            vocab_size=260, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], show_progress=False
        ),
    )
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    path = HERE / "wordpiece.txt"
    path.write_text("".join(token + "\n" for token, _ in vocabulary), encoding="utf-8")
    slow, fast = BertTokenizer(str(path)), BertTokenizerFast(str(path))
    rows = []
    for text in HARD:
        ids = slow(text)["input_ids"]
        if ids != fast(text)["input_ids"]:
            raise SystemExit(f"BERT slow and fast differ: {text!r}")
        rows.append(ids)
    return rows, [slow(text, truncation=True, max_length=20, padding="max_length")["input_ids"] for text in HARD]


def clip():
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        (word for s in sentences() for word in s.split()),
        trainers.BpeTrainer(
            vocab_size=900,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            end_of_word_suffix="</w>",
            show_progress=False,
        ),
    )
    merges = [tuple(m) for m in json.loads(tokenizer.to_str())["model"]["merges"]]
    # Ids in the order of OpenAI's vocabulary.
    shown = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)]
    symbols = [chr(b) for b in shown] + [chr(256 + n) for n in range(256 - len(shown))]
    tokens = symbols + [s + "</w>" for s in symbols] + ["".join(m) for m in merges]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocab = HERE / "clip_vocab.json"
    vocab.write_text(json.dumps({token: i for i, token in enumerate(tokens)}, ensure_ascii=True, separators=(",", ":")))
    merged = HERE / "clip_merges.txt"
    merged.write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges), encoding="utf-8")
    slow, fast = CLIPTokenizer(str(vocab), str(merged)), CLIPTokenizerFast(str(vocab), str(merged))

    def openai(text):
        text = html.unescape(html.unescape(ftfy.fix_text(text))).strip()
        text = re.sub(r"\s+", " ", text).strip().lower()
        # The published pattern, on text that is cleaned already.
        ids = []
        for word in slow.pat.findall(text):
            if word in ("<|startoftext|>", "<|endoftext|>"):
                ids.append(slow.encoder[word])
                continue
            word = "".join(slow.byte_encoder[b] for b in word.encode())
            ids += [slow.encoder[piece] for piece in slow.bpe(word).split(" ")]
        return [slow.bos_token_id, *ids, slow.eos_token_id]

    return [fast(text)["input_ids"] for text in HARD], [openai(text) for text in HARD]


def beit3():
    rules = HERE / "rules.tsv"
    pairs = {"\t": " ", "\n": " ", "\r": " ", "\u00a0": " ", "\u2009": " ", "\u3000": " ", "\u2028": " ", "\u0085": " "}
    pairs |= {"\u200b": "", "\ufeff": "", "\u00ad": "", "\u0001": "", "\u007f": "", "ﬁ": "fi", "ﬃ": "ffi", "½": "1\u20442"}
    pairs |= {"e\u0301": "é", "e\u0301\u0323": "ẹ\u0301", "a\u030a": "å", "n\u0303": "ñ", "…": "...", "™": "TM", "²": "2"}
    pairs |= {"①": "1", "Ⅳ": "IV", "\u1100\u1161": "가", "\u1100\u1161\u11a8": "각", "ｼ": "シ"}
    pairs |= {chr(0xFF01 + n): chr(0x21 + n) for n in range(94)}
    line = lambda a, b: " ".join(f"{ord(c):x}" for c in a) + "\t" + " ".join(f"{ord(c):x}" for c in b) + "\n"
    rules.write_text("".join(line(a, b) for a, b in pairs.items()))
    corpus = HERE / "corpus.txt"
    corpus.write_text("\n".join(sentences()), encoding="utf-8")
    spm.SentencePieceTrainer.train(
        input=str(corpus),
        model_prefix=str(HERE / "beit3"),
        vocab_size=150,
        model_type="unigram",
        normalization_rule_tsv=str(rules),
        character_coverage=1.0,
        minloglevel=2,
    )
    (HERE / "beit3.model").rename(HERE / "beit3.spm")
    for path in (rules, corpus, HERE / "beit3.vocab"):
        path.unlink()
    added = {"[semantic]": 152}
    (HERE / "added_tokens.json").write_text(json.dumps(added) + "\n")
    tokenizer = XLMRobertaTokenizer(str(HERE / "beit3.spm"))
    base = [tokenizer(text)["input_ids"] for text in HARD]
    tokenizer.add_tokens(list(added))
    assert tokenizer.convert_tokens_to_ids("[semantic]") == 152
    return base, [tokenizer(text)["input_ids"] for text in HARD]


if __name__ == "__main__":
    bert, bert_20 = wordpiece()
    clip_hf, clip_openai = clip()
    beit3_base, beit3_semantic = beit3()
    columns = zip(HARD, bert, bert_20, clip_hf, clip_openai, beit3_base, beit3_semantic, strict=True)
    names = ("text", "bert", "bert_20", "clip", "clip_openai", "beit3", "beit3_semantic")
    rows = [json.dumps(dict(zip(names, row))) for row in columns]
    (HERE / "ids.json").write_text("[\n" + ",\n".join(rows) + "\n]\n")

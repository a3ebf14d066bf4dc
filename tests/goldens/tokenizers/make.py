"""Small tokenizers of the kinds in use, trained here, and what Rust's `tokenizers` makes of difficult strings: NAME.json with
the tokenizer, goldens.json with ids and texts, and split_pieces.json with what every kind of split makes of some.

python make.py (needs tokenizers; the results were made with the version that goldens.json names)
"""

import json
import os

import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = os.path.dirname(os.path.abspath(__file__))

TEXT = (
    """The quick brown fox jumps over the lazy dog. The dog doesn't mind; it's 12 years old, and it'll be 13 on 2026-11-28.
def add(a, b):
    return a + b  # 3 + 4 == 7
She said: "We've seen them, haven't we?" They'd seen 1,000,000 of them in 1999 and 2,048 more in 2001!
    Indented lines    have    many spaces.\tTabs, too.\r\nAnd other line ends.
Grüße aus Köln, où l'été est déjà là. Москва и Київ. 東京都は日本の首都です。 안녕하세요 세계. مرحبا بالعالم. नमस्ते दुनिया.
The theory of the thing is that then there were these others. Counting: one two three four five six seven eight nine ten.
"""
    * 20
)

STRINGS = [
    "",
    " ",
    "  ",
    "\n",
    "\n\n\n",
    "\r\n",
    "\t\t x",
    "Hello, world!",
    " Hello",
    "Hello ",
    "  two  spaces  ",
    "The quick brown fox",
    "it's IT'S It'S we'Ve they'D 'tis 's 'S",
    "don’t it’s",
    "1 12 123 1234 12345 1234567890",
    "3.14159 1,000,000 1e-5 0x1F ½ ² Ⅷ ١٢٣ १२३ ３４",
    "x=1;y=22;z=333",
    "a1b2c3",
    "if (x < y) {\n    return x;\n}\n",
    "\tdef f(x):\n\t\treturn x**2\n",
    "line one\nline two\r\nline three\n\n  indented",
    "trailing spaces   \n   and leading",
    "a\u00a0b\u2003c\u3000d\u200be\ufefff",
    "café cafe\u0301 Å A\u030a ﬁ ﬂ ①",
    "Grüße, Straße, ÄÖÜ, ẞ",
    "Москва, Київ, ёлка",
    "東京都は日本の首都です。",
    "안녕하세요 세계",
    "مرحبا بالعالم، كيف الحال؟",
    "नमस्ते दुनिया",
    "ภาษาไทยไม่มีช่องว่าง",
    "😀 👍🏽 👨‍👩‍👧‍👦 🇩🇪 ❤️",
    "\u0000\u0001\u007f\u0085",
    "\ud7ff\ue000\ufffd\U0010ffff",
    "e\u0301\u0301\u0301 \u0301x",
    "...!!!???---___***///\\\\",
    "a-b_c.d,e;f:g!h?i",
    "\"quoted\" 'single' `code` «guillemets» “curly”",
    "http://example.org/a?b=c&d=e#f",
    "user@example.org",
    "CamelCaseAndSNAKE_CASE andMixed123Text",
    "<s>not special</x>",
    "<|end|>",
    "a<|end|>b",
    " <|end|> ",
    "a <|end|> b",
    "<|end|><|end|>",
    "x <mask> y",
    "x  <mask>  y",
    "<word> sword<word>s <word>",
    "▁underscore ▁▁ x▁y",
    "Ġbyte Ċ level",
    "<0x41> <0xE2>",
    "zzzzqqqq xxyyzz ☃ \U0001f600",
    "word" * 30,
    "ab" * 50,
    " " * 17 + "x",
    "The\u2028theory\u2029of",
    "I'm you're we'll he'd I've 'll'll",
    "ΑΒΓ αβγ ς Σ İı ǅ",
    "１２ＡＢ",
    "\ufeffbegins with a mark",
    "\ufeff",
    "a\ufeff <|end|>\ufeff",
    "x\u0085<mask>\u2003y \u00a0<mask> \ufeff<mask>",
]

GPT2 = r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
LLAMA3 = r"""(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""
QWEN2 = r"""(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""

SPECIAL = [
    AddedToken("<s>", special=True),
    AddedToken("</s>", special=True),
    AddedToken("<unk>", special=True),
]
MORE = [
    AddedToken("<|end|>", special=True, normalized=False),
    AddedToken("<mask>", special=True, lstrip=True, rstrip=False, normalized=False),
    AddedToken("<word>", special=False, single_word=True, normalized=False),
]
SIZE = 420


def template(tokenizer, single, names):
    return processors.TemplateProcessing(
        single=single, special_tokens=[(name, tokenizer.token_to_id(name)) for name in names]
    )


def byte_level(split, normalizer=None, add_prefix_space=False):
    tokenizer = Tokenizer(models.BPE())
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    if split is None:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(split), behavior="isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space, use_regex=False),
            ]
        )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        [TEXT],
        trainers.BpeTrainer(
            vocab_size=SIZE,
            special_tokens=SPECIAL,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer.add_tokens(MORE)
    return tokenizer


def gpt2():
    tokenizer = byte_level(None)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer


def gpt_neox():
    return byte_level(None, normalizer=normalizers.NFC())


def llama3():
    tokenizer = byte_level(LLAMA3)
    bos = template(tokenizer, "<s> $A", ["<s>"])
    tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), bos])
    # As in Llama 3's own file, words of the vocabulary need no merges: here, some cannot be reached by any.
    content = json.loads(tokenizer.to_str())
    content["model"]["ignore_merges"] = True
    del content["model"]["merges"][-25:]
    return Tokenizer.from_str(json.dumps(content))


def qwen2():
    return byte_level(QWEN2, normalizer=normalizers.NFC())


def byte_fallback(normalizer, pre_tokenizer, decoder, alphabet_from):
    """SentencePiece's BPE as it is converted: characters, merges, and bytes for everything else."""
    trained = Tokenizer(models.BPE(unk_token="<unk>"))
    trained.normalizer = normalizer
    if pre_tokenizer is not None:
        trained.pre_tokenizer = pre_tokenizer
    else:
        trained.pre_tokenizer = pre_tokenizers.Split("▁", behavior="merged_with_next")
    trained.train_from_iterator(
        [alphabet_from],
        trainers.BpeTrainer(vocab_size=SIZE - 256, special_tokens=SPECIAL, limit_alphabet=90, show_progress=False),
    )
    model = json.loads(trained.to_str())["model"]
    vocab = {"<unk>": 2, "<s>": 0, "</s>": 1}
    for byte in range(256):
        vocab[f"<0x{byte:02X}>"] = len(vocab)
    for token in model["vocab"]:
        vocab.setdefault(token, len(vocab))
    merges = [tuple(merge) for merge in model["merges"]]
    tokenizer = Tokenizer(
        models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    tokenizer.normalizer = normalizer
    if pre_tokenizer is not None:
        tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoder
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.add_tokens(MORE)
    tokenizer.post_processor = template(tokenizer, "<s> $A", ["<s>"])
    return tokenizer


def llama2():
    return byte_fallback(
        normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]),
        None,
        decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        ),
        TEXT,
    )


def mistral():
    return byte_fallback(
        normalizers.Sequence([]),
        pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False),
        decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        ),
        TEXT,
    )


def gemma():
    return byte_fallback(
        normalizers.Replace(" ", "▁"),
        pre_tokenizers.Split(" ", behavior="merged_with_previous"),
        decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]),
        TEXT,
    )


def mixed():
    """Steps that the families in use do not have."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFD(), normalizers.StripAccents(), normalizers.Lowercase(), normalizers.Strip()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.Punctuation(), pre_tokenizers.Digits(individual_digits=False)]
    )
    tokenizer.train_from_iterator(
        [TEXT],
        trainers.BpeTrainer(vocab_size=SIZE, special_tokens=SPECIAL, limit_alphabet=100, show_progress=False),
    )
    tokenizer.add_tokens(MORE)
    return tokenizer


def splits():
    """Every behaviour of a split, one after the other."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.NFKD()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\n+"), behavior="removed"),
            pre_tokenizers.Split(Regex(r"\d{3}"), behavior="merged_with_next"),
            pre_tokenizers.Split("e", behavior="merged_with_previous"),
            pre_tokenizers.Split(Regex("[.,!?]"), behavior="contiguous"),
            pre_tokenizers.Split(Regex(r"\w+"), behavior="isolated", invert=True),
        ]
    )
    tokenizer.decoder = decoders.Fuse()
    tokenizer.train_from_iterator(
        [TEXT],
        trainers.BpeTrainer(vocab_size=SIZE, special_tokens=SPECIAL, limit_alphabet=100, show_progress=False),
    )
    tokenizer.add_tokens(MORE)
    return tokenizer


def unigram():
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.train_from_iterator(
        [TEXT],
        trainers.UnigramTrainer(vocab_size=SIZE, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False),
    )
    tokenizer.add_tokens(MORE)
    tokenizer.post_processor = template(tokenizer, "$A </s>", ["</s>"])
    return tokenizer


def word_piece():
    tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    tokenizer.train_from_iterator(
        [TEXT], trainers.WordPieceTrainer(vocab_size=SIZE, special_tokens=SPECIAL, show_progress=False)
    )
    tokenizer.add_tokens(MORE)
    tokenizer.post_processor = template(tokenizer, "<s> $A </s>", ["<s>", "</s>"])
    return tokenizer


KINDS = [gpt2, gpt_neox, llama3, qwen2, llama2, mistral, gemma, unigram, word_piece, mixed, splits]

goldens = {}
for kind in KINDS:
    tokenizer = kind()
    path = os.path.join(HERE, f"{kind.__name__}.json")
    tokenizer.save(path, pretty=False)
    rows = []
    for text in STRINGS:
        ids = tokenizer.encode(text).ids
        rows.append(
            {
                "ids": ids,
                "bare": len(tokenizer.encode(text, add_special_tokens=False).ids),
                "decoded": tokenizer.decode(ids, skip_special_tokens=False),
                "plain": tokenizer.decode(ids, skip_special_tokens=True),
            }
        )
    goldens[kind.__name__] = rows
with open(os.path.join(HERE, "goldens.json"), "w") as file:
    json.dump({"tokenizers": tokenizers.__version__, "strings": STRINGS, "rows": goldens}, file)
    file.write("\n")

PIECES = ["a1b22 c333d, e.f!!g", " ", "\n\nx\n", "eee", "aeb", "...", "12345 678", "h\u00e9llo w\u00f6rld_1", "e e  e"]
PATTERNS = [Regex(r"\d{3}"), "e", ".", Regex(r"\s+"), Regex(r"\w+")]
BEHAVIORS = ["removed", "isolated", "merged_with_previous", "merged_with_next", "contiguous"]

pieces = []
for pattern in PATTERNS:
    for behavior in BEHAVIORS:
        for invert in [False, True]:
            split = pre_tokenizers.Split(pattern, behavior=behavior, invert=invert)
            rows = [[piece for piece, _ in split.pre_tokenize_str(text)] for text in PIECES]
            pieces.append({"split": json.loads(split.__getstate__()), "pieces": rows})
with open(os.path.join(HERE, "split_pieces.json"), "w") as file:
    json.dump({"strings": PIECES, "splits": pieces}, file)
    file.write("\n")

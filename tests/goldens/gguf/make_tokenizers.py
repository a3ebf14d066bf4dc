"""Makes tokenizers.json with the Python package tokenizers 0.23.3: byte-level BPE, trained on a few lines, for each way of cutting texts
that a GGUF file can name, and the ids of some texts: python make_tokenizers.py"""

import json
import os

from tokenizers import AddedToken, Regex, Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

HERE = os.path.dirname(os.path.abspath(__file__))

LINES = [
    "The keel is the backbone of the boat; it's what keeps her upright when the wind's up.",
    "We've seen 12345 gulls, 007 herons and 3.14159 of a pie.   They'd LEFT by 10:30!!",
    "def turn(over, 100):\n\treturn over[0] == \"boat\"  # they're 42\r\n\r\n  end",
    "Größe, naïve café, Ἀθῆναι, Москва́, 東京は１２３、 नमस्ते ١٢٣ ½",
    "I'll say I'LL and DON'T don't; <tag attr='x'>$5+7=12|^~`</tag>",
    "       many    blanks \t\t and\n\n\nlines   ",
]
TEXTS = LINES + [
    "", " ", "  ", "\n", "\r\n \n", "a", "A1b22c333d4444", "9999999", "x  y", "'s 's 'S'LL", "she'd've",
    "<|end|>", "one<|end|> two <|end|>\n", "e\u0301 \u00e9", "\u1e69 s\u0323\u0307", "👩‍👩‍👧 ok 👍🏽!", "a\u00a0b\u3000c", "日本語123", "...---...", " ?!  ?! ",
    "\ufeffstart", "tab\there", "12 34 5,678.90", "ABCdefGHI", "_under_score__", "a" * 40, "!" * 9 + "1" * 9,
]


def words(digits):
    return (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|" + digits +
            r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def split(*patterns, gpt2=False):
    steps = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in patterns]
    return pre_tokenizers.Sequence(steps + [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=gpt2)])


GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"
KINDS = {
    "gpt-2": pre_tokenizers.ByteLevel(add_prefix_space=False),
    "smollm": pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]),
    "llama-bpe": split(words(r"\p{N}{1,3}")),
    "qwen2": split(words(r"\p{N}")),
    "default": split(r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"),
}

result = {}
for name, pre in KINDS.items():
    tokenizer = Tokenizer(BPE(ignore_merges=name == "llama-bpe"))
    tokenizer.pre_tokenizer = pre
    if name == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(
        LINES * 3, BpeTrainer(vocab_size=420, initial_alphabet=alphabet, show_progress=False))
    tokenizer.add_special_tokens([AddedToken("<|end|>", special=True, normalized=False)])
    saved = json.loads(tokenizer.to_str())["model"]
    vocab = tokenizer.get_vocab()
    result[name] = {
        "tokens": sorted(vocab, key=vocab.get),
        "merges": [" ".join(pair) for pair in saved["merges"]],
        "ids": [tokenizer.encode(text).ids for text in TEXTS],
    }
with open(os.path.join(HERE, "tokenizers.json"), "w") as file:
    json.dump({"texts": TEXTS, "kinds": result}, file, ensure_ascii=True)
    file.write("\n")

"""Goldens of datasets: what TRL's trainers make of rows, what pack_dataset packs, and files that pyarrow and pandas write.

    python make_datasets.py TOKENIZER_DIRECTORY   # SmolLM2's tokenizer.json(.gz) and tokenizer_config.json

Writes tokenized.json, packing.json and the files in files/ beside this script. Needs trl 1.16.0, datasets, pyarrow, pandas.
"""
import gzip, json, random, shutil, sys, tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np, pandas as pd, pyarrow as pa, pyarrow.parquet as pq
from datasets import Dataset
from transformers import AutoTokenizer
from trl import KTOConfig, KTOTrainer, RewardConfig, RewardTrainer, SFTConfig, SFTTrainer, pack_dataset

HERE = Path(__file__).parent
source = Path(sys.argv[1])
work = Path(tempfile.mkdtemp())
if (source / "tokenizer.json.gz").exists():
    (work / "tokenizer.json").write_bytes(gzip.decompress((source / "tokenizer.json.gz").read_bytes()))
else:
    shutil.copy(source / "tokenizer.json", work)
shutil.copy(source / "tokenizer_config.json", work)
if (source / "chat_template.jinja").exists():
    shutil.copy(source / "chat_template.jinja", work)
tokenizer = AutoTokenizer.from_pretrained(work)

# ChatML with markers, tools and tool calls, in the white space styles that templates use.
MARKED = """{%- if tools %}
    {{- '<|im_start|>system\\nTools:' }}
    {%- for tool in tools %}
        {{- '\\n' + (tool | tojson) }}
    {%- endfor %}
    {{- '<|im_end|>\\n' }}
{%- endif %}
{% for message in messages %}
    {% if message.role == 'assistant' %}
{{ '<|im_start|>assistant\\n' }}{% generation %}{% if message.content %}{{ message.content }}{% endif %}{% for call in message.tool_calls or [] %}{{ '<call>' + call.function.name + ' ' + (call.function.arguments | tojson) + '</call>' }}{% endfor %}{{ '<|im_end|>' }}{% endgeneration %}{{ '\\n' }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' + (hint | default('')) }}
{%- endif %}
"""
TRIMMED = """{%- for message in messages -%}
    {{- '<|im_start|>' + message.role + '\\n' -}}
    {%- if message.role == 'assistant' -%}
        {%- generation -%}
            {{- message.content + '<|im_end|>' -}}
        {%- endgeneration -%}
        {{- '\\n' -}}
    {%- else -%}
        {{- message.content + '<|im_end|>\\n' -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
"""
user = lambda text: {"role": "user", "content": text}
assistant = lambda text: {"role": "assistant", "content": text}
system = lambda text: {"role": "system", "content": text}

TEXTS = [{"text": "The sky is blue."}, {"text": "Ends itself.<|im_end|>"}, {"text": "naïve 日本語 🙂 12345  two  spaces"},
         {"text": "long " * 40}]
CHATS = [
    {"messages": [user("What colour is the sky?"), assistant("It is blue.")]},
    {"messages": [system("Be brief."), user("Hi"), assistant("  Hello 🙂"), user("日本?"), assistant("東京\n\nis a city. ")]},
    {"messages": [user("1"), assistant("2"), user("3"), assistant("4"), user("5"), assistant("word " * 30)]},
]
SHAREGPT = [{"conversations": [{"from": "user", "value": "Hi"}, {"from": "assistant", "value": "Hello."}]},
            {"conversations": [{"from": "system", "value": "x"}, {"from": "user", "value": "y"}, {"from": "assistant", "value": "z"}]}]
COMPLETIONS = [{"prompt": "The sky is", "completion": " blue."}, {"prompt": "Merg", "completion": "ing tokens"},
               {"prompt": "prompt " * 30, "completion": "x"}, {"prompt": "", "completion": "alone"}]
CHAT_COMPLETIONS = [{"prompt": [user("Hi")], "completion": [assistant("Hello.")]},
                    {"prompt": [user("a"), assistant("b"), user("c")], "completion": [assistant("d"), user("e"), assistant("f")]}]
TOOL = {"type": "function", "function": {"name": "add", "description": "Adds é", "parameters": {
    "type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}}}
CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 1, "b": 2.5}}}
TOOLS = [
    {"messages": [user("1 + 2.5?"), {"role": "assistant", "content": None, "tool_calls": [CALL]},
                  {"role": "tool", "name": "add", "content": "3.5"}, assistant("It is 3.5.")], "tools": json.dumps([TOOL])},
    {"messages": [user("Hi"), assistant("Hello.")], "tools": None},
]
KWARGS = [{"prompt": [user("Hi")], "completion": [assistant("Hello.")], "chat_template_kwargs": {"hint": "Hel"}}]
PAIRS = [{"prompt": "The sky is", "chosen": " blue.", "rejected": " green."}, {"prompt": "x " * 60, "chosen": "a", "rejected": "b"}]
IMPLICIT = [{"chosen": "The sky is blue.", "rejected": "The sky is green.<|im_end|>"}]
CHAT_PAIRS = [{"prompt": [user("Sky?")], "chosen": [assistant("Blue.")], "rejected": [assistant("Green.")]}]
CHAT_IMPLICIT = [{"chosen": [user("Sky?"), assistant("Blue.")], "rejected": [user("Sky?"), assistant("Green.")]}]

UNPAIRED = [{"prompt": "The sky is", "completion": " blue.", "label": True}, {"prompt": "long " * 30, "completion": "x", "label": False},
            {"prompt": "a", "completion": " b" * 40, "label": False}]
CHAT_UNPAIRED = [{"prompt": [user("Sky?")], "completion": [assistant("Blue.")], "label": True}]


def prepare(rows, template=None, **options):
    tokenizer.chat_template = template or own
    arguments = SFTConfig(output_dir=str(work), bf16=False, report_to="none", eos_token=None, **options)
    first = rows[0]
    completion_only = options.get("completion_only_loss")
    if completion_only is None:
        completion_only = "prompt" in first and "completion" in first
    trainer = SimpleNamespace(completion_only_loss=completion_only, chat_template=None, _tokenizer=tokenizer)
    out = SFTTrainer._prepare_dataset(trainer, Dataset.from_list(rows), tokenizer, arguments, False, None, "train")
    return [{"input_ids": row["input_ids"], "labels": row["labels"]} for row in out]


def pairs(rows):
    tokenizer.chat_template = own
    arguments = RewardConfig(output_dir=str(work), bf16=False, report_to="none", max_length=64)
    out = RewardTrainer._prepare_dataset(SimpleNamespace(), Dataset.from_list(rows), tokenizer, arguments, "train")
    return [{"chosen": row["chosen_ids"], "rejected": row["rejected_ids"]} for row in out]


def unpaired(rows):
    tokenizer.chat_template = own
    arguments = KTOConfig(output_dir=str(work), bf16=False, report_to="none", max_length=24)
    out = KTOTrainer._prepare_dataset(SimpleNamespace(_tokenizer=tokenizer, calculate_KL=False), Dataset.from_list(rows), tokenizer, arguments, "eval")
    # The collator joins both parts and keeps the first max_length tokens.
    return [{"prompt": row["prompt_ids"], "completion": row["completion_ids"][:24 - len(row["prompt_ids"])], "label": row["label"]} for row in out]


own = tokenizer.chat_template
cases = []
for name, rows, template, options in [
    ("text", TEXTS, None, {"max_length": 32}),
    ("text, the end kept", TEXTS, None, {"max_length": 32, "truncation_mode": "keep_end"}),
    ("conversations", CHATS, None, {"max_length": None}),
    ("ShareGPT", SHAREGPT, None, {"max_length": None}),
    ("completions", COMPLETIONS, None, {"max_length": 24}),
    ("completions, the end kept", COMPLETIONS, None, {"max_length": 24, "truncation_mode": "keep_end"}),
    ("completions, all scored", COMPLETIONS, None, {"max_length": 24, "completion_only_loss": False}),
    ("conversations with completions", CHAT_COMPLETIONS, None, {"max_length": None}),
    ("assistant's turns", CHATS, MARKED, {"max_length": None, "assistant_only_loss": True}),
    ("assistant's turns, cut", CHATS, MARKED, {"max_length": 30, "assistant_only_loss": True}),
    ("assistant's turns, trimming markers", CHATS, TRIMMED, {"max_length": None, "assistant_only_loss": True}),
    ("assistant's turns of completions", CHAT_COMPLETIONS, MARKED, {"max_length": None, "assistant_only_loss": True}),
    ("tools", TOOLS, MARKED, {"max_length": None}),
    ("tools, assistant's turns", TOOLS, MARKED, {"max_length": None, "assistant_only_loss": True}),
    ("template variables", KWARGS, MARKED, {"max_length": None}),
]:
    cases.append({"name": name, "rows": rows, "template": template, "options": options, "sft": prepare(rows, template, **options)})
for name, rows in [("pairs", PAIRS), ("implicit pairs", IMPLICIT), ("conversation pairs", CHAT_PAIRS), ("implicit conversation pairs", CHAT_IMPLICIT)]:
    cases.append({"name": name, "rows": rows, "template": None, "options": {"max_length": 64}, "pairs": pairs(rows)})
for name, rows in [("unpaired", UNPAIRED), ("unpaired conversations", CHAT_UNPAIRED)]:
    cases.append({"name": name, "rows": rows, "template": None, "options": {"max_length": 24}, "unpaired": unpaired(rows)})
(HERE / "tokenized.json").write_text(json.dumps({"cases": cases}, ensure_ascii=False))

random.seed(7)
packing = []
for count, most, capacity in [(40, 12, 16), (300, 40, 24), (200, 16, 16), (5, 3, 64), (60, 100, 7)]:
    lengths = [random.randint(1, most) for _ in range(count)]
    start = np.cumsum([0] + lengths)
    ids = [list(range(start[i], start[i + 1])) for i in range(count)]
    for strategy in ["bfd", "bfd_split", "wrapped"]:
        out = pack_dataset(Dataset.from_dict({"input_ids": ids}), capacity, strategy, {"batch_size": None})
        packing.append({"lengths": lengths, "capacity": capacity, "strategy": strategy,
                        "rows": [[row["input_ids"][0] if row["input_ids"] else -1, row.get("seq_lengths") or [len(row["input_ids"])]] for row in out],
                        "ids": [row["input_ids"] for row in out] if count <= 60 else None})
(HERE / "packing.json").write_text(json.dumps(packing))

files = HERE / "files"
files.mkdir(exist_ok=True)
rows = CHATS + [{"messages": [user("q"), {"role": "assistant", "content": None, "tool_calls": [CALL]}, assistant("x")]}]
table = pa.Table.from_pylist([{**row, "score": i / 3, "n": 2**40 + i, "flag": i % 2 == 0, "tag": None if i == 1 else f"t{i % 2}"} for i, row in enumerate(rows)])
for codec in ["none", "snappy", "gzip", "brotli", "zstd", "lz4"]:
    pq.write_table(table, files / f"chats-{codec}.parquet", compression=codec, row_group_size=3)
pq.write_table(table, files / "chats-v2.parquet", compression="zstd", data_page_version="2.0", write_statistics=False)
pq.write_table(table.select(["score", "n", "tag"]), files / "delta.parquet", compression="none", use_dictionary=False,
               column_encoding={"n": "DELTA_BINARY_PACKED", "tag": "DELTA_LENGTH_BYTE_ARRAY", "score": "PLAIN"})
(files / "chats.json").write_text(json.dumps(table.to_pylist(), ensure_ascii=False))
pq.write_table(pa.table({"prompt": [f"p{i}" for i in range(3000)], "label": [True] * 3000, "empty": pa.nulls(3000, pa.string())}),
               files / "runs.parquet", compression="snappy")
pd.DataFrame({"prompt": ["a, \"b\"", "two\nlines", "ü"], "completion": [" x", " y", " 3"], "label": [True, False, True],
              "margin": [0.5, None, 2]}).to_csv(files / "unpaired.csv", index=False)

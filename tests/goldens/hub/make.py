"""Which files `datasets` takes for which split, for repositories of different layouts: dataset_splits.json.

python make.py (needs datasets; the result was made with version 5.2.0)
"""

import json
import os
import tempfile

import datasets

README = "README.md"


def readme(configs):
    return "---\nconfigs:\n" + configs + "---\n# A dataset\n"


LAYOUTS = [
    {"files": ["data.jsonl"]},
    {"files": ["train.jsonl", "test.jsonl"]},
    {"files": ["train.jsonl.gz", "test.jsonl.gz", "README.md"]},
    {"files": ["my-train.csv", "my_valid.csv", "eval.csv", "other.csv"]},
    {"files": ["training0.parquet", "dev.1.parquet", "testing file.parquet", "latest.parquet"]},
    {"files": ["a/train.jsonl", "a/test.jsonl", "b/train.jsonl", "b/test.jsonl"]},
    {"files": ["train/a.jsonl", "train/b.jsonl", "test/a.jsonl"]},
    {"files": ["x_train/deep/a.jsonl", "2test/a.jsonl", "train.jsonl"]},
    {"files": ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet", "extra.parquet"]},
    {"files": ["data/train_prefs-00000-of-00001.parquet", "data/test_gen-00000-of-00001.parquet"]},
    {"files": ["data/random-00000-of-00001.parquet", "train.parquet"]},
    {"files": ["default/train-00000-of-00001.parquet", "default/odd-00000-of-00001.parquet"]},
    {"files": ["contrain.jsonl", "pretrain.jsonl"]},
    {"files": ["train_test.jsonl"]},
    {"files": ["Train.jsonl", "TEST.jsonl"]},
    {"files": ["a.jsonl", ".hidden/train.jsonl", "__pycache__/train.jsonl"]},
    {"files": ["a/train.jsonl", "b/train.jsonl"], "data_dir": "b"},
    {"files": ["a/x/train.jsonl", "a/test.jsonl", "train.jsonl"], "data_dir": "a"},
    {"files": ["a.jsonl", "b.jsonl", "c/d.jsonl"], "data_files": ["c/*.jsonl", "a.jsonl"]},
    {"files": ["a.jsonl", "b.jsonl", "c/d.jsonl"], "data_files": ["*.jsonl"]},
    {"files": ["a.jsonl", "b.jsonl", "c/d.jsonl"], "data_files": ["**/*.jsonl"]},
    {"files": ["c/a.jsonl", "c/test.jsonl", "d.jsonl"], "data_files": ["*.jsonl"], "data_dir": "c"},
    {
        "files": ["one.csv", "two.csv"],
        "readme": readme("- config_name: default\n  data_files: one.csv\n"),
    },
    {
        "files": ["d/train-0.parquet", "d/test-0.parquet", "d/x.parquet"],
        "readme": readme(
            "- config_name: default\n  data_files:\n  - split: train\n    path: d/train-*\n  - split: held_out\n    path:\n    - d/test-*\n    - d/x.parquet\n"
        ),
    },
    {
        "files": ["a/train.jsonl", "a/test.jsonl", "b/data.jsonl"],
        "readme": readme("- config_name: a\n  data_dir: a\n- config_name: b\n  data_dir: b\n"),
        "config": "b",
    },
    {
        "files": ["a/train.jsonl", "a/test.jsonl", "b/data.jsonl"],
        "readme": readme("- config_name: a\n  data_dir: a\n- config_name: b\n  data_dir: b\n  default: true\n"),
    },
    {
        "files": ["a/train.jsonl", "b/data.jsonl"],
        "readme": readme("- config_name: only\n  data_files:\n  - a/*\n  - b/*\n"),
    },
    {
        "files": ["a/x.jsonl", "b/x.jsonl"],
        "readme": readme(
            "- config_name: m\n  data_files:\n  - split: train\n    path: a/x.jsonl\n  - split: test\n    path: b/*.jsonl\n- config_name: default\n  data_files: b/x.jsonl\n"
        ),
        "config": "m",
    },
]


def splits_of(layout):
    with tempfile.TemporaryDirectory() as folder:
        for file in layout["files"]:
            path = os.path.join(folder, file)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            open(path, "w").close()
        if "readme" in layout:
            with open(os.path.join(folder, README), "w") as file:
                file.write(layout["readme"])
        builder = datasets.load_dataset_builder(
            folder,
            name=layout.get("config"),
            data_dir=layout.get("data_dir"),
            data_files=layout.get("data_files"),
            cache_dir=os.path.join(folder, ".cache"),
        )
        real = os.path.realpath(folder)
        return {
            str(split): sorted(os.path.relpath(os.path.realpath(path), real) for path in paths)
            for split, paths in builder.config.data_files.items()
        }


rows = [{**layout, "splits": splits_of(layout)} for layout in LAYOUTS]
with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "dataset_splits.json"), "w") as file:
    json.dump({"datasets": datasets.__version__, "layouts": rows}, file, indent=1)
    file.write("\n")

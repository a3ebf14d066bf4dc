"""Loads keel's models with transformers and its adapters with PEFT, and makes adapters for keel: round_trip.py JOB.json OUT

The job has `input_ids` [rows, time] by vocabulary size, and three lists:
  saved:    {original, saved, dtype}   both are loaded; every tensor must be equal, bit for bit, and the logits, too
  trained:  {name, base, adapter, merged}  keel's adapters; their logits, and what is different after PEFT's merge
  made:     {name, base, directory, lora}  PEFT's adapters, with random weights where PEFT's own are zero; their logits
OUT gets logits.safetensors, one tensor [rows, time, vocab] ([rows, 1] for a reward model) a name; results are printed as JSON.
"""

import json
import sys

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification
from transformers.utils import logging

logging.set_verbosity_error()
logging.disable_progress_bar()
torch.set_num_threads(1)
torch.manual_seed(0)


def load(directory, dtype=torch.float32, reward=None):
    config = AutoConfig.from_pretrained(directory)
    if reward is None:
        reward = "SequenceClassification" in config.architectures[0]
    kind, more = (AutoModelForSequenceClassification, {"num_labels": 1}) if reward else (AutoModelForCausalLM, {})
    return kind.from_pretrained(directory, dtype=dtype, attn_implementation="eager", **more).eval()


def logits(model):
    ids = torch.tensor(job["input_ids"][str(model.config.vocab_size)])
    with torch.no_grad():
        # A row at a time: a reward model without a padding token takes no more.
        return torch.cat([model(input_ids=row[None]).logits for row in ids]).float().contiguous()


def different(a, b):
    """Names of the tensors that are not equal, with the largest difference."""
    names = sorted(set(a) | set(b))
    missing = {name: "missing" for name in names if name not in a or name not in b}
    return missing | {
        name: (a[name].double() - b[name].double()).abs().max().item()
        for name in names
        if name not in missing and not (a[name].dtype == b[name].dtype and torch.equal(a[name], b[name]))
    }


job = json.load(open(sys.argv[1]))
found, results = {}, {"saved": [], "trained": {}}

for row in job["saved"]:
    dtype = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}[row["dtype"]]
    original, saved = load(row["original"], dtype), load(row["saved"], "auto")
    results["saved"].append(
        {
            "dtype": str(next(saved.parameters()).dtype),
            "different": different(original.state_dict(), saved.state_dict()),
            "same logits": torch.equal(logits(original.float()), logits(saved.float())),
        }
    )

for row in job["trained"]:
    config = json.load(open(f"{row['adapter']}/adapter_config.json"))
    base = load(row["base"], reward=config["task_type"] == "SEQ_CLS")
    model = PeftModel.from_pretrained(base, row["adapter"]).eval()
    found[row["name"]] = logits(model)
    merged = model.merge_and_unload()
    found[row["name"] + " merged"] = logits(load(row["merged"]))
    results["trained"][row["name"]] = different(merged.state_dict(), load(row["merged"]).state_dict())

for row in job["made"]:
    base = load(row["base"], reward=row["lora"].get("task_type") == "SEQ_CLS")
    model = get_peft_model(base, LoraConfig(**{"task_type": "CAUSAL_LM", **row["lora"]})).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name or "modules_to_save" in name:
                parameter += 0.05 * torch.randn_like(parameter)
            elif "magnitude" in name:
                parameter *= 1 + 0.1 * torch.randn_like(parameter)
    found[row["name"]] = logits(model)
    model.save_pretrained(row["directory"])

save_file(found, f"{sys.argv[2]}/logits.safetensors")
print(json.dumps(results))

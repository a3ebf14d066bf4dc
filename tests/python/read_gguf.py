"""Prints what the package gguf reads in a GGUF file: read_gguf.py FILE HEADS KV_HEADS NAME...

The tensors are those that its own table has for the Hugging Face names, as float32 in Hugging Face's order, in base64.
"""

import base64
import json
import sys

import gguf
import numpy as np

path, heads, kv_heads, *names = sys.argv[1:]
heads, kv_heads = int(heads), int(kv_heads)
reader = gguf.GGUFReader(path)
fields = {key: field.contents() for key, field in reader.fields.items()}
architecture = fields["general.architecture"]
table = gguf.get_tensor_name_map(
    next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture),
    fields[f"{architecture}.block_count"],
)
stored = {tensor.name: tensor for tensor in reader.tensors}


def hugging_face_order(name, values):
    if architecture == "llama" and (".attn_q." in name or ".attn_k." in name):
        count = heads if ".attn_q." in name else kv_heads
        pairs = values.reshape(count, values.shape[0] // count // 2, 2, *values.shape[1:])
        return pairs.swapaxes(1, 2).reshape(values.shape)
    if architecture == "gptneox" and ".attn_qkv." in name:
        return values.reshape(3, heads, -1, *values.shape[1:]).swapaxes(0, 1).reshape(values.shape)
    if architecture == "gpt2" and name.startswith("blk.") and values.ndim == 2:
        return values.T
    if architecture.startswith("gemma") and name.endswith("norm.weight"):
        return values - np.float32(1)
    return values


tensors = {}
for name in names:
    tensor = stored.pop(table.get_name(name, try_suffixes=(".weight", ".bias")))
    values = gguf.dequantize(tensor.data, tensor.tensor_type)
    values = hugging_face_order(tensor.name, values.reshape(tensor.shape[::-1]))
    tensors[name] = {
        "type": tensor.tensor_type.name,
        "shape": list(values.shape),
        "values": base64.b64encode(np.ascontiguousarray(values, np.float32).tobytes()).decode(),
    }
json.dump({"fields": fields, "tensors": tensors, "others": list(stored)}, sys.stdout)

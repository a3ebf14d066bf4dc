"""Makes blocks.json and every_type.gguf with the Python package gguf 0.19.0 (and numpy): python make.py"""

import base64
import json
import os

import gguf
import numpy as np
from gguf import GGMLQuantizationType as T
from gguf import quants

HERE = os.path.dirname(os.path.abspath(__file__))
rng = np.random.default_rng(20)


def text(array):
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def halves(count):
    """Finite scales of all magnitudes, as bytes."""
    values = rng.normal(size=count) * 10.0 ** rng.integers(-6, 3, size=count)
    return values.astype(np.float16).view(np.uint8).reshape(count, 2)


def random_blocks(name, count):
    """Valid blocks: any bytes, but finite scales."""
    _, size = gguf.GGML_QUANT_SIZES[T[name]]
    blocks = rng.integers(0, 256, size=(count, size), dtype=np.uint8)
    places = {"Q8_0": [0], "Q4_0": [0], "Q5_0": [0], "Q4_1": [0, 2], "Q5_1": [0, 2],
              "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}[name]
    for place in places:
        blocks[:, place:place + 2] = halves(count)
    return blocks


def dequantised():
    for name in ["Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K"]:
        blocks = random_blocks(name, 4 if name.endswith("K") else 12)
        yield name, blocks.reshape(1, -1)
    yield "F16", np.concatenate([halves(40).reshape(-1), np.arange(0, 80, dtype=np.uint8)]).reshape(1, -1)
    yield "BF16", quants.quantize(rng.normal(size=(1, 64)).astype(np.float32) ** 9, T.BF16)
    yield "F32", rng.normal(size=(1, 32)).astype(np.float32).view(np.uint8)


def rows_to_quantise():
    rows = rng.normal(size=(14, 32)) * 10.0 ** rng.integers(-5, 4, size=(14, 1))
    rows[3] = 0
    rows[4, 1:] = 0
    rows[5] = np.arange(32) * 4.0 - 63.5  # many halves between two whole numbers
    rows[6] *= 1e-30
    rows[7] = -127.0
    return rows.astype(np.float32)


def every_type():
    path = os.path.join(HERE, "every_type.gguf")
    writer = gguf.GGUFWriter(path, "test")
    writer.add_uint8("a.uint8", 200)
    writer.add_int8("a.int8", -100)
    writer.add_uint16("a.uint16", 60000)
    writer.add_int16("a.int16", -30000)
    writer.add_uint32("a.uint32", 4_000_000_000)
    writer.add_int32("a.int32", -2_000_000_000)
    writer.add_uint64("a.uint64", 2**63 + 1)
    writer.add_int64("a.int64", -(2**40))
    writer.add_float32("a.float32", 0.1)
    writer.add_float64("a.float64", 0.1)
    writer.add_bool("a.bool", True)
    writer.add_string("a.string", "\ufeffhällo ▁")
    writer.add_array("a.strings", ["one", "", "\ufeff"])
    writer.add_array("a.int32s", [1, -2, 3])
    writer.add_array("a.float32s", [0.5, -1.5])
    writer.add_array("a.bools", [True, False])
    writer.add_array("a.bytes", bytes([1, 2, 255]))
    writer.add_array("a.lists", [[1, 2], [3]])
    writer.add_custom_alignment(64)
    tensors = {
        "vector": rng.normal(size=5).astype(np.float32),
        "half": rng.normal(size=(3, 7)).astype(np.float16),
        "cube": rng.normal(size=(2, 3, 4)).astype(np.float32),
    }
    values = {name: tensor.astype(np.float32) for name, tensor in tensors.items()}
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor)
    for name in ["Q8_0", "Q4_1"]:
        rows = rng.normal(size=(3, 64)).astype(np.float32)
        blocks = quants.quantize(rows, T[name])
        writer.add_tensor(name, blocks, raw_dtype=T[name])
        values[name] = quants.dequantize(blocks, T[name])
    blocks = random_blocks("Q4_K", 4).reshape(2, -1)
    writer.add_tensor("Q4_K", blocks, raw_dtype=T.Q4_K)
    values["Q4_K"] = quants.dequantize(blocks, T.Q4_K)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return {name: {"shape": list(value.shape), "values": text(value)} for name, value in values.items()}


rows = rows_to_quantise()
result = {
    "dequantised": {
        name: {"bytes": text(blocks), "values": text(quants.dequantize(blocks, T[name]))}
        for name, blocks in dequantised()
    },
    "quantised": {"values": text(rows), "Q8_0": text(quants.quantize(rows, T.Q8_0))},
    "every_type": every_type(),
}
with open(os.path.join(HERE, "blocks.json"), "w") as file:
    json.dump(result, file, indent=1)
    file.write("\n")

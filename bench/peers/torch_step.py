"""PyTorch on the CPU, eager, f32: the GPT-2s of `bench/gpt2_data.ts` as a worker of `bench/steps.ts`.

    python3 torch_step.py CONFIG         answers step, gradients, decode and quit on stdin, see workers.ts
    python3 torch_step.py --reference    prints the numbers that are kept in bench/steps_reference.json
"""

import json
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F

torch.set_num_threads(1)

SMALL = dict(layers=4, width=64, heads=4, inner=256, vocab=512, rows=8, time=96, spread=0.1)
CONFIGS = {
    "A": dict(SMALL, gain=1, rate=1e-3),
    "B": dict(layers=6, width=384, heads=6, inner=1536, vocab=4096, rows=8, time=128, spread=0.05, gain=1, rate=3e-4),
    "D": dict(SMALL, gain=3, rate=1e-3),
}
DECODE_ROWS, DECODE_PROMPT, DECODE_GENERATED = 32, 16, 32


def specifications(c):
    """Name, shape, standard deviation and mean of every weight, in the order in which the counter runs."""
    width, inner, residual = c["width"], c["inner"], 1 / np.sqrt(2 * c["layers"])
    matrix = lambda inputs, scale=1: 0.7 * c["gain"] * scale / np.sqrt(inputs)
    norm = lambda name: [(name + ".g", (width,), 0.02, 1), (name + ".b", (width,), 0.02, 0)]
    map_ = lambda name, i, o, scale=1: [(name + ".w", (i, o), matrix(i, scale), 0), (name + ".b", (o,), 0.02, 0)]
    out = [("wte", (c["vocab"], width), c["spread"], 0), ("wpe", (c["time"], width), c["spread"] / 2, 0)]
    for layer in range(c["layers"]):
        h = f"h{layer}."
        out += norm(h + "ln1") + map_(h + "qkv", width, 3 * width) + map_(h + "o", width, width, residual)
        out += norm(h + "ln2") + map_(h + "fc", width, inner) + map_(h + "proj", inner, width, residual)
    return out + norm("lnf")


def hash32(x):
    """The finaliser of splitmix32 on counters."""
    x = x.astype(np.uint32)
    with np.errstate(over="ignore"):
        x = x + np.uint32(0x9E3779B9)
        x = (x ^ (x >> np.uint32(16))) * np.uint32(0x21F0AAAD)
        x = (x ^ (x >> np.uint32(15))) * np.uint32(0x735A2D97)
        return x ^ (x >> np.uint32(15))


def weights(c):
    counter, out = 0, {}
    for name, shape, deviation, mean in specifications(c):
        size = int(np.prod(shape))
        u = (hash32(np.arange(counter, counter + size)) >> np.uint32(8)).astype(np.float64) / 2**24
        out[name] = (mean + (u * 2 - 1) * deviation * np.sqrt(3)).astype(np.float32).reshape(shape)
        counter += size
    return out


class Training:
    def __init__(self, c, dtype=torch.float32):
        self.c = c
        # Matrices are held [out, in], the layout of nn.Linear.
        oriented = lambda name, w: np.ascontiguousarray(w.T) if name.endswith(".w") else w
        tensor = lambda name, w: torch.from_numpy(oriented(name, w)).to(dtype)
        self.p = {name: torch.nn.Parameter(tensor(name, w)) for name, w in weights(c).items()}
        tokens = hash32(0x40000000 + np.arange(c["rows"] * (c["time"] + 1))).reshape(c["rows"], -1) % c["vocab"]
        tokens = torch.from_numpy(tokens.astype(np.int64))
        self.x, self.y = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous().view(-1)
        self.optimizer = torch.optim.AdamW(
            self.p.values(), lr=c["rate"], betas=(0.9, 0.999), eps=1e-8, weight_decay=0.1
        )

    def loss(self):
        c, p = self.c, self.p
        rows, steps, width, heads = c["rows"], c["time"], c["width"], c["heads"]
        norm = lambda x, name: F.layer_norm(x, (width,), p[name + ".g"], p[name + ".b"])
        map_ = lambda x, name: F.linear(x, p[name + ".w"], p[name + ".b"])
        x = F.embedding(self.x, p["wte"]) + p["wpe"]
        for layer in range(c["layers"]):
            h = f"h{layer}."
            split = map_(norm(x, h + "ln1"), h + "qkv").split(width, -1)
            q, k, v = (t.view(rows, steps, heads, width // heads).transpose(1, 2) for t in split)
            attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + map_(attended.transpose(1, 2).reshape(rows, steps, width), h + "o")
            x = x + map_(F.gelu(map_(norm(x, h + "ln2"), h + "fc"), approximate="tanh"), h + "proj")
        return F.cross_entropy(F.linear(norm(x, "lnf"), p["wte"]).view(rows * steps, -1), self.y)

    def step(self):
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss()
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def gradients(self):
        self.optimizer.zero_grad(set_to_none=True)
        self.loss().backward()
        return {name: parameter.grad.norm().item() for name, parameter in self.p.items()}


class Decoding:
    """transformers' generate, greedy, with its cache."""

    def __init__(self, c):
        from transformers import GPT2Config, GPT2LMHeadModel

        config = GPT2Config(
            vocab_size=c["vocab"], n_positions=c["time"], n_embd=c["width"], n_layer=c["layers"], n_head=c["heads"],
            n_inner=c["inner"], resid_pdrop=0, embd_pdrop=0, attn_pdrop=0,
            bos_token_id=None, eos_token_id=None, pad_token_id=0,
        )  # fmt: skip
        self.model = GPT2LMHeadModel(config).eval()
        parts = {"ln1": "ln_1", "ln2": "ln_2", "qkv": "attn.c_attn", "o": "attn.c_proj", "fc": "mlp.c_fc"}
        parts["proj"] = "mlp.c_proj"
        state = {}
        for name, w in weights(c).items():
            if name.startswith("h"):
                layer, part, kind = name[1:].split(".")
                key = f"h.{layer}.{parts[part]}.{'weight' if kind in 'gw' else 'bias'}"
            else:
                key = {"wte": "wte.weight", "wpe": "wpe.weight", "lnf.g": "ln_f.weight", "lnf.b": "ln_f.bias"}[name]
            state["transformer." + key] = torch.from_numpy(w)
        missing = self.model.load_state_dict(state, strict=False)
        assert set(missing.missing_keys) <= {"lm_head.weight"} and not missing.unexpected_keys, missing
        ids = hash32(0x50000000 + np.arange(DECODE_ROWS * DECODE_PROMPT)).reshape(DECODE_ROWS, -1) % c["vocab"]
        self.prompts = torch.from_numpy(ids.astype(np.int64))

    def decode(self):
        with torch.inference_mode():
            out = self.model.generate(
                self.prompts, attention_mask=torch.ones_like(self.prompts), do_sample=False,
                max_new_tokens=DECODE_GENERATED, min_new_tokens=DECODE_GENERATED,
            )  # fmt: skip
        return out[:, DECODE_PROMPT:].reshape(-1).tolist()


def reference():
    out = {"torch": torch.__version__, "note": "float64; made by bench/peers/torch_step.py --reference"}
    for name in "AB":
        training = Training(CONFIGS[name], torch.float64)
        norms = training.gradients()
        out[name] = {"loss": training.step(), "gradientNorms": norms}
    print(json.dumps(out, indent=1))


def serve(c):
    say = lambda answer: print("@@" + json.dumps(answer), flush=True)
    training = decoding = None
    say({"ready": True})
    for line in sys.stdin:
        command, started = line.strip(), time.perf_counter()
        if command == "quit":
            break
        if command == "decode":
            decoding = decoding or Decoding(c)
            answer = {"tokens": decoding.decode()}
        else:
            training = training or Training(c)
            answer = {"loss": training.step()} if command == "step" else {"norms": training.gradients()}
        say({**answer, "milliseconds": (time.perf_counter() - started) * 1e3})


if __name__ == "__main__":
    if sys.argv[1] == "--reference":
        reference()
    else:
        serve(CONFIGS[sys.argv[1]])

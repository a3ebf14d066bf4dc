"""Tiny models of every family whose weights are not stored: an integer hash of name and place makes them, here and in the test.

    python make_families.py --out ../families

One JSON per family: config, the table of the weights (shape, scale, shift), a padded batch with its loss, log-probabilities and
logits at each row's last token, of every gradient the norm, three products with hash-made vectors and 8 entries, greedy ids, and
for everything the largest difference allowed (as in golden_common: 16 times the distance of float32 from float64). And one JSON
per PEFT adapter on some of them.
"""

from __future__ import annotations

import argparse
import copy
import json
import pathlib

from golden_common import f64, forward_all, greedy_plain, hf_greedy, noise, save_json, torch, versions
from make_models import batch, instantiate, llama3, model_class, prompts, rope, sensitivity, to_f64
from transformers import Gemma2Config, GemmaConfig, GPT2Config, GPTNeoXConfig, LlamaConfig, MistralConfig, Phi3Config, Qwen2Config, Qwen3Config

import numpy as np

IDS = dict(pad_token_id=0, bos_token_id=1, eos_token_id=2)
SMALL = dict(num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64)

# name: (config class, config, sequence length T, prompt length P)
FAMILIES = {
    "llama": (LlamaConfig, dict(SMALL, vocab_size=71, hidden_size=44, head_dim=12, intermediate_size=45, attention_bias=True, mlp_bias=True,
        rms_norm_eps=1e-5, rope_parameters=llama3(500000.0, 8.0, 16), tie_word_embeddings=False), 15, 9),
    "llama-linear": (LlamaConfig, dict(SMALL, vocab_size=67, hidden_size=40, head_dim=10, intermediate_size=51, rms_norm_eps=1e-6,
        rope_parameters=rope(10000.0, rope_type="linear", factor=2.5), tie_word_embeddings=True), 14, 8),
    "llama-dynamic": (LlamaConfig, dict(SMALL, vocab_size=66, hidden_size=36, head_dim=12, intermediate_size=50, num_key_value_heads=4, rms_norm_eps=1e-5,
        rope_parameters=rope(10000.0, rope_type="dynamic", factor=4.0), tie_word_embeddings=False), 13, 8),
    "mistral": (MistralConfig, dict(SMALL, vocab_size=69, hidden_size=36, head_dim=12, intermediate_size=53, rms_norm_eps=1e-5,
        rope_parameters=rope(), sliding_window=5, tie_word_embeddings=False), 15, 9),
    "qwen2": (Qwen2Config, dict(SMALL, vocab_size=73, hidden_size=48, intermediate_size=47, num_attention_heads=4, rms_norm_eps=1e-6,
        rope_parameters=rope(1000000.0), use_sliding_window=True, sliding_window=4, max_window_layers=1, tie_word_embeddings=True), 14, 8),
    "qwen3": (Qwen3Config, dict(SMALL, vocab_size=70, hidden_size=36, head_dim=10, intermediate_size=49, rms_norm_eps=1e-6,
        rope_parameters=rope(1000000.0), tie_word_embeddings=True), 14, 8),
    "gpt2": (GPT2Config, dict(vocab_size=65, n_embd=36, n_layer=2, n_head=3, n_positions=48, n_inner=None, activation_function="gelu_new",
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0), 15, 9),
    "gpt-neox": (GPTNeoXConfig, dict(vocab_size=68, hidden_size=36, intermediate_size=46, num_hidden_layers=2, num_attention_heads=3,
        max_position_embeddings=64, hidden_act="gelu", layer_norm_eps=1e-5, rope_parameters=rope(10000.0, partial_rotary_factor=0.5),
        use_parallel_residual=True, tie_word_embeddings=False), 13, 8),
    "gpt-neox-sequential": (GPTNeoXConfig, dict(vocab_size=64, hidden_size=36, intermediate_size=54, num_hidden_layers=2, num_attention_heads=3,
        max_position_embeddings=64, hidden_act="gelu_new", layer_norm_eps=1e-5, attention_bias=False,
        rope_parameters=rope(10000.0, partial_rotary_factor=0.25), use_parallel_residual=False, tie_word_embeddings=False), 13, 8),
    "gemma": (GemmaConfig, dict(SMALL, vocab_size=62, hidden_size=28, head_dim=12, intermediate_size=52, num_key_value_heads=1, rms_norm_eps=1e-6,
        rope_parameters=rope(), hidden_act="gelu_pytorch_tanh", tie_word_embeddings=True), 13, 8),
    "gemma2": (Gemma2Config, dict(SMALL, vocab_size=63, hidden_size=36, head_dim=12, intermediate_size=44, rms_norm_eps=1e-6, rope_parameters=rope(),
        hidden_activation="gelu_pytorch_tanh", query_pre_attn_scalar=18, sliding_window=5, final_logit_softcapping=8.0,
        attn_logit_softcapping=3.0, tie_word_embeddings=True), 15, 9),
    "phi3": (Phi3Config, dict(SMALL, vocab_size=72, hidden_size=48, intermediate_size=43, original_max_position_embeddings=64, rms_norm_eps=1e-5,
        rope_parameters=rope(10000.0, partial_rotary_factor=0.75), sliding_window=6, tie_word_embeddings=False), 14, 8),
}

ADAPTED = ("llama", "gpt-neox", "phi3")
MASK = 0xFFFFFFFF
MIX = (0x21F0AAAD, 0x735A2D97, 0x9E3779B9)


# ---- numbers from a hash ---------------------------------------------------------------------------------------------


def uniform(label: str, count: int) -> np.ndarray:
    """[-1, 1) in steps of 2^-23, which float32 holds exactly: FNV-1a of the label, plus the index times a constant, mixed."""
    seed = 0x811C9DC5
    for byte in label.encode():
        seed = (seed ^ byte) * 0x01000193 & MASK
    x = (np.arange(count, dtype=np.uint64) * MIX[2] + seed) & MASK
    for shift, factor in ((16, MIX[0]), (15, MIX[1])):
        x = ((x ^ (x >> np.uint64(shift))) * np.uint64(factor)) & MASK
    x ^= x >> np.uint64(15)
    return (x >> np.uint64(8)).astype(np.float64) / 2**23 - 1


def tensor(label: str, shape, scale: float, shift: float) -> torch.Tensor:
    """float32 of shift + scale * uniform, both steps in float64."""
    values = scale * uniform(label, int(np.prod(shape))) + shift
    return torch.from_numpy(values.astype(np.float32)).reshape(shape)


def spread(name: str, shape, config) -> tuple[float, float]:
    """Scale and shift of a weight: useful sizes everywhere, biases and norms too, so that a missing one shows."""
    kind, tied = config.model_type, config.tie_word_embeddings
    plus_one = kind in ("gemma", "gemma2")
    unit = 3**0.5  # the uniform numbers have the deviation 1/sqrt(3)
    if any(s in name for s in ("norm", "ln_1", "ln_2", "ln_f")):
        if name.endswith("bias"):
            return 0.1 * unit, 0.0
        branch = kind == "gemma2" and ("post_attention" in name or "post_feedforward" in name)
        return 0.2 * unit, (2.0 if branch else 0.0) if plus_one else 1.0
    if name.endswith("bias"):
        return 0.15 * unit, 0.0
    if any(s in name for s in ("wte", "embed_tokens", "embed_in")):
        return unit * ((1.4 if plus_one else 2.4) / shape[1] ** 0.5 if tied else 0.7), 0.0
    if "wpe" in name:
        return 0.25 * unit, 0.0
    if any(s in name for s in ("lm_head", "embed_out")):
        return 2.2 / shape[1] ** 0.5 * unit, 0.0
    inputs = shape[0] if kind == "gpt2" else shape[1]
    outward = (5.0 if kind == "gemma" else 2.5) if tied else 1.0
    gain = outward if any(s in name for s in ("o_proj", "down_proj", "c_proj")) else 1.0
    if any(s in name for s in ("q_proj", "k_proj", "c_attn", "query_key_value", "qkv_proj")):
        gain = 1.5
    return gain / inputs**0.5 * unit, 0.0


def short(numbers) -> list:
    """As they stand in the file."""
    return [float(f"{x:.4g}") for x in numbers]


def in_file(name: str, config) -> str:
    """transformers 5 calls GPT-NeoX's head lm_head in memory and embed_out in files."""
    return name.replace("lm_head", "embed_out") if config.model_type == "gpt_neox" else name


@torch.no_grad()
def fill(parameters, salt: str, table: dict, label=lambda n: n) -> None:
    for name, p in parameters:
        shape, scale, shift = table[label(name)]
        assert list(p.shape) == shape
        p.copy_(tensor(f"{salt}/{label(name)}", shape, scale, shift))


# ---- what is kept ----------------------------------------------------------------------------------------------------


def summed(name: str, g: torch.Tensor) -> torch.Tensor:
    """Norm, and products with three hash-made vectors."""
    flat = g.detach().flatten().double()
    dots = [flat @ torch.from_numpy(uniform(f"dot{k}/{name}", flat.numel())) for k in range(3)]
    return torch.stack([flat.norm(), *dots])


def entries(g: torch.Tensor) -> torch.Tensor:
    """8 of the entries, at even distances from the first on."""
    flat = g.detach().flatten().double()
    return flat[torch.arange(8) * flat.numel() // 8]


def described(r32, r64, g32: dict, g64: dict, mask: torch.Tensor, label) -> dict:
    """
    Values, and what they may be off: 16 times the noise of the tensor, of logits and gradients that of the whole. A product's noise is
    at least that of as many independent errors, of the size that the gradient's have on average.
    """
    def entry(x, atol):
        return {"atol": atol, "values": x.double().flatten().tolist()}

    out = {name: entry(r32[name], noise(r32[name], r64[name])["atol"]) for name in ("loss", "logprobs_t1")}
    last = torch.stack([r32["logits"][i, mask[i].nonzero()[-1, 0]] for i in range(len(mask))])
    out["logits_last"] = entry(last, noise(r32["logits"], r64["logits"])["atol"])
    for key in g32:
        name, whole = label(key.removeprefix("grad.")), noise(g32[key], g64[key])
        sums = summed(name, g32[key])
        spread_error = 16 * whole["noise_rms"] * (g32[key].numel() / 3) ** 0.5
        out[f"grad.{name}"] = entry(sums, max(noise(sums.float(), summed(name, g64[key]))["atol"], spread_error))
        out[f"entries.{name}"] = entry(entries(g32[key]), whole["atol"])
    return out


def run(model, bat):
    ids, mask, pos, lab = bat
    return forward_all(model, ids, mask, pos, lab, want_hidden=False)


def rows(t: torch.Tensor) -> list:
    return t.to(torch.int32).tolist()


@torch.no_grad()
def more_sensitivity(name, cls, model, bat) -> dict:
    """How far the logits move when what only some of these models have is left out."""
    ids, mask, pos, _ = bat

    def logits(m):
        return m(input_ids=ids, attention_mask=mask, position_ids=pos, use_cache=False).logits * mask[..., None]

    def without(edit):
        c = copy.deepcopy(model.config)
        edit(c)
        m = instantiate(cls, c)
        m.load_state_dict(model.state_dict(), strict=False)
        m.tie_weights()
        return (logits(m) - logits(model)).abs().max().item()

    edits = {
        "llama": {"attention biases ignored": lambda c: setattr(c, "attention_bias", False), "mlp biases ignored": lambda c: setattr(c, "mlp_bias", False)},
        "llama-linear": {"linear rope scaling ignored": lambda c: c.rope_parameters.update(rope_type="default")},
        "qwen2": {"sliding window ignored": lambda c: setattr(c, "layer_types", ["full_attention"] * 2),
                  "sliding window in every layer": lambda c: setattr(c, "layer_types", ["sliding_attention"] * 2)},
        "gpt-neox-sequential": {"parallel residual": lambda c: setattr(c, "use_parallel_residual", True)},
    }
    return {tag: without(edit) for tag, edit in edits.get(name, {}).items()}


def make_family(name, spec, out):
    cfg_cls, kw, T, P = spec
    cfg = cfg_cls(**kw, **IDS)
    cls = model_class(cfg)
    for attempt in range(400):
        salt = f"{name}-{attempt}"
        model = instantiate(cls, cfg)
        model.tie_weights()
        label = lambda n: in_file(n, cfg)  # noqa: E731
        table = {label(n): [list(p.shape), *short(spread(n, p.shape, cfg))] for n, p in model.named_parameters()}
        fill(model.named_parameters(), salt, table, label)
        bat = batch(attempt + 1, cfg.vocab_size, T)
        ids, mask, pos, lab = bat
        pid, pm = prompts(ids, mask, P)
        toks, gaps = greedy_plain(model, pid, pm, 16)
        if gaps.min() > 5e-3 and min(len(set(t)) for t in toks.tolist()) >= 5:
            break
    else:
        raise RuntimeError("no weights with a clear greedy path")
    r32, g32 = run(model, bat)
    with f64():
        m64 = to_f64(cls, model.config, model)
        r64, g64 = run(m64, bat)
        assert torch.equal(toks, greedy_plain(m64, pid, pm, 16)[0])
    assert torch.equal(hf_greedy(model, pid, pm, 16, None, 0), toks)
    tensors = described(r32, r64, g32, g64, mask, label)
    moves = sensitivity(cls, model, ids, mask, pos) | more_sensitivity(name, cls, model, bat)
    if name == "gpt-neox-sequential":
        for already in ("sequential residual", "tanh gelu instead of exact gelu"):
            assert moves.pop(already) == 0
    atol = noise(r32["logits"], r64["logits"])["atol"]
    assert min(moves.values()) > 10 * atol, moves
    config = json.loads(model.config.to_json_string(use_diff=False))
    config = {k: v for k, v in config.items() if k in KEPT_FIELDS or k in kw}
    config["architectures"] = [cls.__name__]
    save_json(out / f"{name}.json", {
        "config": config, "salt": salt, "weights": table,
        "input_ids": rows(ids), "attention_mask": rows(mask), "labels": rows(lab),
        "prompts": [[int(t) for t, m in zip(r, k) if m] for r, k in zip(pid.tolist(), pm.tolist())], "greedy_ids": rows(toks),
        "min_greedy_gap": gaps.min().item(), "max_abs_logit_change_if": moves, "tensors": tensors, "versions": versions(),
    }, compact=True)
    size = (out / f"{name}.json").stat().st_size
    assert size < 30_000, size
    print(f"{name:20s} {salt:24s} loss {r32['loss'].item():.4f} gap {gaps.min():.4f} logits atol {atol:.1e} {size} bytes; "
          + ", ".join(f"{k} {v:.2g}" for k, v in moves.items()))
    return model, cls, bat


KEPT_FIELDS = ("model_type", "vocab_size", "tie_word_embeddings", "bos_token_id", "eos_token_id", "pad_token_id", "layer_types", "num_key_value_heads")


def make_adapter(name, kind, model, cls, bat, out):
    from peft import LoraConfig, get_peft_model

    ids, mask, pos, lab = bat
    targets = {
        "llama": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
        "gpt-neox": ["query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"],
        "phi3": ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"],
    }[name]
    lora = dict(r=3, lora_alpha=7, target_modules=targets, use_rslora=kind == "rslora", use_dora=kind == "dora")

    def build(base):
        return get_peft_model(base, LoraConfig(**lora, lora_dropout=0.0, bias="none", task_type="CAUSAL_LM")).eval()

    def key(n):
        return n.replace(".default", "").replace("lora_magnitude_vector.weight", "lora_magnitude_vector")

    def trained(m):
        return [(n, p) for n, p in m.named_parameters() if p.requires_grad]

    def size(n, shape):
        if "lora_A" in n:
            return (3 / shape[1]) ** 0.5, 0.0
        return (0.5, 0.0) if "lora_B" in n else (0.4, 1.3)

    pm = build(copy.deepcopy(model))
    salt = f"{name}-{kind}"
    table = {key(n): [list(p.shape), *short(size(n, p.shape))] for n, p in trained(pm)}
    fill(trained(pm), salt, table, key)
    # DoRA's norms are taken again from the weights in every pass, so nothing has to be initialised anew.
    r32, g32 = run(pm, bat)
    with f64():
        p64 = build(to_f64(cls, model.config, model))
        own = dict(p64.named_parameters())
        with torch.no_grad():
            for n, p in trained(pm):
                own[n].data = p.double()
        r64, g64 = run(p64, bat)
    keep = lambda g: {n: x for n, x in g.items() if "lora_" in n}  # noqa: E731
    tensors = described(r32, r64, keep(g32), keep(g64), mask, key)
    file = out / f"{name}-{kind}.json"
    save_json(file, {"base": name, "adapter": lora, "salt": salt, "weights": table, "tensors": tensors, "versions": versions()}, compact=True)
    assert file.stat().st_size < 30_000
    print(f"{name}-{kind}: loss {r32['loss'].item():.4f}, {file.stat().st_size} bytes")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=pathlib.Path, required=True)
    out = parser.parse_args().out
    for name, spec in FAMILIES.items():
        made = make_family(name, spec, out)
        if name in ADAPTED:
            for kind in ("lora", "rslora", "dora"):
                make_adapter(name, kind, *made, out)

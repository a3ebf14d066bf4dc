/**
 * Names of tensors in GGUF files and in Hugging Face's, and what differs in their values between the two.
 *
 * llama.cpp rotates neighbouring elements of a head where Hugging Face's Llama rotates halves, so that the rows of q and k are reordered in
 * files of architecture "llama"; GPT-NeoX's q, k and v are head by head in Hugging Face's and one after the other in GGUF; GPT-2's matrices
 * are [inputs, outputs] in Hugging Face's; Gemma's norms are stored with the 1 that is added to them.
 *
 * @module
 */

/** Architectures by the names that GGUF gives them; Mistral's models are "llama". */
export const GGUF_ARCHITECTURES = [
  "llama",
  "qwen2",
  "qwen3",
  "gemma",
  "gemma2",
  "phi3",
  "gpt2",
  "gptneox",
] as const;

/** An architecture that can be read and written. */
export type GgufArchitecture = typeof GGUF_ARCHITECTURES[number];

/** What names and orders depend on. */
export interface Naming {
  /** The architecture. */
  architecture: GgufArchitecture;
  /** Query heads. */
  heads: number;
  /** Key and value heads. */
  kvHeads: number;
}

/** How a tensor of a Hugging Face model is stored in a GGUF file. */
export interface StoredTensor {
  /** Its name there. */
  name: string;
  /** The row of the file that holds a row of ours, of some rows; absent where they are the same. */
  fileRow?: (row: number, rows: number) => number;
  /** What the number of rows must be a multiple of for that. */
  rowsOf?: number;
  /** Whether the file has [outputs, inputs] for our [inputs, outputs]. */
  transposed?: true;
  /** Whether the file has 1 + w for our w. */
  plusOne?: true;
}

/** Names outside and inside the layers, without ".weight" and ".bias": Hugging Face's, then GGUF's. */
interface NameTable {
  outside: [string, string][];
  /** What the layer's number and its tensors' names follow. */
  layers: string;
  inside: [string, string][];
}

const OUTSIDE: [string, string][] = [
  ["model.embed_tokens", "token_embd"],
  ["model.norm", "output_norm"],
  ["lm_head", "output"],
  ["score", "cls.output"],
];

const ATTENTION: [string, string][] = [
  ["input_layernorm", "attn_norm"],
  ["self_attn.q_proj", "attn_q"],
  ["self_attn.k_proj", "attn_k"],
  ["self_attn.v_proj", "attn_v"],
  ["self_attn.o_proj", "attn_output"],
];

const MLP: [string, string][] = [
  ["mlp.gate_proj", "ffn_gate"],
  ["mlp.up_proj", "ffn_up"],
  ["mlp.down_proj", "ffn_down"],
];

/** In most architectures the norm before the MLP is called after what precedes it. */
const MLP_NORM: [string, string][] = [["post_attention_layernorm", "ffn_norm"]];

const GPT2: NameTable = {
  outside: [
    ["transformer.wte", "token_embd"],
    ["transformer.wpe", "position_embd"],
    ["transformer.ln_f", "output_norm"],
    ["lm_head", "output"],
  ],
  layers: "transformer.h.",
  inside: [
    ["ln_1", "attn_norm"],
    ["attn.c_attn", "attn_qkv"],
    ["attn.c_proj", "attn_output"],
    ["ln_2", "ffn_norm"],
    ["mlp.c_fc", "ffn_up"],
    ["mlp.c_proj", "ffn_down"],
  ],
};

const GPT_NEOX: NameTable = {
  outside: [
    ["gpt_neox.embed_in", "token_embd"],
    ["gpt_neox.final_layer_norm", "output_norm"],
    ["embed_out", "output"],
  ],
  layers: "gpt_neox.layers.",
  inside: [
    ["input_layernorm", "attn_norm"],
    ["attention.query_key_value", "attn_qkv"],
    ["attention.dense", "attn_output"],
    ["post_attention_layernorm", "ffn_norm"],
    ["mlp.dense_h_to_4h", "ffn_up"],
    ["mlp.dense_4h_to_h", "ffn_down"],
  ],
};

function tableOf(architecture: GgufArchitecture): NameTable {
  const like = (inside: [string, string][]) => ({ outside: OUTSIDE, layers: "model.layers.", inside });
  switch (architecture) {
    case "llama":
    case "qwen2":
    case "gemma":
      return like([...ATTENTION, ...MLP_NORM, ...MLP]);
    case "qwen3":
      return like([
        ...ATTENTION,
        ["self_attn.q_norm", "attn_q_norm"],
        ["self_attn.k_norm", "attn_k_norm"],
        ...MLP_NORM,
        ...MLP,
      ]);
    case "gemma2":
      return like([
        ...ATTENTION,
        ["post_attention_layernorm", "post_attention_norm"],
        ["pre_feedforward_layernorm", "ffn_norm"],
        ["post_feedforward_layernorm", "post_ffw_norm"],
        ...MLP,
      ]);
    case "phi3":
      return like([
        ["input_layernorm", "attn_norm"],
        ["self_attn.qkv_proj", "attn_qkv"],
        ["self_attn.o_proj", "attn_output"],
        ...MLP_NORM,
        ["mlp.gate_up_proj", "ffn_up"],
        ["mlp.down_proj", "ffn_down"],
      ]);
    case "gpt2":
      return GPT2;
    case "gptneox":
      return GPT_NEOX;
  }
}

/** Looks a name up in one direction; undefined for one that is not in the table. */
function rename(
  name: string,
  outside: [string, string][],
  inside: [string, string][],
  from: string,
  to: string,
): string | undefined {
  const [, stem, suffix] = /^(.+)\.(weight|bias)$/.exec(name) ?? [];
  if (stem === undefined) return undefined;
  if (!stem.startsWith(from)) {
    const found = outside.find(([one]) => one === stem);
    return found && `${found[1]}.${suffix}`;
  }
  const [, layer, rest] = /^(0|[1-9][0-9]{0,4})\.(.+)$/.exec(stem.slice(from.length)) ?? [];
  const found = inside.find(([one]) => one === rest);
  return found && `${to}${layer}.${found[1]}.${suffix}`;
}

const LAYERS_IN_FILE = "blk.";
const swap = (names: [string, string][]) => names.map(([a, b]): [string, string] => [b, a]);

/** The Hugging Face name of a tensor of a GGUF file, or undefined. */
export function huggingFaceName(name: string, architecture: GgufArchitecture): string | undefined {
  const { outside, layers, inside } = tableOf(architecture);
  return rename(name, swap(outside), swap(inside), LAYERS_IN_FILE, layers);
}

/** How a tensor of a Hugging Face model is stored, or undefined where GGUF has no place for it. */
export function storedTensor(name: string, naming: Naming): StoredTensor | undefined {
  const { architecture, heads, kvHeads } = naming;
  const { outside, layers, inside } = tableOf(architecture);
  const stored = rename(name, outside, inside, layers, LAYERS_IN_FILE);
  if (stored === undefined) return undefined;
  const result: StoredTensor = { name: stored };
  if (architecture === "llama") {
    if (/\.attn_q\./.test(stored)) Object.assign(result, neighbours(heads));
    if (/\.attn_k\./.test(stored)) Object.assign(result, neighbours(kvHeads));
  }
  if (architecture === "gptneox" && /\.attn_qkv\./.test(stored)) Object.assign(result, apart(heads));
  if (architecture === "gpt2" && /^blk\..*(attn_qkv|attn_output|ffn_up|ffn_down)\.weight$/.test(stored)) {
    result.transposed = true;
  }
  if ((architecture === "gemma" || architecture === "gemma2") && stored.endsWith("norm.weight")) {
    result.plusOne = true;
  }
  return result;
}

type RowOrder = Pick<StoredTensor, "fileRow" | "rowsOf">;

/** Element i of a head's first half is at 2i, of the second at 2i + 1. */
function neighbours(heads: number): RowOrder {
  const fileRow = (row: number, rows: number) => {
    const size = rows / heads, half = size / 2, within = row % size;
    return row - within + (within < half ? 2 * within : 2 * (within - half) + 1);
  };
  return { fileRow, rowsOf: 2 * heads };
}

/** From [heads, 3, size] to [3, heads, size]. */
function apart(heads: number): RowOrder {
  const fileRow = (row: number, rows: number) => {
    const size = rows / heads / 3;
    const within = row % size, part = Math.floor(row / size) % 3, head = Math.floor(row / size / 3);
    return (part * heads + head) * size + within;
  };
  return { fileRow, rowsOf: 3 * heads };
}

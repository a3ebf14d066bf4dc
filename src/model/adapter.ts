/**
 * Adapters in GPU memory: where their matrices lie, fresh ones, and PEFT directories.
 *
 * An adapter is an arena of its own, of the base's layout in small: for every adapted module `LABEL.i.A` [r, in],
 * `LABEL.i.B` [out, r] and, weight-decomposed, `LABEL.i.magnitude` [out], with the rows and columns of the base's slot LABEL;
 * and slots of the base that are trained whole, under the base's labels.
 *
 * @module
 */
import { join } from "node:path";
import { randomStream } from "../random/stream.ts";
import type { ModelConfig } from "./config.ts";
import { hostTensor } from "./frozen.ts";
import {
  type Layout,
  layoutOf,
  type Part,
  place,
  rowsOf,
  sizesOf,
  type Slot,
  type Unplaced,
} from "./layout.ts";
import { isTarget, type LoraConfig, loraScale } from "./lora.ts";
import type { ModelFiles } from "./open.ts";
import type { HostTensor, Params } from "./params.ts";
import { findTensor, readSafetensors, type Weights } from "./safetensors.ts";
import { modelNames } from "./weight_names.ts";

/** An adapter of a model. */
export interface Adapter {
  /** What it is. */
  config: LoraConfig;
  /** Its matrices. */
  params: Params;
  /** Adapted modules by the label of the base's slot. */
  targets: Map<string, Target[]>;
  /** Directory of the base model. */
  base: string;
}

/** One adapted module. */
export interface Target {
  /** Name of the module, `model.layers.0.self_attn.q_proj`. */
  module: string;
  /** Label of the slot of A. */
  a: string;
  /** Label of the slot of B. */
  b: string;
  /** Label of the slot of the magnitudes. */
  magnitude?: string;
  /** First of its rows in the base's slot. */
  first: number;
  /** Factor of B·A. */
  scale: number;
  /** Its number among all, which keys its dropout. */
  salt: number;
}

/** Slots that hold the matrices of linear modules. */
const LINEAR = /^\d+\.(qkv|o|gate_up|up|down)$/;

/** Lays out an adapter for a model. */
export function adapterLayout(
  model: ModelConfig,
  config: LoraConfig,
): { layout: Layout; targets: Map<string, Target[]> } {
  const targets = new Map<string, Target[]>();
  const matrices: Unplaced[] = [], vectors: Unplaced[] = [];
  let salt = 0;
  const base = layoutOf(model);
  const saved = (name: string) => `base_model.model.${name}`;
  const key = (module: string, rest: string) => saved(`${module}.${rest}`);
  for (const slot of base.slots.values()) {
    if (isSaved(config, slot)) {
      const parts = slot.parts.map((part) => ({ ...part, name: saved(part.name) }));
      // One matrix under two names, as PEFT has it.
      if (slot.label === "embed" && tiesHead(model, config)) {
        parts.push({ ...parts[0], name: saved(modelNames(model).head) });
      }
      (slot.shape.length === 2 ? matrices : vectors).push({ ...slot, parts });
      continue;
    }
    if (!LINEAR.test(slot.label)) continue;
    slot.parts.forEach((part, i) => {
      const module = part.name.replace(/\.weight$/, "");
      if (!isTarget(config, model.family, module)) return;
      const { first, rows } = rowsOf(slot, part);
      const { outputs, inputs } = sizesOf(part);
      const own = part.place && ((out: number) => part.place!(out) - first);
      const at = `${slot.label}.${i}`;
      const target: Target = {
        module,
        a: `${at}.A`,
        b: `${at}.B`,
        ...(config.useDora && { magnitude: `${at}.magnitude` }),
        first,
        scale: loraScale(config),
        salt: salt++,
      };
      matrices.push(
        {
          label: target.a,
          shape: [config.r, slot.shape[1]],
          parts: [{
            name: key(module, "lora_A.weight"),
            shape: [config.r, inputs],
            ...(part.columnGroups && { columnGroups: part.columnGroups }),
          }],
        },
        {
          label: target.b,
          shape: [rows, config.r],
          parts: [{
            name: key(module, "lora_B.weight"),
            shape: [outputs, config.r],
            ...(own && { place: own }),
          }],
        },
      );
      if (target.magnitude) {
        vectors.push({
          label: target.magnitude,
          shape: [rows],
          parts: [{
            name: key(module, "lora_magnitude_vector"),
            shape: [outputs],
            ...(own && { place: own }),
          }],
        });
      }
      targets.set(slot.label, [...targets.get(slot.label) ?? [], target]);
    });
  }
  if (targets.size === 0 && matrices.length + vectors.length === 0) refuseNoTargets(config, base);
  return { layout: place([...matrices, ...vectors]), targets };
}

/** Whether an adapter trains an embedding whole that is the head, too. */
export function tiesHead(model: ModelConfig, config: LoraConfig): boolean {
  const embed = layoutOf(model).slots.get("embed")!;
  return model.tied && model.architecture === "causal" && isSaved(config, embed);
}

/** Whether a slot is trained whole. As in PEFT `norm` is every module whose name ends so, `input_layernorm` among them. */
function isSaved({ modulesToSave }: LoraConfig, slot: Slot): boolean {
  const named = (part: Part) =>
    modulesToSave.some((name) => part.name.replace(/\.(weight|bias)$/, "").endsWith(name));
  const saved = slot.parts.filter(named).length;
  if (saved === 0 || saved === slot.parts.length) return saved > 0;
  throw new Error(
    `modules_to_save names some of ${
      slot.parts.map((part) => part.name).join(", ")
    }, which keel trains together or not at all. Name all of them or none.`,
  );
}

/** Names of the modules that can be adapted, without where they stand: `q_proj`. */
function linearNames(base: Layout): string[] {
  const modules = [...base.slots.values()].filter((slot) => LINEAR.test(slot.label))
    .flatMap((slot) => slot.parts.map((part) => part.name.split(".").at(-2)!));
  return [...new Set(modules)];
}

function refuseNoTargets({ targetModules }: Pick<LoraConfig, "targetModules">, base: Layout): never {
  throw new Error(
    `No module of the model is called ${targetModules}. Expected some of ${linearNames(base).join(", ")}.`,
  );
}

/** Refuses names of modules that the model does not have, and of which nothing would come. */
export function checkModuleNames(model: ModelConfig, { targetModules, modulesToSave }: LoraConfig): void {
  const base = layoutOf(model), parts = [...base.slots.values()].flatMap((slot) => slot.parts);
  const modules = parts.map(({ name }) => name.replace(/\.(weight|bias)$/, ""));
  const has = (name: string, of: string[]) => of.some((module) => `.${module}`.endsWith(`.${name}`));
  const linear = [...base.slots.values()].filter((slot) => LINEAR.test(slot.label))
    .flatMap((slot) => slot.parts.map(({ name }) => name.replace(/\.weight$/, "")));
  const strange = Array.isArray(targetModules) ? targetModules.find((name) => !has(name, linear)) : undefined;
  if (strange !== undefined) refuseNoTargets({ targetModules: [strange] }, base);
  for (const name of modulesToSave) {
    if (modules.some((module) => module.endsWith(name))) continue;
    const short = [...new Set(modules.map((module) => module.split(".").at(-1)))];
    const tied = model.tied && /^(lm_head|embed_out)$/.test(name)
      ? " Its head is its embedding, so name that."
      : "";
    throw new Error(
      `No module of the model is called ${name}, to be trained whole.${tied} Expected some of ${
        short.join(", ")
      }.`,
    );
  }
}

/** Opens an adapter's tensors, which must be those that its config asks for: none missing, none more, each of its shape. */
export function readAdapterTensors(directory: string, model: ModelConfig, config: LoraConfig): Weights {
  const weights = readSafetensors(join(directory, "adapter_model.safetensors"));
  const { layout } = adapterLayout(model, config);
  const parts = [...layout.slots.values()].flatMap((slot) => slot.parts);
  if (tiesHead(model, config) && !config.ensureWeightTying) {
    throw new Error(
      `Cannot use the adapter in ${directory}: it trains the embedding but not the head, which is the same matrix in its base ("ensure_weight_tying" is false in adapter_config.json). keel does not compute this.`,
    );
  }
  for (const { name, shape } of parts) {
    const found = findTensor(weights.source, weights.tensors, name);
    if (found.shape.join() !== shape.join()) {
      throw new Error(
        `Cannot use ${weights.source}: tensor "${name}" has the shape [${found.shape}]. Expected [${shape}], as adapter_config.json and the base model say.`,
      );
    }
  }
  const known = new Set(parts.map(({ name }) => name));
  const extra = [...weights.tensors.keys()].find((name) => !known.has(name));
  if (extra !== undefined) {
    throw new Error(
      `Cannot use ${weights.source}: adapter_config.json asks for no tensor "${extra}". Correct target_modules, or name a module that was saved whole in modules_to_save.`,
    );
  }
  return weights;
}

/**
 * A tensor of a fresh adapter by its name, as PEFT makes it: A uniform within ±1/√inputs (Kaiming with a = √5), B zero, so that
 * the model is at first what its base is; magnitudes the norms of the base's rows, and saved modules the base's. Undefined for
 * what the base does not have.
 */
export function initialAdapterTensor(
  { config: model, weights }: ModelFiles,
  config: LoraConfig,
  seed: number,
): (name: string) => HostTensor | undefined {
  const { layout } = adapterLayout(model, config), tied = tiesHead(model, config);
  const base = (name: string) => hostTensor(weights, name);
  const shapes = new Map(
    [...layout.slots.values()].flatMap((slot) => slot.parts.map((part) => [part.name, part.shape])),
  );
  return (name) => {
    const shape = shapes.get(name);
    if (!shape) return undefined;
    const size = shape.reduce((a, b) => a * b);
    const [, module, rest] =
      name.match(/^base_model\.model\.(.*?)\.(lora_A\.weight|lora_B\.weight|lora_magnitude_vector)$/) ??
        [];
    switch (rest) {
      case "lora_A.weight": {
        const stream = randomStream(seed, "initial adapter", name), bound = 1 / Math.sqrt(shape[1]);
        return { shape, data: Float32Array.from({ length: size }, () => (2 * stream.uniform() - 1) * bound) };
      }
      case "lora_B.weight":
        return { shape, data: new Float32Array(size) };
      case "lora_magnitude_vector":
        return { shape, data: rowNorms(base(`${module}.weight`), model.family === "gpt2") };
      default: {
        const whole = name.replace("base_model.model.", ""), { head, embedding } = modelNames(model);
        return base(whole === head && tied ? embedding : whole);
      }
    }
  };
}

/** Norms over the inputs of each output. */
function rowNorms({ shape, data }: HostTensor, transposed: boolean): Float32Array {
  const [outputs, inputs] = transposed ? [shape[1], shape[0]] : shape;
  return Float32Array.from({ length: outputs }, (_, out) => {
    let total = 0;
    for (let c = 0; c < inputs; c++) total += data[transposed ? c * outputs + out : out * inputs + c] ** 2;
    return Math.sqrt(total);
  });
}

/** Last parts of the names of the modules that were adapted, for PEFT's `target_modules`. */
export function targetNames({ targets }: Adapter): string[] {
  const all = [...targets.values()].flat().map(({ module }) => module.split(".").at(-1)!);
  return [...new Set(all)].sort();
}

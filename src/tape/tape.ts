/**
 * The tape: operations compute nothing, they record launches. `backward` appends the launches of the gradient, `compile`
 * (`plan.ts`) turns the list into a plan that is replayed for every step.
 *
 * An operation is a function of the tape that makes its output tensor, pushes the launches that fill it and records a
 * closure that pushes the launches of its gradient, in the manner of micrograd.
 *
 * @module
 */
import type { Launch, Profile } from "../../kernels/kernel.ts";
import type { Storage } from "../../kernels/storage.ts";
import { rowStride } from "../../kernels/kernel.ts";
import { elementwise } from "../../kernels/elementwise.ts";
import type { GpuWindow } from "../gpu/device.ts";

/** Element type of a tensor. */
export type Dtype = "f32" | "u32";

/** How a tensor of the tape is made. */
export type TensorOptions = Partial<Omit<Tensor, "id" | "label" | "shape">>;

/** A piece of GPU memory with a shape: [n], or [rows, cols] with rows rowStride(cols) apart. */
export interface Tensor {
  id: number;
  label: string;
  shape: number[];
  dtype: Dtype;
  /** How a frozen matrix is stored (`kernels/storage.ts`); as float32 where nothing is said. */
  storage?: Storage;
  /** Memory outside the plan's arena: parameters, caches, inputs. */
  window?: GpuWindow;
  /** The tensor whose memory this one shares, from byte `offset` on. */
  sharedWith?: Tensor;
  offset?: number;
  /** Where the gradient of a parameter is accumulated. */
  gradient?: Tensor;
  /** Whether a loss can depend on it through a parameter. */
  differentiable: boolean;
}

/** Floats that a tensor occupies, padding included. */
export function physicalSize(shape: number[]): number {
  return shape.length === 2 ? shape[0] * rowStride(shape[1]) : Math.ceil(shape[0] / 4) * 4;
}

interface Recorded {
  label: string;
  outputs: Tensor[];
  backward: (...gradients: (Tensor | undefined)[]) => void;
}

/** Records operations; see the module. */
export class Tape {
  readonly launches: Launch<Tensor>[] = [];
  /** Host data that is written before each run. */
  readonly inputs: Map<string, Tensor> = new Map();
  /** Tensors that are read back after each run. */
  readonly outputs: Map<string, Tensor> = new Map();
  /** Launches before the backward pass, all where there is none, and the inputs that it starts from. */
  forward: { launches: number; derivatives: Tensor[] } = { launches: Infinity, derivatives: [] };
  readonly #recorded: Recorded[] = [];
  readonly #gradients: Map<Tensor, Tensor> = new Map();
  #count = 0;

  constructor(readonly profile: Profile) {}

  /** A new activation. */
  tensor(label: string, shape: number[], options: TensorOptions = {}): Tensor {
    if (shape.some((n) => !Number.isInteger(n) || n <= 0)) {
      throw new Error(`Tensor "${label}" cannot have the shape [${shape}].`);
    }
    return { id: this.#count++, label, shape, dtype: "f32", differentiable: false, ...options };
  }

  /** An input called `name`, given by the host at every run. */
  input(name: string, shape: number[], dtype: Dtype = "f32"): Tensor {
    const known = this.inputs.get(name);
    if (known) return known;
    const tensor = this.tensor(name, shape, { dtype });
    this.inputs.set(name, tensor);
    return tensor;
  }

  /** A frozen matrix in another form than float32. */
  stored(label: string, shape: number[], window: GpuWindow, storage: Storage): Tensor {
    return this.tensor(label, shape, { window, storage });
  }

  /** Memory that outlives the plan; a parameter where `gradient` is given. */
  external(label: string, shape: number[], window: GpuWindow, gradient?: GpuWindow): Tensor {
    const tensor = this.tensor(label, shape, { window, differentiable: gradient !== undefined });
    if (gradient) tensor.gradient = this.tensor(`d ${label}`, shape, { window: gradient });
    return tensor;
  }

  /** Marks `tensor` to be read back as `name`. */
  output(name: string, tensor: Tensor): void {
    this.outputs.set(name, tensor);
  }

  push(...launches: Launch<Tensor>[]): void {
    this.launches.push(...launches);
  }

  /** `count` rows of a matrix (or elements of a vector) from `first` on, in the same memory. */
  rows(tensor: Tensor, first: number, count: number): Tensor {
    const width = tensor.shape.length === 2 ? rowStride(tensor.shape[1]) : 1;
    return this.tensor(`${tensor.label}[${first}…]`, [count, ...tensor.shape.slice(1)], {
      dtype: tensor.dtype,
      sharedWith: tensor,
      offset: first * width * 4,
    });
  }

  /** Says how the gradient of `output` flows to `inputs`. Nothing is recorded where no input is differentiable. */
  record(label: string, output: Tensor, inputs: Tensor[], backward: (gradient: Tensor) => void): void {
    this.recordAll(label, [output], inputs, (gradient) => backward(gradient!));
  }

  /** {@linkcode record} for several outputs; `backward` runs when at least one of them has a gradient. */
  recordAll(label: string, outputs: Tensor[], inputs: Tensor[], backward: Recorded["backward"]): void {
    if (!inputs.some((t) => t.differentiable)) return;
    for (const output of outputs) output.differentiable = true;
    this.#recorded.push({ label, outputs, backward });
  }

  /** The gradient of `tensor` that has been accumulated so far. */
  gradientOf(tensor: Tensor): Tensor | undefined {
    return tensor.gradient ?? this.#gradients.get(tensor);
  }

  /**
   * Adds a contribution to the gradient of `tensor`. `emit` pushes launches that overwrite the tensor it is given, or add
   * to it where `accumulate` is true.
   */
  contribute(tensor: Tensor, emit: (gradient: Tensor, accumulate: boolean) => void): void {
    if (!tensor.differentiable) return;
    const known = this.gradientOf(tensor);
    if (known) return emit(known, true);
    const gradient = this.tensor(`d ${tensor.label}`, tensor.shape);
    this.#gradients.set(tensor, gradient);
    emit(gradient, false);
  }

  /** Like {@linkcode contribute} for kernels that can only overwrite. */
  contributeOverwriting(tensor: Tensor, emit: (gradient: Tensor) => void): void {
    this.contribute(tensor, (gradient, accumulate) => {
      if (!accumulate) return emit(gradient);
      const part = this.tensor(`part of d ${tensor.label}`, tensor.shape);
      emit(part);
      this.#add(gradient, part);
    });
  }

  /**
   * Adds `gradient` to the gradient of `tensor`. The first contribution is shared, not copied: whoever produced it has
   * read it for the last time when gradients flow further back.
   */
  pass(tensor: Tensor, gradient: Tensor): void {
    if (!tensor.differentiable) return;
    const known = this.gradientOf(tensor);
    if (known) this.#add(known, gradient);
    else this.#gradients.set(tensor, gradient);
  }

  #add(to: Tensor, what: Tensor): void {
    this.push(
      elementwise(
        this.profile,
        { name: "copy", expression: "a", accumulate: true },
        { a: what },
        to,
        physicalSize(to.shape),
      ),
    );
  }

  /** Appends the launches of the gradient of `loss` [1], times `seed` [1]. */
  backward(loss: Tensor, seed: Tensor): void {
    this.backwardFrom([[loss, seed]]);
  }

  /**
   * The same for a loss that the host computes from `tensors`: each comes with the derivative of the loss by it, an input of
   * its shape. `Plan.forward` stops before these launches.
   */
  backwardFrom(tensors: [tensor: Tensor, derivative: Tensor][]): void {
    for (const [tensor, derivative] of tensors) {
      if (!tensor.differentiable) {
        throw new Error(`The loss "${tensor.label}" does not depend on a parameter.`);
      }
      this.#gradients.set(tensor, derivative);
    }
    this.forward = {
      launches: this.launches.length,
      derivatives: tensors.map(([, derivative]) => derivative),
    };
    this.#unwind(0);
  }

  #unwind(from: number): void {
    while (this.#recorded.length > from) {
      const { outputs, backward } = this.#recorded.pop()!;
      const gradients = outputs.map((output) => this.#gradients.get(output));
      if (gradients.some((gradient) => gradient)) backward(...gradients);
    }
  }

  /**
   * Runs `block` without keeping what it computes on the way: the backward pass computes it again (arXiv 1604.06174).
   * Memory for activations then grows with one block, not with their number; time grows by one forward pass.
   */
  checkpoint(label: string, block: () => Tensor): Tensor {
    const before = this.#recorded.length;
    const output = block();
    const dropped = this.#recorded.splice(before);
    if (dropped.length === 0) return output;
    this.#recorded.push({
      label,
      outputs: [output],
      backward: (gradient) => {
        const again = this.#recorded.length;
        const copy = block();
        this.#gradients.set(copy, gradient!);
        this.#unwind(again);
      },
    });
    return output;
  }
}

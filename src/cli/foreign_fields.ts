/**
 * Fields of TRL's configurations that keel knows but does not have, so that a configuration written for TRL runs here.
 *
 * @module
 */
import { camelCase } from "../train/options/names.ts";

const PRECISION = "arithmetic is f32 here";
const DISTRIBUTED = "there is one process and one device here";
const NAMED = "a run has the name of its output_dir";
const LOADING =
  "one process reads rows one by one; tokens that do not fit into memory lie in a file of the run";
const HUB = "nothing is uploaded";
const MEMORY = "keel plans its own memory";
const VLLM = "completions are sampled by the training kernels themselves";
const PADDING = "batches are packed, so nothing is padded";
const TORCH = "there is no PyTorch here";
const DEEPSPEED = "there is no sharding over devices here";
const STEPS = "keel evaluates, logs and saves by steps: eval_steps, logging_steps, save_steps";
const BEST = "the result is the last step's model; `keel eval` compares checkpoints";
const EVALUATION = "evaluations give the metrics of training";
const SAMPLES = "samples of every step are kept in run.db";

/** Fields without a meaning here, and why; they are passed over with a warning. */
const MEANINGLESS: Record<string, string> = {
  bf16: PRECISION,
  fp16: PRECISION,
  tf32: PRECISION,
  bf16_full_eval: PRECISION,
  fp16_full_eval: PRECISION,
  half_precision_backend: PRECISION,
  bnb_4bit_quant_type: "frozen weights are held in the forms of --dtype",
  use_bnb_nested_quant: "frozen weights are held in the forms of --dtype",
  bnb_4bit_quant_storage: "frozen weights are held in the forms of --dtype",
  lora_task_type: "the command says what is trained",
  attn_implementation: "attention has one implementation, made for the adapter at hand",
  use_cpu: "the device is the WebGPU adapter; `keel doctor` shows it",
  no_cuda: "the device is the WebGPU adapter; `keel doctor` shows it",
  use_liger_kernel: "the kernels are keel's own",
  use_cache: "generation always has a KV cache",
  liger_kernel_config: "the kernels are keel's own",
  cast_lm_head_to_fp32: PRECISION,
  torch_compile: TORCH,
  torch_compile_backend: TORCH,
  torch_compile_mode: TORCH,
  torch_empty_cache_steps: MEMORY,
  activation_offloading: MEMORY,
  auto_find_batch_size: MEMORY,
  gradient_checkpointing_kwargs: "gradient_checkpointing has no settings here",
  activation_checkpointing: MEMORY,
  activation_checkpointing_kwargs: MEMORY,
  skip_memory_metrics: MEMORY,
  eval_accumulation_steps: MEMORY,
  ddp_backend: DISTRIBUTED,
  ddp_timeout: DISTRIBUTED,
  ddp_find_unused_parameters: DISTRIBUTED,
  ddp_bucket_cap_mb: DISTRIBUTED,
  ddp_broadcast_buffers: DISTRIBUTED,
  ddp_static_graph: DISTRIBUTED,
  parallelism_config: DISTRIBUTED,
  average_tokens_across_devices: DISTRIBUTED,
  log_on_each_node: DISTRIBUTED,
  save_on_each_node: DISTRIBUTED,
  log_level_replica: DISTRIBUTED,
  eval_use_gather_object: DISTRIBUTED,
  ignore_bias_buffers: DISTRIBUTED,
  local_rank: DISTRIBUTED,
  world_size: DISTRIBUTED,
  deepspeed: DEEPSPEED,
  fsdp: DEEPSPEED,
  fsdp_config: DEEPSPEED,
  ds3_gather_for_generation: DEEPSPEED,
  accelerator_config: DISTRIBUTED,
  dataset_num_proc: LOADING,
  dataset_kwargs: LOADING,
  dataset_streaming: LOADING,
  streaming: LOADING,
  dataloader_num_workers: LOADING,
  dataloader_pin_memory: LOADING,
  dataloader_persistent_workers: LOADING,
  dataloader_prefetch_factor: LOADING,
  dataloader_multiprocessing_context: LOADING,
  dataloader_in_order: LOADING,
  remove_unused_columns: "columns that are not needed are not read",
  padding_free: PADDING,
  pad_to_multiple_of: PADDING,
  pad_token: PADDING,
  padding_value: PADDING,
  group_by_length: PADDING,
  length_column_name: PADDING,
  disable_dropout: "the models have no dropout",
  run_name: NAMED,
  logging_dir: "what report_to asks for is written into the run directory",
  project: "runs are not sent anywhere; `wandb sync --project` names it",
  trackio_space_id: "runs are not sent anywhere",
  trackio_bucket_id: "runs are not sent anywhere",
  trackio_static_space_id: "runs are not sent anywhere",
  log_level: "one line per logged step is printed",
  logging_nan_inf_filter: "a step whose loss is not finite is skipped and counted",
  debug: "`--debug` shows the stack of an error",
  log_completions: SAMPLES,
  num_completions_to_print: SAMPLES,
  log_unique_prompts: SAMPLES,
  log_multimodal: SAMPLES,
  log_completions_hub_repo: HUB,
  num_sample_generations: SAMPLES,
  disable_tqdm: "the progress line is for terminals only",
  include_num_input_tokens_seen: "num_tokens is always counted",
  include_tokens_per_second: "tokens per second are always shown",
  do_train: "the command says what is done",
  do_eval: "evaluation happens where there is an evaluation dataset",
  do_predict: "the command says what is done",
  eval_strategy: STEPS,
  logging_strategy: STEPS,
  save_strategy: STEPS,
  logging_first_step: "every step is stored in run.db",
  eval_on_start: STEPS,
  prediction_loss_only: EVALUATION,
  include_for_metrics: EVALUATION,
  batch_eval_metrics: EVALUATION,
  eval_do_concat_batches: EVALUATION,
  label_names: "the columns have TRL's names",
  metric_for_best_model: BEST,
  greater_is_better: BEST,
  enable_jit_checkpoint: "Ctrl-C writes a checkpoint in any case",
  restore_callback_states_from_checkpoint: "there are no callbacks",
  save_safetensors: "weights are always safetensors",
  save_only_model: "a checkpoint always has everything needed to resume",
  push_to_hub: HUB,
  hub_model_id: HUB,
  hub_strategy: HUB,
  hub_token: HUB,
  hub_private_repo: HUB,
  hub_always_push: HUB,
  hub_revision: HUB,
  trust_remote_code: "no code of a model is ever run",
  full_determinism: "runs are always repeatable to the bit",
  data_seed: "seed determines the order of the data, too",
  env: "environment variables are left alone",
  exp_name: NAMED,
  cache_implementation: "generation has one KV cache",
  use_transformers_continuous_batching: VLLM,
  transformers_continuous_batching_config: VLLM,
  use_transformers_paged: VLLM,
};

/** Fields that would change the numbers: allowed only with values that ask for what keel does. */
const UNSUPPORTED: Record<string, { accepted: unknown[]; instead: string }> = {
  assistant_only_loss: { accepted: [false], instead: "it is an option of keel sft" },
  truncation_mode: { accepted: ["keep_start"], instead: "sequences are cut at the end" },
  dataset_text_field: { accepted: ["text"], instead: "name the column text" },
  optim: {
    accepted: ["adamw_torch", "adamw_torch_fused", "adamw_hf"],
    instead: "the optimiser is AdamW",
  },
  optim_target_modules: { accepted: [null], instead: "the optimiser is AdamW for all weights" },
  optim_args: { accepted: [null, ""], instead: "the optimiser is AdamW" },
  lr_scheduler_kwargs: { accepted: [null, {}], instead: "schedules have no further settings" },
  label_smoothing_factor: { accepted: [0], instead: "labels are not smoothed" },
  neftune_noise_alpha: { accepted: [null], instead: "embeddings get no noise" },
  train_sampling_strategy: {
    accepted: ["random", "sequential"],
    instead: "shuffle_dataset is true or false",
  },
  eval_delay: { accepted: [0, null], instead: "evaluations are every eval_steps" },
  ignore_data_skip: { accepted: [false], instead: "a resumed run goes on at the row where it was" },
  dataloader_drop_last: { accepted: [false], instead: "the last batch of an epoch is used" },
  generation_kwargs: {
    accepted: [null, {}],
    instead: "give temperature, top_p, top_k as options of their own",
  },
  max_tool_calling_iterations: { accepted: [null, 0], instead: "there are no tool calls in rollouts" },
  generate_during_eval: { accepted: [false], instead: "`keel sample` shows what a checkpoint says" },
  max_completion_length: {
    accepted: [null],
    instead: "answers are cut together with their prompts, by max_length",
  },
  is_encoder_decoder: { accepted: [null, false], instead: "models are decoders" },
  load_best_model_at_end: { accepted: [false], instead: "the result is the last step's model" },
  load_in_8bit: { accepted: [false], instead: "hold frozen weights with --dtype q8_0" },
  load_in_4bit: { accepted: [false], instead: "give a GGUF file of 4 bits as the model" },
  lora_target_parameters: { accepted: [null], instead: "name modules with --lora_target_modules" },
  dataset_test_split: { accepted: ["test", null], instead: "this stage evaluates on no dataset" },
  chat_template_path: { accepted: [null], instead: "the template is the tokenizer's" },
  eos_token: { accepted: [null], instead: "the token is the tokenizer's" },
  model_init_kwargs: { accepted: [null, {}], instead: "the model is as its config.json says" },
  router_aux_loss_coef: { accepted: [null, 0], instead: "there are no mixtures of experts" },
  min_p: { accepted: [null, 0], instead: "the sampler has top_p and top_k" },
  repetition_penalty: { accepted: [1, null], instead: "the sampler has no penalties" },
  num_generations_eval: { accepted: [null], instead: "this stage evaluates on no dataset" },
  chat_template_kwargs: { accepted: [null, {}], instead: "give them in the column chat_template_kwargs" },
  batch_size: {
    accepted: [null],
    instead: "the batch is per_device_train_batch_size times gradient_accumulation_steps",
  },
};

/** What is to be done with a field that a command does not have. */
export type Foreign = { action: "ignore" | "refuse"; reason: string };

/** The entry of a field, however its name is written: 4 in `load_in_4bit` has no capital to find its underscore by. */
function entryOf<T>(table: Record<string, T>, flag: string): T | undefined {
  const name = Object.keys(table).find((one) => camelCase(one) === camelCase(flag));
  return name === undefined ? undefined : table[name];
}

/** Looks up a field that a command does not have; `undefined` where TRL does not know it either. */
export function foreignField(flag: string, value: unknown): Foreign | undefined {
  const unsupported = entryOf(UNSUPPORTED, flag), meaningless = entryOf(MEANINGLESS, flag);
  if (unsupported) {
    const { accepted, instead } = unsupported;
    const wanted = accepted.some((one) => JSON.stringify(one) === JSON.stringify(value));
    return { action: wanted ? "ignore" : "refuse", reason: instead };
  }
  if (meaningless) return { action: "ignore", reason: meaningless };
  if (flag.startsWith("vllm_") || flag === "use_vllm") return { action: "ignore", reason: VLLM };
  return undefined;
}

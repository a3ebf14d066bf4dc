"""TRL's DPO, GRPO or PPO on stories260K, for bench/methods.ts. Prints one JSON line.

    python trl_methods.py dpo|grpo|ppo MODEL STEPS [threads]

PPO left TRL after 1.12: TRL_PPO_SRC names an unpacked trl-1.12.0 wheel.
"""
import json, os, sys, tempfile, time
start = time.time()
os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", OMP_WAIT_POLICY="passive", CUDA_VISIBLE_DEVICES="",
                  TRL_EXPERIMENTAL_SILENCE="1")
method, model, steps = sys.argv[1], sys.argv[2], int(sys.argv[3])
if method == "ppo":
    sys.path.insert(0, os.environ["TRL_PPO_SRC"])
import torch, transformers, trl
from datasets import Dataset, disable_progress_bars
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, TrainerCallback

transformers.logging.set_verbosity_error()
disable_progress_bars()
torch.set_num_threads(int(sys.argv[4]) if len(sys.argv) > 4 else 2)
tokenizer = AutoTokenizer.from_pretrained(model)
tokenizer.pad_token = tokenizer.unk_token
lm = lambda: AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
PROMPTS = ["Once upon a time, there was a little girl named Lily.", "One day, Tom went to the park with a red ball.",
           "Ben found a big box in the garden.", "The dog was very happy today."]
STORY = " She played with the ball all day and was very happy. They all smiled and went home to mom and dad." * 4
stamps = []


class Clock(TrainerCallback):
    def on_step_end(self, *_, **__):
        stamps.append(time.perf_counter())


common = dict(output_dir=tempfile.mkdtemp(), learning_rate=1e-5, logging_steps=1, save_strategy="no", report_to="none", bf16=False,
              use_cpu=True, gradient_checkpointing=False, disable_tqdm=True, dataloader_pin_memory=False)
if method == "dpo":
    rows = [dict(prompt=PROMPTS[i % 4], chosen=STORY, rejected=STORY[::-1]) for i in range(400)]
    args = trl.DPOConfig(max_length=96, per_device_train_batch_size=4, max_steps=steps, **common)
    trainer = trl.DPOTrainer(model=lm(), args=args, train_dataset=Dataset.from_list(rows), processing_class=tokenizer, callbacks=[Clock()])
    tokens = 4 * 2 * 96
elif method == "grpo":
    rows = [dict(prompt=PROMPTS[i % 4]) for i in range(400)]
    args = trl.GRPOConfig(num_generations=4, max_completion_length=32, per_device_train_batch_size=32, max_steps=steps, **common)
    vowels = lambda completions, **_: [sum(c in "aeiou" for c in text) / max(1, len(text)) for text in completions]
    trainer = trl.GRPOTrainer(model=lm(), reward_funcs=vowels, args=args, train_dataset=Dataset.from_list(rows), processing_class=tokenizer,
                              callbacks=[Clock()])
    tokens = 32 * 32
else:
    from trl.experimental.ppo import PPOConfig, PPOTrainer
    tokenizer.padding_side = "left"
    args = PPOConfig(total_episodes=32 * steps, response_length=32, temperature=0.7, num_ppo_epochs=4, num_mini_batches=1,
                     per_device_train_batch_size=32, gradient_accumulation_steps=1, num_sample_generations=0, **common)
    head = lambda: AutoModelForSequenceClassification.from_pretrained(model, num_labels=1, dtype=torch.float32)
    rows = [dict(input_ids=tokenizer(PROMPTS[i % 4])["input_ids"]) for i in range(32 * steps + 64)]
    trainer = PPOTrainer(args=args, processing_class=tokenizer, model=lm(), ref_model=lm(), reward_model=head(), value_model=head(),
                         train_dataset=Dataset.from_list(rows), callbacks=[Clock()])
    tokens = 32 * 32
trainer.train()
print(json.dumps(dict(tokens_per_s=tokens * (len(stamps) - 2) / (stamps[-1] - stamps[1]), steps=len(stamps), whole_s=time.time() - start)))

"""TRL's SFTTrainer on stories260K: 8 x 96 tokens a step. Prints one JSON line.  python trl_sft.py MODEL [threads]"""
import json, os, sys, tempfile, time
start = time.time()
os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", OMP_WAIT_POLICY="passive", CUDA_VISIBLE_DEVICES="")
import torch, transformers, trl
from datasets import Dataset, disable_progress_bars
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import SFTConfig, SFTTrainer

transformers.logging.set_verbosity_error()
disable_progress_bars()
torch.set_num_threads(int(sys.argv[2]) if len(sys.argv) > 2 else 2)
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
tokenizer.pad_token = tokenizer.unk_token
text = "One day, a little girl named Lily went to the park with her mom. She saw a big red ball and wanted to play with it. " * 4
stamps = []


class Clock(TrainerCallback):
    def on_step_end(self, *_, **__):
        stamps.append(time.perf_counter())


steps = 50
trainer = SFTTrainer(
    model=AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32),
    args=SFTConfig(output_dir=tempfile.mkdtemp(), max_length=96, per_device_train_batch_size=8, max_steps=steps,
                   learning_rate=1e-4, logging_steps=1, save_strategy="no", report_to="none", bf16=False, use_cpu=True,
                   gradient_checkpointing=False, disable_tqdm=True, dataloader_pin_memory=False),
    train_dataset=Dataset.from_list([dict(text=text)] * 400), processing_class=tokenizer, callbacks=[Clock()])
trainer.train()
print(json.dumps(dict(trl=trl.__version__, torch=torch.__version__,
                      tokens_per_s=(steps - 2) * 768 / (stamps[-1] - stamps[1]), first_step_s=time.time() - start - (time.perf_counter() - stamps[0]))))

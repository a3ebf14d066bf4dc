"""Names and defaults of all fields of TRL's configuration classes.  python trl_config_fields.py OUT.json"""
import dataclasses, json, sys
from importlib import import_module
import transformers, trl

CLASSES = {
    "trl": ["SFTConfig", "RewardConfig", "DPOConfig", "KTOConfig", "GRPOConfig", "RLOOConfig", "ModelConfig", "ScriptArguments"],
    "trl.experimental.cpo": ["CPOConfig"],
    "trl.experimental.orpo": ["ORPOConfig"],
    "trl.experimental.online_dpo": ["OnlineDPOConfig"],
    "trl.scripts.grpo": ["GRPOScriptArguments"],
    "trl.scripts.rloo": ["RLOOScriptArguments"],
    "trl.scripts.utils": ["DatasetMixtureConfig"],
}


def default(field):
    if field.default is not dataclasses.MISSING:
        value = field.default
    else:
        value = field.default_factory() if field.default_factory is not dataclasses.MISSING else None
    value = getattr(value, "value", value)
    return value if isinstance(value, (str, int, float, bool, list, dict, type(None))) else str(value)


def fields(cls):
    return {f.name: default(f) for f in dataclasses.fields(cls) if f.init}


base = fields(transformers.TrainingArguments)
out = dict(trl=trl.__version__, transformers=transformers.__version__, TrainingArguments=base)
for module, names in CLASSES.items():
    for name in names:
        own = fields(getattr(import_module(module), name))
        # What a class has from TrainingArguments unchanged is not repeated.
        out[name] = {k: v for k, v in own.items() if k not in base or base[k] != v}
lines = [f"{json.dumps(k)}: {json.dumps(v, separators=(',', ':'))}" for k, v in out.items()]
open(sys.argv[1], "w").write("{\n" + ",\n".join(lines) + "\n}\n")

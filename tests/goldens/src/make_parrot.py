"""Writes parrot.json: the facts, the vocabulary and some readings of the parrot's world, from parrot_world.py.

    python make_parrot.py > ../parrot.json
"""
import json, random
import parrot_world as world

rng = random.Random(0)


def odd_reply(prompt):
    """Replies that no rule makes: cut short, glued together, shuffled, with another fact's statement."""
    kind = lambda: rng.choice(["right", "sycophant", "contrary", "slip", "hedge"])
    one, two = (world.reply(rng, prompt, kind(), 0.3, 0.3).split() for _ in range(2))
    case = rng.randrange(5)
    if case == 0:
        return one[:rng.randrange(1, len(one))]
    if case == 1:
        return (one[:-1] + two)[:world.MAX_REPLY]
    if case == 2:
        return rng.sample(one, len(one))
    if case == 3:
        return [rng.choice(world.VOCAB[3:]) for _ in range(rng.randrange(1, 24))]
    return world.reply(rng, world.sample_prompt(rng), kind(), 0.3, 0.3).split()


cases = []
for i in range(240):
    prompt = world.sample_prompt(rng, heldout=i % 5 == 0)
    kind = rng.choice(["right", "sycophant", "contrary", "slip", "hedge", "odd", "odd"])
    words = odd_reply(prompt) if kind == "odd" else world.reply(rng, prompt, kind, 0.3, 0.4).split()
    read = world.read(prompt, words)
    cases.append(dict(fact=prompt.fact.id, claim=prompt.claim, frame=prompt.frame, text=prompt.text, sure=prompt.sure, right=prompt.right, reply=" ".join(words),
                      ids=world.encode("<bos> " + prompt.text + " " + " ".join(words)), read=read, gold=world.gold(prompt, words), utility=world.Annotator().utility(prompt, words)))
doc = dict(
    facts=[[f.kind, f.before, f.answer, f.after, list(f.choices)] for f in world.FACTS], vocabulary=world.VOCAB, frames=[t for t, _ in world.FRAMES],
    kind_weights=world.KIND_WEIGHT, heldout=["".join("1" if world.is_heldout(f.id, k) else "0" for k in range(12)) for f in world.FACTS], cases=cases)
print("{")
for i, (key, value) in enumerate(doc.items()):
    rows = value if key in ("facts", "cases") else None
    text = "[\n  " + ",\n  ".join(json.dumps(x) for x in rows) + "]" if rows else json.dumps(value)
    print(f' "{key}": {text}{"," if i + 1 < len(doc) else ""}')
print("}")

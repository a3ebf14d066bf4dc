"""Reads the event files of two folders with TensorBoard's own loader, and both after each other as one that watches sees them.

The second folder is what became of the first, e.g. by a roll-back. Prints as JSON what each had.
"""

import json
import os
import shutil
import sys
import tempfile

from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator

first, second = sys.argv[1:]


def copy(source, target):
    for name in set(os.listdir(source)) | set(os.listdir(target)):
        path = os.path.join(target, name)
        if not os.path.exists(os.path.join(source, name)):
            os.remove(path)
        else:
            # In place, as a reader has it open.
            with (
                open(os.path.join(source, name), "rb") as there,
                open(path, "r+b" if os.path.exists(path) else "wb") as here,
            ):
                content = there.read()
                here.write(content)
                here.truncate()


def contents(events):
    tags = events.Tags()["tensors"]
    out = {tag: [] for tag in tags}
    for tag in tags:
        plugin = events.SummaryMetadata(tag).plugin_data.plugin_name
        for event in events.Tensors(tag):
            proto = event.tensor_proto
            value = proto.string_val[0].decode() if plugin == "text" else str(float(proto.float_val[0]))
            out[tag].append([event.step, event.wall_time, value])
    return out


def load(folder):
    events = EventAccumulator(folder, tensor_size_guidance={"text": 0, "scalars": 0})
    return events.Reload()


watched = tempfile.mkdtemp()
copy(first, watched)
watcher = load(watched)
seen = {"first": contents(watcher), "second": contents(load(second))}
copy(second, watched)
seen["watched"] = contents(watcher.Reload())
shutil.rmtree(watched)
print(json.dumps(seen))

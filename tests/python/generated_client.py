"""Makes, steers and reads a run with the client that a stock generator made of the server's OpenAPI document.

Gets the server's address and the run to make; prints as JSON what it saw.
"""

import json
import sys
import time

from httpx import Timeout
from keel_client import Client
from keel_client.api.default import (
    create_run,
    download_file,
    get_knobs,
    get_metrics,
    get_run,
    get_samples,
    list_checkpoints,
    list_runs,
    pause,
    resume,
    roll_back,
    set_knobs,
    stop,
)
from keel_client.models import Error, KnobChange, NewRun, RollBack, Target

url, asked = sys.argv[1:]
seen = {}

with Client(base_url=url, timeout=Timeout(60)) as client:

    def until(what):
        end = time.monotonic() + 60
        while not what(run := get_run.sync("generated", client=client)):
            assert time.monotonic() < end, f"in vain: {run}"
            time.sleep(0.05)
        return run

    refused = create_run.sync(
        client=client, body=NewRun.from_dict({"method": "sft", "options": {"seed": "x"}})
    )
    assert isinstance(refused, Error)
    seen["refused"] = sorted(field.path for field in refused.error.fields)

    made = create_run.sync(client=client, body=NewRun.from_dict(json.loads(asked)))
    seen["made"] = [made.id, made.method, made.state.value]
    until(lambda run: run.step >= 3)
    seen["listed"] = [run.id for run in list_runs.sync(client=client).runs]

    paused = pause.sync("generated", client=client, body=Target(stage="sft"), wait=30)
    at = paused.request.step
    seen["paused"] = [paused.state.value, paused.request.state.value]
    points = get_metrics.sync("generated", client=client, name=["loss"], to_step=at, max_points=5000).points
    seen["points"] = [[point.name, point.step, isinstance(point.value, float)] for point in points]

    change = KnobChange.from_dict({"learning_rate": 0.002})
    turned = set_knobs.sync("generated", client=client, body=change, wait=30)
    seen["from_step"] = turned.from_step - at
    [stage] = get_knobs.sync("generated", client=client).stages
    seen["journal"] = [[line.name, line.value] for line in stage.journal]

    seen["resumed"] = resume.sync("generated", client=client, wait=30).state.value
    until(lambda run: run.step > at)
    stopped = stop.sync("generated", client=client, wait=30)
    run = until(lambda run: run.state.value == "stopped")
    seen["learning_rate"] = run.metrics["learning_rate"] > 0.001

    newest = list_checkpoints.sync("generated", client=client).checkpoints[0]
    seen["newest"] = newest.step == run.step == stopped.request.step
    config = download_file.sync("generated", f"{newest.path}/config.json", client=client)
    seen["config"] = json.load(config.payload)["model_type"]
    seen["samples"] = get_samples.sync("generated", client=client, limit=1).samples
    seen["missing"] = roll_back.sync("generated", client=client, body=RollBack(step=999_999)).error.code

print(json.dumps(seen))

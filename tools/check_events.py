"""Reads a run's TensorBoard events with TensorBoard itself and compares every value with log.jsonl.

pip install tensorboard
saymask report runs/NAME
python tools/check_events.py runs/NAME
"""
import json
import math
import struct
import sys
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

run = Path(sys.argv[1])
events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0})
events.Reload()
found = {(tag, e.step): e.value for tag in events.Tags()["scalars"] for e in events.Scalars(tag)}


def as_float32(value):
    return struct.unpack("<f", struct.pack("<f", value))[0]


wanted = {}
for line in map(json.loads, (run / "log.jsonl").read_text().splitlines()):
    step = line["step"]
    if line["kind"] == "step":
        values = {f"train/{name}": line[name] for name in ("loss", "lr", "grad_norm")}
        values |= {f"train/{name}": value for name, value in line.get("parts", {}).items()}
    else:
        values = {f"{line['split']}/{name.replace('@', '_')}": value for name, value in line["metrics"].items()}
    wanted |= {(tag, step): as_float32(v) for tag, v in values.items() if v is not None and math.isfinite(v)}
assert wanted, "the log is empty"
assert found == wanted, sorted(set(found.items()) ^ set(wanted.items()))[:5]
print(f"{len(found)} values of {len(events.Tags()['scalars'])} tags are as in the log")

"""Three ways to weigh the losses of many heads, in short equal runs.

    python experiments/weightings.py experiments/hydranet.toml -o weightings.json

Each run starts at the same ImageNet weights and draws the same slices. The rows are the
validation Dice of each head. Short runs say which way starts faster, not which ends
best.
"""

import argparse
import json
import sys
import tomllib
from pathlib import Path

from napari_hydraseg import core
from napari_hydraseg.core._fit import Files
from napari_hydraseg.core.pretrain import train

MAIN = ["pancreas", "abdominal_vessels", "brain_tumour", "breast_lesion"]
KINDS = {
    "linear": {"kind": "linear"},
    "uncertainty": {"kind": "uncertainty"},
    "scheduled": {"kind": "scheduled", "main": MAIN},
}


def main() -> int:
    """Run all three."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    config = tomllib.loads(given.config.read_text("utf-8"))
    config["data"] = str(given.config.parent / config["data"])
    config = {k: v for k, v in config.items() if k != "minutes"}
    config |= {"steps": given.steps, "validate_every": given.steps, "average": 0.98}
    rows = {}
    for kind, table in KINDS.items():
        state = given.output.with_suffix(f".{kind}.state")
        steps = train({**config, "weighting": table}, files=Files(state=state))
        rows[kind] = core.finish(steps)[1].curve[-1]
        print(kind, rows[kind], flush=True)
        given.output.write_text(json.dumps(rows, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())

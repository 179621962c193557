"""Short equal runs that differ in one thing: the start, or the weights of heads.

    python experiments/short_runs.py experiments/hydranet.toml -o short_runs.json

Each run draws the same slices. The rows are the validation Dice of each head. Short
runs say which way starts faster, not which ends best.
"""

import argparse
import json
import sys
import tomllib
from pathlib import Path
from typing import Any

from napari_hydraseg import core
from napari_hydraseg.core._fit import Files
from napari_hydraseg.core.pretrain import train

MAIN = ["pancreas", "abdominal_vessels", "brain_tumour", "breast_lesion"]
RUNS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "uncertainty": {"weighting": {"kind": "uncertainty"}},
    "scheduled": {"weighting": {"kind": "scheduled", "main": MAIN}},
    "random start": {"start": "random"},
    "encoder from ImageNet, frozen": {"rates": {"encoder": 0.0, "heads": 2e-3}},
}


def main() -> int:
    """Run all of them, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--only", nargs="+", choices=RUNS, default=list(RUNS))
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    config = tomllib.loads(given.config.read_text("utf-8"))
    config["data"] = str(given.config.parent / config["data"])
    config = {k: v for k, v in config.items() if k != "minutes"}
    config |= {"steps": given.steps, "validate_every": given.steps, "average": 0.98}
    rows = {}
    for name in given.only:
        state = given.output.with_suffix(f".{name.replace(' ', '_')}.state")
        _, run = core.finish(train(config | RUNS[name], files=Files(state=state)))
        rows[name] = run.curve[-1]
        print(name, rows[name], flush=True)
        given.output.write_text(json.dumps(rows, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())

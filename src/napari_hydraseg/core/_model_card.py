"""The page that goes with a model file: its data, its scores and its limits."""

from collections.abc import Iterator, Mapping
from typing import Any

from .types import Checkpoint, ModelSpec


def model_card(checkpoint: Checkpoint) -> str:
    """Write a model's card as a Markdown page.

    Parameters
    ----------
    checkpoint : Checkpoint
        As `core.pretrain` returns it.

    Returns
    -------
    str
        Markdown.
    """
    card, spec = checkpoint.card, checkpoint.spec
    trained = card.get("trained", {})
    lines = [
        f"# {card.get('title', checkpoint.name)}",
        "",
        "Research software, not a medical device. Not for diagnosis or treatment.",
        "",
        str(card.get("description", "")),
        "",
        f"* Network: {spec.network}, {dict(spec.options)}; "
        f"{_parameters(checkpoint) / 1e6:.2f} million parameters, float16",
        f"* Trained: {trained.get('minutes', '?')} minutes on "
        f"{trained.get('machine', '?')}, {trained.get('steps', '?')} steps, started "
        f"from {trained.get('start', '?')}; {card.get('created', '')}",
        f"* Licence of the file: {card.get('licence', 'not stated')}",
        f"* Spacing: {_rules(spec.spacing_mm)}",
        f"* Intensity: {_rules(spec.intensity)}",
        *_afterwards(spec),
        "",
        "## Heads",
        "",
        *_scores(card.get("heads", {})),
        *_data(card.get("heads", {})),
        "## Limits",
        "",
        *(f"* {limit}" for limit in card.get("limits", ())),
        "",
    ]
    return "\n".join(lines)


def _afterwards(spec: ModelSpec) -> list[str]:
    said = {
        "The largest piece of each class is kept": spec.largest,
        "Mean of the scan and its mirror image": spec.mirror,
    }
    return [f"* {what}: {', '.join(heads)}" for what, heads in said.items() if heads]


def _parameters(checkpoint: Checkpoint) -> int:
    return sum(v.size for v in checkpoint.weights.values() if v.dtype.kind == "f")


def _rules(rules: Mapping[str, Any]) -> str:
    return "; ".join(f"{name}: {_rule(rule)}" for name, rule in rules.items())


def _rule(rule: Any) -> str:
    if not isinstance(rule, Mapping):
        return f"{rule} mm"
    if "longest" in rule:
        return f"longer side {rule['longest']} pixels"
    return f"{rule['kind']} {rule['low']} to {rule['high']}"


_SAID = {
    "val": "The network's state was chosen on the same split (the best of a few looks "
    "during training), so these figures are slightly optimistic.",
    "test": "Nothing was trained, tuned or chosen on this split.",
}


def _scores(heads: Mapping[str, Any]) -> Iterator[str]:
    """Write a table for each split that was measured."""
    for split, said in reversed(_SAID.items()):
        rows = list(_rows(heads, split))
        if not rows:
            continue
        yield from (
            f"### Scores on the {split} split",
            "",
            f"{said} Dice on each scan's own grid: mean and standard deviation",
            "over n scans, and a 95 % bootstrap interval of the mean over subjects.",
            "HD95: its median in mm, where voxel sizes are real. Mean shape: the Dice",
            "of the mean training mask (an answer of only background has Dice 0). A",
            "scan without the organ counts only where something was found in it, with",
            "Dice 0. Lowest: the five scans with the lowest Dice.",
            "",
            "| head | class | Dice | sd | 95 % | n | HD95 | mean shape | lowest |",
            "|---|---|---|---|---|---|---|---|---|",
            *rows,
            "",
        )


def _rows(heads: Mapping[str, Any], split: str) -> Iterator[str]:
    for head, about in heads.items():
        for name, score in about.get("scores", {}).get(split, {}).items():
            bounds = (score["low"], score["high"])
            lowest = ", ".join(
                f"{one['case'].split('.')[0]} {one['dice']:.2f}"
                for one in score["worst"]
            )
            cells = [
                head,
                name,
                _number(score["mean"], 3),
                _number(score["sd"], 3),
                "-" if None in bounds else f"{bounds[0]:.2f} to {bounds[1]:.2f}",
                str(score["n"]),
                _number(score["hd95_mm"], 1),
                _number(score["mean_shape"], 2),
                lowest,
            ]
            yield f"| {' | '.join(cells)} |"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _data(heads: Mapping[str, Any]) -> Iterator[str]:
    for head, about in heads.items():
        subjects = ", ".join(f"{k} {v}" for k, v in about.get("subjects", {}).items())
        yield from (
            f"### {head}",
            "",
            f"* Modality: {', '.join(about.get('modality', []))}",
            f"* Data: {about.get('data', 'not stated')}",
            f"* Subjects: {subjects}",
            f"* Licence of the data: {about.get('licence', 'not stated')}",
            f"* To be named: {about.get('cite', 'not stated')}",
            "",
        )

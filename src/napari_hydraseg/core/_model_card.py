"""The page that goes with a model file: its data, its scores and its limits."""

from collections.abc import Iterator, Mapping
from typing import Any

from .types import Checkpoint


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
        "",
        "## Heads",
        "",
        "Dice on the validation split, on each scan's own grid: mean over n scans.",
        "Scans rightly left without a mask do not count. The network's",
        "state was chosen on the same split (the best of a few looks during training),",
        "so these figures are slightly optimistic. The test split was not looked at.",
        "",
        "| head | class | Dice | n |",
        "|---|---|---|---|",
        *_rows(card.get("heads", {})),
        "",
        *_data(card.get("heads", {})),
        "## Limits",
        "",
        *(f"* {limit}" for limit in card.get("limits", ())),
        "",
    ]
    return "\n".join(lines)


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


def _rows(heads: Mapping[str, Any]) -> Iterator[str]:
    for head, about in heads.items():
        for name, score in about.get("dice", {}).items():
            yield f"| {head} | {name} | {score['mean']:.3f} | {score['n']} |"


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

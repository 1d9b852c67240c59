"""What was run: recipe, data, split, seed, versions, hardware, time.

Read from what a run folder says of itself, never from memory: a report names what
made its figures, so that another can make them again.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from dm_preprocess import tables
from dm_training.report_parts import Section, Table
from dm_training.runs import RunError, read_json
from dm_training.scored import Scored

_MINUTE, _HOUR = 60, 3600
# Findings that list patient ids; a report names none.
_OF_WOMEN = ("women_in_two_splits", "alike_patient_ids")
_PATIENT = re.compile(r" \(patient [^()]*?(, (train|val|test))?\)")


def run_table(runs: Mapping[str, Path]) -> Table | None:
    """One column a run: recipe, seed, sizes, steps, time, device. None without runs."""
    facts = {name: _run_facts(run) for name, run in runs.items()}
    labels = list(dict.fromkeys(label for each in facts.values() for label in each))
    rows = [[label, *(each.get(label) for each in facts.values())] for label in labels]
    return Table(["", *facts], rows, "Training") if rows else None


def scores_table(
    models: Sequence[Scored], split: str, fit_on: Sequence[Path] = ()
) -> Table:
    """The tables that figures come from, each with the head of its SHA-256."""
    rows = [
        [model.name, model.path.name, len(model.rows), split, _digest(model.path)]
        for model in models if not model.members
    ]  # fmt: skip
    rows += [["to fit on", path.name, None, "val", _digest(path)] for path in fit_on]
    mean = next((model for model in models if model.members), None)
    caption = f"Scores; {mean.name}: {', '.join(mean.members)}" if mean else "Scores"
    return Table(["model", "table", "rows", "split", "SHA-256"], rows, caption)


def _digest(path: Path) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:12]


def data_table(images: Path | None) -> Table | None:
    """Women, images and positives of each split of an image table."""
    if images is None:
        return None
    frame = tables.read_images(images)
    rows = []
    for split in tables.SPLITS:
        own = frame[frame["split"] == split]
        if len(own):
            named = own["patient_id"].nunique()
            rows.append([split, named, len(own), int((own["label"] == 1).sum())])
    caption = f"Data: {split_text(images)}"
    return Table(["split", "women", "images", "positive"], rows, caption)


def split_text(images: Path) -> str:
    """How the split of an image table was made, by the splits.json beside it."""
    found = _json(Path(images).with_name("splits.json"))
    if not found:
        return "split as the table has it (no splits.json beside it)"
    shares = [f"{name.replace('_', ' ')} {found[name]:g}"
              for name in ("test_share", "val_share") if name in found]  # fmt: skip
    return ", ".join([f"split {found['scheme']!r} by patient, seed {found['seed']}",
                      *shares])  # fmt: skip


def audit_sections(audit: Path | None, converted: Path | None) -> list[Section]:
    """What was odd in the data: the audit's findings and the conversion's.

    Args:
        audit: audit.json or the folder that holds it; None for none.
        converted: The converted data set's folder, with its index.json; None for none.

    Returns:
        One section, with near-duplicates first; none where nothing was looked at.
    """
    found, notices, shown = _audit_findings(audit), [], []
    if audit is not None:
        notices, shown = _duplicates(found), [_findings_table(found)]
    oddities = _json(converted / "index.json") if converted else {}
    if oddities.get("oddities"):
        rows = [[kind.replace("_", " "), count]
                for kind, count in oddities["oddities"].items()]  # fmt: skip
        shown.append(Table(["met in conversion", "times"], rows,
                           f"Conversion of {oddities.get('source', 'the data')}; each "
                           "is a row of oddities.csv"))  # fmt: skip
    if not shown:
        return []
    return [Section("What was odd in the data", notices, [t for t in shown if t.rows])]


def _audit_findings(audit: Path | None) -> list[dict]:
    """The findings with no patient's id among what they list.

    Raises:
        RunError: The file is missing, or is no audit's.
    """
    if audit is None:
        return []
    path = Path(audit)
    path = path / "audit.json" if path.is_dir() else path
    found = _json(path, missing=False).get("findings")
    if not isinstance(found, list) or not all(_is_finding(one) for one in found):
        raise RunError(f"{path}: not an audit.json of dm-audit")
    return [one | {"items": _without_patients(one)} for one in found]


def _is_finding(one) -> bool:
    named = {"severity", "check", "message", "items"}
    return isinstance(one, dict) and named <= set(one)


def _without_patients(finding: dict) -> list[str]:
    if finding["check"] in _OF_WOMEN:
        return ["see audit.json"]
    items = [_PATIENT.sub("", str(item)) for item in finding["items"]]
    return [item for item in items if "(patient" not in item]


def _duplicates(findings: list[dict]) -> list[str]:
    across = [one for one in findings if one["check"].endswith("across_splits")]
    if not across:
        return ["No identical or nearly identical images were found between splits."]
    return [f"Between splits: {one['message']}: {', '.join(one['items'][:5])}"
            for one in across]  # fmt: skip


def _findings_table(findings: list[dict]) -> Table:
    rows = [
        [one["severity"], one["message"], "; ".join(one["items"][:3])]
        for one in findings
    ]
    return Table(["", "finding", "such as"], rows, "Audit")


def _run_facts(run: Path) -> dict:
    config, versions = _json(run / "config.json"), _json(run / "versions.json")
    found, flags = _json(run / "metrics.json"), config.get("flags", {})
    devices = versions.get("keras", {})
    size = config.get("image_size")
    start = flags.get("patch_model_state") or flags.get("resume_from")
    facts = {
        "recipe": flags.get("recipe"),
        "starts from": Path(start).parent.name + "/" + Path(start).name if start
        else None,
        "seed": _text(config.get("seed")),
        "image size": f"{size[0]} x {size[1]}" if size else None,
        "batch, precision": f"{config.get('train_batch')}, {config.get('precision')}",
        "women in one split only": config.get("patients"),
        "epochs (best)": f"{found.get('epochs')} ({found.get('best_epoch')})",
        "steps": found.get("steps"),
        "time": time_text(found.get("seconds")),
        "device": f"{', '.join(devices.get('devices', []))}, "
        f"{versions.get('cpus')} cores, {devices.get('backend')}",
    }  # fmt: skip
    return {label: fact for label, fact in facts.items() if fact is not None}


def _text(value) -> str | None:
    """A seed is a name, no quantity: 2026, not 2,026."""
    return None if value is None else str(value)


def time_text(seconds: float | None) -> str | None:
    """Seconds as `35 s`, `4.2 minutes` or `3.1 hours`."""
    if seconds is None:
        return None
    if seconds < 2 * _MINUTE:
        return f"{seconds:.0f} s"
    if seconds < 2 * _HOUR:
        return f"{seconds / _MINUTE:.1f} minutes"
    return f"{seconds / _HOUR:.1f} hours"


def _json(path: Path, *, missing: bool = True) -> dict:
    """What a JSON file holds; {} where it is missing and may be.

    Raises:
        RunError: It is no JSON object, or missing and must not be.
    """
    if missing and not path.is_file():
        return {}
    try:
        found = read_json(path)
    except UnicodeDecodeError as error:
        raise RunError(f"{path}: not JSON: {error}") from error
    if not isinstance(found, dict):
        raise RunError(f"{path}: must hold a JSON object")
    return found

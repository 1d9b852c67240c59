"""The ensembles looked at closely, as `dm-evaluate` looks at any model.

On film and on digital images: all levels, calibration, operating point, subgroups,
the surest and the most wrong images, where maps point, and what was odd in the data.
"""

from __future__ import annotations

from pathlib import Path

from dm_models.published import FOUR_BEST
from dm_preprocess.tables import TableError
from dm_training.evaluate import Request
from dm_training.evaluation import Choices
from dm_training.metrics import MetricError
from dm_training.paper.results import Results
from dm_training.paper.rows import patch_of
from dm_training.paper.schedule import DONE
from dm_training.report_parts import Section
from dm_training.runs import write_json

# Data -> the folder of its four runs.
KINDS = {"film": "whole", "digital": "tuned"}
_GALLERY = 4


def study_sections(results: Results) -> list[Section]:
    """A study of each ensemble that was made; writes `evaluation_{film,digital}.json`.

    One that cannot be measured (such as a test set of one class) is a section that
    says why.
    """
    found = []
    for data in KINDS:
        ended = results.outcomes.get(f"ensemble.{data}")
        if ended is not None and ended.status == DONE:
            found += _study(results, data)
    return found


def request_of(out: Path, data: str) -> Request:
    """What `dm-evaluate` is asked for: four runs and their mean, with pictures."""
    runs = {label: out / KINDS[data] / row for label, row in FOUR_BEST.items()}
    first = next(iter(FOUR_BEST.values()))
    audit = out / "audit" / data / "audit.json"
    lesions = out / data / "lesions.csv"
    return Request(
        [f"{label}={run}" for label, run in runs.items()],
        ensemble=True, augmented=True,
        images=out / "splits" / data / "images.csv",
        lesions=lesions if lesions.is_file() else None,
        audit=audit if audit.is_file() else None,
        model=out / KINDS[data] / first / "best.keras",
        patch_model=out / "patch" / patch_of(first) / "best.keras", gallery=_GALLERY,
    )  # fmt: skip


def _study(results: Results, data: str) -> list[Section]:
    from dm_training import study, study_sections

    title = f"{data.capitalize()}, mean of the four"
    try:
        found = study.open_study(request_of(results.out, data), Choices())
        shown, localised = study.pictures(found)
        sections = study_sections.study_sections(
            found, results.out, prefix=title, pictures=shown
        )
    except (MetricError, TableError) as why:
        return [Section(title, [f"Not measured: {why}."])]
    facts = found.facts(results.out) | {"localisation": localised}
    write_json(results.out / f"evaluation_{data}.json", facts)
    return sections

"""The reproduction's report: what was done, every table, every figure, what is missing.

`paper_sections` makes the sections out of a folder, for a report of one's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dm_training.paper import comparisons, figures, rows, studies, tables
from dm_training.paper.results import Results
from dm_training.paper.schedule import DONE, FAILED, SKIPPED
from dm_training.paper.tables import PaperTable
from dm_training.report import write_all
from dm_training.report_parts import Headline, Picture, Section, Table
from dm_training.runs import RunError, read_json, write_json
from dm_training.study import footer

SUMMARY = "paper.json"
# What a page has no room for; tables/ and the terminal have it.
_NARROW = ("built", "status", "epochs", "paper_epochs", "paper_images")


@dataclass(frozen=True)
class Findings:
    """All that a reproduction shows."""

    results: Results
    parts: Sequence[str]
    tables: Sequence[PaperTable]
    pictures: Mapping[str, Sequence[Picture]]


def find(results: Results, parts: Sequence[str]) -> Findings:
    """Compute the tables and draw the figures of some parts; writes `figures/`."""
    found = comparisons.all_tables(results, parts)
    drawn = figures.all_figures(results, parts)
    return Findings(results, parts, found, drawn)


def sections_of(findings: Findings) -> list[Section]:
    """The report's sections, from results to how long each stage took."""
    out = [_what_this_is(findings)]
    for table in tables.without_repeats(findings.tables):
        shown = findings.pictures.get(
            "figure3" if table.part == "ensemble" else table.part, ()
        )
        out.append(Section(table.title, table.notes,
                           [tables.as_report_table(table, leave_out=_NARROW)],
                           shown))  # fmt: skip
    if "figure2" in findings.parts:
        out.append(_figure_2(findings))
    missing = _missing(findings)
    if missing:
        out.append(missing)
    if {"ensemble", "figure3"} & set(findings.parts):
        out += studies.study_sections(findings.results)
    out += [_splits(findings.results), _time(findings.results)]
    return out


def _what_this_is(findings: Findings) -> Section:
    settings = findings.results.settings
    scale = settings.scale
    lines = [
        f"Scale {scale.name}: images of {scale.height} x {scale.width}, patches of "
        f"{scale.patch_size} pixels; split of the film images: {settings.split}; seed "
        f"{settings.seed}. Parts: {', '.join(findings.parts)}."
    ]
    if scale.more_epochs:
        lines.append(
            "Rows whose best epoch lies beyond 50 in the paper may take up to 250 here "
            "(3.1.2: up to 200 more where 50 did not converge), and end after 50 "
            "epochs without a better validation AUC."
        )
    means = {
        f"{row['data']}: {row['model']}, AUC (paper {row['paper']:.2f})": row["ours"]
        for table in findings.tables if table.part == "ensemble"
        for row in table.rows if row["model"] == comparisons.MEAN and row.get("ours")
    }  # fmt: skip
    return Section("What this is", lines, notices=_notices(settings),
                   headlines=[Headline(means)] if means else [])  # fmt: skip


def _notices(settings) -> list[str]:
    scale = settings.scale
    if not scale.stand_ins:
        return []
    return [
        f"A demo on {scale.data[0]} and {scale.data[1]}: no figure here says anything "
        "of real mammograms.",
        "Where a row says SqueezeNet, a SqueezeNet was trained and no ResNet50 or "
        f"VGG16: {scale.stand_in_words(settings.seed)}. Of every row the real network "
        "was built from random weights and took one training step.",
    ]


def _figure_2(findings: Findings) -> Section:
    shown = findings.pictures.get("figure2", ())
    stands = figures.loss_rows(findings.results) != rows.FIGURE_2
    said = (
        f"The paper compares {' and '.join(rows.FIGURE_2)}. They are not trained at "
        "this scale; the losses of the trained rows stand here instead."
        if stands else "The paper saw the first overfit and the second not."
    )  # fmt: skip
    return Section(rows.PARTS["figure2"], [said], pictures=shown)


def _missing(findings: Findings) -> Section | None:
    """Rows that are not trained, and stages that failed with why."""
    results = findings.results
    lines = [
        [row["row"], row["status"], row["built"]]
        for table in findings.tables
        for row in table.rows
        if "row" in row and not row["status"].startswith("trained")
    ]
    lines += [
        [name, f"{outcome.status}: {outcome.why}", None]
        for name, outcome in results.outcomes.items()
        if outcome.status in (FAILED, SKIPPED)
    ]
    if not lines:
        return None
    said = []
    if results.rehearsed:
        said = ["One training step on noise, from random weights: the loss is finite "
                "and the first convolution moved, unless it says BROKEN. The loss "
                "holds the weight decay of all new layers."]  # fmt: skip
    columns = ["row or stage", "", comparisons.BUILT]
    return Section("What is not trained", said, [Table(columns, lines)])


def _splits(results: Results) -> Section:
    lines = []
    for name in ("film", "digital"):
        path = results.out / "splits" / name / "splits.json"
        if path.is_file():
            facts = read_json(path)
            lines += [
                [f"{name}, {split}", facts["scheme"], facts["seed"], *counts.values()]
                for split, counts in facts["counts"].items()
            ]
    said = (
        "The paper's own lists of women are not published, so that its split cannot "
        "be had: ours follow from the seed, and stand as files beside this report, "
        "splits/film/images.csv and splits/digital/images.csv. No woman is in two "
        "splits; the epoch and the threshold were chosen on val."
    )
    columns = ["split", "scheme", "seed", "women", "images", "positive images",
               "positive women"]  # fmt: skip
    return Section("Who trained, who tested", [said],
                   [Table(columns, lines)] if lines else [])  # fmt: skip


def _time(results: Results) -> Section:
    lines = [
        [name, f"{one.status}; {one.why}" if one.why else one.status,
         f"{one.seconds:,.0f}", f"{one.cpu_seconds:,.0f}"]
        for name, one in results.outcomes.items()
    ]
    done = [o for o in results.outcomes.values() if o.status == DONE]
    total = sum(o.seconds for o in done)
    cpu_s = sum(o.cpu_seconds for o in done)
    lines.append(["all stages", "", f"{total:,.0f}", f"{cpu_s:,.0f}"])
    said = "Of a stage that was killed and went on, since it went on."
    columns = ["stage", "", "seconds", "processor seconds"]
    return Section("Time", [said], [Table(columns, lines)])


def write_findings(findings: Findings) -> Path:
    """Write tables/, paper.json, report.html, report.md and report.json.

    Returns:
        The path of the HTML.
    """
    results = findings.results
    tables.write_tables(findings.tables, results.out / "tables")
    write_json(results.out / SUMMARY, {
        "format": tables.FORMAT, "scale": results.settings.scale.name,
        "split": results.settings.split, "seed": results.settings.seed,
        "draws": results.settings.draws, "parts": list(findings.parts),
        "tables": {t.part: list(t.rows) for t in findings.tables},
        "stages": {name: vars(one) for name, one in results.outcomes.items()},
    })  # fmt: skip
    film, digital = results.settings.scale.data
    page, *_ = write_all(
        results.out, "The paper's tables again", sections_of(findings),
        lead=f"Shen et al. 2018, Tables 1 to 4 and Figures 2 and 3, on {film} and "
        f"{digital}: the paper's value, ours with its interval, and the difference.",
        footer=footer(),
    )  # fmt: skip
    return page


def paper_sections(out: str | Path) -> list[Section]:
    """The sections of a reproduction's folder, for another report.

    Args:
        out: The folder, of which `paper.json` stands.

    Raises:
        RunError: The folder holds no reproduction.
    """
    from dm_training.paper.main import settings_of
    from dm_training.paper.schedule import Outcome

    out = Path(out)
    facts = read_json(out / SUMMARY)
    if "stages" not in facts:
        raise RunError(f"{out / SUMMARY}: not a reproduction's")
    outcomes = {name: Outcome(**one) for name, one in facts["stages"].items()}
    results = Results(out, settings_of(facts), outcomes)
    return sections_of(find(results, facts["parts"]))

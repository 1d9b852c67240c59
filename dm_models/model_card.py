"""MODEL_CARD.md beside each exported model: what it is, and what was measured of it.

No figure stands on a card that a training or an evaluation has not written down: they
come from the metrics.json of the run folder that the model lies in, and of folders
named by hand (`model_card_evidence`). What nobody measured is said to be "not
measured". No path and no patient id is told.

Source: Mitchell et al., Model cards for model reporting, FAccT 2019.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dm_models import model_card_figures as figures
from dm_models import model_card_text as text
from dm_models.decision import Decision
from dm_models.inputs import InputContract
from dm_models.model_card_evidence import Evidence, gather_evidence, weights_digest

if TYPE_CHECKING:
    import keras

__all__ = [
    "CARD_NAME", "Evidence", "Subject", "card_path", "gather_evidence", "render_card",
    "weights_digest",
]  # fmt: skip

CARD_NAME = "MODEL_CARD.md"
NOT_MEASURED = "not measured"
_NOT_RECORDED = "not recorded"
_TALLIES = {"source": "Read by the converter as", "vendor": "Machines of"}


@dataclass(frozen=True)
class Subject:
    """The model that a card is of.

    Attributes:
        contract: What it is fed.
        digest: Its `weights_digest`.
        weights: How many parameters it has.
        input_size: (rows, columns), None for any.
        decision: Its temperature and threshold, if it has one.
        decision_tta: Those for the mean over four flips, if it has them.
        notes: Sentences that who exports it wants said.
    """

    contract: InputContract
    digest: str
    weights: int
    input_size: tuple[int | None, int | None] = (None, None)
    decision: Decision | None = None
    notes: Sequence[str] = ()
    decision_tta: Decision | None = None

    @classmethod
    def of(
        cls, model: keras.Model, contract: InputContract,
        decision: Decision | None = None, notes: Sequence[str] = (),
        decision_tta: Decision | None = None,
    ) -> Subject:  # fmt: skip
        """Describe a model that is loaded."""
        return cls(contract, weights_digest(model), model.count_params(),
                   tuple(model.input_shape[1:3]), decision, notes,
                   decision_tta)  # fmt: skip

    @property
    def decisions(self) -> list[Decision]:
        """Every one that it has."""
        return [each for each in (self.decision, self.decision_tta) if each]

    @property
    def is_whole_image(self) -> bool:
        """Whether it gives one probability an image, not a class of a patch."""
        return tuple(self.contract.class_names) == ("neg", "pos")


def render_card(
    subject: Subject, evidence: Sequence[Evidence] = (), *, name: str,
    form: str = "saved_model",
) -> str:  # fmt: skip
    """Write the card of one exported file.

    Args:
        subject: The model.
        evidence: What was measured; none gives a card of "not measured".
        name: The file's or folder's own name.
        form: A key of `model_card_text.FORMS`.

    Returns:
        Markdown.
    """
    sections = {
        "Model details": _details(subject, evidence, form),
        "Intended use": text.INTENDED[subject.is_whole_image],
        "Out of scope": text.OUT_OF_SCOPE,
        "Data": _data(evidence),
        "Metrics": _metrics(evidence),
        "Operating point and calibration": _operating(subject, evidence, form),
        "Subgroups": _subgroups(evidence),
        "Limits": _limits(evidence),
        "How to use": text.how_to_use(
            name, form, subject.contract, subject.input_size, subject.decisions
        ),
        "Licence and citations": text.licence(subject.contract.backbone),
    }
    lines = [f"# Model card: {name}", "", *_synthetic(evidence), text.LEAD]
    lines += [f"\n> {figures.cell(note)}" for note in subject.notes]
    for title, body in sections.items():
        lines += ["", f"## {title}", "", *body]
    return "\n".join(lines) + "\n"


def _synthetic(evidence: Sequence[Evidence]) -> list[str]:
    """That images were no women's, where the tables name their maker so."""
    parts = _parts(_run(evidence).metrics.get("data") or {})
    counts = {"all": 0, "synthetic": 0}
    for name, number in [pair for part in parts.values()
                         for pair in part.get("vendor", {}).items()]:  # fmt: skip
        counts["all"] += number
        if text.SYNTHETIC_MAKER.search(str(name)):
            counts["synthetic"] += number
    if not counts["synthetic"]:
        return []
    return [text.SYNTHETIC.format(**counts), ""]


def _parts(data: Mapping) -> dict[str, Mapping]:
    return {role: data[role] for role in ("train", "val", "test") if role in data}


def card_path(path: Path, form: str) -> Path:
    """Where a file's card lies: in a SavedModel's folder, else `NAME.MODEL_CARD.md`."""
    if form == "saved_model":
        return path / CARD_NAME
    return path.with_name(f"{path.name}.{CARD_NAME}")


def _details(subject: Subject, evidence, form: str) -> list[str]:
    run = _run(evidence)
    flags, versions = run.config.get("flags", {}), run.versions
    packages = versions.get("packages", {})
    rows = {
        "kind": "whole-image classifier" if subject.is_whole_image else "classifier of "
        + ", ".join(subject.contract.class_names or ["unnamed classes"]),
        "net": subject.contract.backbone, "recipe": flags.get("recipe"),
        "parameters": f"{subject.weights:,}",
        "started from": _start(flags) if run.config else None,
        "training": _training(run),
        "precision in training": run.config.get("precision"),
        "seed": run.config.get("seed"),
        "trained with": ", ".join(
            f"{name} {packages[name]}" for name in ("keras", "tensorflow")
            if name in packages),
        "SHA-256 of all weights": f"`{subject.digest}`", "this file": text.FORMS[form],
    }  # fmt: skip
    return figures.table(("", ""), [
        [key, _NOT_RECORDED if value in (None, "") else value]
        for key, value in rows.items()
    ])  # fmt: skip


def _run(evidence: Sequence[Evidence]) -> Evidence:
    """The training, among what was handed over; an empty one where it was not."""
    return next((e for e in evidence if e.config.get("kind")), Evidence("", {}))


def _start(flags: Mapping) -> str:
    if flags.get("resume_from"):
        return "another whole-image model, fine-tuned here: see that model's own card"
    if flags.get("patch_model_state"):
        return "a patch classifier trained before: see that model's own card"
    return "ImageNet weights" if flags.get("use_pretrained") else "random weights"


def _training(run: Evidence) -> str | None:
    found = [run.metrics.get(name) for name in ("epochs", "steps", "best_epoch")]
    if not all(isinstance(number, int) for number in found):
        return None
    epochs, steps, best = found
    batch = run.config.get("train_batch", _NOT_RECORDED)
    return (
        f"{epochs} epochs, {steps} steps, batch {batch}; this is epoch {best}, the "
        "best on validation"
    )


def _data(evidence: Sequence[Evidence]) -> list[str]:
    run = _run(evidence)
    if not run.config:
        return ["What it was trained on: " + _NOT_RECORDED + "."]
    data = run.metrics.get("data") or _counts_of_config(run.config)
    parts = _parts(data)
    rows = [[role, *_counted(part)] for role, part in parts.items()]
    header = ("split", "women", "images", "samples by class", "women with a positive")
    lines = figures.table(header, rows)
    checked = str(run.config.get("patients", "")).startswith("checked")
    lines += [
        "",
        f"- Split: {_scheme(data.get('split') or {})}.",
        "- No woman stands in two splits: "
        f"{'checked' if checked else 'not checked, her ids were not known'}.",
    ]
    for key, title in _TALLIES.items():
        named = _tally(part.get(key, {}) for part in parts.values())
        lines.append(f"- {title}: {named or _NOT_RECORDED}.")
    return [*lines, *text.DATA_NOTES]


def _counts_of_config(config: Mapping) -> dict:
    """Samples a class, which every run has recorded."""
    return {role: {"classes": found}
            for role, found in config.get("counts", {}).items()}  # fmt: skip


def _counted(part: Mapping) -> list:
    classes = ", ".join(f"{n} {name}" for name, n in part.get("classes", {}).items())
    counts = [part.get(name, _NOT_RECORDED) for name in ("women", "images")]
    return [*counts, classes, part.get("positive_women")]


def _scheme(split: Mapping) -> str:
    if "scheme" not in split:
        return figures.cell(split.get("note", _NOT_RECORDED))
    rest = [f"{figures.words(k)} {v}" for k, v in split.items() if k != "scheme"]
    return figures.cell(", ".join([f"by woman, scheme {split['scheme']}", *rest]))


def _tally(counts) -> str:
    total: dict[str, int] = {}
    for part in counts:
        for name, number in part.items():
            total[figures.words(name)] = total.get(figures.words(name), 0) + number
    if set(total) <= {"not said"}:
        return ""
    return ", ".join(f"{figures.cell(name)} ({n})" for name, n in total.items())


def _measured(evidence: Sequence[Evidence], topic: str) -> list[tuple]:
    return [
        (each.name, each.figure, source.name)
        for source in evidence
        for each in figures.measured_figures(source.metrics)
        if each.topic == topic
    ]


def _metrics(evidence: Sequence[Evidence]) -> list[str]:
    rows = _measured(evidence, "metrics")
    if not rows:
        return [f"{NOT_MEASURED.capitalize()}."]
    said = {e.metrics["interval"] for e in evidence if e.metrics.get("interval")}
    lines = figures.figure_table(rows)
    for words in sorted(said):
        lines += ["", f"Intervals: {figures.cell(words)}."]
    return [*lines, "", *text.METRIC_NOTES]


def _operating(subject: Subject, evidence, form: str) -> list[str]:
    lines = text.decisions_lines(subject.decisions, form)
    found = [(each, source.name) for source in evidence
             for each in figures.measured_figures(source.metrics)
             if each.topic == "operating"]  # fmt: skip
    kept = [pair for pair in found if _is_at(subject.decisions, pair[0])]
    rows = [(each.name, each.figure, where) for each, where in kept]
    if rows:
        lines += ["", *figures.figure_table(rows)]
    else:
        lines += ["", f"Figures at it, and calibration: {NOT_MEASURED}."]
    for source in evidence:
        for each in figures.confusions(source.metrics):
            if _is_at(subject.decisions, each):
                counts = ", ".join(f"{k} {v}" for k, v in each.figure.items())
                lines += ["", f"{each.name} ({source.name}): {figures.cell(counts)}."]
    if len(kept) < len(found):
        lines += ["", "Figures at another threshold than the stored one are left out."]
    return lines


def _is_at(decisions: Sequence[Decision], measured: figures.Measured) -> bool:
    """Whether a figure holds for a stored threshold, or for none in particular."""
    if measured.cut == (None, None):
        return True
    return any(
        all(
            found is None or math.isclose(found, ours)
            for found, ours in zip(
                measured.cut, (each.threshold, each.temperature), strict=True
            )
        )
        for each in decisions
    )


def _subgroups(evidence: Sequence[Evidence]) -> list[str]:
    rows = _measured(evidence, "subgroups")
    if not rows:
        return [f"By age, density, machine or kind of lesion: {NOT_MEASURED}."]
    remarks = [f"- {figures.cell(words)} ({source.name})." for source in evidence
               for words in figures.subgroup_remarks(source.metrics)]  # fmt: skip
    return [*figures.figure_table(rows), *([""] * bool(remarks)), *remarks]


def _limits(evidence: Sequence[Evidence]) -> list[str]:
    run, lines = _run(evidence), list(text.LIMITS)
    tested = run.metrics.get("test_auc")
    if figures.is_figure(tested) and tested.get("n") and tested.get("positives"):
        lines.append(
            f"- {tested['positives']} of the {tested['n']} test {tested['level']}s of "
            "the training are positive: predictive values hold for that share alone."
        )
    if run.config:
        lines.append(f"- One training, seed {run.config.get('seed')}: how far another "
                     f"seed would differ is {NOT_MEASURED} here.")  # fmt: skip
    return lines

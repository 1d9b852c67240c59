"""The paper's Tables 1 to 4 and Figures 2 and 3 again, from DICOM files.

    python -m dm_training.paper --cbis-ddsm DIR --inbreast DIR --out DIR
    python -m dm_training.paper --scale demo --out DIR

Every row of a table is one recipe, and every training one stage with a command of its
own (OUT/commands.txt lists them, --dry-run prints them). What is done is not done
again: the same command goes on where a run was killed, a training from its last epoch.
A stage that fails takes those with it that need it and no other. At the end each table
is printed with the paper's value, ours with its 95 % interval, and the difference; OUT
gets report.html, paper.json, tables/ (Markdown, CSV, JSON), figures/, splits/ and every
run.

Exit status: 0 all done; 1 stages failed and are listed; 2 the command line is wrong;
130 interrupted.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

PARTS = ("table1", "table2", "table3", "table4", "figure2", "figure3", "ensemble")
DEFAULT_SEED = 12345
_WITH_DIGITAL = {"table4", "figure3", "ensemble"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring."""
    options = _parser().parse_args(argv)
    from dm_training.paper import schedule, stages
    from dm_training.paper.schedule import PlanError

    parts = tuple(part for part in PARTS if part in (options.only or PARTS))
    try:
        settings = _settings(options, parts)
        plan = stages.build_plan(settings, parts)
        if options.dry_run:
            print(commands(plan))
            return 0
        out = options.out.absolute()
        schedule.check_plan(plan, out)
        _write_commands(plan, out)
        outcomes = _run(plan, out, options)
    except PlanError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    return _finish(settings, parts, out, outcomes)


def commands(plan) -> str:
    """The plan as text: a comment and a command for each stage."""
    lines = []
    for number, stage in enumerate(plan, 1):
        after = f", after {', '.join(stage.needs)}" if stage.needs else ""
        lines += [f"# {number}. {stage.name}{after}", stage.text()]
    return "\n".join(lines)


def settings_of(facts: Mapping):
    """The settings that a paper.json tells of, as far as tables need them."""
    from dm_training.paper.scales import SCALES
    from dm_training.paper.stages import Settings

    return Settings(SCALES[facts["scale"]], split=facts["split"], seed=facts["seed"],
                    draws=facts["draws"])  # fmt: skip


def _settings(options, parts):
    from dm_training.paper.scales import SCALES
    from dm_training.paper.schedule import PlanError
    from dm_training.paper.stages import Settings

    scale = SCALES[options.scale]
    sources = {"--cbis-ddsm": options.cbis_ddsm, "--inbreast": options.inbreast}
    if options.dry_run:  # nothing is read then
        sources = {}
        options.cbis_ddsm = options.cbis_ddsm or _unnamed(scale, "CBIS-DDSM")
        options.inbreast = options.inbreast or _unnamed(scale, "INbreast")
    for flag, folder in sources.items():
        needed = flag == "--cbis-ddsm" or bool(_WITH_DIGITAL & set(parts))
        if folder is None and needed and scale.phantoms is None:
            raise PlanError(
                f"{flag} DIR is due for {', '.join(parts)} at --scale {scale.name}; "
                "--scale demo makes its own data"
            )
        if folder is not None and not folder.is_dir():
            raise PlanError(f"{flag} {folder}: no such folder")
    weights = {"resnet50": options.weights_resnet50, "vgg16": options.weights_vgg16}
    for net, file in weights.items():
        if file is not None and not file.is_file():
            raise PlanError(f"--weights-{net} {file}: no such file")
    return Settings(
        scale, split=options.split, seed=options.seed,
        draws=options.draws or scale.draws,
        cbis_ddsm=options.cbis_ddsm and options.cbis_ddsm.absolute(),
        inbreast=options.inbreast and options.inbreast.absolute(),
        weights={net: str(f.absolute()) for net, f in weights.items() if f},
    )  # fmt: skip


def _unnamed(scale, name: str) -> Path | None:
    """What a dry run calls a folder that was not named; the demo needs none."""
    return None if scale.phantoms else Path(name)


def _write_commands(plan, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    head = ("# Run in this folder; bin/ is the project's, python its environment's.\n"
            "# Flags of a second attempt (--resume, --overwrite) are not shown.\n")
    (out / "commands.txt").write_text(f"{head}{commands(plan)}\n", encoding="utf-8")


def _run(plan, out: Path, options) -> dict:
    from dm_training.paper import schedule

    def ended(number, _frame):
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, ended)
    try:
        return schedule.run(
            plan, out, gpus=options.gpus,
            say=lambda line: print(line, flush=True),
        )  # fmt: skip
    finally:
        signal.signal(signal.SIGTERM, before)


def _finish(settings, parts, out: Path, outcomes) -> int:
    from dm_training.paper import report, tables
    from dm_training.paper.results import Results
    from dm_training.paper.schedule import DONE

    findings = report.find(Results(out, settings, outcomes), parts)
    written = report.write_findings(findings)
    print(f"\n{tables.all_as_text(findings.tables)}")
    bad = {name: o for name, o in outcomes.items() if o.status != DONE}
    for name, outcome in outcomes.items():
        if outcome.status == DONE and outcome.why:
            print(f"note: {name}: {outcome.why}", file=sys.stderr)
    for name, outcome in bad.items():
        print(f"error: {name}: {outcome.status}: {outcome.why}", file=sys.stderr)
    print(f"\n{len(outcomes) - len(bad)} of {len(outcomes)} stages done -> {written}, "
          f"{out / 'tables'}, {out / report.SUMMARY}")  # fmt: skip
    return 1 if bad else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m dm_training.paper", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    _add_what(parser.add_argument)
    _add_how(parser.add_argument)
    return parser


def _add_what(flag) -> None:
    flag("--cbis-ddsm", type=Path, metavar="DIR", help="DICOM files and tables")
    flag("--inbreast", type=Path, metavar="DIR", help="AllDICOMs, AllXML, INbreast.csv")
    flag(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="the reproduction's folder; one that is there is gone on with",
    )
    flag(
        "--scale",
        choices=("paper", "demo"),
        default="paper",
        help="demo: phantoms and small networks, under an hour on 2 cores",
    )
    flag(
        "--only",
        nargs="+",
        choices=PARTS,
        metavar="PART",
        help=f"these alone, with all they need: {', '.join(PARTS)} (default: all)",
    )
    flag(
        "--split",
        choices=("paper", "official"),
        default="paper",
        help="of CBIS-DDSM: 85/15 by woman from the seed, or the official test set",
    )
    flag("--seed", type=_whole, default=DEFAULT_SEED, help="default: %(default)s")
    flag(
        "--draws",
        type=_positive,
        metavar="N",
        help="Table 4: subsets of women of each size (default: 5; demo: 2)",
    )


def _add_how(flag) -> None:
    flag(
        "--gpus",
        type=_gpus,
        default=(),
        metavar="0,1,...",
        help="rows side by side, one on each of these GPUs (default: one by one)",
    )
    flag(
        "--weights-resnet50",
        type=Path,
        metavar="FILE",
        help="ImageNet weights without top (default: Keras's download)",
    )
    flag("--weights-vgg16", type=Path, metavar="FILE", help="the same of VGG16")
    flag("--resume", action="store_true", help="implied: what is done is kept")
    flag("--dry-run", action="store_true", help="print every command and end")


def _whole(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0")
    return int(text)


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1")
    return int(text)


def _gpus(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if not all(names) or len(set(names)) < len(names):
        raise argparse.ArgumentTypeError(f"{text!r} must name GPUs once each: 0,1,2")
    return names


if __name__ == "__main__":
    sys.exit(main())

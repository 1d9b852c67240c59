"""What a training leaves behind: scores while it runs, tables and plots at its end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from dm_models import weights
from dm_models.decision import read_decision, store_decision
from dm_models.model_card_evidence import DIGEST, weights_digest
from dm_preprocess.tables import write_table
from dm_training import datasets, decide, metrics, plots
from dm_training.data_facts import data_facts
from dm_training.distribution import ALONE, Distribution
from dm_training.report import format_figure
from dm_training.runs import write_json
from dm_training.samples import Samples
from dm_training.scoring import FLIPS, predict_probabilities, predict_samples

_TINY = 1e-7
_INTERVALS = {
    True: "95 %, 2000 bootstrap draws of women, seed 0",
    False: "intervals assume independent images (the table names no patients)",
}


def validation_scores(
    samples: Samples, store: datasets.ImageStore, batch_size: int, model, *,
    distribution: Distribution = ALONE,
) -> dict[str, float]:  # fmt: skip
    """Loss, accuracy and AUC of one pass over labelled samples.

    Args:
        samples: Each with a label.
        store: Their pixels.
        batch_size: Images at a time.
        model: Gives class probabilities.
        distribution: Whose replicas score together.

    Returns:
        `val_loss` (cross entropy), `val_accuracy` and `val_auc`: of class 1 for two
        classes, else the mean of one class against the rest.
    """
    if distribution.strategy:
        from dm_training.distributed_fit import predict

        probability = predict(distribution, model, store, count=len(samples),
                              batch_size=batch_size)  # fmt: skip
    else:
        probability = _probability(model, samples, store, batch_size)
    labels = samples.labels
    own = probability[np.arange(len(labels)), labels]
    return {
        "val_loss": float(-np.log(np.maximum(own, _TINY)).mean()),
        "val_accuracy": float((probability.argmax(axis=1) == labels).mean()),
        "val_auc": _mean_auc(labels, probability),
    }


def write_reports(session, model, contract, state) -> None:
    """Score the best model, write metrics.json, tables, plots and the wanted copies.

    Args:
        session: The run and its data.
        model: As it stands after the last epoch.
        contract: Its contract.
        state: The training's last state.
    """
    run, parsed = session.run, session.parsed
    history = pd.DataFrame(state.history)
    if len(history):
        plots.plot_history(history, run.path("plots", "history.png"))
    best, _ = weights.load_model(run.path("best.keras"))
    facts = {
        "seconds": round(float(history["seconds"].sum()), 1),
        "steps": state.steps, "epochs": state.epoch, "best_epoch": state.best_epoch,
        "best_validation": state.best, DIGEST: weights_digest(best),
        "data": data_facts(session.samples, session.parsed.train),
    }  # fmt: skip
    if "pos" in contract.class_names:
        facts.update(_image_reports(session, best, model, contract))
    else:
        facts.update(_patch_reports(session, best, contract))
    write_json(run.path("metrics.json"), facts)
    decisions = [read_decision(run.path("best.keras"), flips) for flips in FLIPS]
    for name, which in ((parsed.best_model, best), (parsed.final_model, model)):
        if name and name != "NOSAVE":
            weights.save_model(which, Path(name), contract)
            for decision in filter(None, decisions if which is best else ()):
                store_decision(name, decision)
            run.say(f"saved {name}")
    run.say(f"best epoch {state.best_epoch} of {state.epoch} -> {run.out}/best.keras")


def _image_reports(session, best, last, contract) -> dict:
    run, facts, tables = session.run, {}, {}
    for role in ("val", "test"):
        for flips, suffix in ((1, ""), (4, "_augmented")):
            frame = _predictions(session, best, contract, role, flips)
            tables[role, flips] = frame
            write_table(frame, run.path(f"predictions_{role}{suffix}.csv"),
                        "predictions")  # fmt: skip
            facts[f"{role}_auc{suffix}"] = metrics.auc_figure(frame, split=role)
        frame = _predictions(session, last, contract, role, 1)
        facts[f"{role}_auc_last_epoch"] = metrics.auc_figure(frame, split=role)
    single, flipped = tables["test", 1], tables["test", 4]
    curves = {
        name: (f["y_true"].to_numpy(), f["y_score"].to_numpy())
        for name, f in (("single", single), ("four flips", flipped))
    }
    plots.plot_roc(curves, run.path("plots", "roc.png"))
    facts["interval"] = _INTERVALS[metrics.has_patients(single)]
    facts.update(decide.decide_run(run.path("best.keras"), tables, run.say))
    for name in ("test_auc", "test_auc_augmented", "test_auc_last_epoch"):
        run.say(f"{name}: {format_figure(facts[name], name='')}")
    return facts


def _predictions(session, model, contract, role: str, flips: int) -> pd.DataFrame:
    return predict_samples(
        model, contract, session.samples[role], flips=flips,
        batch_size=session.score_batch, name=session.run.out.name,
        store=session.stores[role],
    ).assign(split=role)  # fmt: skip


def _patch_reports(session, best, contract) -> dict:
    run, names, facts = session.run, list(contract.class_names), {}
    for role in ("val", "test"):
        samples = session.samples[role]
        probability = _probability(best, samples, session.stores[role],
                                   session.score_batch)  # fmt: skip
        ids = [c for c in ("patch_id", "image_id", "patient_id") if c in samples.frame]
        table = samples.frame[ids].copy()
        table["class"] = [names[k] for k in samples.labels]
        for k, name in enumerate(names):
            table[f"p_{name}"] = probability[:, k]
        table.to_csv(run.path(f"predictions_{role}.csv"), index=False)
        facts.update(_class_figures(role, samples.labels, probability, names))
        if role == "test":
            matrix = _confusion(samples.labels, probability.argmax(axis=1), len(names))
            facts["test_confusion"] = {"classes": names, "rows_true": matrix.tolist()}
            plots.plot_confusion(matrix, names, run.path("plots", "confusion.png"))
    run.say(f"test_accuracy: {format_figure(facts['test_accuracy'], name='')}")
    return facts


def _class_figures(role: str, labels, probability, names) -> dict:
    right = probability.argmax(axis=1) == labels
    value, low, high = metrics.accuracy_wilson(int(right.sum()), len(right))
    figure = metrics.figure(
        value, low, high, n=len(right), positives=None, level="patch", split=role
    )
    out = {f"{role}_accuracy": figure, f"{role}_auc": {}}
    for k, name in enumerate(names):
        truth = (labels == k).astype(int)
        value, low, high = metrics.auc_delong(truth, probability[:, k])
        out[f"{role}_auc"][name] = metrics.figure(
            value, low, high, n=len(truth), positives=int(truth.sum()), level="patch",
            split=role)  # fmt: skip
    return out


def _confusion(truth: np.ndarray, found: np.ndarray, classes: int) -> np.ndarray:
    return np.bincount(truth * classes + found, minlength=classes**2).reshape(
        classes, classes
    )


def _probability(model, samples, store, batch_size: int) -> np.ndarray:
    def images():
        return datasets.make_evaluation_dataset(samples, store, batch_size=batch_size)

    return predict_probabilities(model, images)


def _mean_auc(labels: np.ndarray, probability: np.ndarray) -> float:
    count = probability.shape[1]
    classes = range(1, 2) if count == 2 else range(count)
    return float(
        np.mean([metrics.auc(labels == k, probability[:, k]) for k in classes])
    )

"""The words of a model card that no measurement decides: uses, limits, how to use.

What is said of input and output is the model's own contract in words; the code shown
for each form of file runs as it stands.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from dm_models.decision import MEMBERS, Decision, scaled_scores
from dm_models.inputs import INPUT_NAME, InputContract
from dm_models.model_card_figures import (
    cell,
    figure_table,
    is_figure,
    table,
    words,
)

FORMS = {
    "saved_model": "SavedModel, float32, laid out for TensorFlow Serving",
    "onnx": "ONNX, float32",
    "keras": "Keras 3 model file, float32",
    "weights": "weights alone (HDF5), float32",
    "backbone": "weights of the backbone alone (HDF5), float32: no classifier",
}
LEAD = (
    "Every figure here was written down by a training or an evaluation of this "
    'model; what nobody handed over is called "not measured".'
)
# Manufacturer of a drawn image, as dm-phantom and others write it.
SYNTHETIC_MAKER = re.compile("synthetic|phantom|simulat", re.IGNORECASE)
SYNTHETIC = (
    "**SYNTHETIC DATA: {synthetic} of the {all} samples that this model was trained, "
    "validated and tested on are drawn by a program and are no woman's. Figures on "
    "such images say nothing about real mammograms.**"
)
INTENDED = {
    True: [
        "Research on mammogram classification: scoring single mammograms (CC and MLO "
        "views) for whether they show what the training data label as positive, by "
        "people who can read the figures below and their limits.",
    ],
    False: [
        "Research on mammogram classification: sorting small patches of mammograms by "
        "what they show; in this project, as the first step towards a whole-image "
        "classifier.",
    ],
}
OUT_OF_SCOPE = [
    "- No medical device: not for diagnosis, for screening decisions, for triage or "
    "for telling a woman anything.",
    "- Images other than mammograms: tomosynthesis, ultrasound, MRI, specimens.",
    "- Images prepared in another way than those it was trained on (see How to use).",
    "- Machines, populations and views that the data below do not hold.",
    "- Where in the breast something is, unless such a figure stands below.",
]
DATA_NOTES = [
    "- A label is what the data's own table says of an image (or of its patch); who "
    "read it, and whether pathology proved it, is a matter of that source.",
    "- A converter's name says how files were laid out, not whose images they are.",
    "- A model that this one started from has seen data of its own.",
]
METRIC_NOTES = [
    "The validation images chose the epoch and, where there is one, the threshold: "
    "figures of split val are optimistic. Images, breasts and women are different "
    "levels, and their figures cannot be compared.",
]
LIMITS = [
    "- Scores are those of this model on images like those it was trained on. Another "
    "machine, another conversion or another population can change them without a "
    "sign; `dm-check` compares new images with the training images.",
    "- Cropping, stretching and windowing in conversion are part of the model's "
    "contract (see How to use); what else was done to the files before is not known to "
    "it.",
    "- The data sets of this field hold far more cancers than screening does, and "
    "few kinds of machines.",
    "- Harm by use without a reader was not studied.",
]
# The output that a decision is on: of (neg, pos), the second.
POSITIVE = 1
_CITATIONS = [
    "- Method: Shen L, Margolies LR, Rothstein JH, Fluder E, McBride RB, Sieh W. Deep "
    "Learning to Improve Breast Cancer Early Detection on Screening Mammography. "
    "arXiv:1708.09427, 2018; Sci Rep 2019;9:12495.",
    "- Form of this card: Mitchell M et al. Model Cards for Model Reporting. FAccT "
    "2019.",
]
_CODE = {
    "saved_model": """import tensorflow as tf

model = tf.saved_model.load("{name}")  # keep it: the signatures need it
outputs = model.signatures["serving_default"](grey=tf.constant(images))
scores = outputs["scores"].numpy()""",
    "onnx": """import onnxruntime

net = onnxruntime.InferenceSession("{name}", providers=["CPUExecutionProvider"])
scores = net.run(["scores"], {{"grey": images}})[0]""",
    "keras": """import keras

model = keras.models.load_model("{name}", compile=False)
scores = keras.ops.convert_to_numpy(model(images))""",
    "weights": """from dm_models.weights import load_weights_strict

load_weights_strict(model, "{name}")  # a model of this architecture""",
    "backbone": """import keras

net = keras.applications.{net}(include_top=False, weights="{name}")""",
}
_NETS = {"resnet50": "ResNet50", "vgg16": "VGG16", "vgg19": "VGG19",
         "inception_v3": "InceptionV3", "xception": "Xception"}  # fmt: skip


def how_to_use(
    name: str, form: str, contract: InputContract,
    input_size: tuple[int | None, int | None], decisions: Sequence[Decision],
) -> list[str]:  # fmt: skip
    """Say what goes in and comes out, with code that runs.

    Args:
        name: The file's own name.
        form: A key of `FORMS`.
        contract: The model's.
        input_size: (rows, columns) of its input, None for any.
        decisions: The model's: for single predictions, for four flips, or none.
    """
    code = _code(name, form, contract.backbone)
    shown = ["", "```python", code, "```"] if code else []
    if form == "backbone":
        return ["Arrays by layer name, for the plain net of Keras. What that net must "
                f"be fed: {_preparation(contract)}.", *shown]  # fmt: skip
    if form == "weights":
        return ["Arrays only: architecture, preparation of images and threshold are "
                "in the model file, not here. The model takes:", "",
                *_input_lines(contract, input_size), *shown]  # fmt: skip
    lines = [*_input_lines(contract, input_size), *shown]
    if form == "saved_model":
        lines += ["", *_signature_lines(contract)]
    for each in decisions:
        lines += ["", f"Positive by the stored operating point: {_call(each)}."]
    return lines


def decisions_lines(decisions: Sequence[Decision], form: str) -> list[str]:
    """Each stored decision as a table, and what it is of."""
    lines = []
    for each in decisions:
        of = "the mean of an image's four flips" if each.flips == 4 else "single scores"
        lines += [""] * bool(lines)
        lines += [f"For {of}:", "", *decision_lines(each, form)]
    return lines or decision_lines(None, form)


def decision_lines(decision: Decision | None, form: str) -> list[str]:
    """One stored decision as a table, and what it is of."""
    if decision is None:
        return [
            "No threshold and no temperature are stored with this model: its scores "
            "are not calibrated, and no cut-off is recommended."
        ]
    fitted = decision.fitted_on
    facts = [f"{key} {cell(value)}" for key, value in fitted.items()
             if isinstance(value, int | float | str)]  # fmt: skip
    rows = [
        ("threshold", f"{decision.threshold:.6g}, on the calibrated probability"),
        ("temperature", f"{decision.temperature:.4g}"),
        ("chosen by", decision.rule), ("positive where", _call(decision)),
        ("fitted on", ", ".join(facts) or "not recorded"),
    ]  # fmt: skip
    lines = table(("", ""), rows)
    measured = [(key, value) for key, value in fitted.items() if is_figure(value)]
    own = [(words(key), value, "its fitting") for key, value in measured]
    lines += ["", *figure_table(own)] if own else []
    stored = form in ("saved_model", "keras", "onnx")
    member = MEMBERS[decision.flips]
    where = f"in this file (`{member}`)" if stored else "in the model file only"
    return [*lines, "", "Calibrated probability: the score's logit divided by the "
            f"temperature. It is stored {where}."]  # fmt: skip


def raw_threshold(decision: Decision) -> float:
    """The uncalibrated score at which a threshold is reached; inf where none does."""
    least, most = decision.calibrated([0.0, 1.0])
    if decision.threshold <= least:
        return 0.0
    if decision.threshold > most:
        return math.inf
    return float(scaled_scores([decision.threshold], 1 / decision.temperature)[0])


def _call(decision: Decision) -> str:
    """What is called positive, in terms of the model's own scores where it can be."""
    seen = " (mean of an image's four flips)" if decision.flips == 4 else ""
    score = f"scores[:, {POSITIVE}]"
    unit = {"patient": "woman"}.get(decision.level, decision.level)
    if decision.level != "image" and decision.how == "mean":
        return (f"the mean over a {unit}'s images of the calibrated probability of "
                f"`{score}`{seen} is at least {decision.threshold:.9g}")  # fmt: skip
    over = "" if decision.level == "image" else f" of any image of a {unit}"
    return f"`{score} >= {raw_threshold(decision):.9g}`{over}{seen}"


def licence(backbone: str) -> list[str]:
    """Licence of the software, what is not known of the weights', and citations."""
    lines = [
        "- Software: Apache-2.0.",
        "- Weights: not stated. The terms of the data they were learned from apply.",
    ]
    if backbone == "squeezenet":
        lines.append(
            "- Where training started from the packaged ImageNet weights of "
            "SqueezeNet: those are MIT (DeepCognition/keras-squeezenet)."
        )
    return [*lines, *_CITATIONS]


def _code(name: str, form: str, backbone: str) -> str:
    if form == "backbone" and backbone not in _NETS:
        return ""
    return _CODE[form].format(name=name, net=_NETS.get(backbone, ""))


def _signature_lines(contract: InputContract) -> list[str]:
    """What else a SavedModel answers."""
    whole = tuple(contract.class_names) == ("neg", "pos")
    rows = [("`serving_default`", "`grey`", "float32 (N, rows, columns, 1)"),
            ("`uint16`", "`grey`", "the same in uint16")]  # fmt: skip
    lines = []
    if contract.crop_breast:
        lines = ["", "There is no signature for encoded files: this model's images are "
                 "cropped to the breast first, which no graph does."]  # fmt: skip
    else:
        size = f"{contract.height} x {contract.width}" if contract.height else "no size"
        rows.append(("`png`", "`png`", "string (N,): PNG or JPEG files, of 8 or 16 "
                     f"bits, brought to {size}"))  # fmt: skip
    if whole:
        rows.append(("`grad_cam`", "`grey`", "as `serving_default`; gives `heat`, "
                     "where the net has such a map"))  # fmt: skip
    grey = "not finite, negative or above 65535" + (
        ", black, or nowhere above 255" if whole else "")  # fmt: skip
    return [
        *table(("signature", "input", "form"), rows), "",
        "The first ones also as `serving_default_tta` and so on: the mean over four "
        f"flips. An image whose levels are {grey} is refused, and its batch with it.",
        *lines,
    ]  # fmt: skip


def _input_lines(contract: InputContract, input_size) -> list[str]:
    rows, columns = input_size
    trained = (f"{contract.height} x {contract.width}" if contract.height
               and contract.width else "a size that was not recorded")  # fmt: skip
    fits = {"squash": "shrunk to it whatever their aspect", "pad": "shrunk, their "
            "aspect kept, and padded to it"}  # fmt: skip
    any_size = f"only {rows} x {columns} is taken" if rows and columns else (
        "others are taken; what they do to the scores was not measured")  # fmt: skip
    names, count = contract.class_names, len(contract.class_names) or "?"
    return [
        f"- Input `{INPUT_NAME}`: float32 (N, rows, columns, 1), RAW 16-bit grey "
        f"levels, 0 to 65535; {_polarity(contract.polarity)}. A stored value s of b "
        "bits is round(s * 65535 / (2**b - 1)); an 8-bit value times 257. Nothing is "
        "to be divided or centred: the model does it.",
        f"- Size: trained at {trained} (rows x columns), images "
        f"{fits.get(contract.fit, contract.fit)} by area averaging; {any_size}.",
        *_made_lines(contract),
        f"- Inside the model: {_preparation(contract)}.",
        f"- Output: (N, {count}) probabilities, in the order "
        f"{', '.join(names) or 'not named'}.",
    ]  # fmt: skip


def _made_lines(contract: InputContract) -> list[str]:
    """What the converter's options did to the training images, where any was used."""
    steps = {
        "a DICOM file's modality and VOI LUT or window are applied": contract.voi,
        "each image's own range of grey levels is stretched over all 65,536 "
        "(auto-level)": contract.grey == "auto-level",
        "the image is cut to the breast's box": contract.crop_breast,
    }
    done = [step for step, wanted in steps.items() if wanted]
    if not done:
        return []
    return [f"- Before that, outside the model, as its training images: "
            f"{'; then '.join(done)}. `dm-predict` does it."]  # fmt: skip


def _polarity(polarity: str) -> str:
    if polarity == "MONOCHROME2":
        return "dense tissue is bright (MONOCHROME2; invert MONOCHROME1 first)"
    return f"polarity {polarity}"


def _preparation(contract: InputContract) -> str:
    steps = [f"grey level x {contract.scale:.6g}"]
    if contract.uses_mean:
        steps.append(f"minus {contract.mean:.2f}")
    if contract.divisor != 1 or contract.offset:
        steps.append(f"divided by {contract.divisor:g}, {contract.offset:+g}")
    if contract.channels > 1:
        steps.append(f"repeated to {contract.channels} channels")
    if contract.channel_means:
        means = ", ".join(f"{mean:g}" for mean in contract.channel_means)
        steps.append(f"minus the channel means {means}")
    return _statistics(", ".join(steps), contract.grey_stats)


def _statistics(steps: str, grey: Mapping | None) -> str:
    if not grey or "source" not in grey or "mean" not in grey:
        return steps
    return f"{steps} (the mean: {cell(grey['source'])})"

"""Small sets of images for the training tests: bright squares are positive."""

import cv2
import numpy as np
import pandas as pd

# The command line that most users of the authors' program know, at a small size.
INBREAST = (
    "--img-size 96 80 --no-img-scale --rescale-factor 0.003891 --featurewise-center "
    "--featurewise-mean 44.33 --no-equalize-hist --batch-size 4 "
    "--train-bs-multiplier 0.5 --augmentation --class-list neg pos --nb-epoch 0 "
    "--all-layer-epochs 1 --load-val-ram --load-train-ram --optimizer adam "
    "--weight-decay 0.001 --hidden-dropout 0.0 --weight-decay2 0.01 "
    "--hidden-dropout2 0.0 --init-learningrate 0.0001 --all-layer-multiplier 0.01 "
    "--es-patience 10 --auto-batch-balance --final-model NOSAVE"
).split()


def write_set(folder, *, women: dict, size=(48, 40), seed=0):
    """Write an images.csv: two images a woman, label by woman, split by `women`."""
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    rows = []
    for split, count in women.items():
        for number in range(count):
            patient, label = f"{split}{number}", number % 2
            for view in ("CC", "MLO"):
                image = rng.integers(5000, 20000, size, dtype=np.uint16)
                row, col = rng.integers(4, 24, 2)
                if label:
                    image[row : row + 12, col : col + 12] = 60000
                name = f"{patient}_L_{view}"
                cv2.imwrite(str(folder / "images" / f"{name}.png"), image)
                rows.append({
                    "image_id": name, "patient_id": patient, "laterality": "L",
                    "view": view, "split": split, "label": label,
                    "path": f"images/{name}.png",
                })  # fmt: skip
    pd.DataFrame(rows).to_csv(folder / "images.csv", index=False)
    return folder / "images.csv"

"""Small sets of images for the training tests: bright squares are positive."""

import cv2
import numpy as np
import pandas as pd


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

import numpy as np
import pandas as pd
import pytest

from dm_models.backbones import get_backbone
from dm_models.patch_classifier import build_patch_classifier
from dm_models.weights import save_model
from dm_models.whole_image import build_whole_image
from dm_preprocess import images as pixels
from dm_preprocess.tables import PATCH_CLASSES
from dm_training.evaluate import Request
from dm_training.evaluation import Choices
from dm_training.study import open_study, pictures

import numpy as np
import pytest
from desk_support import SIZE, MeanScorer, contract, write_images, write_model

from dm_models.decision import Decision
from dm_training import scorers
from dm_training.predict import Prediction, Predictor


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    decision = Decision(0.45, temperature=2.0)
    return write_model(
        tmp_path_factory.mktemp("m") / "tiny.keras", decisions=[decision]
    )


@pytest.fixture(scope="module")
def predictor(model):
    return Predictor(model, batch_size=3)


@pytest.fixture
def scored_by(monkeypatch):
    """Make predictors of a scorer that computes nothing."""

    def made(scorer, **options):
        monkeypatch.setattr(scorers, "open_models", lambda paths: scorer)
        return Predictor("any", **options)

    return made


def test_three_lines_give_a_calibrated_probability_and_a_decision(predictor, tmp_path):
    (path,) = write_images(tmp_path, 1, names=["P1_L_CC"])
    found = predictor.predict(path)
    logit = np.log(found.score) - np.log1p(-found.score)
    assert found.probability == pytest.approx(1 / (1 + np.exp(-logit / 2)))
    assert found.decision == ("positive" if found.probability >= 0.45 else "negative")
    assert (found.threshold, found.model, found.flips) == (0.45, "tiny", 1)
    assert (found.image_id, found.laterality, found.view) == (str(path), "L", "CC")
    assert len(found.version) == 12 and found.patient_id == ""
    assert Prediction.from_dict(found.as_dict()) == found


def test_a_files_bytes_score_as_the_file(predictor, tmp_path):
    (path,) = write_images(tmp_path, 1)
    found = predictor.predict(path.read_bytes(), image_id="upload")
    assert found.image_id == "upload"
    assert found.score == predictor.predict(path).score


def test_a_stream_keeps_the_order_and_gives_the_scores_of_single_files(
    predictor, tmp_path
):
    paths = write_images(tmp_path, 8)
    paths.insert(4, tmp_path / "missing.png")
    streamed = list(predictor.stream(paths))
    assert [found.image_id for found in streamed] == [str(path) for path in paths]
    assert streamed[4].status == "failed" and streamed[4].score is None
    single = [predictor.predict(path).score for path in paths if path.exists()]
    scores = [found.score for found in streamed if found.status == "scored"]
    np.testing.assert_allclose(scores, single, atol=1e-6)
    assert np.ptp(single) > 1e-3  # else all would agree anyhow


def test_four_flips_are_the_mean_of_the_flipped_images_scores(model, tmp_path):
    import cv2

    (path,) = write_images(tmp_path, 1)
    image, paths = cv2.imread(str(path), cv2.IMREAD_UNCHANGED), []
    for number, axes in enumerate([(), (0,), (1,), (0, 1)]):
        paths.append(tmp_path / f"flip{number}.png")
        cv2.imwrite(str(paths[-1]), np.flip(image, axes))
    single = [found.score for found in Predictor(model).stream(paths)]
    four = Predictor(model, flips=4)
    assert four.predict(path).score == pytest.approx(np.mean(single), abs=1e-6)
    assert four.decision is None and four.predict(path).decision == ""
    assert np.ptp(single) > 1e-5


def test_several_models_give_their_mean_and_decide_nothing(model, tmp_path):
    other = write_model(tmp_path / "other.keras", seed=5)
    (path,) = write_images(tmp_path / "i", 1)
    each = [Predictor(one).predict(path).score for one in (model, other)]
    both = Predictor(model, other).predict(path)
    assert both.score == pytest.approx(np.mean(each), abs=1e-7)
    assert both.decision == "" and both.threshold is None
    assert both.version == "+".join(
        Predictor(one).scorer.version for one in (model, other)
    )
    told = Predictor(model, other, decision=Decision(0.0)).predict(path)
    assert told.decision == "positive"


def test_images_of_any_size_are_scored_where_the_model_takes_them(tmp_path):
    model = write_model(tmp_path / "any.keras", None)
    small, large = (
        write_images(tmp_path / name, 2, size=size, seed=1)
        for name, size in (("s", (32, 24)), ("l", (64, 56)))
    )
    mixed = [small[0], large[0], small[1], large[1]]
    together = [found.score for found in Predictor(model).stream(mixed)]
    alone = [Predictor(model).predict(path).score for path in mixed]
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_a_decision_of_another_level_calls_no_image(scored_by, tmp_path):
    (path,) = write_images(tmp_path, 1)
    found = scored_by(
        MeanScorer(decision=Decision(0.1, temperature=3.0, level="breast"))
    ).predict(path)
    assert found.probability != found.score  # the temperature is that of images
    assert (found.decision, found.threshold) == ("", None)


def test_patient_ids_are_made_with_the_key_that_is_given(scored_by, tmp_path):
    (path,) = write_images(tmp_path, 1, names=["P1_L_CC"])
    by_function = scored_by(MeanScorer(), patient_key=str.lower).predict(path)
    assert by_function.patient_id == "p1"
    by_file = scored_by(MeanScorer(), patient_key=tmp_path / "patient.key")
    assert len(by_file.predict(path).patient_id) == 16
    assert (tmp_path / "patient.key").is_file()


def test_a_map_of_a_file_lies_over_the_image_as_the_model_sees_it(predictor, tmp_path):
    (path,) = write_images(tmp_path, 1, size=(96, 80))
    seen, image_map = predictor.heat(path)
    assert seen.shape == SIZE and seen.dtype == np.uint16
    assert image_map.heat.ndim == 2 and (image_map.heat >= 0).all()
    with pytest.raises(ValueError, match="no map: No such file"):
        predictor.heat(tmp_path / "none.png")


@pytest.mark.parametrize(
    ("models", "options", "match"),
    [
        ((), {}, "models must name one"),
        (("m",), {"flips": 2}, "flips must be 1 or 4, received 2"),
        (
            ("m",),
            {"unsuitable": "skip"},
            "must be one of refuse, flag, received 'skip'",
        ),
        (("m",), {"batch_size": 0}, "batch_size must be at least 1"),
        (("m",), {"jobs": -1}, "jobs must be at least 1"),
        (("m",), {"decision": Decision(0.5, flips=4)}, "is for scores of 4 flip"),
    ],
    ids=["no model", "flips", "unsuitable", "batch", "jobs", "decision of other flips"],
)
def test_what_cannot_be_is_said_before_a_model_is_loaded(models, options, match):
    with pytest.raises(ValueError, match=match):
        Predictor(*models, **options)


def test_a_decision_is_looked_for_where_it_is_said_to_be(model, tmp_path):
    bare = write_model(tmp_path / "bare.keras")
    with pytest.raises(ValueError, match="bare.keras: no decision is stored there"):
        Predictor(model, decision=bare)
    assert Predictor(bare, decision=model).decision.threshold == 0.45


def test_a_batch_that_is_not_full_needs_no_new_graph(model, tmp_path):
    """Each new size would cost a large net seconds."""
    paths = write_images(tmp_path, 7)
    predictor, traced = Predictor(model, batch_size=4), []
    inner = predictor.scorer.model.call

    def call(*args, **kwargs):
        traced.append(1)
        return inner(*args, **kwargs)

    predictor.scorer.model.call = call
    assert len(list(predictor.stream(paths))) == 7
    predictor.predict(paths[0])
    assert len(traced) == 1


def test_on_jax_smaller_batches_are_filled_up(monkeypatch):
    import keras

    from dm_training.scorers import forward_pass

    class Net:
        sizes = []

        def predict_on_batch(self, images):
            self.sizes.append(len(images))
            return images.mean(axis=(1, 2))

    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    net, images = Net(), np.arange(4, dtype=np.float32).reshape(4, 1, 1, 1)
    run = forward_pass(net)
    assert run(images).tolist() == [[0], [1], [2], [3]]
    assert run(images[:3]).tolist() == [[0], [1], [2]]
    assert net.sizes == [4, 4] and net.jit_compile


def test_no_fixed_size_is_asked_of_an_image_that_has_the_models(scored_by, tmp_path):
    (path,) = write_images(tmp_path, 1, size=(96, 80))
    scorer = MeanScorer(contract())
    scored_by(scorer).predict(path)
    assert scorer.batches == [(1, *SIZE, 1)]


def test_an_image_unlike_the_training_images_is_noted_with_its_score(
    scored_by, tmp_path
):
    from dm_preprocess.images import read_png, write_png
    from dm_training import grey_stats

    paths = write_images(tmp_path, 8, seed=3)
    stats = grey_stats.measure(read_png(path) for path in paths)
    predictor = scored_by(MeanScorer(contract(grey_stats=stats)))
    assert predictor.predict(paths[3]).notes == ()
    found = predictor.predict(write_png(tmp_path / "x.png", read_png(paths[3]) // 64))
    assert found.status == "scored" and found.notes

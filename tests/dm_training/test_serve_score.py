"""One uploaded file: what is told of it, what is refused, and that nothing is kept."""

import base64
import io
import json
import os
import tempfile

import cv2
import numpy as np
import pytest
import served_support as served

from dm_preprocess import images
from dm_preprocess.phantom_dicom import write_dicom
from dm_training.intake import Intake, IntakeError
from dm_training.serving import score
from dm_training.serving.app import make_app
from dm_training.serving.limits import Limits
from dm_training.serving.served_model import ServedModel
from dm_training.serving.service import Service

LEVEL = 50000


def client_of(folder, **options):
    service = Service(ServedModel(served.save_export(folder, **options)), Limits())
    client = served.Client(make_app(service))
    client.service = service
    return client


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    made = client_of(tmp_path_factory.mktemp("models") / "m")
    yield made
    made.service.close()


@pytest.fixture
def arriving(monkeypatch):
    """What is read of uploads: their PNG, and the facts put into this."""
    facts, windows = {}, []

    def read(data, voi):
        windows.append(voi)
        found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        if found is None:
            raise IntakeError("no image")
        return Intake(found, **facts)

    monkeypatch.setattr(score, "read_intake", read)
    monkeypatch.setattr(score, "windows", windows, raising=False)
    return facts


def form(data, name="file", boundary="XX", filename="Smith_Mary.png"):
    """(body, headers) as a browser or `curl -F` sends a file."""
    head = f'Content-Disposition: form-data; name="{name}"; filename="{filename}"'
    kind = "Content-Type: application/octet-stream"
    start = f"--{boundary}\r\n{head}\r\n{kind}\r\n\r\n".encode()
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    return start + data + f"\r\n--{boundary}--\r\n".encode(), headers


def drawn(data):
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)


def test_a_file_gets_its_probability_decision_and_overlay(client, arriving):
    arriving.update(laterality="L", view="CC", notes=("a note",))
    status, found = client.post("/score", served.png_of(LEVEL, (128, 96)))
    assert status == 200
    assert found["probability"] == pytest.approx(served.probability_of(LEVEL), abs=1e-5)
    assert (found["decision"], found["threshold"]) == ("negative", 0.5)
    assert (found["model"], found["version"], found["flips"]) == (
        "m",
        "0123456789ab",
        1,
    )
    assert (found["laterality"], found["view"]) == ("L", "CC")
    assert (found["notes"], found["warnings"]) == (["a note"], [])
    assert found["source_size"] == [128, 96]
    assert 0 <= found["seconds"] < 20
    assert "research only" in found["purpose"]
    assert drawn(base64.b64decode(found["overlay"])).ndim == 3
    assert client.post("/score", served.png_of(65535, (128, 96)))[1]["decision"] == (
        "positive"
    )


def test_body_and_form_give_the_same_answer(client, arriving):
    answers = []
    body, headers = form(served.png_of(LEVEL))
    for given in ((served.png_of(LEVEL), {}), (body, headers)):
        status, found = client.post("/score?overlay=0", given[0], headers=given[1])
        assert status == 200
        answers.append({k: v for k, v in found.items() if k != "seconds"})
    assert answers[0] == answers[1]
    assert "overlay" not in answers[0]
    assert "Smith" not in str(answers)


def test_score_and_predict_agree(client, arriving):
    _, by_file = client.post("/score?overlay=0", served.png_of(LEVEL))
    grey = np.zeros((1, served.HEIGHT, served.WIDTH, 1), int)
    grey[:, :, : served.WIDTH // 2] = LEVEL
    body = json.dumps({"inputs": grey.tolist()})
    _, by_array = client.post("/v1/models/m:predict", body)
    due = by_array["outputs"]["probability"][0]
    assert by_file["probability"] == pytest.approx(due, abs=1e-6)


def test_four_flips_by_wish(client, arriving):
    assert client.post("/score?tta=1", served.png_of(LEVEL))[1]["flips"] == 4
    status, answer = client.post("/score?tta=maybe", served.png_of(LEVEL))
    assert (status, answer) == (400, {"error": "tta must be 0 or 1, received 'maybe'"})


def test_a_picture_is_the_answer_where_only_one_is_accepted(client, arriving):
    given = {"Accept": "image/png"}
    status, head, body = client.send(
        "POST", "/score?overlay=0", [served.png_of(LEVEL)], headers=given
    )
    assert (status, head["content-type"]) == (200, "image/png")
    assert drawn(body).ndim == 3


def test_unsuitable_images_are_refused_unless_asked_for(client, arriving):
    arriving["unsuitable"] = ("it is a magnification view",)
    status, answer = client.post("/score", served.png_of(LEVEL))
    assert status == 422
    assert answer == {
        "error": "not judged: it is a magnification view",
        "unsuitable": ["it is a magnification view"],
    }
    status, answer = client.post("/score?anyway=1", served.png_of(LEVEL))
    assert status == 200
    assert answer["notes"] == ["judged although: it is a magnification view"]


@pytest.mark.parametrize(
    "body, headers, status, message",
    [
        (b"", {}, 400, "the file is empty"),
        (b"no image", {}, 422, "not readable: "),
        (*form(b"no image"), 422, "not readable: "),
        (*form(b""), 400, "the file is empty"),
        (*form(b"x", name="image"), 400, "one field 'file', received 0"),
        (form(b"x")[0][:-20], form(b"x")[1], 400, "the form is cut off"),
        (b"xx", form(b"x")[1], 400, "the form is damaged"),
        (form(b"x")[0], {"Content-Type": "multipart/form-data"}, 400, "the form is"),
        (served.png_of(1, (8, 8)) + b"", {}, 200, ""),
    ],
    ids=["empty", "no image", "no image in a form", "empty in a form", "another field",
         "cut off", "no form", "no boundary", "small, but resized"],
)  # fmt: skip
def test_what_cannot_be_scored_says_why(
    client, arriving, body, headers, status, message
):
    got, answer = client.post("/score?overlay=0", body, headers=headers)
    assert got == status
    assert message in answer.get("error", "")


def test_two_files_in_a_form_are_refused(client, arriving):
    one, headers = form(b"x")
    twice = one.replace(b"--XX--\r\n", one)
    status, answer = client.post("/score", twice, headers=headers)
    assert (status, "received 2" in answer["error"]) == (400, True)


def test_a_form_of_countless_parts_is_refused_at_once(client, arriving):
    one, headers = form(b"x")
    parts = b"--XX\r\n\r\n\r\n" * 20_000 + one
    status, answer = client.post("/score", parts, headers=headers)
    assert (status, "at most 100 parts" in answer["error"]) == (400, True)
    few = b"--XX\r\n\r\n\r\n" * 99 + one
    assert "parts" not in client.post("/score", few, headers=headers)[1].get(
        "error", ""
    )


def test_the_forms_parser_logs_no_byte_of_an_upload(client, caplog, capfd):
    _, headers = form(b"x")
    for damaged in (b"Jane Doe", b"--XXJane", b"--XX\r\nJane Doe: 7\r\n\r\n"):
        assert client.post("/score", damaged, headers=headers)[0] == 400
    told = [record.getMessage() for record in caplog.records
            if record.name != "asyncio"]  # fmt: skip
    assert told == [] and "".join(capfd.readouterr()) == ""


def test_a_model_without_maps_scores_and_says_that_it_has_none(tmp_path, arriving):
    client = client_of(tmp_path / "m", maps=False, threshold=None)
    status, found = client.post("/score", served.png_of(LEVEL))
    assert (status, "overlay" in found) == (200, False)
    assert (found["decision"], found["threshold"]) == (None, None)
    png = {"Accept": "image/png"}
    assert client.post("/score", served.png_of(LEVEL), headers=png)[0] == 406
    assert client.get("/about")[1]["maps"] is False
    client.service.close()


def test_a_model_of_another_program_is_served_but_scores_no_files(tmp_path, arriving):
    folder = served.save_export(tmp_path / "m")
    (folder / "1" / "input_contract.json").unlink()
    service = Service(ServedModel(folder))
    client = served.Client(make_app(service))
    assert client.get("/v1/models/m")[0] == 200
    status, answer = client.post("/score", served.png_of(LEVEL))
    assert (status, answer["error"]) == (501, "the model has no input contract")
    assert "input contract" in client.get("/about")[1]["cannot_score"]
    service.close()


def test_warnings_reach_the_answer(client, arriving, monkeypatch):
    seen = []

    def warned(grey, contract, source_shape):
        seen.append((grey.shape, contract.height, source_shape))
        return ["too dark"]

    monkeypatch.setattr(score, "warnings_of", warned)
    status, found = client.post("/score?overlay=0", served.png_of(LEVEL, (128, 96)))
    assert found["warnings"] == ["too dark"]
    assert seen == [((64, 48), 64, (128, 96))]


def test_files_are_read_as_the_models_contract_says(client, arriving, monkeypatch):
    desk = client.service.desk()
    for voi in (False, True):
        monkeypatch.setattr(desk, "contract", served.CONTRACT.replace(voi=voi))
        assert client.post("/score?overlay=0", served.png_of(LEVEL))[0] == 200
    assert score.windows == [False, True]


def test_dicom_and_png_of_one_image_give_the_same_score(client, tmp_path):
    pixels = np.random.default_rng(1).integers(0, 4096, (128, 96), dtype=np.uint16)
    write_dicom(
        tmp_path / "a.dcm", pixels, bits_stored=12, uids=("1.2.3", "1.2.4", "1.2.5"),
        monochrome1=True, PatientName="Smith^Mary", PatientID="S4711",
        Modality="MG", ImageLaterality="L", ViewPosition="CC",
    )  # fmt: skip
    images.write_png(tmp_path / "a.png", images.to_u16(pixels, 12))
    by_dicom, by_png = (
        client.post("/score?overlay=0&anyway=1", (tmp_path / name).read_bytes())
        for name in ("a.dcm", "a.png")
    )
    assert (by_dicom[0], by_png[0]) == (200, 200)
    assert by_dicom[1]["probability"] == pytest.approx(
        by_png[1]["probability"], abs=1e-6
    )
    assert (by_dicom[1]["laterality"], by_dicom[1]["view"]) == ("L", "CC")
    for planted in ("Smith", "4711", "1.2.3", "1.2.4", "1.2.5"):
        assert planted not in str(by_dicom)


def test_an_upload_touches_no_disk(client, tmp_path, monkeypatch):
    """Neither a temporary file nor any other is made while a large form is scored."""
    noise = np.random.default_rng(0).integers(0, 60000, (1500, 1200), dtype=np.uint16)
    body, headers = form(cv2.imencode(".png", noise)[1].tobytes())
    assert len(body) > 2**20  # above what frameworks keep in memory
    opened = []

    def refused(*args, **kwargs):
        raise AssertionError("a temporary file was asked for")

    for name in ("TemporaryFile", "NamedTemporaryFile", "SpooledTemporaryFile",
                 "mkstemp", "mkdtemp"):  # fmt: skip
        monkeypatch.setattr(tempfile, name, refused)
    really_open, really_os_open = io.open, os.open

    def noted(file, mode="r", *args, **kwargs):
        if set(mode) & set("wax+"):
            opened.append(file)
        return really_open(file, mode, *args, **kwargs)

    def os_noted(path, flags, *args, **kwargs):
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            opened.append(path)
        return really_os_open(path, flags, *args, **kwargs)

    monkeypatch.setattr("builtins.open", noted)
    monkeypatch.setattr(os, "open", os_noted)
    status, found = client.post("/score", body, headers=headers)
    assert (status, found["source_size"]) == (200, [1500, 1200])
    assert opened == []


@pytest.mark.parametrize(("facts", "side", "view", "notes"), [
    ({}, "R", "MLO", []),
    ({"laterality": "R", "view": "CC"}, "R", "CC", []),
    ({"laterality": "L"}, "L", "MLO",
     ["laterality L by the header, R by the file name"]),
])  # fmt: skip
def test_a_forms_file_name_tells_side_and_view_where_the_file_does_not(
    client, arriving, capfd, facts, side, view, notes
):
    arriving.update(facts)
    body, headers = form(served.png_of(LEVEL), filename="Smith_RIGHT_MLO.png")
    status, found = client.post("/score?overlay=0", body, headers=headers)
    assert (status, found["laterality"], found["view"]) == (200, side, view)
    assert found["notes"] == notes
    assert "Smith" not in str(found) + "".join(capfd.readouterr())

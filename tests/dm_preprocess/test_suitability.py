"""Which images a model of mammograms should not judge."""

import pytest
from pydicom.dataset import Dataset

from dm_preprocess import dicom_facts
from dm_preprocess.suitability import MAX_CONTACT_MAGNIFICATION, judge

PRESENTATION = "1.2.840.10008.5.1.4.1.1.1.2"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


def header(**tags):
    """The header of an ordinary mammogram, with tags of one's own; None removes one."""
    dataset = Dataset()
    dataset.Modality, dataset.SOPClassUID = "MG", PRESENTATION
    dataset.ViewPosition, dataset.ImageLaterality = "CC", "L"
    dataset.ImageType = ["ORIGINAL", "PRIMARY"]
    for name, value in tags.items():
        if value is None:
            delattr(dataset, name)
        else:
            setattr(dataset, name, value)
    return dataset


def coded(code, meaning="", *, modifier="", inside=True):
    """A header whose view has a code, and perhaps a modifier's."""
    view = Dataset()
    view.CodeValue, view.CodeMeaning = code, meaning
    if not modifier:
        return header(ViewCodeSequence=[view], ViewPosition=None)
    item = Dataset()
    item.CodeValue = modifier
    (view if inside else Dataset()).ViewModifierCodeSequence = [item]
    made = header(ViewCodeSequence=[view])
    if not inside:
        made.ViewModifierCodeSequence = [item]
    return made


def test_ordinary_mammogram_has_nothing_against_it():
    assert judge(header()) == ((), (), False)


@pytest.mark.parametrize("sop", [
    PRESENTATION, PRESENTATION + ".1", SECONDARY_CAPTURE, "1.2.840.10008.5.1.4.1.1.1",
    "1.2.840.10008.5.1.4.1.1.1.1",
])  # fmt: skip
def test_classes_in_which_mammograms_are_stored_are_let_through(sop):
    assert judge(header(SOPClassUID=sop)).reasons == ()


@pytest.mark.parametrize("sop,name", [
    ("1.2.840.10008.5.1.4.1.1.13.1.3", "Breast Tomosynthesis Image Storage"),
    ("1.2.840.10008.5.1.4.1.1.13.1.4", "Breast Projection X-Ray Image Storage"),
    ("1.2.840.10008.5.1.4.1.1.88.50", "Mammography CAD SR Storage"),
    ("1.2.840.10008.5.1.4.1.1.11.1", "Grayscale Softcopy Presentation State"),
    ("1.2.840.10008.5.1.4.1.1.104.1", "Encapsulated PDF Storage"),
    ("1.2.840.10008.5.1.4.1.1.6.1", "Ultrasound Image Storage"),
    ("1.2.840.10008.5.1.4.1.1.4", "MR Image Storage"),
    ("1.2.3.4", "one that the standard does not define"),
])  # fmt: skip
def test_other_classes_are_refused_by_name(sop, name):
    (reason,) = judge(header(SOPClassUID=sop)).reasons
    assert reason.startswith(f"no mammogram: its SOP class is {name}")
    assert "1.2.3" not in reason


def test_other_modalities_are_refused_and_only_known_ones_named():
    assert judge(header(Modality="CT")).reasons == (
        "no mammogram: its modality is CT, not MG",
    )
    (reason,) = judge(header(Modality="JANE DOE")).reasons
    assert "JANE" not in reason and "not shown" in reason


@pytest.mark.parametrize("inside", [True, False], ids=["in the view", "at the top"])
@pytest.mark.parametrize("code,word", [
    ("399163009", "magnification"), ("R-102D6", "magnification"),
    ("399055006", "spot compression"), ("R-102D7", "spot compression"),
    ("399209000", "implant displaced"), ("R-102D5", "implant displaced"),
    ("399110001", "tangential"),
])  # fmt: skip
def test_views_of_a_part_are_refused_by_their_code(code, word, inside):
    found = judge(coded("399162004", modifier=code, inside=inside))
    assert found.reasons == (f"no ordinary view: {word}",)


@pytest.mark.parametrize("code,word", [
    ("399226006", "rolled medial"), ("R-102D3", "rolled lateral"),
    ("399011000", "axillary tail"), ("441752004", "anterior compression"),
])  # fmt: skip
def test_other_modifiers_are_only_noted(code, word):
    found = judge(coded("399162004", modifier=code))
    assert found == ((), (f"view modifier: {word}",), False)


def test_codes_are_those_of_the_standard():
    from pydicom.sr._cid_dict import cid_concepts
    from pydicom.sr._concepts_dict import concepts
    from pydicom.sr._snomed_dict import mapping

    def standard(context):
        names = cid_concepts[context]["SCT"]
        return {code: m[0] for n in names for code, m in concepts["SCT"][n].items()}

    modifiers, views = standard(4015), standard(4014)
    ours = dicom_facts.MODIFIER_CODES
    assert {c: w for c, w in ours.items() if c.isdigit()} == {
        code: meaning.lower() for code, meaning in modifiers.items()
    }
    known = set(dicom_facts.VIEW_CODES) | dicom_facts.SPECIMEN_CODES
    assert {code for code in known if code.isdigit()} == set(views)
    for code in (*modifiers, *views):
        assert mapping["SCT"][code] in {*ours, *known}
        if code in ours:
            assert ours[code] == ours[mapping["SCT"][code]]


@pytest.mark.parametrize("written,view,word", [
    ("MLOID", "MLO", "implant displaced"), ("MCC", "CC", "magnification"),
    ("CC SPOT", "CC", "spot compression"), ("ML", "ML", ""), ("XCCL", "XCCL", ""),
    ("TAN", "", "tangential"), ("JANE DOE", "", ""),
])  # fmt: skip
def test_view_position_is_understood_or_empty(written, view, word):
    dataset = header(ViewPosition=written)
    assert dicom_facts.view_of(dataset) == view
    assert dicom_facts.modifiers_of(dataset) == ([word] if word else [])


@pytest.mark.parametrize("factor,fits", [
    ("1.0", True), ("1.07", True), ("1.18", True), ("1.5", False), ("1.8", False),
    ("", True), (None, True),
])  # fmt: skip
def test_magnification_is_known_by_its_factor(factor, fits):
    dataset = header()
    if factor is not None:
        dataset.EstimatedRadiographicMagnificationFactor = factor
    reasons = judge(dataset).reasons
    assert (reasons == ()) == fits
    if not fits:
        assert (
            f"magnified {factor} times, above the {MAX_CONTACT_MAGNIFICATION}"
            in (reasons[0])
        )


def test_magnification_that_is_said_twice_is_one_reason():
    dataset = coded("399162004", modifier="399163009")
    dataset.EstimatedRadiographicMagnificationFactor = "1.8"
    assert len(judge(dataset).reasons) == 1


@pytest.mark.parametrize("tags,reason", [
    ({"BreastImplantPresent": "YES"}, "a breast implant is present"),
    ({"SeriesDescription": "ROI mask images"}, "a mask of a lesion"),
    ({"SeriesDescription": "cropped images"}, "a cut-out of a lesion"),
    ({"SeriesDescription": "Stereo Scout"}, "a scout image"),
    ({"ImageType": ["DERIVED", "PRIMARY", "LOCALIZER"]}, "a localizer image"),
    ({"ImageType": ["DERIVED", "PRIMARY", "TOMOSYNTHESIS"]}, "an image of tomosynth"),
    ({"BodyPartExamined": "SPECIMEN"}, "a specimen, no breast"),
    ({"SpecimenDescriptionSequence": [Dataset()]}, "a specimen, no breast"),
])  # fmt: skip
def test_what_is_no_whole_breast_is_refused(tags, reason):
    (found,) = judge(header(**tags)).reasons
    assert found.startswith(reason)


def test_specimen_is_known_by_its_view_code():
    assert judge(coded("127457009")).reasons == ("a specimen, no breast",)


@pytest.mark.parametrize("tags,note", [
    ({"PartialView": "YES"}, "a partial view"), ({"Modality": None}, "Modality is abs"),
    ({"SOPClassUID": None}, "SOP class is absent"),
    ({"ImageType": ["DERIVED", "PRIMARY", "TOMO_2D", "GENERATED_2D"]}, "a synthetic"),
])  # fmt: skip
def test_what_is_unusual_is_noted(tags, note):
    found = judge(header(**tags))
    assert found.reasons == ()
    assert [n for n in found.notes if n.startswith(note)]


@pytest.mark.parametrize("said,warned", [("YES", True), ("NO", False), ("", False)])
def test_burned_in_text_is_warned_of_where_the_header_says_so(said, warned):
    found = judge(header(BurnedInAnnotation=said))
    assert (found.burned_in, bool(found.notes)) == (warned, warned)
    assert judge(header(BreastImplantPresent="NO", PartialView="NO")).notes == ()

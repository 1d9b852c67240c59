"""A table of one's own images: what is read and how a wrong cell is named."""

import pytest

from dm_preprocess.generic import index
from dm_preprocess.sources import SourceError

HEAD = "path,label,patient_id,laterality,view"
LESION_HEAD = "path,abnormality,malignant,shape,geometry"


def make(folder, rows, *, head=HEAD, lesions=None, files=True, name="images.csv"):
    (folder / name).write_text("\n".join([head, *rows]) + "\n")
    if lesions is not None:
        (folder / "lesions.csv").write_text("\n".join([LESION_HEAD, *lesions]) + "\n")
    for row in rows if files else ():
        path = folder / row.split(",")[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def test_rows_become_images(tmp_path):
    src = make(tmp_path, ["x/a.png,1,p1,left,cc", "b.dcm,0,p2,R,MLO", "c.png,,p3,,"])
    images = index(src).images
    assert [i.image_id for i in images] == ["a", "b", "c"]
    assert [i.label for i in images] == [1, 0, None]
    assert [i.laterality for i in images] == ["L", "R", ""]
    assert [i.view for i in images] == ["CC", "MLO", ""]
    assert images[0].source_path == tmp_path / "x" / "a.png"


def test_optional_columns_are_used_and_others_kept(tmp_path):
    head = HEAD + ",split,spacing_mm,monochrome1,density,age,vendor,site"
    src = make(tmp_path, ["a.png,1,p,L,CC,val,0.07,1,B,61,ACME,north"], head=head)
    (image,) = index(src).images
    assert (image.split, image.spacing_mm, image.monochrome1) == ("val", 0.07, True)
    assert (image.density, image.age, image.vendor) == ("B", "61", "ACME")
    assert dict(image.extra) == {"site": "north"}


def test_ids_are_unique_and_safe_as_file_names(tmp_path):
    rows = ["a/1 x.png,0,p,L,CC", "b/1 x.png,0,q,L,CC", "ü../z.png,0,r,L,CC",
            "a_1_x_png.png,0,s,L,CC"]  # fmt: skip
    names = [i.image_id for i in index(make(tmp_path, rows)).images]
    assert len({name.lower() for name in names}) == 4
    assert all(name.replace("_", "").replace("-", "").isalnum() for name in names)
    assert names[0] == "a_1_x_png"


def test_an_image_id_column_is_taken(tmp_path):
    src = make(tmp_path, ["a.png,0,p,L,CC,film7"], head=HEAD + ",image_id")
    assert index(src).images[0].image_id == "film7"


def test_lesions_of_every_shape_are_read(tmp_path):
    lesions = [
        "a.png,mass,1,circle,10 20.5 3",
        "a.png,calc,0,box,1 2 3 4",
        "a.png,other,0,polygon,1 1 1 5 5 5",
        "a.png,mass,0,mask,m/a.png",
    ]
    (image,) = index(make(tmp_path, ["a.png,1,p,L,CC"], lesions=lesions)).images
    found = [(x.shape, x.geometry) for x in image.lesions]
    assert found == [
        ("circle", (10, 20.5, 3)), ("box", (1, 2, 3, 4)),
        ("polygon", (1, 1, 1, 5, 5, 5)), ("mask", (tmp_path / "m" / "a.png",)),
    ]  # fmt: skip
    assert [x.lesion_id for x in image.lesions] == ["a_1", "a_2", "a_3", "a_4"]
    assert [x.malignant for x in image.lesions] == [1, 0, 0, 0]


def test_another_table_by_name(tmp_path):
    src = make(tmp_path, ["a.png,0,p,L,CC"], name="mine.csv")
    assert len(index(src, table="mine.csv").images) == 1
    with pytest.raises(SourceError, match=r"images\.csv: no such table"):
        index(src)


def test_a_missing_file_fails_alone_and_index_only_needs_none(tmp_path):
    rows = ["a.png,0,p,L,CC", "b.png,0,p,R,CC"]
    src = make(tmp_path, rows, files=False)
    (tmp_path / "a.png").touch()
    source = index(src)
    assert [i.image_id for i in source.images] == ["a"]
    assert source.failed[0][0] == "b" and "no such file" in source.failed[0][1]
    assert len(index(src, index_only=True).images) == 2


@pytest.mark.parametrize("column", HEAD.split(","))
def test_a_missing_column_is_named(tmp_path, column):
    head = ",".join(c for c in HEAD.split(",") if c != column)
    with pytest.raises(SourceError, match=rf"line 1: missing column {column}; found"):
        index(make(tmp_path, ["a,b,c,d"], head=head))


@pytest.mark.parametrize(
    "row,message",
    [
        ("a.png,2,p,L,CC", r"line 3, column label: must be one of 0, 1, empty.*'2'"),
        ("a.png,1,,L,CC", r"line 3, column patient_id: must be given"),
        ("a.png,1,p,X,CC", r"line 3, column laterality: must be L, R or empty.*'X'"),
        (",1,p,L,CC", r"line 3, column path: must be given"),
        ("first.png,1,p,L,CC", r"line 3, column path: .*twice"),
        ("a.png,1,p,L", r"line 3: must have 5 cells, received 4"),
        ("a.png,1,p,L,CC,more", r"line 3: must have 5 cells, received more"),
    ],
)
def test_a_wrong_cell_is_named_by_file_line_and_column(tmp_path, row, message):
    src = make(tmp_path, ["first.png,0,q,L,CC", row], files=False)
    with pytest.raises(SourceError, match=r"images\.csv: " + message):
        index(src)


@pytest.mark.parametrize(
    "column,value,rule",
    [
        ("split", "dev", "one of train, val, test, empty"),
        ("spacing_mm", "wide", "a number"),
        ("spacing_mm", "0", "above 0"),
        ("spacing_mm", "nan", "a finite number"),
        ("monochrome1", "yes", "one of 0, 1, empty"),
    ],
)
def test_a_wrong_optional_cell_is_named(tmp_path, column, value, rule):
    src = make(tmp_path, [f"a.png,0,q,L,CC,{value}"], head=f"{HEAD},{column}")
    with pytest.raises(SourceError, match=f"line 2, column {column}: must be {rule}"):
        index(src)


@pytest.mark.parametrize(
    "row,message",
    [
        ("b.png,mass,1,circle,1 2 3", r"column path: must be an image's path"),
        ("a.png,lump,1,circle,1 2 3", r"column abnormality: must be one of mass, calc"),
        ("a.png,mass,,circle,1 2 3", r"column malignant: must be one of 0, 1"),
        ("a.png,mass,1,blob,1 2 3", r"column shape: must be one of mask, circle"),
        ("a.png,mass,1,circle,1 2", r"column geometry: must be 3 numbers.*'1 2'"),
        ("a.png,mass,1,circle,1 2 0", r"column geometry: .*radius above 0"),
        ("a.png,mass,1,box,1 2 x 4", r"column geometry: must be a number"),
        ("a.png,mass,1,box,5 2 5 4", r"column geometry: .*row0 < row1"),
        ("a.png,mass,1,polygon,1 2 3", r"column geometry: must be pairs"),
        ("a.png,mass,1,mask,", r"column geometry: must be the path of the mask"),
    ],
)
def test_a_wrong_lesion_is_named_by_file_line_and_column(tmp_path, row, message):
    src = make(tmp_path, ["a.png,1,p,L,CC"], lesions=[row])
    with pytest.raises(SourceError, match=r"lesions\.csv: line 2, " + message):
        index(src)


def test_no_row_at_all_is_refused(tmp_path):
    with pytest.raises(SourceError, match="has no row"):
        index(make(tmp_path, []))


def test_contradictions_are_reported(tmp_path):
    src = make(
        tmp_path, ["a.png,0,p,L,CC,train", "b.png,0,p,R,CC,test"], head=HEAD + ",split",
        lesions=["a.png,mass,1,circle,1 2 3"],
    )  # fmt: skip
    kinds = {o.kind: o.where for o in index(src).oddities}
    assert kinds == {"label against lesion": "a", "patient in several splits": "p"}

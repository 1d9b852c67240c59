import numpy as np
from desk_support import SIZE, contract, write_images

from dm_preprocess.phantom_dicom import make_uid, write_dicom
from dm_training import reading
from dm_training.reading import readable
from dm_training.scorers import prepare
from dm_training.scoring import samples_of_paths


def test_files_are_read_when_asked_for_and_not_held(tmp_path, monkeypatch):
    """Files of any format once lay in memory, all of them."""
    images = write_images(tmp_path, 3, size=(96, 80))
    pixels = np.arange(96 * 80, dtype=np.uint16).reshape(96, 80) % 4096
    uids = tuple(make_uid(part) for part in "abc")
    write_dicom(tmp_path / "a.dcm", pixels, bits_stored=12, uids=uids)
    (tmp_path / "bad.png").write_bytes(b"no image")
    samples = samples_of_paths([str(tmp_path)], "test")
    store, left, failed = readable(samples, contract())
    assert [name for name, _ in failed] == ["bad.png"] and len(left) == 4
    read, plain = [], reading.read_grey
    monkeypatch.setattr(
        reading, "read_grey", lambda path, **o: read.append(path) or plain(path, **o)
    )
    for _ in range(2):
        at = left.paths.index(str(images[1]))
        expected = prepare(plain(images[1]), contract())
        np.testing.assert_array_equal(store.read(at), expected)
    assert len(read) == 2 and expected.shape == SIZE
    assert (store.height, store.width) == SIZE


def test_a_table_of_pngs_is_prepared_as_any_other_files(image_set):
    """Whatever the contract says of levels and cuts holds for them too."""
    own = contract((24, 20), grey="auto-level")
    store, left, failed = readable(samples_of_paths([str(image_set)], "test"), own)
    expected = prepare(reading.read_grey(left.paths[0]), own)
    np.testing.assert_array_equal(store.read(0), expected)
    assert failed == [] and expected.max() > 55000  # 20000 or so before the stretch


def test_without_a_size_in_the_contract_files_keep_their_own(image_set):
    samples = samples_of_paths([str(image_set)], "test")
    store, _, _ = readable(samples, contract(None))
    assert (store.height, store.width) == store.read(0).shape == (48, 40)

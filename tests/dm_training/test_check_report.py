"""What `dm-check` prints of images that no preparation can mend."""

from dm_training import check_report, grey_stats
from dm_training.check_rules import CAUSES, Checked


def test_what_no_model_should_judge_gets_no_advice_on_its_preparation():
    row = dict.fromkeys(grey_stats.STATISTICS, 1.0)
    one = Checked("a", row, [], ("cropped", "8-bit"), ("a cut-out of a lesion",), True)
    two = Checked("b", row, [], ("8-bit",))
    trained = {"low": 1.0, "median": 1.0, "high": 1.0}
    stored = {"images": 500, "statistics": dict.fromkeys(row, trained)}
    said = "\n".join(check_report.lines([one, two], stored))
    at = said.index("What the files say:\n- a cut-out of a lesion: a")
    assert at < said.index("What to do:\n- 1 of 2 images: no model should judge them")
    assert CAUSES["cropped"].cure not in said
    assert f"- 1 of 2 images: {CAUSES['8-bit'].what}" in said

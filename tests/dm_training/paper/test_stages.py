from collections import Counter
from pathlib import Path

import pytest

from dm_models.published import FOUR_BEST, IMAGE_ROWS, PATCH_ROWS
from dm_training.paper import rows, scales
from dm_training.paper.stages import Settings, build_plan

ALL = tuple(rows.PARTS)
REAL = Settings(scales.PAPER, cbis_ddsm=Path("/data/cbis"), inbreast=Path("/data/in"))
DEMO = Settings(scales.DEMO)
TABLE_ROWS = [row.name for row in IMAGE_ROWS if row.source.startswith("Table")]


def named(plan, kind):
    return [s.name.split(".", 1)[1] for s in plan if s.name.startswith(f"{kind}.")]


def words(plan, name):
    return next(stage for stage in plan if stage.name == name).text()


def test_every_row_of_tables_1_to_3_is_trained_at_the_papers_scale():
    plan = build_plan(REAL, ALL)
    assert named(plan, "patch") == [row.name for row in PATCH_ROWS]
    assert named(plan, "whole") == TABLE_ROWS
    assert len(TABLE_ROWS) == 21  # 12 of Table 2 and 9 of Table 3


def test_the_demo_trains_six_rows_and_builds_every_one():
    plan = build_plan(DEMO, ALL)
    assert named(plan, "patch") == ["resnet50-s10", "vgg16-s10"]
    assert set(named(plan, "whole")) == set(FOUR_BEST.values())
    built = words(plan, "rehearsal").split()
    assert {row.name for row in PATCH_ROWS} | set(TABLE_ROWS) <= set(built)


@pytest.mark.parametrize("settings", [REAL, DEMO], ids=["paper", "demo"])
@pytest.mark.parametrize("part", ALL)
def test_each_part_alone_is_a_plan_in_which_needs_come_first(settings, part):
    plan, seen = build_plan(settings, (part,)), set()
    assert max(Counter(stage.name for stage in plan).values()) == 1
    for stage in plan:
        assert set(stage.needs) <= seen, stage.name
        seen.add(stage.name)


def test_table_3_alone_needs_vgg16_and_no_digital_image():
    plan = build_plan(REAL, ("table3",))
    assert named(plan, "patch") == ["vgg16-s10"]
    assert all(name.startswith("vgg16") for name in named(plan, "whole"))
    assert len(named(plan, "whole")) == 9
    others = {stage.name.split(".")[0] for stage in plan} - {"patch", "whole"}
    assert others == {"film", "patches"}


def test_the_s1_row_stands_on_s1_patches():
    plan = build_plan(REAL, ("table2",))
    name = "whole.resnet50-s1-512-512-2048x1"
    (stage,) = [s for s in plan if s.name == name]
    assert stage.needs == ("patch.resnet50-s1",)
    assert "patches/s1/patches.csv" in words(plan, "patch.resnet50-s1")
    assert "--recipe s1 " in words(plan, "patches.s1")


def test_random_rows_start_from_no_weights_and_others_from_the_given_file():
    settings = Settings(scales.PAPER, cbis_ddsm=Path("/x"),
                        weights={"resnet50": "/w/resnet.h5"})  # fmt: skip
    plan = build_plan(settings, ("table1",))
    assert "--weights /w/resnet.h5" in words(plan, "patch.resnet50-s10")
    assert "--weights" not in words(plan, "patch.resnet50-s10-random")
    assert "--recipe resnet50-s10-random" in words(plan, "patch.resnet50-s10-random")
    assert "--weights" not in words(plan, "patch.vgg16-s10")


def test_rows_go_beyond_50_epochs_where_the_papers_did():
    plan = build_plan(REAL, ("table2", "table3"))
    longer = {n for n in named(plan, "whole")
              if "--all-layer-epochs 250" in words(plan, f"whole.{n}")}  # fmt: skip
    assert longer == {row.name for row in IMAGE_ROWS if (row.epochs or 0) > 50}
    assert len(longer) == 6  # all of Table 3 but its FC rows


def test_the_official_split_is_one_setting_and_touches_the_film_alone():
    official = Settings(scales.PAPER, Path("/c"), Path("/i"), split="official")
    plan = build_plan(official, ("table4",))
    assert "--scheme official" in words(plan, "film.split")
    assert "--test-share" not in words(plan, "film.split")
    assert "--scheme paper --test-share 0.3" in words(plan, "digital.split")


def test_the_papers_shares_and_sizes():
    plan = build_plan(REAL, ALL)
    split = words(plan, "film.split")
    assert "--test-share 0.15" in split and "--val-share 0.1 " in split
    assert "--size 1152 896" in words(plan, "film.convert")
    assert "--recipe s10 --size 224" in words(plan, "patches.s10")
    assert "--sizes 20 30 40 50 60 --skip-larger" in words(
        plan, "curve.vgg16-s10-256x1+128x1"
    )


def test_the_demos_two_stand_ins_differ_in_their_seed():
    plan = build_plan(Settings(scales.DEMO, seed=7), ("table1",))
    assert "--net squeezenet --recipe squeezenet-s5" in words(plan, "patch.vgg16-s10")
    assert "--seed 7 " in words(plan, "patch.resnet50-s10")
    assert "--seed 8 " in words(plan, "patch.vgg16-s10")


def test_a_stand_in_is_called_by_its_own_name():
    assert scales.DEMO.net_used("vgg16-s10") == "SqueezeNet B, S5, 64 px"
    assert scales.PAPER.net_used("vgg16-s10-512x1") == "VGG16, S10, 224 px"
    assert scales.DEMO.stand_in_words(7) == (
        "SqueezeNet A (seed 7) for ResNet50, SqueezeNet B (seed 8) for VGG16"
    )
    assert scales.PAPER.stand_in_words(7) == ""


def test_phantoms_are_made_only_where_no_data_is_given():
    given = Settings(scales.DEMO, cbis_ddsm=Path("/c"))
    assert build_plan(given, ("table1",))[0].name == "film.convert"
    assert build_plan(DEMO, ("table1",))[0].name == "phantoms"
    plan = build_plan(given, ("table4",))
    assert plan[0].name == "phantoms"  # for the digital images
    assert "bin/07_convert_inbreast.sh raw/inbreast" in words(plan, "digital.convert")


def test_the_ensembles_are_of_the_four_best():
    plan = build_plan(REAL, ("ensemble",))
    assert named(plan, "ensemble") == ["film", "digital"]
    for row in FOUR_BEST.values():
        assert f"whole/{row}" in words(plan, "ensemble.film")
        assert f"tuned/{row}" in words(plan, "ensemble.digital")
    assert {row.name for row in IMAGE_ROWS if row.best} == set(FOUR_BEST.values())
    assert "--min-samples-split 300" in words(plan, "forest")


def test_trainings_go_on_where_they_were_killed_and_keep_to_one_device():
    for stage in build_plan(REAL, ALL):
        if stage.name.split(".")[0] in ("patch", "whole", "tuned"):
            assert stage.again == ("--resume",)
            assert "--distribute none" in stage.text()

import pytest

from dm_models import tops, tops_table
from dm_models.published import IMAGE_ROWS, PATCH_ROWS, image_row, patch_row
from dm_models.tops import parse_top


def test_a_row_is_counted_on_the_built_network(capsys):
    """512 x 1 on VGG16, by hand: two 3x3 convolutions with bias and batch norm.

    14,714,688 + 2 (9 * 512 * 512 + 512 + 4 * 512) + 512 * 2 + 2 = 19,439,426.
    """
    (row,) = tops_table.rows(["vgg16-s10-512x1"])
    assert row.parameters == 19_439_426
    assert (row.backbone_map, row.heatmap) == ((36, 28, 512), None)
    assert row.last_map == (9, 7, 512)
    # 212 pixels, step 32; + 2 * 32, pooling + 32, step 64; + 2 * 64, pooling + 64.
    assert row.field == 212 + 64 + 32 + 128 + 64
    assert row.published.auc == 0.83
    assert tops.main(["vgg16-s10-512x1"]) == 0
    header, line = capsys.readouterr().out.splitlines()
    assert header.split()[0] == "recipe"
    assert "19,439,426" in line and "36 x 28 x 512" in line


def test_the_yaroslav_net_has_its_published_heatmap_and_size():
    """5,904,357 with its patch head; the top on 3 x 2 x 5 pooled cells adds 808."""
    (row,) = tops_table.rows(["yaroslav-s10-hm-pool5-fc16-8"])
    assert (row.backbone_map, row.heatmap) == ((18, 14, 512), (16, 12, 5))
    assert row.last_map == (3, 2, 5)
    # 30 * 16 + 16 + 64, 16 * 8 + 8 + 32, 8 * 2 + 2, and the shortcut's 30 * 2 + 2
    assert row.parameters == 5_904_357 + 560 + 168 + 18 + 62


@pytest.mark.slow
def test_every_row_of_the_paper_is_built():
    found = {row.name: row for row in tops_table.rows()}
    assert list(found) == [row.name for row in IMAGE_ROWS]
    assert found["resnet50-s10-512-512-1024x2"].parameters == 40_942_466


def test_rows_are_named_once_and_print_back():
    names = [row.name for row in (*IMAGE_ROWS, *PATCH_ROWS)]
    assert len(set(names)) == len(names) == 27
    for row in IMAGE_ROWS:
        top = row.name.split("-", 2)[2]
        assert str(parse_top(top)) == top
        assert str(parse_top(parse_top(top).notation)) == top
    assert sum(row.best for row in IMAGE_ROWS) == 4


def test_a_row_is_found_by_its_name():
    assert image_row("resnet50-s10-256x1+128x1").augmented_auc == 0.88
    assert patch_row("resnet50-s10-random").accuracy == 0.63
    assert image_row("resnet50-s10-7x1") is None and patch_row("vgg16-s1") is None


@pytest.mark.parametrize("name", ["vgg16", "lenet-s10-512x1", "vgg16-s10-fire"])
def test_a_name_that_is_no_recipe_is_status_2(name, capsys):
    assert tops.main([name]) == 2
    assert capsys.readouterr().err.startswith("error: ")

import pytest

from dm_models.tops import (
    Block,
    Top,
    TopError,
    parse_top,
    top_from_flags,
    top_map_size,
)

ROWS = [
    ("512-512-2048x1", "[512-512-2048]x1"),
    ("512-512-1024x2", "[512-512-1024]x2"),
    ("256-256-256x1+128-128-128x1", "[256-256-256]x1+[128-128-128]x1"),
    ("256-256-512x3+128-128-256x3", "[256-256-512]x3+[128-128-256]x3"),
    ("256x1+128x1", "256x1+128x1"),
    ("512x3", "512x3"),
    ("hm+512-512-1024x2", "hm+[512-512-1024]x2"),
    ("hm+64-64-256x2+128-128-512x2", "hm+[64-64-256]x2+[128-128-512]x2"),
    ("hm-pool5-fc64-32", "hm-pool5-fc64-32"),
    ("hm-pool1-fc2048-1024-noshortcut", "hm-pool1-fc2048-1024-noshortcut"),
    ("64-64-128x1", "[64-64-128]x1"),
    ("512x1+256x1+128x1", "512x1+256x1+128x1"),
    ("256x1+128x1+shortcut-pool5", "256x1+128x1+shortcut-pool5"),
]


@pytest.mark.parametrize(("shell", "paper"), ROWS, ids=[row[0] for row in ROWS])
def test_both_forms_are_read_and_printed_back_unchanged(shell, paper):
    assert str(parse_top(shell)) == shell
    assert parse_top(shell).notation == paper
    assert parse_top(paper) == parse_top(shell)


def test_blanks_as_the_paper_prints_them_do_not_matter():
    top = parse_top("[256-256-256] × 1 + [128-128-128] x 1")
    assert top.blocks == (Block((256, 256, 256), 1), Block((128, 128, 128), 1))


def test_one_block_means_two_alike():
    assert parse_top("512x3").blocks == (Block((512,), 3),) * 2


@pytest.mark.parametrize(
    "text",
    ["", "512", "512-512x2", "512x", "hm+", "256x1+", "fc64-32", "hm-pool5-fc"],
)
def test_what_is_no_top_is_refused_with_examples(text):
    with pytest.raises(TopError, match="a top looks like 512-512-1024x2"):
        parse_top(text)


def test_a_heatmap_with_nothing_behind_it_is_refused():
    with pytest.raises(TopError, match="either blocks or FC layers"):
        parse_top("hm")


def test_a_top_of_zero_channels_is_refused():
    with pytest.raises(TopError, match="at least 1"):
        parse_top("0x1+128x1")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "either blocks or FC"),
        ({"blocks": (Block((8,), 1),)}, "at least two blocks, received only 8x1"),
        ({"fc": (8,)}, "max-pooled for FC"),
    ],
    ids=["nothing", "one block", "FC without pooling"],
)
def test_an_impossible_top_is_refused(fields, said):
    with pytest.raises(TopError, match=said):
        Top(**fields)


@pytest.mark.parametrize(
    ("flags", "shell"),
    [
        (
            {"depths": (512, 512), "repetitions": (2, 2), "enlarge": 2},
            "512-512-1024x2",
        ),
        (
            {"block_type": "vgg", "depths": (256, 128), "repetitions": (1, 1)},
            "256x1+128x1",
        ),
        (
            {
                "depths": (64, 128),
                "repetitions": (2, 2),
                "enlarge": 4,
                "add_heatmap": True,
            },
            "hm+64-64-256x2+128-128-512x2",
        ),
        ({"add_conv": False, "add_shortcut": True}, "hm-pool5-fc64-32"),
        (
            {"add_conv": False, "hm_pool_size": 2, "fc_init_units": 512},
            "hm-pool2-fc512-256-noshortcut",
        ),
        (
            {
                "block_type": "vgg",
                "depths": (8, 4),
                "repetitions": (1, 1),
                "add_shortcut": True,
            },
            "8x1+4x1+shortcut-pool5",
        ),
    ],
    ids=["resnet", "vgg", "heatmap", "fc", "no shortcut", "blocks and shortcut"],
)
def test_the_authors_flags_name_the_same_tops(flags, shell):
    assert str(top_from_flags(**flags)) == shell


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"depths": (512,), "repetitions": (1, 1)}, "one number a block each"),
        ({"block_type": "dense"}, "resnet or vgg, received 'dense'"),
    ],
    ids=["lengths", "type"],
)
def test_flags_that_do_not_fit_are_refused(flags, said):
    with pytest.raises(TopError, match=said):
        top_from_flags(**flags)


@pytest.mark.parametrize(
    ("text", "side", "left"),
    [
        ("512-512-1024x2", 36, 9),  # 36 -> 18 -> 9
        ("512-512-1024x2", 1, 1),  # rounds up
        ("256x1+128x1", 28, 7),
        ("256x1+128x1", 3, 0),  # 3 -> 1 -> 0
        ("hm+512-512-1024x2", 36, 8),  # 36 -> 30 -> 15 -> 8
        ("hm+512-512-1024x2", 6, 0),  # smaller than the patch's map of 7
        ("hm-pool5-fc64-32", 36, 6),  # 30 // 5
        ("256x1+128x1+shortcut-pool5", 10, 0),  # 4 // 5
        ("256x1+128x1+shortcut-pool5", 11, 2),  # the blocks': 11 -> 5 -> 2
    ],
)
def test_map_sizes_follow_from_the_notation(text, side, left):
    assert top_map_size(parse_top(text), side, heatmap_pool=7) == left

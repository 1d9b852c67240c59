import pytest

from dm_models.published import IMAGE_ROWS, PATCH_ROWS
from dm_models.tops import parse_top
from dm_training import recipes


def test_the_papers_patch_schedule_on_s10():
    stages = recipes.patch_recipe("resnet50", "s10").stages
    assert [(s.train_from, s.learning_rate, s.epochs) for s in stages] == [
        ("top", 1e-3, 3), ("conv3_block2", 1e-4, 10), ("all", 1e-5, 37),
    ]  # fmt: skip
    assert recipes.patch_recipe("vgg16").stages[1].train_from == "block4_conv1"


def test_the_papers_patch_schedule_on_s1_takes_200_epochs_in_all():
    assert sum(s.epochs for s in recipes.patch_recipe("vgg16", "s1").stages) == 200


def test_the_papers_whole_image_schedule():
    recipe = recipes.image_recipe("resnet50-s10-512-512-1024x2")
    assert (recipe.height, recipe.width, recipe.batch_size) == (1152, 896, 2)
    assert [(s.learning_rate, s.epochs, s.weight_decay) for s in recipe.stages] == [
        (1e-4, 30, 1e-3), (1e-5, 20, 1e-2),
    ]  # fmt: skip
    assert recipe.published_auc == 0.85


@pytest.mark.parametrize("name", [row.name for row in IMAGE_ROWS])
def test_every_published_row_parses_and_its_top_prints_back(name):
    recipe = recipes.image_recipe(name)
    assert str(parse_top(recipe.top)) == recipe.top


@pytest.mark.parametrize("name", ["resnet50", "resnet50-512x1", "lenet-s10-512x1"])
def test_a_name_that_is_no_recipe_lists_what_is_known(name):
    with pytest.raises(recipes.RecipeError, match="resnet50"):
        recipes.image_recipe(name)


def test_fine_tuning_trains_all_layers_from_the_start():
    recipe = recipes.fine_tuned(recipes.image_recipe("vgg16-s10-512x1"))
    assert [s.epochs for s in recipe.stages] == [0, 200]
    assert recipe.stages[1].learning_rate == 1e-5


@pytest.mark.parametrize("name", [row.name for row in PATCH_ROWS])
def test_every_row_of_table_1_is_a_recipe(name):
    recipe = recipes.parse_patch_recipe(name)
    assert recipe.name == name
    rates = {(stage.train_from, stage.learning_rate) for stage in recipe.stages}
    assert recipe.pretrained == (len(rates) == 3)
    if name.endswith("random"):
        assert rates == {("all", 1e-3)}  # throughout


@pytest.mark.parametrize(
    "name", ["resnet50", "resnet50-s10-512", "resnet50-10", "resnet50-s0", "lenet-s1"]
)
def test_a_name_that_is_no_patch_recipe_is_refused(name):
    with pytest.raises(recipes.RecipeError, match="resnet50"):
        recipes.parse_patch_recipe(name)


def test_the_list_shows_every_row_with_its_figure():
    lines = recipes.list_recipes().splitlines()
    for row in IMAGE_ROWS:
        (line,) = [line for line in lines if line.split()[:1] == [row.name]]
        assert (f"{row.auc:.2f}" if row.auc else " - ") in line
    (line,) = [x for x in lines if x.split()[:1] == ["resnet50-s10"]]
    assert "0.89" in line and "10 x conv3_block2 0.0001" in line


def test_every_net_has_a_schedule():
    for net in recipes.NETS:
        stages = recipes.patch_recipe(net).stages
        assert [stage.name for stage in stages] == ["head", "upper", "all"]

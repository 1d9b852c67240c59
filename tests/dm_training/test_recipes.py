import pytest

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


@pytest.mark.parametrize("name", sorted(recipes.PUBLISHED_AUC))
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

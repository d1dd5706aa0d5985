import hashlib
import shutil
import zipfile

import numpy as np
import pytest
import tifffile
from PIL import Image

from cyclegan_tf.config import Config
from cyclegan_tf.data import pairing, sources
from cyclegan_tf.errors import UserError
from cyclegan_tf.images import codec, stack_files


@pytest.fixture
def folder(tmp_path, make_images):
    for split, count in (("trainA", 3), ("trainB", 5), ("testA", 2), ("testB", 2)):
        make_images(tmp_path / "set" / split, count)
    return tmp_path / "set"


# SHA-256 of the names and contents of all images, in order.
@pytest.mark.parametrize(("name", "counts", "side", "has_pairs", "digest"), [
    ("demo", [300, 137, 31, 31], 192, False, "9f840fd952b3c53493a169b80e86d46a4401736746b1e8868e0926fce8e94be2"),
    ("demo_maps", [186, 208, 51, 51], 128, True, "76c8e05f71d8dc6680ae1215ce774b4ff63f3dc47cc454b3c231fac9ec9bba70"),
], ids=["demo", "demo_maps"])
def test_demo_sets_have_the_documented_images(name, counts, side, has_pairs, digest):
    demo = sources.open_dataset(Config(dataset=name))
    assert [len(part) for part in demo.parts.values()] == counts
    assert demo.has_pairs == has_pairs
    found = hashlib.sha256()
    for part in demo.parts.values():
        assert part.decode(0).shape == (side, side, 3)
        for index, image in enumerate(part.names):
            found.update(image.encode() + part.read(index))
    assert found.hexdigest() == digest


def test_demo_keeps_to_its_size_and_carries_the_notice_of_its_photographers():
    sizes = {part: sum(path.stat().st_size for path in (sources.DEMO_DIR / part).iterdir())
             for part in ("trainA", "trainB", "testA", "testB")}
    assert 3_900_000 < sizes["trainA"] + sizes["trainB"] <= 4_000_000
    assert sizes["testA"] + sizes["testB"] < 1_000_000
    assert "Copyright (c) 2019 Marcus Klasson\n\nPermission is hereby" in (sources.DEMO_DIR / "LICENSE").read_text()
    assert "Klasson, Marcus and Zhang, Cheng and Kjellstr" in (sources.DEMO_DIR / "README.md").read_text()
    trained = {path.name for part in ("trainA", "trainB") for path in (sources.DEMO_DIR / part).iterdir()}
    assert trained.isdisjoint(path.name for part in ("testA", "testB") for path in (sources.DEMO_DIR / part).iterdir())


def test_the_package_stays_small():
    package = sources.DEMO_DIR.parents[1]
    files = [path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert sum(path.stat().st_size for path in files) < 16_000_000


def test_demo_pairs_has_different_places_for_training_and_testing():
    demo, pairs = (sources.open_dataset(Config(dataset=name)) for name in ("demo_maps", "demo_pairs"))
    pairing.require_training_pairs(pairs, Config(model="pix2pix"))
    assert pairs.has_pairs
    assert sorted(pairs.train_a.names + pairs.test_a.names) == sorted(demo.test_a.names)
    places = [{name.split("_")[0] for name in part.names} for part in (pairs.train_b, pairs.test_b)]
    assert places[0].isdisjoint(places[1])
    for part, whole in ((pairs.train_a, demo.test_a), (pairs.test_b, demo.test_b)):
        for index in (0, len(part) - 1):
            assert part.read(index) == whole.read(list(whole.names).index(part.names[index]))


def test_folder_lists_images_in_subfolders_and_no_other_files(folder, make_images):
    make_images(folder / "trainA" / "inner folder", 1, suffix=".JPeG")
    for other in (".DS_Store", "notes.txt", ".hidden.png", "Thumbs.db"):
        (folder / "trainA" / other).write_bytes(b"x")
    train_a = sources.open_folder(folder).train_a
    assert train_a.names == ["000.png", "001.png", "002.png", "inner folder/000.JPeG"]
    assert train_a.read(1) == (folder / "trainA" / "001.png").read_bytes()


def test_zip_has_the_images_of_the_folder(folder, tmp_path):
    expected = sources.open_folder(folder)
    for top in ("", "horse2zebra/"):
        path = tmp_path / f"archive{len(top)}.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for file in sorted(folder.rglob("*.png")):
                archive.write(file, f"{top}{file.relative_to(folder)}")
            archive.writestr(f"{top}__MACOSX/trainA/._000.png", b"x")
        dataset = sources.open_dataset(Config(dataset=str(path)))
        assert list(dataset.train_a.names) == list(expected.train_a.names)
        assert dataset.train_b.read(4) == expected.train_b.read(4)
        assert dataset.has_pairs


def test_halves_of_side_by_side_images_have_equal_widths(tmp_path):
    (tmp_path / "train").mkdir()
    columns = np.arange(5, dtype=np.uint8)
    Image.fromarray(np.tile(columns[:, np.newaxis], (2, 1, 3))).save(tmp_path / "train" / "0.png")
    dataset = sources.open_folder(tmp_path)
    assert dataset.train_a.decode(0)[0, :, 0].tolist() == [0, 1]
    assert dataset.train_b.decode(0)[0, :, 0].tolist() == [2, 3]


def test_missing_domain_is_an_error_that_names_the_folder(folder):
    for file in (folder / "trainB").iterdir():
        file.unlink()
    with pytest.raises(UserError, match=f"no images in {folder}/trainB"):
        sources.open_folder(folder)


@pytest.mark.parametrize("name", ["trainA", "testB/"])
def test_a_single_domain_is_an_error_that_names_the_data_set(folder, name):
    with pytest.raises(UserError, match=f"is one folder of a data set; give the folder that holds .*: {folder}$"):
        sources.open_folder(folder / name)


@pytest.mark.parametrize("splits", [("testA", "testB"), ("testA", "trainB")])
def test_held_out_images_are_enough_without_training(folder, splits):
    for split in {"trainA", "trainB", "testA", "testB"} - set(splits):
        shutil.rmtree(folder / split)
    dataset = sources.open_folder(folder, needs_training=False)
    assert {name for name, found in dataset.parts.items() if found} == set(splits)
    with pytest.raises(UserError, match=f"no images in {folder}/trainA: .* folders trainA and trainB"):
        sources.open_folder(folder)
    shutil.rmtree(folder / splits[1])
    with pytest.raises(UserError, match=f"no images in {folder}/testB and {folder}/trainB: .* testA and testB, or"):
        sources.open_folder(folder, needs_training=False)


def test_held_out_images_side_by_side_are_enough_without_training(tmp_path):
    (tmp_path / "val").mkdir()
    Image.new("RGB", (8, 4)).save(tmp_path / "val" / "0.png")
    dataset = sources.open_folder(tmp_path, needs_training=False)
    assert (len(dataset.test_a), dataset.test_a.half, dataset.test_b.half) == (1, "left", "right")
    assert not dataset.train_a
    with pytest.raises(UserError, match=f"no images in {tmp_path}/trainA"):
        sources.open_folder(tmp_path)


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("names", ["AB", "ab"])
def test_folders_of_domains_are_not_images_side_by_side(tmp_path, make_images, names, split):
    for name in names:
        make_images(tmp_path / split / name, 2)
    message = rf"{split} has folders {names[0]} and {names[1]}, but .*; move them to the folders trainA and trainB, or"
    with pytest.raises(UserError, match=message):
        sources.open_folder(tmp_path, needs_training=split == "train")
    (tmp_path / split / names[1]).rename(tmp_path / split / "more")
    opened = sources.open_folder(tmp_path, needs_training=split == "train")
    assert opened.get_images(split, "a").half == "left"


def test_unknown_dataset_is_an_error(tmp_path):
    with pytest.raises(UserError, match=r"--dataset=horse2zbra: no such folder or \.zip file; expected .* demo"):
        sources.open_dataset(Config(dataset="horse2zbra"))
    (tmp_path / "broken.zip").write_bytes(b"PK nothing")
    with pytest.raises(UserError, match=r"broken\.zip is neither a folder nor a readable \.zip .*; give"):
        sources.open_dataset(Config(dataset=str(tmp_path / "broken.zip")))


@pytest.mark.parametrize("name", ["demo", "demo_maps", "demo_pairs"])
@pytest.mark.parametrize("entry", ["trainA", "testA", "other"])
def test_a_demo_set_with_the_name_of_a_local_data_set_is_warned_about(name, entry, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name / entry).mkdir(parents=True)
    assert len(sources.find_dataset(name).train_a) >= 40
    warning = f"--dataset={name} is the data set in the package; give ./{name} for the folder here"
    assert caplog.messages == ([] if entry == "other" else [warning])
    with pytest.raises(UserError, match=rf"no images in \./{name}/trainA"):
        sources.find_dataset(f"./{name}")


def test_direction_b2a_swaps_the_domains_but_not_the_channels(folder):
    options = {"dataset": str(folder), "input_channels": 1, "lambda_identity": 0.0}
    forth, back = (sources.open_dataset(Config(direction=direction, **options)) for direction in ("a2b", "b2a"))
    assert (len(forth.train_a), len(forth.train_b)) == (3, 5)
    assert (len(back.train_a), len(back.train_b)) == (5, 3)
    assert back.test_a.where.endswith("testB")
    assert [domain.channels for domain in (back.train_a, back.train_b, back.test_a, back.test_b)] == [1, 3, 1, 3]
    assert back.train_a.load(0).shape == (24, 24, 1)


def test_max_dataset_size_keeps_the_first_names(folder):
    small = sources.open_dataset(Config(dataset=str(folder), max_dataset_size=2))
    assert [list(part.names) for part in (small.train_a, small.train_b)] == [["000.png", "001.png"]] * 2
    assert len(sources.open_dataset(Config(dataset=str(folder), max_dataset_size=4)).train_a) == 3


@pytest.mark.parametrize("name_b", ["a.tif", "b.tif"], ids=["pairs", "no pairs"])
def test_each_file_of_slices_is_opened_once_to_list_them(folder, monkeypatch, name_b):
    opened = []
    open_stack = stack_files.open_stack
    monkeypatch.setattr(stack_files, "open_stack", lambda function, name, options: (
        opened.append(name) or open_stack(function, name, options)))
    for split, name in (("testA", "a.tif"), ("testB", name_b)):
        shutil.rmtree(folder / split)
        (folder / split).mkdir()
        tifffile.imwrite(folder / split / name, np.zeros((3, 4, 4), np.uint8), photometric="minisblack")
    dataset = sources.open_dataset(Config(dataset=str(folder), max_dataset_size=2))
    assert (len(dataset.test_a), len(dataset.test_b)) == (2, 2)
    assert [name for name in opened if name.endswith(".tif")] == ["a.tif", name_b]


def test_lists_of_a_dataset_share_their_bad_images(folder):
    (folder / "testB" / "001.png").write_bytes(b"")
    dataset = sources.open_dataset(Config(dataset=str(folder)))
    assert dataset.test_b.load(1) is None
    assert list(dataset.bad.reasons) == [f"{folder}/testB/001.png"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_archive_with_two_images_of_a_name_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for name in ("trainA/0.png", "trainB/0.png", "trainA/0.png"):
            archive.writestr(name, codec.encode_png(np.zeros((4, 4, 3), np.uint8)))
    with pytest.raises(UserError, match=r"set\.zip/trainA contains two images called '0\.png'; pack the archive again"):
        sources.find_dataset(str(tmp_path / "set.zip"))

"""Labelled pictures in all their forms."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from openkpu.errors import InputError, SetupError
from openkpu.evaluation.dataset import Truth, load_classes, load_objects


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (100, 50)).save(path)
    return path


def test_folders_by_name_number_and_label(tmp_path: Path) -> None:
    cat, dog = picture(tmp_path / "cat" / "a.png"), picture(tmp_path / "dog" / "deep" / "b.jpg")
    (tmp_path / "cat" / "notes.md").write_text("no picture")
    found = load_classes(tmp_path)
    assert [(i.path, i.label) for i in found.items] == [(cat, 0), (dog, 1)]
    assert found.labels == ("cat", "dog")
    assert [i.label for i in load_classes(tmp_path, ["bird", "dog", "cat"]).items] == [2, 1]
    with pytest.raises(InputError, match="E461") as caught:
        load_classes(tmp_path, ["bird", "cat"])
    assert "'dog'" in str(caught.value)
    numbers = tmp_path / "numbers"
    picture(numbers / "3" / "x.png")
    found = load_classes(numbers)
    assert ([i.label for i in found.items], found.labels) == ([3], ("0", "1", "2", "3"))


def test_a_list(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    picture(tmp_path / "b.png")
    (tmp_path / "labels.csv").write_text("file,label\na.png, dog\nb.png,cat\n")
    found = load_classes(tmp_path)
    assert [(i.path.name, i.label) for i in found.items] == [("a.png", 1), ("b.png", 0)]
    (tmp_path / "labels.csv").write_text("a.png\n")
    with pytest.raises(InputError, match="line 1"):
        load_classes(tmp_path)
    (tmp_path / "labels.csv").write_text("c.png,dog\n")
    with pytest.raises(SetupError, match=r"c\.png"):
        load_classes(tmp_path)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="E460"):
        load_classes(tmp_path)
    with pytest.raises(InputError, match="E460"):
        load_objects(tmp_path)
    with pytest.raises(SetupError, match="E510"):
        load_classes(tmp_path / "absent")


def coco(tmp_path: Path, **changes: object) -> Path:
    picture(tmp_path / "images" / "a.jpg")
    data: dict[str, object] = {
        "images": [{"id": 7, "file_name": "a.jpg", "width": 100, "height": 50}],
        "categories": [{"id": 90, "name": "car"}, {"id": 3, "name": "dog"}],
        "annotations": [
            {"image_id": 7, "category_id": 90, "bbox": [10, 5, 20, 10]},
            {"image_id": 7, "category_id": 3, "bbox": [0, 0, 100, 50], "iscrowd": 1},
        ],
    }
    file = tmp_path / "instances.json"
    file.write_text(json.dumps(data | changes))
    return file


def test_coco(tmp_path: Path) -> None:
    coco(tmp_path)
    found = load_objects(tmp_path)
    assert found.labels == ("dog", "car")
    (item,) = found.items
    assert item.objects == (Truth(1, (0.1, 0.1, 0.3, 0.3)), Truth(0, (0.0, 0.0, 1.0, 1.0), ignore=True))


@pytest.mark.parametrize(
    "changes",
    [{"images": 3}, {"annotations": [{"image_id": 9, "category_id": 3, "bbox": [0, 0, 1, 1]}]}, {"categories": [{}]}],
)
def test_damaged_coco(tmp_path: Path, changes: dict[str, object]) -> None:
    file = coco(tmp_path, **changes)
    with pytest.raises(InputError, match="E462"):
        load_objects(tmp_path, file)
    file.write_text("{" * 100_000)
    with pytest.raises(InputError, match="E462"):
        load_objects(tmp_path, file)


@pytest.mark.parametrize("box", [[0, 0, float("nan"), 1], [float("inf"), 0, 1, 1]])
def test_a_coco_box_is_finite(tmp_path: Path, box: list[float]) -> None:
    file = coco(tmp_path, annotations=[{"image_id": 7, "category_id": 3, "bbox": box}])
    with pytest.raises(InputError, match=r"E462[\s\S]*is not a number"):
        load_objects(tmp_path, file)


def test_coco_of_another_form_is_explained_without_python(tmp_path: Path) -> None:
    file = coco(tmp_path)
    file.write_text("[]")
    with pytest.raises(InputError, match="lists images, annotations and categories") as caught:
        load_objects(tmp_path, file)
    assert "Error" not in caught.value.why


VOC = """<annotation><filename>a.jpg</filename><size><width>100</width><height>50</height></size>
<object><name>dog</name><difficult>1</difficult><bndbox><xmin>11</xmin><ymin>6</ymin><xmax>30</xmax><ymax>15</ymax></bndbox>
</object></annotation>"""


def test_voc(tmp_path: Path) -> None:
    picture(tmp_path / "JPEGImages" / "a.jpg")
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "Annotations" / "a.xml").write_text(VOC)
    (item,) = load_objects(tmp_path, labels=["cat", "dog"]).items
    assert item.objects == (Truth(1, (0.1, 0.1, 0.3, 0.3), ignore=True),)
    for wrong in (VOC.replace("<ymax>15", "<ymax>nan"), VOC.replace("<width>100", "<width>-1")):
        (tmp_path / "Annotations" / "b.xml").write_text(wrong)
        with pytest.raises(InputError, match="E462"):
            load_objects(tmp_path, labels=["cat", "dog"])
    (tmp_path / "Annotations" / "b.xml").write_text(VOC.replace("<xmin>11", "<xmin>left"))
    with pytest.raises(InputError, match=r"E462[\s\S]*b\.xml"):
        load_objects(tmp_path)

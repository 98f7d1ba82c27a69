"""`saymask.evaluate`: the referee."""

import io
import json

import numpy as np
import pytest
import saymask
from saymask import mask


CLOSED = io.StringIO("[]")
CLOSED.close()


def records(val):
    return [{"sent_id": sample.sent_id, "segmentation": sample.rle} for sample in val]


def test_truth_scores_everything_under_every_protocol(val):
    scores = saymask.evaluate(val, records(val))
    assert scores["missing"] == scores["doubled"] == scores["unknown"] == 0 and scores["expressions"] == len(val)
    assert len(scores["protocols"]) >= 8
    assert scores["protocols"]["dit"]["oiou"] == scores["protocols"]["saymask"]["miou"] == 1
    # Others leave overlapping polygons out, redraw them at another size, or smooth the quotient.
    assert all(report["oiou"] > 0.9 for report in scores["protocols"].values())


def test_every_form_of_a_mask_is_the_same(val, tmp_path):
    half = []
    for sample in val:
        array = sample.mask
        array[:, : array.shape[1] // 2] = False
        half.append(array)
    forms = [
        [{"sent_id": s.sent_id, "mask": a} for s, a in zip(val, half)],
        [{"sent_id": np.int64(s.sent_id), "mask": np.asfortranarray(a.astype(np.uint8))} for s, a in zip(val, half)],
        [{"ref_id": s.ref_id, "sentence": s.sentence, "segmentation": mask.encode(a)} for s, a in zip(val, half)],
    ]
    path = tmp_path / "results.json"
    text = [{"sent_id": s.sent_id, "segmentation": {**mask.encode(a), "counts": mask.encode(a)["counts"].decode()}} for s, a in zip(val, half)]
    path.write_text(json.dumps(text))
    reports = [saymask.evaluate(val, form, "dit")["protocols"] for form in [*forms, path, str(path)]]
    assert all(report == reports[0] for report in reports) and 0 < reports[0]["dit"]["oiou"] < 1


def test_what_is_missing_is_warned_of(val):
    with pytest.warns(UserWarning, match="expressions without a result, which count as missed: 1"):
        scores = saymask.evaluate(val, records(val)[1:], ["saymask"])
    assert scores["missing"] == 1 and scores["protocols"]["saymask"]["miou"] < 1


def test_what_a_protocol_refuses_is_said(val):
    small = [{"sent_id": s.sent_id, "mask": np.ones((5, 5), bool)} for s in val]
    scores = saymask.evaluate(val, small, ["saymask", "dit"])
    assert "5 x 5" in scores["refused"]["saymask"] and "dit" in scores["protocols"]


@pytest.mark.parametrize(
    ("results", "protocol", "error", "words"),
    [
        ("nowhere.json", "dit", FileNotFoundError, "nowhere.json"),
        ([{"sent_id": 10**9 + i, "mask": None} for i in range(9)], "dit", ValueError, "results of another set"),
        ([], "dit", ValueError, "holds no result"),
        ([{"sent_id": 1}], "dit", ValueError, "record[0]: has no mask"),
        ([{"sent_id": 1, "mask": np.ones((3, 3))}], "dit", ValueError, "results[0].mask: must be uint8 or bool"),
        ([{"sent_id": 1, "mask": object()}], "dit", TypeError, "results[0].mask"),
        ([{"sent_id": 1, "score": float("nan"), "mask": None}], "dit", ValueError, "results[0].score"),
        (7, "dit", TypeError, "results: must be a path or a list"),
        (CLOSED, "dit", TypeError, "results: must be a path or a list of dicts, not StringIO"),
        ("x", "mcn", ValueError, "protocol: unknown protocol `mcn`"),
        ("x", 7, TypeError, "protocol: must be a name"),
    ],
)
def test_bad_input_names_its_argument(val, results, protocol, error, words):
    with pytest.raises(error) as raised:
        saymask.evaluate(val, results, protocol)
    assert words in str(raised.value)


def test_a_data_set_is_an_opened_one(root):
    with pytest.raises(TypeError, match="^dataset: must be a split that saymask.datasets.open gives, not "):
        saymask.evaluate(root, [])

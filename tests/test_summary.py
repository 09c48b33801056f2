"""Means and paired differences of tables of OD-tests, by hand and by loops over the rows."""

import re
import sys
from ast import literal_eval

import numpy as np
import pandas as pd
import pytest
from _od_tables import METRICS, make_table, make_table_of_errors
from pandas.testing import assert_frame_equal

from skood.model_selection import compare, summarize


def mean_and_error(values):
    values = np.array(values)
    return values.mean(), values.std(ddof=1) / np.sqrt(len(values))


def mean_by_test(rows, metric, tests):
    """The mean over validation sets, for each pair of a source and a test set."""
    return [
        np.mean([row[metric] for row in rows if (row["source"], row["test"]) == pair])
        for pair in tests
    ]


# Means


def test_means_by_hand():
    """Test set d has .6 and .8, test set c has .9 alone."""
    table = (
        make_table(["knn"])
        .iloc[:3]
        .assign(validation=["c", "e", "d"], test=["d", "d", "c"], auroc=[0.6, 0.8, 0.9])
    )
    (row,) = summarize(table, metrics="auroc").to_dict("records")
    assert row == {
        "source": "one",
        "detector": "knn",
        "target": "ood",
        "auroc": pytest.approx((0.7 + 0.9) / 2),
        # Half of the difference of two values.
        "auroc_se": pytest.approx(0.1),
        "n": 2,
        "n_missing": 0,
    }


@pytest.mark.parametrize("by", [("source", "detector", "target"), "detector", ["test", "detector"]])
def test_means_agree_with_a_loop_over_the_rows(by):
    table = make_table(["knn", "energy"], sets="cdef", sources=["one", "other", "third"])
    columns = [by] if isinstance(by, str) else list(by)
    result = summarize(table, by=by)
    assert list(result.columns) == [
        *columns,
        *(column for metric in METRICS for column in (metric, f"{metric}_se")),
        "n",
        "n_missing",
    ]
    assert len(result) == len(table[columns].drop_duplicates())
    records = table.to_dict("records")
    for row in result.to_dict("records"):
        mine = [r for r in records if all(r[c] == row[c] for c in columns)]
        tests = sorted({(r["source"], r["test"]) for r in mine})
        assert row["n"] == len(tests)
        for metric in METRICS:
            mean, error = mean_and_error(mean_by_test(mine, metric, tests))
            assert row[metric] == pytest.approx(mean)
            assert row[f"{metric}_se"] == pytest.approx(error)


def test_rows_repeated_for_each_validation_set_do_not_make_the_error_smaller():
    table = make_table(["knn"], sets="cdef")
    fixed = {"c": 0.9, "d": 0.7, "e": 0.8, "f": 0.95}
    repeated = table.assign(auroc=table["test"].map(fixed))
    once = repeated.drop_duplicates("test")
    for rows in (repeated, once):
        result = summarize(rows, metrics=["auroc"])
        mean, error = mean_and_error(list(fixed.values()))
        assert result["auroc"][0] == pytest.approx(mean)
        assert result["auroc_se"][0] == pytest.approx(error)
        assert result["n"][0] == 4


def test_rows_keep_the_order_of_the_table_and_may_come_in_any():
    table = make_table(["z", "a", "m"], sources=["two", "one"])
    result = summarize(table)
    assert list(zip(result["source"], result["detector"], strict=True)) == [
        (source, detector) for source in ("two", "one") for detector in ("z", "a", "m")
    ]
    shuffled = table.sample(frac=1, random_state=0)
    shuffled.index = np.zeros(len(table), dtype=int)
    keys = ["source", "detector", "target"]
    assert_frame_equal(
        summarize(shuffled).sort_values(keys, ignore_index=True),
        result.sort_values(keys, ignore_index=True),
    )


def test_a_single_test_set_has_no_standard_error():
    result = summarize(make_table_of_errors(["msp", "knn"]))
    assert result["n"].tolist() == [1, 1]
    assert result["auroc_se"].isna().all()
    assert result["auroc"].notna().all()


def test_both_targets_in_one_table_have_the_metrics_that_they_have():
    table = pd.concat([make_table(["msp"]), make_table_of_errors(["msp"])])
    result = summarize(table).set_index("target")
    assert np.isnan(result.loc["ood", "aurc"])
    assert result.loc["misclassified", "aurc"] == table["aurc"].iloc[-1]
    assert result["n_missing"].tolist() == [0, 0]
    # Errors are one more test set where targets are averaged over.
    assert summarize(table, by="detector")["n"].tolist() == [4]
    by_validation = summarize(table, by=["target", "validation"])
    assert by_validation["validation"].tolist() == ["c", "d", "e", "none"]


def test_metrics_without_a_value_and_times_are_no_default():
    table = make_table(["msp"]).assign(aurc=np.nan)
    assert not {"aurc", "fit_time", "n_in"} & set(summarize(table).columns)
    times = summarize(table, metrics=["fit_time", "aurc"])
    assert times["fit_time"][0] == 0.5
    assert np.isnan(times["aurc"][0])
    assert times["n_missing"][0] == 0


def test_missing_values_are_counted_and_named():
    table = make_table(["msp", "knn"])
    table.loc[table["detector"] == "knn", "auroc"] = [0.6, np.nan, 0.7, 0.8, 0.9, np.nan]
    message = (
        r"2 cell\(s\) have no value, as 'auroc' at source='one', detector='knn', target='ood', "
        "validation='c', test='e'"
    )
    with pytest.warns(UserWarning, match=message) as caught:
        result = summarize(table).set_index("detector")
    assert caught[0].filename == __file__
    assert result["n_missing"].to_dict() == {"msp": 0, "knn": 2}
    # Test sets d: .6 and nothing, c: .7 and .9, e: nothing and .8.
    assert result["auroc"]["knn"] == pytest.approx((0.6 + 0.8 + 0.8) / 3)


def test_joined_tables_of_two_networks_are_told_apart_by_their_column():
    table = pd.concat(
        [
            make_table(["knn"], seed=0).assign(net="vgg"),
            make_table(["knn"], seed=1).assign(net="res"),
        ]
    )
    with pytest.raises(ValueError, match=r"6 row\(s\) repeat a cell, as source='one'.*`by`"):
        summarize(table)
    result = summarize(table, by=("net", "detector")).set_index("net")
    assert result["n"].tolist() == [3, 3]
    for net in ("vgg", "res"):
        alone = summarize(table[table["net"] == net], by="detector")
        assert result["auroc"][net] == alone["auroc"][0]


def test_rows_that_are_absent_are_counted_by_detector():
    table = make_table(["ref", "a", "b"], sources=["one", "other"])
    absent = table.query(
        "detector == 'a' and test == 'd' or detector == 'b' and source == 'other' and test == 'e'"
    )
    rest = table.drop(index=absent.index)
    message = (
        r"6 row\(s\) .* are absent, the first source='one', detector='a', target='ood', "
        r"validation='c', test='d'. By detector: \{'a': 4, 'b': 2\}. compare\(\) takes"
    )
    for by in ("detector", ["source", "detector", "target"]):
        with pytest.warns(UserWarning, match=message) as caught:
            summarize(rest, by=by)
        assert len(caught) == 1
        assert caught[0].filename == __file__
    # On test set d there is no mean of "a".
    with pytest.warns(UserWarning, match=r"\{'b': 2\}"):
        summarize(rest, by=["test", "detector"])
    # A row without a value is there.
    with pytest.warns(UserWarning, match="have no value") as caught:
        summarize(table.assign(auroc=table["auroc"].drop(index=absent.index)))
    assert len(caught) == 1


@pytest.mark.parametrize(
    "by",
    ["source", ["source", "test"], ["source", "detector"], ["detector", "validation", "source"]],
)
def test_detectors_that_no_mean_is_compared_with_may_have_rows_of_their_own(by):
    """Each on sources of its own, and means over detectors, which are not compared."""
    table = pd.concat([make_table(["a"], sources=["one"]), make_table(["b"], sources=["other"])])
    summarize(table, by=by)
    with pytest.warns(UserWarning, match=r"\{'b': 6, 'a': 6\}"):
        summarize(table, by="detector")


@pytest.mark.parametrize("validation", ["none", "others", None])
def test_rows_of_no_single_validation_set_stand_for_those_of_each(validation):
    fixed = make_table(["fixed"]).drop_duplicates("test").assign(validation=validation)
    table = pd.concat([make_table(["a"]), fixed], ignore_index=True)
    for rows in (table, table[::-1]):
        summarize(rows, by="detector")
    fewer = table.drop(index=table.query("detector == 'fixed' and test == 'd'").index)
    with pytest.warns(UserWarning, match=r"\{'fixed': 2\}"):
        summarize(fewer, by="detector")
    fewer = table.drop(index=table.query("detector == 'a' and test == 'd'").index)
    with pytest.warns(UserWarning, match=r"\{'a': 1\}"):
        summarize(fewer, by="detector")


def test_rows_of_a_target_without_the_metric_are_not_missed():
    table = pd.concat([make_table(["a", "b"]), make_table_of_errors(["a"])])
    summarize(table)
    summarize(table, by="detector", metrics="aurc")
    with pytest.warns(UserWarning, match=r"\{'b': 1\}"):
        summarize(table, by="detector", metrics="auroc")


@pytest.mark.parametrize("by", ["detector", ["source", "detector"], ["detector", "net", "test"]])
def test_absent_rows_are_those_of_a_loop(by):
    table = pd.concat(
        [make_table("abc", sources=["one", "two"]).assign(net=net) for net in ("vgg", "res")]
    )
    rows = table.sample(frac=0.7, random_state=0)
    by = [by] if isinstance(by, str) else by
    keys = ["source", "target", "validation", "test", "net"]
    columns = list(dict.fromkeys([*by, "net"]))
    counts = dict.fromkeys(rows["detector"].unique(), 0)
    for _, group in rows.groupby([column for column in columns if column != "detector"]):
        cells = {
            name: set(map(tuple, part[keys].to_numpy())) for name, part in group.groupby("detector")
        }
        for name, own in cells.items():
            counts[name] += len(set.union(*cells.values()) - own)
    with pytest.warns(UserWarning, match=r"are absent") as caught:
        summarize(rows, by=columns)
    told = re.search(r"By detector: (\{.*\})", str(caught[0].message))[1]
    assert literal_eval(told) == {name: count for name, count in counts.items() if count}


# Differences


def test_differences_by_hand():
    table = make_table(["reference", "knn"]).query("validation != 'e' and test != 'e'")
    # Of validation c and test d, then the other way round.
    table = table.assign(auroc=[0.5, 0.8, 0.75, 0.7])
    (row,) = compare(table, "reference").to_dict("records")
    assert row == {
        "source": "one",
        "detector": "knn",
        "target": "ood",
        "difference": pytest.approx((0.25 - 0.1) / 2),
        "difference_se": pytest.approx(0.35 / 2),
        "n": 2,
        "won": 0.5,
        "worst": pytest.approx(-0.1),
        "worst_validation": "d",
        "worst_test": "c",
        "n_missing": 0,
    }


@pytest.mark.parametrize("metric", ["auroc", "fpr95_out"])
@pytest.mark.parametrize("by", [("source", "detector", "target"), "detector"])
def test_differences_agree_with_a_loop_over_the_rows(metric, by):
    table = make_table(["a", "b", "ref"], sets="cdef", sources=["one", "other"])
    columns = [by] if isinstance(by, str) else list(by)
    keys = ["source", "target", "validation", "test"]
    reference = {
        tuple(r[k] for k in keys): r[metric]
        for r in table.to_dict("records")
        if r["detector"] == "ref"
    }
    result = compare(table, "ref", metric=metric, by=by)
    assert len(result) == (2 if columns == ["detector"] else 4)
    for row in result.to_dict("records"):
        mine = [
            {**r, "difference": r[metric] - reference[tuple(r[k] for k in keys)]}
            for r in table.to_dict("records")
            if all(r[c] == row[c] for c in columns)
        ]
        tests = sorted({(r["source"], r["test"]) for r in mine})
        mean, error = mean_and_error(mean_by_test(mine, "difference", tests))
        assert row["difference"] == pytest.approx(mean)
        assert row["difference_se"] == pytest.approx(error)
        assert row["n"] == len(tests)
        sign = -1 if metric.startswith("fpr") else 1
        worst = min(mine, key=lambda r: sign * r["difference"])
        assert row["worst"] == worst["difference"]
        assert all(row[f"worst_{k}"] == worst[k] for k in keys if k not in columns)
        assert row["won"] == np.mean([sign * r["difference"] > 0 for r in mine])


def test_equal_cells_are_won_by_half():
    table = make_table(["a", "b"])
    table.loc[table["detector"] == "b", "auroc"] = table["auroc"][:6].to_numpy()
    result = compare(table, "a")
    assert result[["difference", "difference_se", "won"]].to_numpy().tolist() == [[0, 0, 0.5]]


@pytest.mark.parametrize("validation", ["none", None, np.nan])
def test_cells_without_validation_set_are_paired(validation):
    table = make_table_of_errors(["msp", "knn"], sources=["one", "other"])
    table["validation"] = validation
    assert summarize(table, by="validation")["n"].tolist() == [2]
    result = compare(table, "msp", metric="aurc", by="detector")
    difference = table["aurc"][[1, 3]].to_numpy() - table["aurc"][[0, 2]].to_numpy()
    assert result["n"].tolist() == [2]
    assert result["difference"][0] == pytest.approx(difference.mean())
    assert result["worst"][0] == difference.max()
    assert pd.isna(result["worst_validation"][0]) == (validation != "none")


def test_a_metric_of_one_target_is_not_missing_of_the_other():
    table = pd.concat([make_table(["a", "b"]), make_table_of_errors(["a", "b"])])
    result = compare(table, "a", metric="aurc")
    assert result["target"].tolist() == ["misclassified"]
    assert result["n_missing"].tolist() == [0]


def test_cells_without_partner_are_counted_and_named():
    table = make_table(["ref", "a", "b"])
    without = table.drop(index=table.query("detector == 'a' and test == 'd'").index)
    without.loc[without["detector"] == "b", "auroc"] = np.nan
    message = r"8 cell\(s\) have no value, as 'auroc' at .*detector='a', .*test='d'"
    with pytest.warns(UserWarning, match=message):
        result = compare(without, "ref").set_index("detector")
    assert result["n_missing"].to_dict() == {"a": 2, "b": 6}
    assert result["n"].to_dict() == {"a": 2, "b": 0}
    assert result.loc["b", ["difference", "won", "worst"]].isna().all()
    rest = table.query("test != 'd'")
    assert result["difference"]["a"] == pytest.approx(
        compare(rest, "ref").set_index("detector")["difference"]["a"]
    )


# What is refused


@pytest.mark.parametrize("function", [summarize, lambda t, **kw: compare(t, "a", **kw)])
@pytest.mark.parametrize(
    ("table", "options", "error", "message"),
    [
        ([1, 2], {}, TypeError, "pandas DataFrame that od_test returns, got list"),
        (make_table("ab").iloc[:0], {}, ValueError, "at least one row"),
        (make_table("ab").drop(columns="test"), {}, ValueError, "no column 'test'"),
        (make_table("ab"), {"by": ["detector", "net"]}, ValueError, "no column 'net'"),
        (make_table("ab"), {"by": []}, ValueError, "at least one column"),
        (pd.concat([make_table("ab")] * 2), {}, ValueError, r"12 row\(s\) repeat a cell"),
    ],
)
def test_tables_that_cannot_be_read_are_refused(function, table, options, error, message):
    with pytest.raises(error, match=message):
        function(table, **options)


def test_unknown_metrics_are_refused():
    table = make_table("ab").assign(note="fine")
    for metric in ("AUROC", "note", "test"):
        with pytest.raises(ValueError, match=rf"no metric '{metric}'; .*'auroc'"):
            summarize(table, metrics=[metric])
        with pytest.raises(ValueError, match=rf"no metric '{metric}'"):
            compare(table, "a", metric=metric)
    with pytest.raises(ValueError, match="at least one metric"):
        summarize(table, metrics=[])


def test_comparisons_need_a_reference_and_others():
    table = make_table("ab")
    with pytest.raises(ValueError, match=r"reference is 'c', the detectors are \['a', 'b'\]"):
        compare(table, "c")
    with pytest.raises(ValueError, match="at least one other"):
        compare(make_table("a"), "a")
    with pytest.raises(ValueError, match=r"must name 'detector'.*\['source'\]"):
        compare(table, "a", by="source")


def test_neither_changes_the_table():
    table = make_table("ab")
    before = table.copy()
    summarize(table)
    compare(table, "a")
    assert_frame_equal(table, before)


def test_without_pandas_it_is_asked_for(monkeypatch):
    table = make_table("ab")
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="summarize needs pandas"):
        summarize(table)


def test_the_index_of_a_table_from_a_file_is_no_metric(tmp_path):
    table = make_table(["energy", "KNN"])
    table.to_csv(tmp_path / "table.csv")
    assert_frame_equal(summarize(pd.read_csv(tmp_path / "table.csv")), summarize(table))

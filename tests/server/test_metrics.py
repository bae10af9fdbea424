"""Meters, and what Prometheus reads of them."""

from __future__ import annotations

import re
from pathlib import Path
from random import Random

import pytest

from fastserve.server.cells import Cells, Series
from fastserve.server.exposition import metrics_text
from fastserve.server.metrics import FAMILIES, READ, Meters
from tests import goldens
from tests.core.requests import typical

SAMPLE = goldens.GOLDEN / "metrics_sample.txt"


def meters(folder: Path | None = None, **settings: object) -> Meters:
    return Meters(Cells(folder), settings)


def lines(found: Meters) -> list[str]:
    return [line for line in metrics_text(found.cells.read()).splitlines() if not line.startswith("#")]


def shown(found: Meters, start: str) -> list[str]:
    """Return the lines of a metric that are not 0."""
    return [line for line in lines(found) if line.startswith(start) and not line.endswith(" 0.0")]


def one_read(found: Meters, rand: Random, rows: int = 2) -> None:
    timer = found.read.begin()
    timer.sent()
    timer.answered()
    timer.done(typical(rand, rows, 3).filled())


def test_names_and_labels_are_feasts() -> None:
    types = dict(re.findall(r"# TYPE (feast_\w+) (\w+)", SAMPLE.read_text()))
    not_ours = {name for name in types if name.startswith("feast_offline_store_")}
    derived = {"feast_online_features_status_total"}
    for name in types.keys() - not_ours - derived:
        assert FAMILIES[name].kind == types[name], name
    for name, labels in re.findall(r"^(feast_\w+?)(?:_bucket|_sum|_count)?\{(.*)\}", SAMPLE.read_text(), re.MULTILINE):
        if name in FAMILIES:
            keys = {key for key in re.findall(r'(\w+)="', labels) if key not in ("le", "pid")}
            assert keys == set(FAMILIES[name].labels), name


def test_feasts_bounds_are_among_ours() -> None:
    feasts = {0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10}
    assert feasts <= set(FAMILIES["feast_feature_server_request_latency_seconds"].bounds)
    assert feasts <= set(FAMILIES["feast_feature_server_online_store_read_duration_seconds"].bounds)
    assert all(list(family.bounds) == sorted(set(family.bounds)) for family in FAMILIES.values())


def test_a_read_is_in_every_metric_of_reads(rand: Random) -> None:
    found = meters()
    one_read(found, rand)
    assert shown(found, "feast_online_features_request_total") == ["feast_online_features_request_total 1.0"]
    assert shown(found, "feast_feature_server_request_total") == [
        f'feast_feature_server_request_total{{endpoint="{READ}",status="success"}} 1.0'
    ]
    labels = f'endpoint="{READ}",feature_count="11-50",feature_view_count="3"'
    assert f"feast_feature_server_request_latency_seconds_count{{{labels}}} 1.0" in lines(found)
    assert 'feast_online_features_entity_count_bucket{le="1.0"} 0.0' in lines(found)
    assert 'feast_online_features_entity_count_bucket{le="5.0"} 1.0' in lines(found)
    assert "feast_online_features_entity_count_sum 2.0" in lines(found)
    for name in ("feast_feature_server_online_store_read_duration", "fastserve_request_queue", "fastserve_decode"):
        assert f"{name}_seconds_count 1.0" in lines(found)
    values = [float(line.rpartition(" ")[2]) for line in shown(found, "fastserve_feature_values_total")]
    assert sum(values) == 2 * 24
    assert sum(float(line.rpartition(" ")[2]) for line in shown(found, "feast_online_features_status_total")) == 48
    assert not any('status="not_found"' in line for line in shown(found, "feast_online_features_status_total"))


def test_a_failed_read_is_an_error() -> None:
    found = meters()
    found.read.begin().failed()
    assert shown(found, "feast_feature_server_request_total") == [
        f'feast_feature_server_request_total{{endpoint="{READ}",status="error"}} 1.0'
    ]
    assert f'feast_feature_server_request_latency_seconds_count{{endpoint="{READ}",feature_count="",' in "\n".join(
        lines(found)
    )


@pytest.mark.parametrize(("count", "bins", "label"), [(0, None, "0"), (10, None, "1-10"), (11, None, "11-50")])
@pytest.mark.parametrize(("more", "more_label"), [(200, "51-200"), (201, "201+")])
def test_numbers_of_features_are_binned(
    count: int, bins: list[int] | None, label: str, more: int, more_label: str
) -> None:
    found = meters(feature_count_bins=bins)
    assert [found._bin(count), found._bin(more)] == [label, more_label]
    assert meters(feature_count_bins=[1])._bin(count) == ("0" if count == 0 else "2+")


def test_routes_are_counted() -> None:
    found = meters()
    found.answered("/push", 200, 0.02)
    found.answered("/push", 422, 0.001)
    found.answered(READ, 503)
    found.pushed("txn_push", "online")
    found.materialized(["a", "b"], False, 2.0)
    found.transformed("odfv", "python", 300_000)
    assert shown(found, "feast_feature_server_request_total") == [
        'feast_feature_server_request_total{endpoint="/push",status="error"} 1.0',
        'feast_feature_server_request_total{endpoint="/push",status="success"} 1.0',
    ]
    assert shown(found, "fastserve_http_responses_total") == [
        f'fastserve_http_responses_total{{endpoint="{READ}",code="503"}} 1.0',
        'fastserve_http_responses_total{endpoint="/push",code="200"} 1.0',
        'fastserve_http_responses_total{endpoint="/push",code="422"} 1.0',
    ]
    assert shown(found, "feast_push") == ['feast_push_request_total{push_source="txn_push",mode="online"} 1.0']
    assert len(shown(found, "feast_materialization_result_total")) == 2
    assert 'feast_materialization_duration_seconds_bucket{feature_view="a",le="5.0"} 1.0' in lines(found)
    name = "feast_feature_server_transformation_duration_seconds"
    assert f'{name}_sum{{odfv_name="odfv",mode="python"}} 0.0003' in lines(found)


@pytest.mark.parametrize("category", ["request", "online_features", "push", "materialization"])
def test_a_category_can_be_switched_off(rand: Random, category: str) -> None:
    found = meters(**{category: False})
    one_read(found, rand)
    found.answered("/push", 200, 1.0)
    found.pushed("s", "online")
    found.materialized(["v"], True, 1.0)
    text = metrics_text(found.cells.read())
    for family in FAMILIES.values():
        if family.category == category:
            assert family.name not in text
    assert text.count("# TYPE") > 2


def test_label_values_are_escaped() -> None:
    found = meters()
    found.pushed('a"b\\c\nd', "online")
    assert shown(found, "feast_push") == ['feast_push_request_total{push_source="a\\"b\\\\c\\nd",mode="online"} 1.0']


def test_gauges_are_of_the_living_counters_of_all() -> None:
    def series(name: str, value: int, pid: int, alive: bool) -> Series:
        return Series(name, (), (value,), pid, alive)

    text = metrics_text(
        [
            series(name, value, pid, alive)
            for name in (
                "fastserve_requests_in_flight",
                "feast_online_features_request_total",
                "feast_feature_server_cpu_usage",
                "feast_feature_freshness_seconds",
            )
            for value, pid, alive in ((3_000_000, 1, True), (4_000_000, 2, True), (50_000_000, 3, False))
        ]
    )
    found = [line for line in text.splitlines() if not line.startswith("#")]
    assert "fastserve_requests_in_flight 7000000.0" in found
    assert "feast_online_features_request_total 57000000.0" in found
    assert [line for line in found if "cpu" in line] == [
        'feast_feature_server_cpu_usage{pid="1"} 3.0',
        'feast_feature_server_cpu_usage{pid="2"} 4.0',
    ]
    assert "feast_feature_freshness_seconds 0.004" in found


def test_prometheus_client_reads_it(rand: Random, tmp_path: Path) -> None:
    parser = pytest.importorskip("prometheus_client.parser")
    found = meters(tmp_path)
    one_read(found, rand, 70)
    found.answered(READ, 200)
    found.set("feast_feature_freshness_seconds", "v", "bank", value=12.5)
    families = {
        family.name: family for family in parser.text_string_to_metric_families(metrics_text(found.cells.read()))
    }
    assert families["feast_feature_freshness_seconds"].samples[0].value == 12.5
    buckets = [s.value for s in families["fastserve_decode_seconds"].samples if s.name.endswith("_bucket")]
    assert buckets == sorted(buckets)
    assert buckets[-1] == 1
    assert sum(s.value for s in families["fastserve_feature_values"].samples) == 70 * 24
    found.close()

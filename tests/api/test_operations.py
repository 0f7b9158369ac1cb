"""What orchestrators, scrapers and readers of the documentation get."""

from typing import Any

import pytest
from alembic.script import ScriptDirectory
from prometheus_client.parser import text_string_to_metric_families

from tests.world import World
from webapp.db.engine import MIGRATIONS
from webapp.extensions import db

ROW = [5.1, 3.5, 1.4, 0.2]


def test_probes_answer_and_are_internal(world: World) -> None:
    assert world.call("GET", "//healthz").json == {"status": "ok"}
    ready = world.call("GET", "//readyz")
    assert ready.status_code == 200
    assert ready.json["status"] == "ready"
    assert ready.json["sandbox"] in {"seccomp", "rlimits"}
    assert ready.json["worker_sandbox"] == "none", "only workers of gunicorn confine themselves"
    assert world.events() == [], "a probe that succeeds is DEBUG, which is not written"


def test_readiness_says_so_when_the_schema_is_not_ours(world: World) -> None:
    with world.app.app_context(), db.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = 'unknown'")
    response = world.call("GET", "//readyz")
    assert response.status_code == 503
    assert "schema" in response.json["checks"]["database"]
    completed = world.last_event(response)
    assert (completed["event_type"], completed["level"]) == ("request_completed", "WARNING")
    with world.app.app_context(), db.engine.begin() as connection:
        (head,) = ScriptDirectory(str(MIGRATIONS)).get_heads()
        connection.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{head}'")


def test_metrics_count_requests_and_predictions(served: World) -> None:
    before = _samples(served)
    served.predict("iris", [ROW, ROW])
    served.call("GET", "//no/such/path/anywhere")
    after = _samples(served)

    def grown(name: str, **labels: str) -> float:
        key = (name, tuple(sorted(labels.items())))
        return after[key] - before.get(key, 0)

    route = "/api/v1/predictions/predict"
    count = "http_server_request_duration_seconds_count"
    assert grown(count, route=route, method="POST", status="2xx") == 1
    assert grown(count, route="<unmatched>", method="GET", status="4xx") == 1
    assert grown("pellucid_predictions_total", model="iris", outcome="success") == 1
    assert grown("pellucid_prediction_rows_total", model="iris") == 2
    assert grown("pellucid_log_records_total", level="INFO") >= 5
    assert not any("/no/such/path" in str(key) for key in after)


@pytest.mark.parametrize(
    "header",
    ["X-Forwarded-For", "Forwarded", "X-Forwarded-Proto", "Via", "X-Real-IP", "CF-Connecting-IP"],
)
def test_metrics_are_not_for_clients_of_a_proxy(world: World, header: str) -> None:
    assert world.call("GET", "//metrics", headers={header: "1.2.3.4"}).status_code == 403


def test_metrics_are_not_for_other_machines(world: World) -> None:
    response = world.client.get("/metrics", environ_base={"REMOTE_ADDR": "10.0.0.9"})
    assert response.status_code == 403


def test_metrics_with_a_token_need_the_token(database_url: str, tmp_path: Any) -> None:
    guarded = World(tmp_path, database_url, metrics_token="scrape-secret")
    assert guarded.call("GET", "//metrics").status_code == 401
    headers = {"Authorization": "Bearer scrape-secret", "X-Forwarded-For": "1.2.3.4"}
    assert guarded.call("GET", "//metrics", headers=headers).status_code == 200
    guarded.close()


def test_the_openapi_document_describes_every_route_of_the_api(world: World) -> None:
    document = world.call("GET", "openapi.json").json
    assert document["openapi"].startswith("3.1")
    described = {
        (method.upper(), path.replace("{", "<").replace("}", ">"))
        for path, operations in document["paths"].items()
        for method in operations
        if method != "parameters"
    }
    routes = {
        (method, rule.rule)
        for rule in world.app.url_map.iter_rules()
        for method in rule.methods - {"HEAD", "OPTIONS"}
        if rule.rule.startswith("/api/v1/")
        and rule.rule not in {"/api/v1/openapi.json", "/api/v1/docs"}
    }
    assert described == routes
    predict = document["paths"]["/api/v1/predictions/predict"]["post"]
    assert predict["security"]
    assert {"200", "400", "401", "404", "413", "500"} <= set(predict["responses"])


def test_the_docs_page_loads_nothing_from_elsewhere(world: World) -> None:
    page = world.call("GET", "docs")
    assert page.status_code == 200
    text = page.get_data(as_text=True)
    assert "http://" not in text
    assert "https://" not in text
    assert "'unsafe" not in page.headers["Content-Security-Policy"]
    for name in ("swagger-ui-bundle.js", "swagger-ui.css"):
        with world.client.get(f"/static/vendor/swagger-ui/{name}") as file:
            assert file.status_code == 200


def _samples(served: World) -> dict[Any, float]:
    text = served.call("GET", "//metrics").get_data(as_text=True)
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }

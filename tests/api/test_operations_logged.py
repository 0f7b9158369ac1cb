"""Which operations of a request are lines of their own, and at which level."""

from tests.world import World


def test_a_refused_upload_is_no_failure_of_ours(world: World) -> None:
    response = world.upload("bad", b"not a model")
    assert response.status_code == 422
    events = world.events(response)
    assert "ERROR" not in {event["level"] for event in events}
    assert not any("exception" in event for event in events)

"""Cloud Logging through Google's own library, over gRPC and over HTTP, with no options but the transport."""

from google.cloud import logging

for grpc in (True, False):
    name = "grpc" if grpc else "http"
    client = logging.Client(_use_grpc=grpc)
    logger = client.logger(f"tide-{name}")
    logger.log_text("high at noon", severity="NOTICE", labels={"sea": "north"})
    logger.log_struct({"message": "low at six", "depth": {"metres": 2}}, severity="ERROR")
    with logger.batch() as batch:
        for number in range(3):
            batch.log_text(f"wave {number}")

    def found(filter_):
        return [entry.payload for entry in client.list_entries(filter_=f'logName:"tide-{name}" AND {filter_}')]

    assert found('labels.sea="north"') == ["high at noon"], found('labels.sea="north"')
    assert [entry["message"] for entry in found("severity>=ERROR")] == ["low at six"]
    assert [entry["depth"]["metres"] for entry in found("jsonPayload.depth.metres>1")] == [2]
    assert len(found("wave")) == 3
    assert found('textPayload:"noon" OR textPayload:"wave 1"') == ["high at noon", "wave 1"]
    # The library writes an entry of its own about itself, too.
    assert [entry for entry in found('NOT textPayload:"wave" AND severity<ERROR') if isinstance(entry, str)] == ["high at noon"]
print("all as on Google")

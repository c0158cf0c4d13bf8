"""A Flow with every option that the page names, and options of its processors' as defaults."""

from pathlib import Path

from raflow import Flow, FlowOptions, consumer
from raflow.connectors.files import CsvFiles, JsonLinesFiles

ORDERS = Path(__file__).with_name("orders.csv")

options = FlowOptions(
    log_level="DEBUG",
    aws_access_key_id="AKIAEXAMPLE",
    aws_secret_access_key="example-secret",
    aws_session_token="example-token",
    gcp_service_account_info='{"type": "service_account", "private_key": "example-key"}',
    stack="local",
    require_confirmation=False,
    num_replicas=1,
    on_error="skip",
)

app = Flow(flow_options=options)


@consumer(source=CsvFiles(ORDERS), sink=JsonLinesFiles("amounts"))
def amounts(order: dict) -> dict:  # type: ignore[type-arg]
    return {"cents": round(order["amount"] * 100)}


app.add_consumer(amounts)

if __name__ == "__main__":
    print(options)
    app.run()

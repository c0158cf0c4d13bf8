"""Processors that are declared apart from the Flow, and attached with its add methods."""

from dataclasses import dataclass
from pathlib import Path

from raflow import Flow, Service, collector, consumer, endpoint
from raflow.connectors.files import CsvFiles, JsonLinesFiles

ORDERS = Path(__file__).with_name("orders.csv")

app = Flow()


@dataclass
class Event:
    name: str
    value: int


@consumer(source=CsvFiles(ORDERS), sink=JsonLinesFiles("greetings"))
def consumer_proc(order: dict) -> dict:  # type: ignore[type-arg]
    return {"text": f"Thank you, {order['customer']}!"}


@collector("/collect", method="POST", sink=JsonLinesFiles("events"), max_concurrent_queries=50)
def collector_proc(event: Event) -> list[Event]:
    return [event] * event.value


service = Service(base_route="/api", service_id="serving", target_num_ongoing_requests_per_replica=2)


@endpoint("/serve", method="GET")
async def endpoint_proc(number: int) -> dict:  # type: ignore[type-arg]
    return {"twice": number * 2}


service.add_endpoint(endpoint_proc)
app.add_consumer(consumer_proc)
app.add_collector(collector_proc)
app.add_service(service)

if __name__ == "__main__":
    app.run()

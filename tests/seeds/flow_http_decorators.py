"""A consumer, a collector and a service attached with the Flow's decorators, in the file of the Flow."""

from dataclasses import dataclass
from pathlib import Path

from raflow import Flow
from raflow.connectors.files import CsvFiles, JsonLinesFiles

ORDERS = Path(__file__).with_name("orders.csv")

app = Flow()


@dataclass
class Visit:
    page: str
    seconds: float = 0.0


@app.consumer(source=CsvFiles(ORDERS), sink=JsonLinesFiles("greetings"))
def consumer(order: dict) -> dict:  # type: ignore[type-arg]
    return {"text": f"Thank you, {order['customer']}!"}


@app.collector("/collect/{page}", method="GET", sink=JsonLinesFiles("visits"))
def collector(visit: Visit) -> Visit:
    return visit


service = app.service()


@service.endpoint("/serve", method="GET")
def endpoint(name: str = "you") -> dict:  # type: ignore[type-arg]
    return {"hello": name}


if __name__ == "__main__":
    app.run()

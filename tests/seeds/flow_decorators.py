"""Two consumers attached with the Flow's decorator, in the file of the Flow."""

from dataclasses import dataclass
from pathlib import Path

from raflow import Flow
from raflow.connectors.files import CsvFiles, JsonLinesFiles, ParquetFiles

ORDERS = Path(__file__).with_name("orders.csv")

app = Flow()


@dataclass
class Order:
    order_id: int
    customer: str
    amount: float | None


@app.consumer(source=CsvFiles(ORDERS), sink=ParquetFiles("large"))
def large(order: Order) -> Order | None:
    if order.amount is not None and order.amount > 100:
        return order
    return None


@app.consumer(source=CsvFiles(ORDERS), sink=JsonLinesFiles("greetings"))
def greet(order: dict) -> dict:  # type: ignore[type-arg]
    return {"text": f"Thank you, {order['customer']}!"}


if __name__ == "__main__":
    app.run()

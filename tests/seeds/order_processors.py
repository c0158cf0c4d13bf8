"""Consumers without a Flow: a function and a class, for `flow_add_methods.py` to attach."""

from collections.abc import Iterator
from pathlib import Path

from raflow import consumer
from raflow.connectors.files import CsvFiles, JsonLinesFiles

ORDERS = Path(__file__).with_name("orders.csv")


@consumer(source=CsvFiles(ORDERS), sink=JsonLinesFiles("amounts"))
def amounts(order: dict) -> dict | None:  # type: ignore[type-arg]
    return {"cents": round(order["amount"] * 100)} if order["amount"] else None


@consumer(source=CsvFiles(ORDERS), sink=JsonLinesFiles("letters"), name="letters")
class Letters:
    def setup(self) -> None:
        self.seen: set[str] = set()

    def process(self, order: dict) -> Iterator[dict]:  # type: ignore[type-arg]
        for letter in set(order["customer"].lower()) - self.seen:
            self.seen.add(letter)
            yield {"letter": letter}

    def teardown(self) -> None:
        self.seen.clear()

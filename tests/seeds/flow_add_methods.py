"""Consumers of another file, attached with the Flow's add method."""

from order_processors import Letters, amounts  # type: ignore[import-not-found]

from raflow import Flow

app = Flow("orders")
app.add_consumer(amounts)
app.add_consumer(Letters)

if __name__ == "__main__":
    app.run()

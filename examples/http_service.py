"""A service: a class that keeps a model in each replica, an endpoint that uses a path, and a websocket.

raflow run examples/http_service.py, then look at http://localhost:8000/docs
"""

from collections import Counter
from dataclasses import dataclass

from raflow import Flow
from raflow.http import HTTPException, WebSocket

app = Flow("words")
service = app.service("/words", max_concurrent_requests=200)


@dataclass
class Text:
    text: str


class Guess:
    """Guess the language of a text by its most usual words."""

    def setup(self) -> None:
        """Load the model: once in each replica, before its first request."""
        words = {
            "english": "the of and to in is",
            "deutsch": "der die und in den ist",
            "français": "le la et de les est",
        }
        self.usual = {language: set(usual.split()) for language, usual in words.items()}

    def process(self, text: Text) -> dict[str, str]:
        """Return the language with most of its usual words in the text."""
        found = Counter(
            {language: len(usual.intersection(text.text.lower().split())) for language, usual in self.usual.items()}
        )
        language, hits = found.most_common(1)[0]
        if not hits:
            raise HTTPException(422, "none of the words is known")
        return {"language": language}


service.endpoint("/guess", method="POST")(Guess)


@service.endpoint("/{word}/length")
def length(word: str) -> int:
    """Count the letters of a word."""
    return len(word)


@service.endpoint("/talk", method="WEBSOCKET")
async def talk(websocket: WebSocket) -> None:
    await websocket.accept()
    count = 0
    async for text in websocket.iter_text():
        count += len(text.split())
        await websocket.send_text(f"{count} words so far")


if __name__ == "__main__":
    app.run()

"""A service: a dependency that each replica makes once, an endpoint that uses a path, and a websocket.

raflow run examples/http_service.py, then look at http://localhost:8000/docs
"""

from collections import Counter
from dataclasses import dataclass

from raflow import Flow, Scope, dependency
from raflow.http import HTTPException, WebSocket

app = Flow("words")
service = app.service("/words", max_concurrent_requests=200)


@dataclass
class Text:
    text: str


@dependency(scope=Scope.REPLICA)
class UsualWords:
    """The model: made once in each replica, before its first request."""

    def __init__(self) -> None:
        words = {
            "english": "the of and to in is",
            "deutsch": "der die und in den ist",
            "français": "le la et de les est",
        }
        self.of = {language: set(usual.split()) for language, usual in words.items()}


@service.endpoint("/guess", method="POST")
def guess(text: Text, usual: UsualWords) -> dict[str, str]:
    """Guess the language of a text by its most usual words."""
    words = text.text.lower().split()
    found = Counter({language: len(some.intersection(words)) for language, some in usual.of.items()})
    language, hits = found.most_common(1)[0]
    if not hits:
        raise HTTPException(422, "none of the words is known")
    return {"language": language}


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

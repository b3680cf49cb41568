"""What readers wrote about the books: v1 gives the texts alone, v2 adds the stars that the ratings service holds."""

from __future__ import annotations

import os

from shophttp import Reply, Request, Routes, fetch, serve

_TEXTS = {
    "1": ["A cold planet and a warm book.", "I read it twice."],
    "2": ["Every chapter is a city.", "Short and endless."],
    "3": ["Argon, and then all of us."],
}


class Reviews:
    """Review texts by book; `ratings` is the base URL of the stars' service, or None for the version without stars."""

    def __init__(self, version: str, ratings: str | None) -> None:
        self._version = version
        self._ratings = ratings

    def of_book(self, request: Request) -> Reply:
        """GET /reviews/<book>: the texts, with `stars` when this version knows them."""
        texts = _TEXTS.get(request.item)
        if texts is None:
            return Reply(404, {"error": f"no book {request.item}"})
        found = {"book": request.item, "version": self._version, "texts": texts}
        if self._ratings is not None:
            found["stars"] = fetch(self._ratings, f"/ratings/{request.item}")["stars"]
        return Reply(200, found)


def main() -> None:
    """Serve on $PORT as version $VERSION; with $RATINGS_URL the answers carry stars."""
    reviews = Reviews(os.environ["VERSION"], os.environ.get("RATINGS_URL"))
    routes: Routes = {("GET", "/reviews/*"): reviews.of_book}
    serve(f"reviews {os.environ['VERSION']}", int(os.environ["PORT"]), routes)


if __name__ == "__main__":
    main()

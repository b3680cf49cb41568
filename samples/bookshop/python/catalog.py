"""The shop's books: titles, authors and prices, with the stock that the inventory reports."""

from __future__ import annotations

import os
from typing import Any

from shophttp import Reply, Request, Routes, fetch, serve

_BOOKS: dict[str, dict[str, Any]] = {
    "1": {"id": "1", "title": "The Left Hand of Darkness", "author": "Ursula K. Le Guin", "cents": 1299},
    "2": {"id": "2", "title": "Invisible Cities", "author": "Italo Calvino", "cents": 1150},
    "3": {"id": "3", "title": "The Periodic Table", "author": "Primo Levi", "cents": 1420},
}


class Catalog:
    """The fixed list of books; `inventory` is that service's base URL."""

    def __init__(self, inventory: str) -> None:
        self._inventory = inventory

    def books(self, _request: Request) -> Reply:
        """GET /books: every book, without stock."""
        return Reply(200, list(_BOOKS.values()))

    def book(self, request: Request) -> Reply:
        """GET /books/<id>: one book and whether it is in stock."""
        book = _BOOKS.get(request.item)
        if book is None:
            return Reply(404, {"error": f"no book {request.item}"})
        stock = fetch(self._inventory, f"/stock/{request.item}")
        return Reply(200, {**book, "inStock": stock["copies"] > 0})


def main() -> None:
    """Serve on $PORT; $INVENTORY_URL is where the stock is asked for."""
    catalog = Catalog(os.environ["INVENTORY_URL"])
    routes: Routes = {("GET", "/books"): catalog.books, ("GET", "/books/*"): catalog.book}
    serve("catalog", int(os.environ["PORT"]), routes)


if __name__ == "__main__":
    main()

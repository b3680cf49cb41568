"""The shop's stock: how many copies of each book are left, and taking some of them away."""

from __future__ import annotations

import os
import threading

from shophttp import Reply, Request, Routes, serve

_FIRST_STOCK = {"1": 1_000_000, "2": 1_000_000, "3": 0}


class Inventory:
    """Copies on the shelf by book id."""

    def __init__(self) -> None:
        self._copies = dict(_FIRST_STOCK)
        self._lock = threading.Lock()

    def count(self, request: Request) -> Reply:
        """GET /stock/<book>: the copies left."""
        copies = self._copies.get(request.item)
        if copies is None:
            return Reply(404, {"error": f"no book {request.item}"})
        return Reply(200, {"book": request.item, "copies": copies})

    def take(self, request: Request) -> Reply:
        """POST /reservations {"book", "copies"}: take them, or 409 when there are not that many."""
        book, wanted = str(request.body["book"]), int(request.body["copies"])
        with self._lock:
            left = self._copies.get(book, 0) - wanted
            if wanted < 1 or left < 0:
                return Reply(409, {"error": f"cannot reserve {wanted} of book {book}"})
            self._copies[book] = left
        return Reply(201, {"book": book, "reserved": wanted})


def main() -> None:
    """Serve on $PORT."""
    inventory = Inventory()
    routes: Routes = {("GET", "/stock/*"): inventory.count, ("POST", "/reservations"): inventory.take}
    serve("inventory", int(os.environ["PORT"]), routes)


if __name__ == "__main__":
    main()

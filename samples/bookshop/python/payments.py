"""The shop's till: accepts every charge of a sensible amount and numbers the receipts."""

from __future__ import annotations

import itertools
import os

from shophttp import Reply, Request, Routes, serve

_MOST_CENTS = 100_000


class Till:
    """Receipts in the order of the charges."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)

    def charge(self, request: Request) -> Reply:
        """POST /charges {"cents"}: a receipt, or 402 for an amount the shop does not take."""
        cents = int(request.body["cents"])
        if not 0 < cents <= _MOST_CENTS:
            return Reply(402, {"error": f"cannot charge {cents} cents"})
        return Reply(201, {"receipt": next(self._numbers), "cents": cents})


def main() -> None:
    """Serve on $PORT."""
    routes: Routes = {("POST", "/charges"): Till().charge}
    serve("payments", int(os.environ["PORT"]), routes)


if __name__ == "__main__":
    main()

"""A Flask application that knows nothing of telemetry. `README.md` beside it says how to run it with all of it."""

from __future__ import annotations

import logging

from flask import Flask

app = Flask(__name__)
logger = logging.getLogger("shop")


@app.get("/price/<article>")
def price(article: str) -> str:
    """Answer with the price of an article."""
    logger.warning("asked for the price of %s", article)
    return f"{article} costs {len(article)} crowns\n"

"""The demonstration behind ``make demo``: an outage and three kinds of violence, and nothing lost."""

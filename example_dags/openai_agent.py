# SPDX-License-Identifier: Apache-2.0
"""An agent that looks things up in a database, and asks a person before it writes (Airflow 3.3 or later)."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import dag, task

from airflow_provider_openai_runs.operators import CreateResponseOperator

# A file will do while all workers are on one machine. For a real database, use its hook in shop().
DATABASE = Path(os.environ.get("AIRFLOW_HOME", Path.home() / "airflow"), "openai_agent.db")
TABLES = """
CREATE TABLE orders (order_id INTEGER PRIMARY KEY, customer TEXT, day TEXT, item TEXT, cents INTEGER);
CREATE TABLE refunds (call_id TEXT PRIMARY KEY, order_id INTEGER, cents INTEGER, reason TEXT);
"""
ORDERS = [
    (1001, "ada@example.com", "2026-11-02", "espresso cup", 1200),
    (1002, "ada@example.com", "2026-11-09", "milk jug", 2300),
    (1003, "bob@example.com", "2026-11-12", "kettle", 4900),
]


@contextmanager
def shop() -> Iterator[sqlite3.Connection]:
    """Open the database; what was written is kept if nothing went wrong."""
    with closing(sqlite3.connect(DATABASE)) as database, database:
        database.row_factory = sqlite3.Row
        yield database


def find_orders(customer: str) -> list[sqlite3.Row]:
    """Find the orders of a customer, given an e-mail address, newest first."""
    with shop() as database:
        found = "SELECT order_id, day, item FROM orders WHERE customer = ? ORDER BY day DESC LIMIT 20"
        return database.execute(found, (customer,)).fetchall()


def look_up_order(order_id: int) -> sqlite3.Row:
    """Look up one order: what was paid for it and what was refunded already, in cents."""
    with shop() as database:
        found = """
            SELECT orders.*, COALESCE(SUM(refunds.cents), 0) AS refunded
            FROM orders LEFT JOIN refunds USING (order_id) WHERE order_id = ? GROUP BY order_id
        """
        row: sqlite3.Row | None = database.execute(found, (order_id,)).fetchone()
    if row is None:
        raise LookupError(f"There is no order {order_id}.")  # the model reads this, and may try another one
    return row


def refund(order_id: int, cents: int, reason: str, call_id: str) -> str:
    """Refund cents of what was paid for an order. A person approves it before it is done."""
    order = look_up_order(order_id)
    with shop() as database:
        # A call may be made twice, if its answer was lost: its id is the key, so that it counts once.
        if database.execute("SELECT 1 FROM refunds WHERE call_id = ?", (call_id,)).fetchone():
            return "Refunded."
        if not 0 < cents <= order["cents"] - order["refunded"]:
            raise ValueError(f"Of this order, {order['cents'] - order['refunded']} cents can be refunded.")
        database.execute("INSERT INTO refunds VALUES (?, ?, ?, ?)", (call_id, order_id, cents, reason))
    return "Refunded."


@dag(
    schedule=None,
    catchup=False,
    is_paused_upon_creation=False,
    max_active_runs=1,  # they share the database
    params={"letter": "My espresso cup arrived in two pieces. I want my money back. ada@example.com"},
    tags=["openai", "example"],
)
def openai_agent() -> None:
    """Answer a customer's letter: the model decides what to look up, a person whether to refund."""

    @task
    def prepare() -> None:
        """In real life the database exists already."""
        DATABASE.unlink(missing_ok=True)
        with shop() as database:
            database.executescript(TABLES)
            database.executemany("INSERT INTO orders VALUES (?, ?, ?, ?, ?)", ORDERS)

    agent = CreateResponseOperator(
        task_id="agent",
        model="gpt-6-luna",
        instructions="You look after the customers of a shop. Look up, then act, then say what you did.",
        input="{{ params.letter }}",
        functions=[find_orders, look_up_order, refund],  # run in a worker, whenever the model calls one
        approve=["refund"],  # waits in "Required Actions", without worker or trigger
        approval_timeout=timedelta(hours=1),  # then the model reads that nobody approved
        completion_window=timedelta(hours=2),  # for all rounds, the person's time included
        deferrable=True,
        retries=2,  # a retry goes on where the attempt before it was
        retry_delay=timedelta(seconds=10),
    )

    @task
    def report(answer: dict[str, Any]) -> str:
        """Print the answer, and what stands in the database."""
        with shop() as database:
            refunds = [tuple(row) for row in database.execute("SELECT * FROM refunds")]
        found = f"{answer['output_text']} In the database: {refunds or 'no refund'}"
        print(found)  # noqa: T201 # into the task's log
        return found

    prepare() >> agent
    report(agent.output)  # type: ignore[arg-type]  # an XComArg stands for the dict


openai_agent()

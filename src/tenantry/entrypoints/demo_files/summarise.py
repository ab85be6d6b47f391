"""What acme runs: `summarise.py ORDERS SUMMARY` adds up orders by month. Needs the standard library alone.

`PACE` in the environment: seconds to rest after each month, so that a human can watch the log arrive.
"""

import csv
import os
import sys
import time
from collections.abc import Iterable, Mapping
from decimal import Decimal
from itertools import groupby
from pathlib import Path


def main(orders: Path, summary: Path) -> None:
    pace = float(os.environ.get("PACE", "0"))
    with orders.open(newline="") as source, summary.open("w", newline="") as target:
        writer = csv.writer(target, lineterminator="\n")
        writer.writerow(("month", "orders", "items", "turnover"))
        for month, rows in groupby(csv.DictReader(source), key=lambda row: row["date"][:7]):
            count, items, turnover = added_up(rows)
            writer.writerow((month, count, items, turnover))
            print(f"{month}: {count} orders, turnover {turnover}", flush=True)
            time.sleep(pace)


def added_up(rows: Iterable[Mapping[str, str]]) -> tuple[int, int, Decimal]:
    """Count orders and items, and what they bring in."""
    count, items, turnover = 0, 0, Decimal(0)
    for row in rows:
        count += 1
        items += int(row["quantity"])
        turnover += int(row["quantity"]) * Decimal(row["unit_price"])
    return count, items, turnover


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

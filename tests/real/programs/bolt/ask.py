"""The driver of Python: evaluates an expression in which `driver` and `ask` are known; shows the value or the error."""

import os
import sys

from neo4j import GraphDatabase
from neo4j.exceptions import DriverError, Neo4jError

NAME, TOKEN = os.environ["NEO4J_USERNAME"], os.environ["NEO4J_PASSWORD"]


def ask(statement, **options):
    with driver.session(**options) as session:
        return session.run(statement).single(strict=True)[0]


with GraphDatabase.driver(os.environ["NEO4J_URI"], auth=(NAME, TOKEN)) as driver:
    try:
        print(eval(sys.argv[1], {"driver": driver, "ask": ask}))
    except (DriverError, Neo4jError) as error:
        print(f"{type(error).__name__}: {getattr(error, 'code', '')}: {error}")

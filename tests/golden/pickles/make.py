"""Pickles some functions as Feast does, with the Python that runs this (and dill): python make.py > <version>.json"""

import json
import math

import dill

LIMIT = 2.0


def ratio(inputs):
    """A loop, a call, a comprehension, an exception and a name of its module."""
    found = []
    for amount in inputs["amount"]:
        try:
            found.append(min(LIMIT, 1 / amount))
        except ZeroDivisionError:
            found.append(None)
    return {"y": [None if item is None else item * 2 for item in found]}


def with_closure():
    factor = 3

    def closure(inputs):
        return {"y": [factor * item for item in inputs["amount"]]}

    return closure


def plain(inputs):
    """Its instructions are the same in 3.11 and 3.12."""
    return inputs


FUNCTIONS = {"ratio": ratio, "closure": with_closure(), "plain": plain, "no_code": math.sqrt}

if __name__ == "__main__":
    print(json.dumps({name: dill.dumps(f, recurse=True).hex() for name, f in FUNCTIONS.items()}, indent=1))

"""A known case as a linopy model and an Mpec: the strings of `known_cases` read into expressions."""

import re

import linopy

import hiermarket.bilevel as bl

TERM = re.compile(r"([+-]?)\s*(\d+(?:\.\d+)?(?:e[+-]?\d+)?)?\s*([A-Za-z_][\w:]*(?:\*[A-Za-z_][\w:]*)?)?")


def expression(text, find):
    total = None
    for sign, number, name in TERM.findall(text):
        if not (number or name):
            continue
        factor = (-1.0 if sign == "-" else 1.0) * float(number or 1.0)
        if name:
            parts = [find(part) for part in name.split("*")]
            term = factor * (parts[0] if len(parts) == 1 else parts[0] * parts[1])
        else:
            term = factor
        total = term if total is None else total + term
    return total


def add_variable(model, text):
    kind = text.endswith(" integer")
    parts = text.removesuffix(" integer").split(" <= ")
    lower, name, upper = parts if len(parts) == 3 else ("-inf", parts[0], "inf")
    return model.add_variables(lower=float(lower), upper=float(upper), name=name, integer=kind)


def add_row(model, text):
    name, rest = text.split(": ")
    left, sign, right = re.split(r"\s*(<=|>=|==)\s*", rest)
    return model.add_constraints(
        expression(left, model.variables.__getitem__), sign.replace("==", "="), float(right), name=name
    )


def mpec_of(case):
    model = linopy.Model()
    for text in case.leader_variables:
        add_variable(model, text)
    own = [add_variable(model, text) for text in case.follower_variables]
    for text in case.leader_rows:
        add_row(model, text)
    rows = [add_row(model, text) for text in case.follower_rows]
    sense, cost = case.follower.split(" ", 1)
    follower = bl.Follower(
        variables=own, constraints=rows, cost=expression(cost, model.variables.__getitem__), sense=sense
    )
    mpec = bl.kkt(model, follower)

    def find(name):
        return mpec.dual[name.removeprefix("dual:")] if name.startswith("dual:") else mpec.variables[name]

    sense, objective = case.leader.split(" ", 1)
    return (mpec.minimise if sense == "min" else mpec.maximise)(expression(objective, find))

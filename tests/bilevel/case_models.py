"""A `Case` as a linopy model and an Mpec: its strings read into expressions."""

import re

import linopy

import hiermarket.bilevel as bl

TERM = re.compile(r"([+-]?)\s*(\d+(?:\.\d+)?(?:e[+-]?\d+)?)?\s*([A-Za-z_][\w:]*(?:\*[A-Za-z_][\w:]*)*)?")


def expression(text, find):
    total = None
    for sign, number, name in TERM.findall(text):
        if not (number or name):
            continue
        factor = (-1.0 if sign == "-" else 1.0) * float(number or 1.0)
        if name:
            parts = [find(part) for part in ([name] if name.startswith("value:") else name.split("*"))]
            term = factor * (parts[0] if len(parts) == 1 else parts[0] * parts[1])
        else:
            term = factor
        total = term if total is None else total + term
    return total


def add_variable(model, text):
    kind = text.endswith(" integer")
    if text.endswith(" binary"):
        return model.add_variables(binary=True, name=text.removesuffix(" binary"))
    parts = text.removesuffix(" integer").split(" <= ")
    lower, name, upper = parts if len(parts) == 3 else ("-inf", parts[0], "inf")
    return model.add_variables(lower=float(lower), upper=float(upper), name=name, integer=kind)


def add_row(model, text, find=None):
    name, rest = text.split(": ")
    left, sign, right = re.split(r"\s*(<=|>=|==)\s*", rest)
    left = expression(left, find or model.variables.__getitem__)
    return model.add_constraints(left, sign.replace("==", "="), float(right), name=name)


def follower_of(model, player, own):
    rows = [add_row(model, text) for text in player.rows]
    sense, cost = player.objective.split(" ", 1)
    cost = expression(cost, model.variables.__getitem__)
    return bl.Follower(variables=own, constraints=rows, cost=cost, sense=sense)


def finder(mpec):
    """Names of the leader's strings: variables, `dual:row`, `lower:y`, `upper:y`, `fixed:y`, `value:row*y*z`."""

    def find(name):
        kind, _, rest = name.rpartition(":")
        if kind == "value":
            row, *own = rest.split("*")
            return bl.dual_times_primal(mpec, row, sum(1 * mpec.variables[name] for name in own))
        return (getattr(mpec, kind) if kind else mpec.variables)[rest]

    return find


def mpec_of(case):
    model = linopy.Model()
    for text in case.leader_variables:
        add_variable(model, text)
    own = [[add_variable(model, text) for text in player.variables] for player in case.followers]
    on_multipliers = [text for text in case.leader_rows if re.search(r"(dual|lower|upper|fixed):\w", text)]
    for text in case.leader_rows:
        if text not in on_multipliers:
            add_row(model, text)
    pairs = zip(case.followers, own, strict=True)
    mpec = bl.kkt(model, [follower_of(model, player, mine) for player, mine in pairs])
    for text in on_multipliers:
        add_row(mpec.model, text, finder(mpec))
    sense, objective = case.leader.split(" ", 1)
    return (mpec.minimise if sense == "min" else mpec.maximise)(expression(objective, finder(mpec)))

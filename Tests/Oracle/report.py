"""Differences, by what explains them and by what has the same look."""
import collections
import json
import pathlib
import re

SIDES = re.compile(r"Cinder (.*), Clinker (.*)")


class Explanation:
    """A row of explained.json: where it holds (request) and for what (difference), as regular expressions, and why."""

    def __init__(self, row):
        self.request = re.compile(row.get("request", ""))
        self.difference = re.compile(row["difference"])
        self.why = row["why"]
        self.is_open = row.get("open", False)
        self.uses = 0


class Report:
    def __init__(self):
        rows = json.loads(pathlib.Path(__file__).with_name("explained.json").read_text())
        self.explanations = [Explanation(row) for row in rows]
        self.requests = 0
        self.preparations = 0
        self.explained = 0
        self.open = 0
        self.groups = collections.OrderedDict()
        self.operations = collections.Counter()

    def note(self, request, found):
        self.requests += 1
        line = line_of(request)
        self.operations[operation(request)] += 1
        for difference in found:
            for explanation in self.explanations:
                if explanation.difference.search(difference) and explanation.request.search(line):
                    explanation.uses += 1
                    if explanation.is_open:
                        self.open += 1
                    else:
                        self.explained += 1
                    break
            else:
                key = operation(request) + " | " + look(difference)
                self.groups.setdefault(key, []).append((line, difference))

    def merge(self, other):
        self.requests += other.requests
        self.preparations += other.preparations
        self.explained += other.explained
        self.open += other.open
        self.operations += other.operations
        for mine, theirs in zip(self.explanations, other.explanations):
            mine.uses += theirs.uses
        for key, items in other.groups.items():
            self.groups.setdefault(key, []).extend(items)

    def stale(self):
        """Explanations of what is no longer so."""
        return [one for one in self.explanations if not one.uses]

    def tell(self, examples=2):
        for key, items in sorted(self.groups.items(), key=lambda group: -len(group[1])):
            print("%4d x %s" % (len(items), key))
            for line, difference in items[:examples]:
                print("         %s\n             %s" % (line[:300], difference[:700]))
        total = sum(len(items) for items in self.groups.values())
        print("%d requests compared (%d more to prepare them), %d operations; differences: %d explained, %d open, %d unexplained of %d kinds" % (
            self.requests, self.preparations, len(self.operations), self.explained, self.open, total, len(self.groups)))


def line_of(request):
    return "%s %s %s%s%s%s" % (
        request["method"], request["path"], request["version"], " " + request["user"],
        " " + request["body"] if request["body"] is not None else "",
        " " + str(request["headers"]) if request["headers"] else "")


def operation(request):
    path = request["path"].partition("?")[0]
    path = re.sub(r"\{\w+\}", "{}", path)
    action = re.match(r'\{"([^"]+)"', request["body"] or "") if path.endswith("/action") else None
    return "%s %s%s" % (request["method"], path, " " + action.group(1) if action else "")


def look(difference):
    """A difference without the values that are quoted in it."""
    text = re.sub(r"<[a-z]\w*>", "<>", difference)
    text = re.sub(r"Value: .*?\. ", "Value: ... ", text)
    return text[:160]

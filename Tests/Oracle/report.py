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
        # Of differences.md; "judge": the judge's own, which no client of a Cinder sees.
        self.row = row["row"]
        self.uses = 0
        self.operations = collections.Counter()


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
                    explanation.operations[operation(request)] += 1
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
            mine.operations += theirs.operations
        for key, items in other.groups.items():
            self.groups.setdefault(key, []).extend(items)

    def stale(self):
        """Explanations of what is no longer so."""
        return [one for one in self.explanations if not one.uses]

    def tell_explained(self):
        """What each explanation was used for."""
        for one in self.explanations:
            print("%s: %s | %s" % (one.row, one.request.pattern, one.difference.pattern))
            for name, count in one.operations.most_common():
                print("    %4d x %s" % (count, name))

    def tell(self, examples=2):
        for key, items in sorted(self.groups.items(), key=lambda group: -len(group[1])):
            print("%4d x %s" % (len(items), key))
            for line, difference in items[:examples]:
                print("         %s\n             %s" % (line[:300], difference[:700]))
        total = sum(len(items) for items in self.groups.values())
        print("%d requests compared (%d more to prepare them), %d operations; differences: %d explained, %d open, %d unexplained of %d kinds" % (
            self.requests, self.preparations, len(self.operations), self.explained, self.open, total, len(self.groups)))


def strays(explanations):
    """Explanations without a row of differences.md, and rows there that say an explanation has them and that none has."""
    path = pathlib.Path(__file__).parents[2] / "api-ref" / "differences.md"
    rows = re.findall(r"^\| `([a-z0-9-]+)` \|", path.read_text(), re.MULTILINE)
    named = {one.row for one in explanations} - {"judge"}
    found = ["no row of differences.md is called %s" % name for name in sorted(named - set(rows))]
    found += ["no explanation names the row %s of differences.md" % name for name in sorted(set(rows) - named)]
    return found + ["two rows of differences.md are called %s" % name for name in sorted({one for one in rows if rows.count(one) > 1})]


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

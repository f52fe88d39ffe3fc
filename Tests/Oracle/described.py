"""Checks Clinker's answers against the description of the API that it serves."""
import json
import sys

from servers import VENV

sys.path += [str(path) for path in VENV.glob("lib/python3*/site-packages")]

import jsonschema  # noqa: E402
import referencing  # noqa: E402
import referencing.jsonschema  # noqa: E402


class Description:
    """`/openapi.json` at one microversion."""

    def __init__(self, document):
        self.document = document
        resource = referencing.Resource(document, referencing.jsonschema.DRAFT202012)
        self.registry = referencing.Registry().with_resource("urn:api", resource)
        self.templates = sorted(((path.split("/")[1:], item) for path, item in document["paths"].items()), key=lambda one: sum("{" in part for part in one[0]))
        self.validators = {}

    def violations(self, method, path, status, text):
        # The router takes a suffix away.
        parts = path.removesuffix(".json").split("/")[1:]
        for template, item in self.templates:
            if method.lower() in item and len(template) == len(parts) and all("{" in a or a == b for a, b in zip(template, parts)):
                break
        else:
            return ["%d to what is not described" % status] if status < 400 else []
        response = item[method.lower()]["responses"].get(str(status))
        if response is None and status >= 400:
            response = item[method.lower()]["responses"]["default"]
        if response is None:
            return ["status %d is not described" % status]
        if "$ref" in response:
            response = self.document["components"]["responses"][response["$ref"].split("/")[-1]]
        if not text:
            return []
        content = response.get("content", {}).get("application/json")
        if content is None:
            return [] if response.get("content") else ["a body is not described"]
        key = id(content)
        if key not in self.validators:
            schema = json.loads(json.dumps(content["schema"]).replace('"#/components', '"urn:api#/components'))
            self.validators[key] = jsonschema.Draft202012Validator(schema, registry=self.registry)
        try:
            value = json.loads(text)
        except ValueError:
            return ["no JSON"]
        return ["%s: %s" % ("/".join(str(one) for one in error.absolute_path), error.message[:200]) for error in self.validators[key].iter_errors(value)]

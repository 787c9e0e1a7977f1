"""Google's API as its own discovery documents describe it: what a request may hold, and a simulated project that answers some.

The documents come with google-api-python-client: Google writes them, and the library sends its requests by them. They say which fields there
are, of which types, with which values; nothing here repeats that. What the simulated project keeps and answers is written here.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import googleapiclient
import httplib2

_DOCUMENTS = Path(googleapiclient.__file__).parent / "discovery_cache" / "documents"
_APIS = ("compute.v1", "iam.v1", "cloudresourcemanager.v1", "storage.v1")
_PLAIN = {"string": str, "boolean": bool, "integer": int, "number": (int, float)}


@cache
def document(name: str) -> dict[str, Any]:
    """Return what Google says of an API, such as compute.v1."""
    return json.loads((_DOCUMENTS / f"{name}.json").read_text(encoding="utf-8"))


def faults(given: Any, api: str, kind: str, where: str = "") -> list[str]:
    """Return what is wrong with a value for a field of a request: unknown fields, types, values, and what only Google writes."""
    return _faults(given, {"$ref": kind}, document(api)["schemas"], where or kind)


def _faults(given: Any, schema: Mapping[str, Any], schemas: Mapping[str, Any], where: str) -> list[str]:
    if "$ref" in schema:
        schema = schemas[schema["$ref"]]
    kind = schema["type"]
    if kind == "any":
        return []
    if kind == "array":
        if not isinstance(given, list):
            return [f"{where}: {given!r} is no array"]
        parts = [_faults(one, schema["items"], schemas, f"{where}[{at}]") for at, one in enumerate(given)]
        return [fault for part in parts for fault in part]
    if kind == "object":
        if not isinstance(given, Mapping):
            return [f"{where}: {given!r} is no object"]
        return [fault for name, value in given.items() for fault in _member(name, value, schema, schemas, where)]
    # Google takes 64-bit numbers, which JSON cannot hold for sure, as strings and as numbers.
    if kind == "string" and schema.get("format") in ("int64", "uint64") and type(given) is int:
        return []
    if not isinstance(given, _PLAIN[kind]) or (isinstance(given, bool) and kind != "boolean"):
        return [f"{where}: {given!r} is no {kind}"]
    if "enum" in schema and given not in schema["enum"]:
        return [f"{where}: {given!r} is none of {', '.join(schema['enum'])}"]
    return []


def _member(name: str, value: Any, schema: Mapping[str, Any], schemas: Mapping[str, Any], where: str) -> list[str]:
    known = schema.get("properties", {}).get(name, schema.get("additionalProperties"))
    if known is None:
        return [f"{where}: there is no {name}"]
    return _faults(value, known, schemas, f"{where}.{name}")


@cache
def _methods() -> list[tuple[str, re.Pattern[str], str, dict[str, Any], set[str]]]:
    """Every method of the APIs: verb, address, API, its description, the parameters that any method of the API takes."""
    found = []
    for api in _APIS:
        whole = document(api)
        waiting = list(whole["resources"].values())
        while waiting:
            part = waiting.pop()
            waiting += part.get("resources", {}).values()
            for method in part.get("methods", {}).values():
                # {+name} stands for several parts of a path, which flatPath shows one by one.
                path = re.sub(r"\\{.*?\\}", "([^/:]+)", re.escape(method.get("flatPath", method["path"])))
                address = re.escape(whole["rootUrl"] + whole["servicePath"]) + path
                found.append((method["httpMethod"], re.compile(address), api, method, set(whole["parameters"])))
    return found


@dataclass
class Refused(Exception):
    """What Google does not do, with its number."""

    status: int
    words: str


@dataclass
class Project:
    """A simulated project: what was made in it, and each request that changed something.

    Attributes:
        made: by kind and name; what a request made is kept as it came.
        policies: who may do what, by project, account or bucket.
        metadata: of all machines.
        asked: the changes, in their order: method of Google's API, and body.
    """

    name: str
    made: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    policies: dict[str, dict[str, Any]] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=lambda: {"kind": "compute#metadata", "fingerprint": "AA=="})
    asked: list[tuple[str, Any]] = field(default_factory=list)
    _numbers: Any = field(default_factory=itertools.count, repr=False)

    def request(
        self, _: httplib2.Http, uri: str, method: str = "GET", body: Any = None, **__: Any
    ) -> tuple[Any, bytes]:
        """Stand in the place of httplib2.Http.request: no request leaves this process."""
        address = urlsplit(uri)
        if address.hostname == "oauth2.googleapis.com":
            return _answer(200, {"access_token": "simulated", "expires_in": 3600, "token_type": "Bearer"})
        plain = f"{address.scheme}://{address.netloc}{address.path}"
        for verb, pattern, api, described, usual in _methods():
            if verb == method and (found := pattern.fullmatch(plain)):
                sent = json.loads(body) if body else None
                query = dict(parse_qsl(address.query))
                unknown = set(query) - set(described["parameters"]) - usual
                assert not unknown, f"{described['id']} takes no {unknown}"
                try:
                    self._check(sent, api, described)
                    return _answer(200, self._do(described["id"], list(map(unquote, found.groups())), query, sent))
                except Refused as no:
                    return _answer(no.status, {"error": {"code": no.status, "message": no.words}})
        raise AssertionError(f"Google has no {method} {uri}")

    def _check(self, sent: Any, api: str, described: Mapping[str, Any]) -> None:
        """Refuse a body that does not fit the schema, as Google does."""
        if sent is None or "request" not in described:
            assert sent is None, f"{described['id']} takes no body"
            return
        if wrong := faults(sent, api, described["request"]["$ref"]):
            raise Refused(400, "; ".join(wrong))

    def _do(self, method: str, path: list[str], query: dict[str, str], sent: Any) -> Any:
        if not re.search(r"\.(get|list|wait|getIamPolicy)$", method):
            self.asked.append((method, sent))
        if method in ("cloudresourcemanager.projects.create", "cloudresourcemanager.projects.get"):
            return self._project(method, path, sent)
        if not method.startswith("storage.") and not any(self.name in part for part in path):
            raise Refused(403, f"the caller may not {method} in {path[0]}")
        service, _, verb = method.rpartition(".")
        if verb == "getIamPolicy":
            return self.policies.setdefault(path[-1], {"version": 1, "etag": "BwAA", "bindings": []})
        if verb == "setIamPolicy":
            return self._set_policy(path[-1], sent if service == "storage.buckets" else sent["policy"])
        if service.endswith("Operations"):
            return {"name": path[-1], "status": "DONE"}
        if method == "compute.projects.get":
            return {"name": self.name, "commonInstanceMetadata": self.metadata}
        if method == "compute.projects.setCommonInstanceMetadata":
            self.metadata = sent
            return self._operation()
        if method == "compute.instances.setLabels":
            self._one("compute.instances", path[-1])["labels"] = sent["labels"]
            return self._operation()
        if verb in ("insert", "create"):
            return self._make(service, sent)
        if verb == "get":
            return self._one(service, path[-1])
        if verb == "list":
            return {
                "items": [one for one in self.made.get(service, {}).values() if _fits(one, query.get("filter", ""))]
            }
        raise AssertionError(f"the simulated project does not know {method}")

    def _project(self, method: str, path: list[str], sent: Any) -> Any:
        if method.endswith(".create"):
            if not re.fullmatch(r"[a-z][a-z0-9-]{4,28}[a-z0-9]", sent["projectId"]):
                raise Refused(400, f"{sent['projectId']} is no project ID")
            raise Refused(403, "a project of that name is somebody else's")
        if path != [self.name]:
            raise Refused(403, f"the caller may not see {path[-1]}")
        return {"projectId": self.name, "name": self.name, "lifecycleState": "ACTIVE"}

    def _set_policy(self, of: str, policy: dict[str, Any]) -> dict[str, Any]:
        if any("condition" in one for one in policy["bindings"]) and policy.get("version") != 3:
            raise Refused(400, "a policy with conditions has version 3")
        if policy.get("etag") != self.policies[of]["etag"]:
            raise Refused(409, "somebody else has changed the policy")
        self.policies[of] = policy
        return policy

    def _make(self, service: str, sent: Any) -> Any:
        if service == "iam.projects.serviceAccounts":
            address = f"{sent['accountId']}@{self.name}.iam.gserviceaccount.com"
            made = {"email": address, "projectId": self.name, **sent.get("serviceAccount", {})}
            self.made.setdefault(service, {})[address] = made
            return made
        if sent["name"] in self.made.setdefault(service, {}):
            raise Refused(409, f"{sent['name']} is there already")
        if service == "compute.instances":
            sent = self._boot(sent)
        self.made[service][sent["name"]] = sent
        return sent if service == "storage.buckets" else self._operation()

    def _boot(self, sent: Any) -> Any:
        number = next(self._numbers) + 2
        for account in sent.get("serviceAccounts", []):
            self._one("iam.projects.serviceAccounts", account["email"])
        (card,) = sent["networkInterfaces"]
        network = card["subnetwork"].rpartition("/")[2]  # of a network in auto mode all parts are named as it is
        self._one("compute.networks", network)
        card = {**card, "networkIP": f"10.128.0.{number}"}
        card["accessConfigs"] = [{**one, "natIP": f"192.0.2.{number}"} for one in card["accessConfigs"]]
        return {**sent, "status": "RUNNING", "labelFingerprint": "AA==", "networkInterfaces": [card]}

    def _one(self, service: str, name: str) -> Any:
        try:
            return self.made.get(service, {})[name]
        except KeyError:
            raise Refused(404, f"there is no {name} of {service}") from None

    def _operation(self) -> dict[str, Any]:
        return {"name": f"operation-{next(self._numbers)}", "status": "DONE"}


def _fits(one: Mapping[str, Any], wanted: str) -> bool:
    """Tell whether a machine has the labels and one of the states that Ray's filter names."""
    labels = re.findall(r"labels\.(\S+) = (\S+?)\)", wanted)
    states = re.findall(r"status = (\w+)", wanted)
    given = one.get("labels", {})
    return all(given.get(key) == value for key, value in labels) and (not states or one["status"] in states)


def _answer(status: int, said: Any) -> tuple[Any, bytes]:
    head = httplib2.Response({"status": str(status), "content-type": "application/json"})
    return head, json.dumps(said).encode()


def signed_in(folder: Path) -> str:
    """Write what `gcloud auth application-default login` writes; returns the file."""
    file = folder / "application_default_credentials.json"
    known = {
        "type": "authorized_user",
        "client_id": "simulated",
        "client_secret": "simulated",
        "refresh_token": "simulated",
    }
    file.write_text(json.dumps(known), encoding="utf-8")
    return str(file)

"""Writes what the shipped binaries are made of as CycloneDX 1.6: `python3 .ci/sbom.py > target/sbom.cdx.json`.

Everything is told by cargo and Cargo.lock, for the binaries that users run and without what only tests need.
"""

import json
import re
import subprocess
import sys
from urllib.parse import quote

SHIPPED = ["countersign-cli", "countersign-control-plane", "countersign-responder"]


def checksums():
    """SHA-256 of each crate's archive, by name and version, from the lock file."""
    found = {}
    for block in open("Cargo.lock", encoding="utf-8").read().split("[[package]]")[1:]:
        field = dict(re.findall(r'^(name|version|checksum) = "([^"]+)"$', block, re.MULTILINE))
        if "checksum" in field:
            found[field["name"], field["version"]] = field["checksum"]
    return found


def reached(nodes, roots):
    """What is linked or run to build them, development dependencies left out."""
    seen, waiting = {}, list(roots)
    while waiting:
        package = waiting.pop()
        if package in seen:
            continue
        kept = [
            dep["pkg"]
            for dep in nodes[package]["deps"]
            if any(kind["kind"] != "dev" for kind in dep["dep_kinds"])
        ]
        seen[package] = sorted(set(kept))
        waiting.extend(kept)
    return seen


def main():
    command = ["cargo", "metadata", "--format-version=1", "--locked"]
    told = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    packages = {package["id"]: package for package in told["packages"]}
    nodes = {node["id"]: node for node in told["resolve"]["nodes"]}
    roots = [key for key, package in packages.items() if package["name"] in SHIPPED]
    if len(roots) != len(SHIPPED):
        sys.exit("a shipped package is missing from the workspace")
    known, graph = checksums(), reached(nodes, roots)

    def purl(key):
        package = packages[key]
        return f"pkg:cargo/{package['name']}@{quote(package['version'])}"

    components = []
    for key in sorted(graph, key=purl):
        package = packages[key]
        component = {
            "type": "application" if key in roots else "library",
            "bom-ref": purl(key),
            "name": package["name"],
            "version": package["version"],
            "purl": purl(key),
        }
        if package["license"]:
            component["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
        digest = known.get((package["name"], package["version"]))
        if digest:
            component["hashes"] = [{"alg": "SHA-256", "content": digest}]
        components.append(component)
    graph = [{"ref": purl(key), "dependsOn": [purl(on) for on in graph[key]]} for key in graph]
    bom = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "components": components,
        "dependencies": sorted(graph, key=lambda one: one["ref"]),
    }
    json.dump(bom, sys.stdout, indent=1)


main()

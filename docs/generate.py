"""The reference pages, written from the code that they describe: `python docs/generate.py`, with --check to compare only."""

from __future__ import annotations

import inspect
import json
import re
import sys
from dataclasses import fields
from pathlib import Path

from prometheus_client.metrics import MetricWrapperBase

from certify.claims.procedures import PROCEDURES
from export.bundle import Manifest
from serving import config, errors, metrics
from serving.messages import PARTS, Options

HERE = Path(__file__).resolve().parent
PROTO = HERE.parent / "protos/certserve/v1/certserve.proto"


def table(head: list[str], rows: list[list[str]]) -> str:
    """A table of Markdown."""
    lines = [head, ["-"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def settings() -> str:
    """Every setting and limit, with its meaning, its range and its default."""
    rows = [[f"`--{each.name.replace('_', '-')}`", config.explained(each)] for each in config.declared()]
    return (
        "# Settings\n\nOf `certserve serve MODELS`, which also takes `--local`. A Serve configuration file has the same"
        " names with underscores.\n\n" + table(["setting", "meaning"], rows)
    )


def options() -> str:
    """What a request may ask for: the names of `Options`, explained by the comments of the specification."""
    said = commented("message Options")
    said |= {
        "certify": "How a certificate is sought: see below.",
        "deadline_ms": said["deadline"],
        "norm": f"How distances are measured: `l2`, {commented('enum Norm')['NORM_L2']}",
        "outputs": f"Some of {', '.join(f'`{part}`' for part in PARTS)}; all of them if nothing is said.",
    }
    modes = commented("enum CertifyMode")
    listed = [[f"`{name}`", modes[f"CERTIFY_MODE_{name.upper()}"]] for name in PROCEDURES]
    return (
        "# Options of a request\n\nThe same on every wire: in the query, in JSON, as parameters `certserve.<name>` of the"
        " Open Inference Protocol, and in the message `Options` of the typed service, where the deadline is a duration."
        " What is not said has a default in the [bundle's manifest](manifest.md).\n\n"
        + table(["option", "meaning"], [[f"`{each.name}`", in_words(said[each.name])] for each in fields(Options)])
        + "\n\n## Values of `certify`\n\n"
        + table(["value", "meaning"], listed)
    )


def in_words(comment: str) -> str:
    """The typed service's names of modes as every other wire writes them."""
    return re.sub(r"CERTIFY_MODE_(\w+)", lambda found: f"`{found[1].lower()}`", comment)


def commented(block: str) -> dict[str, str]:
    """The members of one block of the .proto file, each with the comment above it, as one line."""
    body = re.search(rf"^{block} \{{\n(.*?)^\}}", PROTO.read_text(), re.M | re.S)
    assert body, block
    found = re.findall(r"((?:^ *//.*\n)*)^ *(?:[\w. ]+ )?(\w+) = \d+;", body[1], re.M)
    return {name: " ".join(re.sub(r"^ *// ?", "", comment, flags=re.M).split()) for comment, name in found}


def refusals() -> str:
    """Every error, with both codes."""
    kinds = [
        each for each in vars(errors).values() if inspect.isclass(each) and errors.CertserveError in each.__bases__
    ]
    rows = [[each.__name__, str(each.http_status), each.code, " ".join((each.__doc__ or "").split())] for each in kinds]
    return (
        '# Errors\n\nOver HTTP each is `{"error": "..."}`; over gRPC a status with the same message. The message says'
        " what was wrong, what was expected and how to mend it.\n\n"
        + table(["error", "HTTP", "gRPC", "when"], sorted(rows, key=lambda row: int(row[1])))
    )


def counts() -> str:
    """Every metric, with its labels."""
    rows = []
    for each in vars(metrics).values():
        if isinstance(each, MetricWrapperBase):
            (family,) = each.describe()
            rows.append([f"`{family.name}`", family.type, ", ".join(each._labelnames), family.documentation])
    return (
        "# Metrics\n\nIn Prometheus' format on the metrics port; counters end in `_total`, as always there. Labels are never"
        " chosen by a client, save the names of served models.\n\n" + table(["name", "kind", "labels", "meaning"], rows)
    )


def manifest() -> str:
    """The schema of a bundle's manifest: one table for each object."""
    schema = Manifest.model_json_schema()
    parts = {"Manifest": schema, **schema["$defs"]}
    text = "# The manifest of a bundle\n\n`manifest.json`, strict: an unknown key is refused."
    for name, part in parts.items():
        if "properties" not in part:
            continue
        needed = part.get("required", [])
        rows = [
            [f"`{key}`", kind(value), "yes" if key in needed else "no"] for key, value in part["properties"].items()
        ]
        text += f"\n\n## {name}\n\n{part.get('description', '').strip()}\n\n" + table(["key", "what", "required"], rows)
    return text + "\n\n## JSON schema\n\n```json\n" + json.dumps(schema, indent=1) + "\n```"


def kind(value: dict[str, object]) -> str:
    """A property in a few words: its type and bounds, or the part that describes it."""
    reference = re.search(r"#/\$defs/(\w+)", json.dumps(value))
    if reference:
        return f"[{reference[1]}](#{reference[1].lower()})"
    plain = {key: each for key, each in value.items() if key not in ("title", "description")}
    return f"`{json.dumps(plain)}`"


PAGES = {"settings": settings, "options": options, "errors": refusals, "metrics": counts, "manifest": manifest}


def pages() -> dict[Path, str]:
    """Each page of the reference as it should be."""
    note = "<!-- Written by docs/generate.py from the code: change that, not this page. -->\n\n"
    return {HERE / "reference" / f"{name}.md": note + page() + "\n" for name, page in PAGES.items()}


def main() -> None:
    """Write the pages, or with --check fail where one is not current."""
    for path, text in pages().items():
        if "--check" not in sys.argv:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            sys.exit(f"{path} is not what the code says; run python docs/generate.py")


if __name__ == "__main__":
    main()

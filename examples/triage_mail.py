"""Triage mail: one JSON object for each .eml file, always of the same form.

    python examples/triage_mail.py ~/Mail/*.eml -m 4b > triage.jsonl

On a Mac: select messages in Mail and drag them into a folder, which makes .eml files; or a
Mail rule with "Run AppleScript" saves the source of each message there.
"""

import argparse
import email
import email.policy
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import qwen3_mlx


@dataclass
class Triage:
    kind: Literal["question", "invoice", "newsletter", "personal", "other"]
    urgent: bool


parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("files", nargs="+", type=Path)
parser.add_argument("-m", "--model", default="tiny")
args = parser.parse_args()

with qwen3_mlx.load(args.model) as model:
    for file in args.files:
        message = email.message_from_bytes(file.read_bytes(), policy=email.policy.default)
        body = message.get_body(("plain", "html"))
        try:
            text = str(body.get_content())[:2000] if body else ""
        except LookupError:  # a charset that nobody knows
            text = body.get_payload(decode=True).decode(errors="replace")[:2000]
        about = f"From: {message['from']}\nSubject: {message['subject']}\n\n{text}"
        prompt = f"Triage this mail.\n\n{about}"
        triage = model.json(prompt, Triage, thinking=False, max_tokens=100, seed=1)
        print(json.dumps({"file": file.name, "subject": message["subject"], **asdict(triage)}))

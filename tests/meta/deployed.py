"""What the tests of deploy/ share: the files as data, and what the code really has."""

import re
import subprocess
import sys
from pathlib import Path

import typer.main
import yaml

from engram.settings import FILE_SUFFIX, Settings, secret_names, variable_names
from engram_cli.main import build_app
from tests.meta.checkout import ROOT, text

BIN = Path(sys.executable).parent
DEFAULTS = {name: Settings.model_fields[field].default for field, name in variable_names().items()}
SECRETS = {name + FILE_SUFFIX for name in secret_names()}


def load(name):
    """Return a YAML file of the checkout as data."""
    return yaml.safe_load(text(name))


def run_tool(name, *arguments):
    """Run a tool of the environment and return what it printed; it must succeed."""
    done = subprocess.run(
        [str(BIN / name), *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def check_settings(names):
    """See that every variable is one that a service reads."""
    unknown = {name for name in names if name.startswith(("ENGRAM_", "VOYAGE_"))}
    assert unknown <= set(DEFAULTS) | SECRETS


def check_command(words):
    """See that the command line takes these words: a command, its arguments and its options."""
    command = typer.main.get_command(build_app()).commands[words[0]]
    command.make_context(words[0], list(words[1:]), resilient_parsing=False)


def make_secrets(folder):
    """Make every secret as a person would, and return their names."""
    script = ROOT / "deploy/compose/make-secrets.sh"
    subprocess.run(["/bin/sh", str(script), str(folder)], check=True, capture_output=True)
    return {path.name for path in folder.iterdir()}


def nats_users():
    """Return each user of deploy/nats/secure.conf with the subjects its block names."""
    blocks = re.split(r"^      user: ", text("deploy/nats/secure.conf"), flags=re.MULTILINE)[1:]
    return {block.split()[0]: set(re.findall(r'"([^"]+)"', block)) for block in blocks}

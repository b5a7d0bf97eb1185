"""The `perdure` command: one module per subcommand, registered here."""

import click

from cli.admin import admin
from cli.audit import audit
from cli.down import down
from cli.status import status
from cli.up import up


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="perdure")
def main() -> None:
    """Perdure, a durable engineering platform: git, pipelines, logs and access in one installation.

    The installation lives in .perdure/ of the current directory; PERDURE_HOME names another place.
    """


for command in (up, down, status, admin, audit):
    main.add_command(command)


if __name__ == "__main__":
    main()

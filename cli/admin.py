"""`perdure admin`: what whoever runs the installation does on its host when nobody can sign in any more."""

from importlib import import_module

import click

LIVE = "cli.admin_live"


@click.group()
def admin() -> None:
    """Ways back in for whoever runs this installation. Everything done here is in the audit log.

    Uses the settings that PERDURE_SETTINGS names, else those of PERDURE_HOME: who can read them, may.
    """


@admin.command("reset-password")
@click.argument("name", required=False)
@click.option("--second-factors", is_flag=True, help="Also take away NAME's second factors, because they are lost.")
def reset_password(name: str | None, second_factors: bool) -> None:
    """Print a link with which NAME sets a new password, once and within the hour. Default: the first administrator.

    For when no mail reaches them: no address is known or verified, or mails are not delivered.
    """
    import_module(LIVE).reset_password(name, second_factors=second_factors)

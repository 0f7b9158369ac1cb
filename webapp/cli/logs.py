"""``flask logs``: the log answers questions, with no app, secret or database at hand."""

from typing import Final

import click

from webapp.cli import logs_files, logs_questions

_SECTIONS: Final = {
    "Find": (
        logs_questions.search,
        logs_questions.request,
        logs_files.tail_,
        logs_questions.slow,
        logs_questions.errors,
        logs_questions.logins,
        logs_questions.predictions,
        logs_questions.unfinished,
    ),
    "Sum up": (
        logs_questions.levels,
        logs_questions.endpoints,
        logs_questions.users,
        logs_questions.models,
        logs_questions.slow_queries,
    ),
    "Files": (
        logs_files.stats,
        logs_files.verify,
        logs_files.archive_,
        logs_files.prune,
        logs_files.export_,
        logs_files.sql_,
    ),
}


class Sections(click.Group):
    """A group whose help lists its commands by what they are for."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one list of commands for each section."""
        for title, commands in _SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl(
                    [(str(one.name), one.get_short_help_str(limit=80)) for one in commands]
                )


@click.group(
    cls=Sections,
    commands=[command for commands in _SECTIONS.values() for command in commands],
    epilog="""\b
    Which request of a user failed yesterday, and why?
      flask logs search --user ID --since 1d 'level>=error'
      flask logs request REQUEST_ID

    \b
    A FILTER is FIELD OPERATOR VALUE, with = != > >= < <= or ~ (contains) and !~:
      flask logs search 'status_code>=500' 'duration>0.2' message~Prediction

    Exit status: 0 answered; 1 found, with --fail-if-found, or lines missing, for verify;
    2 the command is wrong; 3 the log cannot be read or changed.
    """,
)
def logs() -> None:
    """Ask the log: what happened, how often, how fast, and why it failed."""

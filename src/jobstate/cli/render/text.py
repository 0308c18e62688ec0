"""Jobs as lines of text, for people and pipes."""

from jobstate._sse import Event
from jobstate.cli.follow import Change
from jobstate.cli.output import format_progress, format_time, print_json, print_line
from jobstate.cli.render.messages import ConnectionMessages
from jobstate.models import Job


def describe(job: Job) -> str:
    """Return attempts, failures, an expired lease and a cancel request as short text."""
    words = [f"attempt {job.attempt}"] if job.attempt else []
    if job.failures:
        words.append(f"{job.failures} of {job.max_attempts} failed")
    if job.stale:
        words.append("lease expired")
    if job.cancel_requested_at and not job.is_final:
        words.append("cancellation requested")
    return ", ".join(words)


class Lines(ConnectionMessages):
    """Writes one line for each change, and finally the result or error."""

    def changed(self, change: Change) -> None:
        """Write a change."""
        if change.job is None:
            print_line(change.status)
            return
        job, progress = change.job, change.job.progress
        words = [format_time(job.updated_at), job.status, describe(job), format_progress(progress)]
        print_line("  ".join(filter(None, [*words, (progress and progress.message) or ""])))

    def removed(self, event: Event) -> None:
        """Do nothing: the command reports it as an error."""

    def finished(self, change: Change) -> None:
        """Write the result or error, if any."""
        if change.outcome:
            print_json(change.outcome)

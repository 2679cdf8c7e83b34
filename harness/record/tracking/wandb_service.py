"""W&B's service, a process of its own that can die: killed with a job, or for memory."""

from __future__ import annotations

from contextlib import suppress


def gone() -> tuple[type[Exception], ...]:
    """Return what wandb raises when its service has died."""
    from wandb.sdk.mailbox import HandleAbandonedError, MailboxClosedError

    return ConnectionError, MailboxClosedError, HandleAbandonedError


def forget_service() -> None:
    """Close the connection to the service, dead or alive; wandb then does nothing at exit and starts a new one."""
    import wandb

    with suppress(*gone()):
        wandb.teardown()

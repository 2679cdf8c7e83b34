"""W&B's service, a process of its own that can die: killed with a job, or for memory."""

from __future__ import annotations

import subprocess


def gone() -> tuple[type[Exception], ...]:
    """Return what wandb raises when its service has died, or dies before it answers."""
    from wandb.sdk.lib.service.service_port_file import ServicePollForTokenError
    from wandb.sdk.lib.service.service_token import WandbServiceConnectionError
    from wandb.sdk.mailbox import HandleAbandonedError, MailboxClosedError

    dead = (ConnectionError, MailboxClosedError, HandleAbandonedError)
    return *dead, ServicePollForTokenError, WandbServiceConnectionError


def forget_service() -> None:
    """Close the connection to the service, dead or alive; wandb then does nothing at exit and starts a new one."""
    import wandb

    process = _process()
    try:
        wandb.teardown()
    except gone():
        if process is not None:  # wandb waits only for one that says good-bye; a dead one would stay as a zombie
            process.kill()
            process.wait()


def _process() -> subprocess.Popen[bytes] | None:
    """The service's process; None if none is running or wandb (0.31) keeps it elsewhere."""
    from wandb.sdk import wandb_setup

    owner: object = wandb_setup.singleton()
    for name in ("_connection", "_proc", "_process"):
        owner = getattr(owner, name, None)
    return owner if isinstance(owner, subprocess.Popen) else None

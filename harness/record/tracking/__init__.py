"""Copies of runs in trackers. Files on disk are authoritative; a tracker gets the same numbers, laid out for people."""

from harness.record.tracking.interface import Backend, Result, TrackedRun
from harness.record.tracking.tracker import Tracker, check_tracker, upload_is_due

__all__ = ["Backend", "Result", "TrackedRun", "Tracker", "check_tracker", "upload_is_due"]

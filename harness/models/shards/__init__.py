"""Models in shards: which rows of each tensor a process holds, writes and reads."""

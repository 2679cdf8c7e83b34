"""What tests share: servers, models, tokenizers, run folders, commands."""

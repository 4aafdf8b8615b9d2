"""Files of a results folder: artifacts, checkpoints, initial weights and the ledger."""

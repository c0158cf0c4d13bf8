"""Execution, with no Ray in it: driver, scheduler, pool, replica, ledger, delivery."""

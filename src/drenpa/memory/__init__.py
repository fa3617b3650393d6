"""What is remembered where: ledger, probe, selection, store, recall and update.  [P13, P14]"""

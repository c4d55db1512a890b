"""Records of processing (GDPR Art. 30): what was declared, what the ledger observed, and where the two differ."""

"""Consent records and receipts (ISO/IEC TS 27560:2023): what one person said, for them and for auditors."""

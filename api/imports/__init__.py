"""Readers that turn files into rows, and the writer of reject files. They know nothing of the ledger.

``plain_csv`` reads CSV files of contacts and of consents; ``mailchimp`` reads that tool's audience
export as it comes; ``rejects`` writes what was not taken, to be mended and imported again. Rows are in
``rows``, and what makes a whole file unreadable is in ``errors``.
"""

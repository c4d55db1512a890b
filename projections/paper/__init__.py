"""Facts on paper: the pages, letters and days that a certificate, a record and a bundle's summary are drawn with.

It stands in this room because paper is one more view of facts, and because `audit` and `retention` both draw while
neither may know the other. What stands on the paper is theirs; how it looks is said here, once.
"""

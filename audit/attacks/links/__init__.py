"""An attack on invariant I11, nothing leads back: from an address, try every way to an event of its person.

The attacker has more than anybody should: both databases as a superuser, every secret that is still alive (epoch keys
and all that the vault's wraps open to), and the address. The program lays everything that can be read or opened out
as a graph. Entities are rows (the events of one stream and the keys of one holder are one entity each); two entities
touch where they share a value that few others have:

- ids, hashes, tags, envelopes' kids, command ids, causes, and any other text or bytes, in columns and inside entries;
- the same in the middle of a longer text, in base64, and anywhere in the bytes of a column; the hashes that the log
  and its bundles know an event by;
- moments to the microsecond, positions, and the transaction that wrote the row (`xmin`);
- what stands in folders: custody's journal and kept checkpoints, exported logs;
- whatever the living keys open: sealed parts, standing, bookmarks of erasures, parked feedback, the feed, tokens
  (kept answers need the Idempotency-Key as well, which only the caller has);
- what the living link keys compute: the message ids of every campaign in every month;
- what living identity and record keys compute: handles, the kids of records, the streams of every period and those of
  exports.

It starts from the address, its fingerprints under every pepper, and hashes of it: plain and keyed with every living
secret, in the forms that requests have. An event that is reached, and is not about the suppression list, is a lead.
The kept suppression is found on purpose: it outlives the person (DESIGN section 3).

Five attacks are no graph, because they follow what is merely near. `guess_by_order` pairs the order of a list with the
order of the log, `guess_by_moment` takes the nearest moment; `guess_by_neighbours` and `guess_by_rank` go from a kept
bill by the vault's transactions and places to tombstones, and along the journal beside it; `guess_by_exports` compares
what exports count with the streams of those who were erased on the day of a certificate.

What this does not deny. Statistics remain: who knows the day (later the month) of an erasure knows that the person is
one of those erased that day, and if there was one only, which; values that only say a day or a month are therefore no
edges here. What never was in the rows is not searched either: dead tuples and WAL hold earlier versions of rows until
they are overwritten, sealed or detached as they were, and are the business of the backup horizon (DESIGN section 6).

Everything is held in memory: use it on databases of up to about a hundred thousand rows.
"""

from audit.attacks.links.attack import LinksAttack
from audit.attacks.links.graph import Lead

__all__ = ["Lead", "LinksAttack"]

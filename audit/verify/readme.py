"""The README.md inside every bundle: how to check it with software of others and with ours, and what it does not prove.

The programs in it are run by the tests as they stand here, on bundles unpacked by nobody of ours.
"""

from __future__ import annotations

from typing import Final

README: Final = """\
# An evidence bundle

This folder, or the zip file it came in, holds events of a consent ledger, and what proves that they stand in its
log. You need not trust the house that made it: get the **verifier key of its log** from somebody else than who gave
you this (a witness, a regulator, an earlier bundle), and check. The key is one line such as
`lethe.example/log/…+1a2b3c4d+AX…`. The one in `keys/log.vkeys` is what the house says here and now.

## What is in it

- `manifest.json`, `manifest.sig`: what was asked, and the SHA-256 of every other file; signed by the log's key (a
  signed note).
- `entries.tsv`: the events: position, tab, the exact bytes of the entry. The SHA-256 of a byte 0 and these bytes is
  a leaf of the log's tree (RFC 6962). The leaf's index is the position less one.
- `log/checkpoint`: size and root of the tree, signed by the log, and by witnesses where there are any (C2SP
  tlog-checkpoint, tlog-cosignature).
- `log/tile/…`: the hashes that lead from each entry to that root (C2SP tlog-tiles).
- `log/checkpoints/…`: older checkpoints of the same log. `log/timestamps/…`: RFC 3161 timestamps over the SHA-256
  of a checkpoint's text (without its signatures).
- `proofs/…`: the same once more as a text for each event (C2SP tlog-proof), where there are not too many.
- `sealed.tsv`, `disclosed.ndjson`: sealed parts of events, and for those that are shown the key that opens this one
  only.
- `claims.json`: what the house says that these events mean together. In a receipt it may hold a **link key**: one
  person's for one month. Whoever has it and the log finds all messages of that person and month, also after the
  person was erased, and can try guesses of their order numbers and of a mail provider's event ids. It opens nothing
  that is sealed.
- `certificates/…`: certificates of destruction, whose digests stand in the log.
- `keys/…`: the keys as the house gives them.
- `summary.html`, `summary.pdf`: the same for people. **Only the other files count**: nothing checks what they say.

## Check it with Lethe's verifier

It works offline, with no database and no settings, and stops at the first lie. Give it the zip file, not the
folder:

    lethe verify bundle.zip --key 'VERIFIER-KEY'

or, with nothing but the folder `audit` of Lethe's source, Python 3.11, PyNaCl and rfc3161-client:

    python -m audit.verify bundle.zip --key 'VERIFIER-KEY'

It ends with 0 if everything holds, and with 6 if it does not. Without `--key` it shows that the bundle agrees with
itself, and no more. The same is true of witnesses without `--witness`, and of timestamps without `--timestamp-roots`.

## Check it with Go, without any software of Lethe

Unpack the zip file. This program checks that no file is missing or other than the house signed for, the checkpoint's
signature, and that every event stands in the log, once. What the events mean together, and what was opened of them, it
does not check. It uses `golang.org/x/mod` only. Write it to `check.go` in the unpacked folder, and there

    go mod init check && go get golang.org/x/mod
    go run check.go 'VERIFIER-KEY'

```go
package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"os"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func check(err error) {
	if err != nil {
		log.Fatalln("refused:", err)
	}
}

func opened(name string, trusted note.Verifiers) string {
	content, err := os.ReadFile(name)
	check(err)
	signed, err := note.Open(content, trusted)
	check(err)
	return signed.Text
}

func digest(name string) string {
	file, err := os.Open(name)
	check(err)
	defer file.Close()
	hash := sha256.New()
	_, err = io.Copy(hash, file)
	check(err)
	return fmt.Sprintf("%x", hash.Sum(nil))
}

func requireFiles(trusted note.Verifiers) {
	if opened("manifest.sig", trusted) != "lethe bundle v1\\n"+digest("manifest.json")+"\\n" {
		log.Fatalln("refused: manifest.json is not the one that was signed")
	}
	content, err := os.ReadFile("manifest.json")
	check(err)
	var manifest struct{ Files map[string]struct{ Sha256 string } }
	check(json.Unmarshal(content, &manifest))
	for name, file := range manifest.Files {
		if digest(name) != file.Sha256 {
			log.Fatalln("refused:", name, "is not the one that was signed for")
		}
	}
}

type tiles struct{}

func (tiles) Height() int                     { return 8 }
func (tiles) SaveTiles([]tlog.Tile, [][]byte) {}
func (tiles) ReadTiles(wanted []tlog.Tile) (found [][]byte, err error) {
	for _, tile := range wanted {
		content, err := os.ReadFile("log/" + strings.Replace(tile.Path(), "tile/8/", "tile/", 1))
		check(err)
		found = append(found, content)
	}
	return found, nil
}

func main() {
	key, err := note.NewVerifier(os.Args[1])
	check(err)
	trusted := note.VerifierList(key)
	requireFiles(trusted)
	lines, tree := strings.Split(opened("log/checkpoint", trusted), "\\n"), tlog.Tree{}
	if len(lines) != 4 || lines[0] != key.Name() {
		log.Fatalln("refused: this checkpoint is none of", key.Name())
	}
	tree.N, err = strconv.ParseInt(lines[1], 10, 64)
	check(err)
	tree.Hash, err = tlog.ParseHash(lines[2])
	check(err)
	file, err := os.Open("entries.tsv")
	check(err)
	scanner := bufio.NewScanner(file)
	scanner.Buffer(nil, 1<<17)
	count, before := 0, int64(0)
	for ; scanner.Scan(); count++ {
		number, entry, _ := strings.Cut(scanner.Text(), "\\t")
		position, err := strconv.ParseInt(number, 10, 64)
		check(err)
		if position <= before {
			log.Fatalln("refused: an event stands twice, or behind a later one, at position", position)
		}
		before = position
		proof, err := tlog.ProveRecord(tree.N, position-1, tlog.TileHashReader(tree, tiles{}))
		check(err)
		if tlog.CheckRecord(proof, tree.N, tree.Hash, position-1, tlog.RecordHash([]byte(entry))) != nil {
			log.Fatalln("refused: the log has another event at position", position)
		}
	}
	check(scanner.Err())
	fmt.Println(count, "events stand in the log of size", tree.N)
}
```

## Check it with Python and tlog-scales, without any software of Lethe

The same in Python: `pip install tlog-scales`, unpack the zip file, write this to `check.py` in the folder, and run it
there: `python check.py 'VERIFIER-KEY'`

```python
import json
import sys
from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from tlog_scales.backend import LocalBackend
from tlog_scales.reader import TilesReader
from tlog_scales.signing import NoteSignature, Vkey
from tlog_scales.tiles import leaf_hash
from tlog_scales.tlog import Checkpoint

key = Vkey.from_string(sys.argv[1])
text, _, lines = Path("manifest.sig").read_text("utf-8").rpartition("\\n\\n")
signed = [line for line in map(NoteSignature.from_line, lines.splitlines()) if key.match(line)]
if not signed or text != "lethe bundle v1\\n" + sha256(Path("manifest.json").read_bytes()).hexdigest():
    sys.exit("refused: manifest.json is not the one that was signed")
for line in signed:
    Ed25519PublicKey.from_public_bytes(key.pubkey).verify(line.payload, (text + "\\n").encode())
for name, file in json.loads(Path("manifest.json").read_bytes())["files"].items():
    digest = sha256()
    with open(name, "rb") as held:
        while piece := held.read(1 << 20):
            digest.update(piece)
    if digest.hexdigest() != file["sha256"]:
        sys.exit("refused: " + name + " is not the one that was signed for")

checkpoint = Checkpoint.from_text(Path("log/checkpoint").read_bytes().decode())
checkpoint.verify(key)
if checkpoint.origin != key.name:
    sys.exit("refused: this checkpoint is none of " + key.name)
reader = TilesReader(LocalBackend(Path("log")))
reader.set_size(checkpoint.size)
count, before = 0, 0
for count, line in enumerate(open("entries.tsv", "rb"), 1):
    position, _, entry = line.removesuffix(b"\\n").partition(b"\\t")
    if int(position) <= before:
        sys.exit("refused: an event stands twice, or behind a later one, at position " + position.decode())
    before = int(position)
    proof = reader.get_inclusion_proof(before - 1, checkpoint.size)
    proof.check(leaf_hash(entry), checkpoint.root_hash)
print(count, "events stand in the log of size", checkpoint.size)
```

## Open a sealed part by hand

An entry names the SHA-256 of each of its sealed parts; `sealed.tsv` holds them in base64. `disclosed.ndjson` gives
a key E (base64), class, period and binding (hex). A sealed part is: version 2, algorithm 1 and the length of the
kid (one byte each), the kid, a commitment (32 bytes), a nonce (12 bytes), and the ciphertext.

    place    tenant, stream, id (16 bytes each), part, topic, class, period, binding: each behind its length in 2 bytes
    keys     BLAKE2b-512(key = E, personalisation = "lethe.com.v2", nonce || place); the second half is the commitment
    opened   AES-256-GCM(key = the first half, nonce, ciphertext, associated data = place), up to the last byte 0x80

If the commitment differs, what is shown is not what was sealed.

## What is not proven

- Nothing is proven to you by keys that came with the bundle.
- The log is tamper-evident back to the last checkpoint that somebody else holds. What stood in it before anybody
  else held one, only the house knows.
- An event is what the house wrote down, at times of its own clock. The proof is that it was written before somebody
  else held a checkpoint over it, and not changed since; not that it is true.
- A bundle holds the events that were asked for. That there are no others is shown only where `claims.json` says so
  and the events bear it out; where a stream ends is shown only by the whole log.
- Nothing in the log binds a message to its person, so that nothing leads back to people who were forgotten. That a
  message was for somebody, and that this person has no other stream in which they said no, is the word of the house.
- A receipt shows that a message was allowed. That it left before that was over is shown only as far as events of its
  dispatch and of the person after it are here.
- A part that is said to be erased cannot be opened with any key that is left, says the house. That no copy of a key
  is left anywhere cannot be shown by any file.
- Summaries are for reading. They are not evidence.

Keep this bundle as carefully as what it shows: what is opened in it cannot be closed again by the house.
"""


def readme_text() -> str:
    """The text of README.md, the same in every bundle."""
    return README

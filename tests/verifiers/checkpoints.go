// Checks a folder of C2SP tlog-tiles, given FOLDER VERIFIER-KEY: the signature of each checkpoint, each entry in each
// checkpoint's tree, each tree as the beginning of the next, and every hash tile. Exits 1 with the first lie.
package main

import (
	"bytes"
	"fmt"
	"log"
	"os"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func must(ok bool, why ...interface{}) {
	if !ok {
		log.Fatalln(append([]interface{}{"refused:"}, why...)...)
	}
}

func read(tile tlog.Tile) []byte {
	path := strings.NewReplacer("tile/8/data/", "/tile/entries/", "tile/8/", "/tile/").Replace(tile.Path())
	content, err := os.ReadFile(os.Args[1] + path)
	must(err == nil, err)
	return content
}

func checkpoint(path string, key note.Verifier) (tree tlog.Tree) {
	content, _ := os.ReadFile(os.Args[1] + path)
	opened, err := note.Open(content, note.VerifierList(key))
	must(err == nil, err, path)
	fmt.Sscanf(opened.Text, key.Name()+"\n%d", &tree.N)
	tree.Hash, _ = tlog.ParseHash(strings.Split(opened.Text, "\n")[2])
	must(opened.Text == fmt.Sprintf("%s\n%d\n%s\n", key.Name(), tree.N, tree.Hash), path, "is none of this log")
	return tree
}

func main() {
	defer func() { must(recover() == nil, "something is cut short") }()
	key, err := note.NewVerifier(os.Args[2])
	must(err == nil, err)
	last, stored := checkpoint("/checkpoint", key), []tlog.Hash{}
	hashes := tlog.HashReaderFunc(func(indexes []int64) (found []tlog.Hash, err error) {
		for _, index := range indexes {
			found = append(found, stored[index])
		}
		return found, nil
	})
	for n := int64(0); n < last.N; n++ {
		if tile := tlog.TileForIndex(8, tlog.StoredHashIndex(0, n)); tile.W == 256 || n == last.N-1 {
			bundle, end := read(tlog.Tile{H: 8, L: -1, N: tile.N, W: tile.W}), 0
			for i := tile.N * 256; i <= n; i, bundle = i+1, bundle[end:] {
				end = 2 + int(bundle[0])<<8 + int(bundle[1])
				added, _ := tlog.StoredHashes(i, bundle[2:end], hashes)
				stored = append(stored, added...)
			}
			must(len(bundle) == 0, "more than the entries in", tile.Path())
		}
	}
	for _, tile := range tlog.NewTiles(8, 0, last.N) {
		if width := int(last.N >> (8 * tile.L) & 255); tile.W == 256 || tile.W == width {
			content, _ := tlog.ReadTileData(tile, hashes)
			must(bytes.Equal(content, read(tile)), tile.Path(), "is not the tile of its entries")
		}
	}
	for n, next, path := last.N, last, "/checkpoint"; n >= 0; n, path = n-1, fmt.Sprint("/checkpoints/", n) {
		if _, err := os.Stat(os.Args[1] + path); err == nil {
			tree := checkpoint(path, key)
			for i := int64(0); i < tree.N; i++ {
				proof, _ := tlog.ProveRecord(tree.N, i, hashes)
				err := tlog.CheckRecord(proof, tree.N, tree.Hash, i, stored[tlog.StoredHashIndex(0, i)])
				must(err == nil, "entry", i, "is not in", path)
			}
			proof, _ := tlog.ProveTree(next.N, tree.N, hashes)
			must(tlog.CheckTree(proof, next.N, next.Hash, tree.N, tree.Hash) == nil, next.N, "does not continue", path)
			next = tree
		}
	}
}

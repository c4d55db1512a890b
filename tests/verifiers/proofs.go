// Answers with proofs of Go's tlog package, over a tree that it hashes itself from entries. Reads from stdin a number of
// entries, each as hexadecimal on a line, then questions: "i INDEX SIZE" for the path of an entry, "c OLD NEW" for the
// proof that one size is the beginning of another, "r SIZE" for a root. Answers each with hashes in hexadecimal.
package main

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"log"
	"os"

	"golang.org/x/mod/sumdb/tlog"
)

func must(err error) {
	if err != nil {
		log.Fatalln(err)
	}
}

func main() {
	var stored, proof []tlog.Hash
	hashes := tlog.HashReaderFunc(func(indexes []int64) (found []tlog.Hash, err error) {
		for _, index := range indexes {
			found = append(found, stored[index])
		}
		return found, nil
	})
	in, out := bufio.NewReader(os.Stdin), bufio.NewWriter(os.Stdout)
	defer out.Flush()
	var count, first, second int64
	_, err := fmt.Fscanln(in, &count)
	must(err)
	for n := int64(0); n < count; n++ {
		line, err := in.ReadString('\n')
		must(err)
		entry, err := hex.DecodeString(line[:len(line)-1])
		must(err)
		added, err := tlog.StoredHashes(n, entry, hashes)
		must(err)
		stored = append(stored, added...)
	}
	for {
		var question string
		if _, err := fmt.Fscan(in, &question, &first); err != nil {
			return
		}
		if question == "r" {
			root, err := tlog.TreeHash(first, hashes)
			must(err)
			proof = []tlog.Hash{root}
		} else {
			_, err := fmt.Fscan(in, &second)
			must(err)
			if question == "i" {
				proof, err = tlog.ProveRecord(second, first, hashes)
			} else {
				proof, err = tlog.ProveTree(second, first, hashes)
			}
			must(err)
		}
		for _, hash := range proof {
			fmt.Fprintf(out, "%x", hash[:])
		}
		fmt.Fprintln(out)
	}
}

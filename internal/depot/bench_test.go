package depot_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// forest makes what a large node_modules is: 15,000 files, 150 MB.
func forest(b *testing.B) string {
	dir := b.TempDir()
	r := rand.NewChaCha8([32]byte{1})
	for i := range 15_000 {
		folder := filepath.Join(dir, fmt.Sprintf("p%d/lib/d%d", i/30, i%3))
		if err := os.MkdirAll(folder, 0o755); err != nil {
			b.Fatal(err)
		}
		data := make([]byte, 10_000)
		r.Read(data)
		if err := os.WriteFile(filepath.Join(folder, fmt.Sprintf("f%d.js", i)), data, 0o644); err != nil {
			b.Fatal(err)
		}
	}
	return dir
}

func BenchmarkStore(b *testing.B) {
	src := forest(b)
	for b.Loop() {
		d := open(b, b.TempDir())
		if _, _, err := d.PutTree(b.Context(), src, []string{"."}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkFill(b *testing.B) {
	src, dir, i := forest(b), b.TempDir(), 0
	d := open(b, b.TempDir())
	tree, _, err := d.PutTree(b.Context(), src, []string{"."})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		i++
		if err := d.Fill(b.Context(), tree, filepath.Join(dir, fmt.Sprint(i)), -1, -1); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	d := open(b, b.TempDir())
	tree, _, err := d.PutTree(b.Context(), forest(b), []string{"."})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := d.VerifyTree(b.Context(), tree); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkFillInto(b *testing.B) {
	src, dir, i := forest(b), b.TempDir(), 0
	d := open(b, b.TempDir())
	tree, _, err := d.PutTree(b.Context(), src, []string{"."})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		i++
		out := filepath.Join(dir, fmt.Sprint(i))
		if err := os.Mkdir(out, 0o755); err != nil {
			b.Fatal(err)
		}
		if err := d.FillInto(b.Context(), tree, out, -1, -1); err != nil {
			b.Fatal(err)
		}
	}
}

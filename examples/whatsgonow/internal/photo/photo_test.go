package photo

import (
	"bytes"
	"errors"
	"image"
	"image/color"
	"image/jpeg"
	"io"
	"os"
	"strings"
	"testing"
	"time"
)

// picture is a JPEG, with Exif, a comment and a tail as phones write them.
func picture(t testing.TB) []byte {
	t.Helper()
	img := image.NewRGBA(image.Rect(0, 0, 64, 48))
	for x := range 64 {
		for y := range 48 {
			img.Set(x, y, color.RGBA{uint8(x * 4), uint8(y * 5), uint8(x * y), 255})
		}
	}
	var out bytes.Buffer
	if err := jpeg.Encode(&out, img, nil); err != nil {
		t.Fatal(err)
	}
	exif := "Exif\x00\x00 GPS 51.339695 12.373075"
	comment := "taken by Frieda"
	return joined(out.Bytes()[:2],
		segmentOf(0xE1, exif), segmentOf(0xFE, comment), out.Bytes()[2:], []byte("MotionPhoto video with her voice"))
}

func segmentOf(marker byte, body string) []byte {
	n := len(body) + 2
	return append([]byte{0xFF, marker, byte(n >> 8), byte(n)}, body...)
}

func joined(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func TestPutKeepsThePictureOnly(t *testing.T) {
	shelf := open(t)
	id, size, err := shelf.Put(bytes.NewReader(picture(t)))
	if err != nil {
		t.Fatal(err)
	}
	f, err := shelf.Get(id)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	kept, err := io.ReadAll(f)
	if err != nil || int64(len(kept)) != size {
		t.Fatalf("read %d bytes of %d: %v", len(kept), size, err)
	}
	for _, secret := range []string{"Exif", "GPS", "Frieda", "voice"} {
		if bytes.Contains(kept, []byte(secret)) {
			t.Errorf("%q is still in it", secret)
		}
	}
	if img, err := jpeg.Decode(bytes.NewReader(kept)); err != nil || img.Bounds().Dx() != 64 {
		t.Errorf("it is no picture any more: %v", err)
	}
}

func TestPutRefusesAndLeavesNothing(t *testing.T) {
	whole := picture(t)
	broken := errors.New("the phone lost its signal")
	for name, r := range map[string]io.Reader{
		"nothing":   strings.NewReader(""),
		"a page":    strings.NewReader("<html><script>alert(1)</script>"),
		"PNG":       strings.NewReader("\x89PNG\r\n\x1a\n"),
		"half":      bytes.NewReader(whole[:len(whole)/2]),
		"no pixels": bytes.NewReader([]byte{0xFF, 0xD8, 0xFF, 0xD9}),
		"signal":    io.MultiReader(bytes.NewReader(whole[:200]), failing{broken}),
	} {
		shelf := open(t)
		_, _, err := shelf.Put(r)
		want := ErrNotAPhoto
		if name == "signal" {
			want = broken
		}
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
		if left, _ := os.ReadDir(shelf.dir); len(left) > 0 {
			t.Errorf("%s: left %v behind", name, left)
		}
	}
}

func TestSweep(t *testing.T) {
	shelf := open(t)
	known, _, err := shelf.Put(bytes.NewReader(picture(t)))
	if err != nil {
		t.Fatal(err)
	}
	orphan, _, err := shelf.Put(bytes.NewReader(picture(t)))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{aside + "123", "README"} {
		if err := os.WriteFile(shelf.dir+"/"+name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	isKnown := func(id string) (bool, error) { return id == known, nil }
	if n, err := shelf.Sweep(time.Now().Add(-time.Hour), isKnown); n != 0 || err != nil {
		t.Errorf("young files: swept %d, %v", n, err)
	}
	if n, err := shelf.Sweep(time.Now().Add(time.Hour), isKnown); n != 2 || err != nil {
		t.Errorf("swept %d, %v; want the orphan and the half written one", n, err)
	}
	if _, err := shelf.Get(orphan); !errors.Is(err, os.ErrNotExist) {
		t.Error("the orphan is still there")
	}
	if f, err := shelf.Get(known); err != nil {
		t.Error("the known one is gone")
	} else {
		f.Close()
	}
}

func TestIDsDoNotLeaveTheDirectory(t *testing.T) {
	for _, id := range []string{"", "../../etc/passwd", "..", strings.Repeat("g", 32), strings.Repeat("a", 30)} {
		if _, err := open(t).Get(id); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("Get(%q): %v", id, err)
		}
	}
}

func FuzzCopyBare(f *testing.F) {
	f.Add(picture(f))
	f.Fuzz(func(t *testing.T, in []byte) {
		var out bytes.Buffer
		if copyBare(&out, bytes.NewReader(in)) == nil && out.Len() > len(in) {
			t.Errorf("%d bytes became %d", len(in), out.Len())
		}
	})
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func open(t *testing.T) *Shelf {
	t.Helper()
	shelf, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return shelf
}

package proxy

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// StaticIndex is written into a release when it is built and read when it is served. Only files in it are served.
type StaticIndex struct {
	Files map[string]StaticFile `json:"files"` // by slash path without leading slash
}

// StaticFile is one file of a static service.
type StaticFile struct {
	Type      string `json:"type"` // media type, with charset for text
	Size      int64  `json:"size"`
	Digest    string `json:"digest"` // "sha256:<hex>"
	Immutable bool   `json:"immutable,omitempty"`
	Br        bool   `json:"br,omitempty"`   // path + ".br" lies beside it
	Gzip      bool   `json:"gzip,omitempty"` // path + ".gz" lies beside it
}

// BuildIndex reads every file under root. Dotfiles and dot directories are left out, except .well-known, and so is what
// is not a regular file in the end (a link that root refuses to follow). Siblings path+".br" and path+".gz" of a file are
// its encodings, not files of their own.
func BuildIndex(root fs.FS, immutable []string) (StaticIndex, error) {
	index := StaticIndex{Files: map[string]StaticFile{}}
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name != "." && hidden(d.Name()) {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if d.IsDir() {
			return nil
		}
		file, err := indexFile(root, name)
		if err != nil || file == nil {
			return err
		}
		file.Immutable = IsImmutable(name, immutable)
		index.Files[name] = *file
		return nil
	})
	if err != nil {
		return StaticIndex{}, fmt.Errorf("static files: %w", err)
	}
	index.pairEncodings()
	return index, nil
}

// indexFile returns nil for what is no regular file.
func indexFile(root fs.FS, name string) (*StaticFile, error) {
	f, err := root.Open(name)
	if err != nil {
		if info, lerr := fs.Lstat(root, name); lerr == nil && info.Mode()&fs.ModeSymlink != 0 {
			return nil, nil
		}
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, nil
	}
	sum := sha256.New()
	n, err := io.Copy(sum, f)
	if err != nil {
		return nil, err
	}
	return &StaticFile{Type: mediaType(name), Size: n, Digest: "sha256:" + hex.EncodeToString(sum.Sum(nil))}, nil
}

func (index *StaticIndex) pairEncodings() {
	for name, file := range index.Files {
		_, file.Br = index.Files[name+".br"]
		_, file.Gzip = index.Files[name+".gz"]
		index.Files[name] = file
	}
	for name := range index.Files {
		plain, isBr := strings.CutSuffix(name, ".br")
		if !isBr {
			plain, _ = strings.CutSuffix(name, ".gz")
		}
		if _, ok := index.Files[plain]; ok && plain != name {
			delete(index.Files, name)
		}
	}
}

// mediaType knows what web apps are made of. The machine's own table is not asked: the same release must answer the same
// everywhere.
func mediaType(name string) string {
	switch strings.ToLower(path.Ext(name)) {
	case ".html", ".htm":
		return "text/html; charset=utf-8"
	case ".js", ".mjs", ".cjs":
		return "text/javascript; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".txt", ".md":
		return "text/plain; charset=utf-8"
	case ".csv":
		return "text/csv; charset=utf-8"
	case ".ics":
		return "text/calendar; charset=utf-8"
	case ".xml":
		return "application/xml; charset=utf-8"
	case ".json", ".map":
		return "application/json"
	case ".webmanifest":
		return "application/manifest+json"
	case ".wasm":
		return "application/wasm"
	case ".pdf":
		return "application/pdf"
	case ".zip":
		return "application/zip"
	case ".gz":
		return "application/gzip"
	}
	return imageType(name)
}

func imageType(name string) string {
	switch strings.ToLower(path.Ext(name)) {
	case ".svg":
		return "image/svg+xml"
	case ".png":
		return "image/png"
	case ".jpg", ".jpeg":
		return "image/jpeg"
	case ".gif":
		return "image/gif"
	case ".webp":
		return "image/webp"
	case ".avif":
		return "image/avif"
	case ".ico":
		return "image/x-icon"
	case ".woff":
		return "font/woff"
	case ".woff2":
		return "font/woff2"
	case ".ttf":
		return "font/ttf"
	case ".otf":
		return "font/otf"
	case ".mp3":
		return "audio/mpeg"
	case ".ogg":
		return "audio/ogg"
	case ".mp4":
		return "video/mp4"
	case ".webm":
		return "video/webm"
	}
	return "application/octet-stream"
}

// IsImmutable reports whether a file never changes under its name: it has a content hash in its name and lies where a
// known bundler writes such files (Vite and Rollup assets/, Next.js _next/static/, Astro _astro/, Create React App
// static/, SvelteKit _app/immutable/, Nuxt _nuxt/), or one of globs matches (path.Match; ** stands for any directories).
// Next.js keeps the hash in a directory for some files: there the build id counts.
func IsImmutable(name string, globs []string) bool {
	for _, glob := range globs {
		if matchGlob(strings.Split(glob, "/"), strings.Split(name, "/")) {
			return true
		}
	}
	if strings.Contains("/"+name, "/_next/static/") || strings.Contains("/"+name, "/_app/immutable/") {
		return true // all of it, by the bundler's own promise
	}
	return hashedDir(name) && hasHash(path.Base(name))
}

// hashedDir reports whether name lies in a directory for hashed files.
func hashedDir(name string) bool {
	segments := strings.Split(path.Dir(name), "/")
	for i, s := range segments {
		switch s {
		case "assets", "_astro", "_nuxt":
			return true
		case "static":
			if i+1 < len(segments) && (segments[i+1] == "js" || segments[i+1] == "css" || segments[i+1] == "media") {
				return true
			}
			if i > 0 && segments[i-1] == "_next" {
				return true
			}
		case "immutable":
			if i > 0 && segments[i-1] == "_app" {
				return true
			}
		}
	}
	return false
}

// hasHash finds a content hash between the marks of a file name: hexadecimal, or at least eight letters and digits of
// which some are digits or capitals within a word (Rollup's base64).
func hasHash(base string) bool {
	parts := strings.FieldsFunc(strings.TrimSuffix(base, path.Ext(base)), func(r rune) bool { return r == '.' || r == '-' })
	if slices.ContainsFunc(parts, isHash) {
		return true
	}
	// Rollup's alphabet has '-' and '_': the last eight letters before the extension, after a '-'.
	stem := strings.TrimSuffix(base, path.Ext(base))
	return len(stem) > 9 && stem[len(stem)-9] == '-' && mixed(stem[len(stem)-8:])
}

func isHash(s string) bool { return len(s) >= 8 && len(s) <= 64 && mixed(s) }

// mixed reports whether s cannot be a word: a digit beside letters, or a capital behind a small letter.
func mixed(s string) bool {
	var digit, letter, hump bool
	for i := range len(s) {
		switch c := s[i]; {
		case c >= '0' && c <= '9':
			digit = true
		case c >= 'A' && c <= 'Z':
			hump = hump || i > 0 && s[i-1] >= 'a' && s[i-1] <= 'z'
			letter = true
		case c >= 'a' && c <= 'z':
			letter = true
		case c != '_' && c != '-':
			return false
		}
	}
	return digit && letter || hump
}

func matchGlob(glob, name []string) bool {
	if len(glob) == 0 {
		return len(name) == 0
	}
	if glob[0] == "**" {
		return matchGlob(glob[1:], name) || len(name) > 0 && matchGlob(glob, name[1:])
	}
	if len(name) == 0 {
		return false
	}
	ok, err := path.Match(glob[0], name[0])
	return ok && err == nil && matchGlob(glob[1:], name[1:])
}

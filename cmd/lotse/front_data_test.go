package main

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/front"
)

// What is asked for in the wrong way, and what cannot be reached, is said by the exit code that the engine decides by, without the address.
func TestFrontLookRefuses(t *testing.T) {
	_, env := frontFolder(t, front.Spec{})
	address := deploy.DatabaseURL + "=postgres://shop:hunter2-correct@127.0.0.1:1/app"
	for _, c := range []struct {
		env  []string
		args []string
		code int
		says string
	}{
		{env, []string{"look"}, frontFailed, "the release has no database"},
		{append(env, address), []string{"look"}, 75, "nothing listens there"}, // as engine/aws knows it
		{append(env, address), []string{"look", "--at", "127.0.0.1:2"}, 75, "nothing listens there"},
		{append(env, address), []string{"look", "--rows", "some"}, frontFailed, "there is no depth"},
		{append(env, deploy.DatabaseURL+"=hunter2 and more"), []string{"look", "--at", "127.0.0.1:2"}, frontFailed, "is no URL"},
		{append(env, address), []string{"look", "--deep"}, frontUsage, "lotse front"},
		{append(env, address), []string{"at", "--", "true"}, frontUsage, "a host and a command"},
		{env, []string{"at", "--at", "127.0.0.1:2", "--", "true"}, frontFailed, "the release has no database"},
	} {
		if s := askFront(t, c.env, c.args...); s.code != c.code || !strings.Contains(s.errs, c.says) || strings.Contains(s.errs+s.out, "hunter2") {
			t.Errorf("%v: %+v", c.args, s)
		}
	}
	if frontDamaged != 65 {
		t.Error("engine/aws takes 65 for a table that cannot be read")
	}
}

// A look at a database with thousands of tables loses the last of them, and says how many.
func TestALookFits(t *testing.T) {
	look := deploy.Look{Schema: "sha256:ab"}
	for i := range 20000 {
		look.Tables = append(look.Tables, deploy.TableLook{Name: fmt.Sprintf("public.t%x", i*7919), Rows: int64(i * 104729), File: int64(i * 31)})
	}
	text, err := packed(look)
	if err != nil || len(text) > 24000 {
		t.Fatalf("%d characters, %v", len(text), err)
	}
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	var back deploy.Look
	if raw, err = io.ReadAll(z); err == nil {
		err = json.Unmarshal(raw, &back)
	}
	if err != nil || back.More == 0 || back.More+len(back.Tables) != 20000 {
		t.Errorf("%d and %d more, %v", len(back.Tables), back.More, err)
	}
}

package awsfake
import ("testing";"net/http")
func init() { debugBody = func(r *http.Request, b []byte) { println(r.URL.Path, r.Header.Get("Content-Encoding"), r.Header.Get("Content-Type"), len(b)); for _, x := range b { print(x, " ") }; println() } }
func TestZ(t *testing.T) {}

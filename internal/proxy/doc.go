// Package proxy hides how a request reaches exactly one healthy instance while instances change: TLS, routes, static
// files, draining, and what is counted and logged.
//
//	         TLS, HTTP/1.1, HTTP/2                                     control socket (JSON over HTTP, 0600)
//	client ───────────────────────▶ Server                            ◀───────────────────────────── Client
//	                                  │  table: an atomic pointer, replaced whole by Put
//	                                  │  host ─▶ site ─(share)─▶ release ─(longest prefix)─▶ route
//	                                  ├─ static ─▶ the release's files, by its index, through os.Root
//	                                  └─ forward ─▶ backend ─▶ one target ─▶ the instance
//	                                                  │ dial refused: the next; none left: wait, bounded
//	                                                  └ marked down: asked by Health until it answers
//
// A Server needs nobody: it restores its table from its own state file, and lives on when whoever steers it dies.
//
// Words: a site is one stage of one app; a release of it has a share of the requests; a route is one service of a
// release under a path prefix; a target is the address of one instance; a flight is what of a release is in the air.
package proxy

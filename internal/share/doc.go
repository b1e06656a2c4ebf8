// Package share gives controllers that do not live long one history: a controller in a job of a CI service lives some minutes, and the next
// job runs on another machine with an empty disk. What must outlive them lies in one S3 bucket, below state/:
//
//	state/lock.json                      which controller may write now
//	state/events/<seq>.json              one event of the ledger, as its JSON; seq in 12 digits
//	state/packs/<first>-<last>.jsonl     the same events once more, 500 in one object, so that a long history is read fast
//	state/releases/<source>/<id>.json    a release: its manifest and its note; fitted ones stand beside the one that they were made of
//	state/blobs/<sha256>                 bytes that releases consist of
//
// # One controller at a time
//
// The lock is changed by conditional PUTs alone (If-None-Match: *, If-Match). Its holder writes it anew every few seconds. One that was given
// back is taken at once; one whose holder is silent for longer than its Expiry is taken over. How long it has been silent is told by the
// clock of S3 (Last-Modified against Date), or by having watched it: no two machines' clocks are compared. A second controller waits
// for a bounded time and is then refused (deploy.ErrBusy).
//
// The lock is a courtesy. What keeps history in one line is that every event is a PUT that fails where an event of that number is there
// already, and that it is done before Append returns. A new controller reads all events and then appends one of its own
// (KindOpened): from then on, whatever an older controller still tries to append has a number that is taken, and that controller ends
// (deploy.ErrFenced). What it wrote before is history, and is known to the new one. What it asks of engines has an older fence: the
// new one's clock, from which fences are made, is set so that it is never behind what the one before can have used.
//
// # What is trusted
//
// Events are chained, and the chain is recomputed as they come in. Releases and blobs are named by their digests, which are recomputed as they
// come in, also by S3 as they go out. An object that is not what it should be is deploy.ErrDamaged, names itself, and nothing of it
// is used. A local ledger that has another history than the bucket is refused (deploy.ErrDamaged) and left as it is.
//
// A controller that was paused between looking at its lock and deleting, for longer than the lock lasts, can delete a release that was made
// meanwhile of the very same bytes as one that was about to be pruned. Whoever needs it is told to deploy the commit again.
//
// # People
//
// No name and no address is in the bucket. Ids of people are in the events, and are to be the same on every machine, so that history can say
// that two rollouts were asked for by one person. They are a keyed digest (HMAC-SHA-256, 80 bits) of the mail address. The key is a
// secret of Secrets Manager, apart from the bucket: who has the bucket alone can neither compute nor try addresses (Article 4(5)
// GDPR: the additional information is kept separately). The ids are personal data for whoever has both, as those of one machine's ledger are
// for who has its table. Deleting the secret takes that away for everybody at once; then, and where the key cannot be had, ids are random,
// and one person has another on every machine. Names are known only on the machine where they were given.
package share

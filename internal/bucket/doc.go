// Package bucket knows how the files of a static release come into an S3 bucket behind CloudFront, and how what is served is
// switched and switched back.
//
//	assets/app-4f3a91c2.js         a file that never changes under its name: it is put there once, before anything names it
//	index.html                     an entry file: a copy of the one of the release that is served
//	.lotse/files/<sha256>          entry files of all releases, aside, by their digest
//	.lotse/releases/<id>.json.gz   what belongs to a release; also says whether all of it is there
//	.lotse/serving.json            which release is served, by which rollout and fence, and what a switch has left to do
//
// What begins with .lotse/ is nobody's business: the policy of the bucket must keep CloudFront from it. Everything that lasts is in
// the bucket, so that a process that was killed anywhere is followed by another that goes on. Every call says whose the bucket must
// be (ExpectedBucketOwner): a name that somebody else has taken is refused by S3 itself.
//
// A switch copies entry files within S3, so a rollback moves no byte. It goes file by file, and for some seconds both releases are
// served, in this order: files that pages use, then pages, the first page, service workers; then what the new release does not have
// is deleted. Since files of both releases that never change are there all the while, no page is shown without its chunks.
//
// A smaller fence is refused by a conditional write of serving.json (If-Match) before anything is switched, and by conditional
// copies while it is. A condition of S3 knows bytes and not history: of an older controller that is held up between its look and its
// copy, while a newer one serves the very files that the older one saw, that copy still lands. Drift finds it, and Serve mends it.
package bucket

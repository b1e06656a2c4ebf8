// Package deploy is the core of Lotse: the nouns of the field, what it asks of an engine, a ledger and a builder, and the one
// ordered table of steps by which a release goes into a stage, or comes back.
//
// # The story
//
// A rollout walks this table from the top; each step has do, done? and undo. At any miss the steps that were begun are undone
// from the bottom. The walk is the same whether it is fresh or taken up again after a crash: what is already true is passed
// over, everything else is idempotent and done again. A promotion, a rollback and a redeploy take the same road with a release
// that is there already. A deploy is asked for by a person, or by a push that is watched for (push.go).
//
//	step      do                                              passed over when              undo
//	------    ---------------------------------------------   ---------------------------   ---------------------
//	build     run the pipeline on the commit                  the release is in the depot   -
//	fill      make of the release what this stage gets:       nothing is public             -
//	          its public values baked in
//	lease     take the stage's lease; its fence goes into     -                             give it back
//	          every changing verb; renew it
//	entry     ask the gates of entry; judge the migrations    -                             -
//	database  see that the stage's own PostgreSQL runs        it has none of its own        -
//	snapshot  copy its data, encrypted, for a way back        nothing would be migrated     -
//	migrate   run what the schema has not seen and the old    there are no migrations       -
//	          release can stand; the rest waits for its end
//	clear     stop the old release                            old and new may run at once   start it again
//	start     start the release beside the old, no traffic;   -                             stop it, unless it was
//	          who goes back takes over what is warm                                         warm
//	health    3 answers in a row, then all through the        it has the traffic            -
//	          stable window; ask the gates of health; of what
//	          was warm, 1 answer
//	shift     give it the traffic, verify what is served;     it has the traffic            give it back to the old
//	          in a canary by shares, each one watched, unless
//	          it goes back
//	watch     ask on until the watch is over; judge it        -                             -
//	          beside the old release
//	settle    write that it is good; the one before stays     -                             -
//	          warm, what is older is retired
//
// Every step is an event in the ledger before it begins and after it ends:
//
//	requested -> step.begun -> step.ended -> … -> settled
//	                  |
//	                  +-> turned (-> bad) -> step.undone -> … -> reverted
//	                         |          ^
//	                         +-> step.stuck   an undo failed, and is tried again
//
// A rollout that is neither settled, reverted nor unchanged when a controller starts is taken up: forward, or back when it
// had turned. Killing the controller is not a miss.
package deploy

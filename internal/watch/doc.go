// Package watch decides whether a release does worse than the one before it, from what clients were answered. It implements deploy.Judge.
//
// # What is compared
//
// Each endpoint (service, method, path) that both releases answered is judged alone; those that are rare are judged together, too, for each
// service. An endpoint that the release before did not have has nothing beside it, and is judged by the fixed limits of its service
// alone. There are two questions: are more of its answers errors, and is it slower where it is slow, at the 95th percentile.
//
// # How
//
// Both questions are one: of two piles of requests, does the new one hold more of the bad ones than chance would put there? If the
// releases do the same, which of the bad requests met the new one is a draw without replacement, so the chance of so many is the tail of
// the hypergeometric distribution: Fisher's exact test (R. A. Fisher, Statistical Methods for Research Workers, 1934, §21.02). It is
// exact for any numbers, and asks nothing of how latencies are distributed. A bad request is, for errors, one that failed; for latency,
// one slower than the 95th percentile of both piles together, which is a property of the piles and not of who is in which. Latencies are
// counted in buckets, so both bounds of the bucket that holds the percentile are tried, and pay for two.
//
// That a difference is no chance does not make it matter: an endpoint is only worse where its errors are half a percentage point more, or
// its 95th percentile 10 % and 20 ms longer. Beside the last minutes of the release before it is 50 % and 100 ms: another minute has another
// load, which no test of chance knows.
//
// Looking often finds chance often. So each look pays: of all the error that a trial may make, the k-th look has 1/(k·(k+1)), which adds
// up to 1 over any number of looks (the union bound; alpha spending as in K. K. G. Lan and D. L. DeMets, Biometrika 70, 1983), and a look
// is taken when half as many requests more have come. Many endpoints find chance often, too: within a look, Holm's step-down method
// (S. Holm, Scandinavian Journal of Statistics 6, 1979), weighted by requests, keeps the error for all of them together.
//
// The tests take requests to be independent. Those of one client are not, and so the error that is allowed is half of the 1 in 100 that
// is promised for a whole rollout, over all its looks, endpoints and canary steps.
package watch

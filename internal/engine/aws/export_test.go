package aws

// SetBundleMost makes the engine refuse bundles with more bytes than that.
func SetBundleMost(e *Engine, most int64) { e.most = most }

// EnvironmentName is the environment of a rollout.
func EnvironmentName(e *Engine, rollout string) string { return e.environmentName(rollout) }

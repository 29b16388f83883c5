"""From a spec to what runs: the plan, the trials, and the agenda that orders them. Plain data, no Ray."""

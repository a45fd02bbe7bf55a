"""Many runs: a queue that trains each once, as processes of this machine or jobs of a cluster."""

"""How payloads reach Salesloft: each writer takes payloads and yields one outcome for each."""

"""What everybody can read in this project, and which is therefore no secret."""

# config/.env.example and the option's default; the demo's; the placeholder of the examples in deployments/.
SECRETS = frozenset({"bulk-upload-secret", "demo-secret", "change-me", ""})

"""Secrets that are published in this project, and therefore protect nothing."""

# In config/.env.example and as the option's default; in the demo; as the placeholder in deployments/.
SECRETS = frozenset({"bulk-upload-secret", "demo-secret", "change-me", ""})

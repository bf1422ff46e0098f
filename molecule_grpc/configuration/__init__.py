"""What a workspace is configured with: settings, model, assigned agent, budget; and its use."""

"""Choosing among candidates without labels: prompts on endpoints by what they answer, and the baselines beside."""

"""From what a model wrote to a label: words, log-probabilities, thinking, refusals."""

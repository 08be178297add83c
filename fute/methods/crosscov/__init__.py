"""crosscov: task embeddings in closed form, from the cross-covariance of surrogate features and outputs."""

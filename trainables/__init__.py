"""What a trial does: data, model, loss, training, evaluation. Knows torch and transformers."""

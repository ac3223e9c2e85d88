"""Fine-tuning: a new target language, learnt from one source language, without forgetting."""

"""Transfer: teach a decoder a new target language from one source language, and lose nothing."""

"""From predictions to the leaderboard: counts, metrics, intervals."""

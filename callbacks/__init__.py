"""Lightning callbacks: benchmark evaluation, progress, clips, and a guard against NaN."""

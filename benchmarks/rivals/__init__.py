"""Other people's ways of comparing models and of foretelling what they can do, each by the paper that brought it.

LEEP, LogME and H-score stand in match_scores.py, counting words and chance in baselines.py.
"""

"""Learning: windows and mixtures, the Learner, the model directory, and Ray Train around it."""

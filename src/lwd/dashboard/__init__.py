"""The fleet's page: robots, episodes, learner and policies in a browser, read from the store."""

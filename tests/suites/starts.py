"""Where episodes of a task begin, [seeds, state], with ticks of an episode before the next one.

Run in a suite's own environment by `test_episode.py`.
"""

import sys

import numpy as np

from lwd.suites import GymRobot, choose, load

file, name, task, *seeds = sys.argv[1:]
suite = load(name)
robot = GymRobot(choose(suite, [task]), control=suite.control, robot_id="s0")
starts = []
for seed in seeds:
    robot.reset(int(seed))
    starts.append(robot.observe().state)
    robot.apply(np.tile(robot.environment.action_space.high, (5, 1)))
robot.close()
np.save(file, starts)

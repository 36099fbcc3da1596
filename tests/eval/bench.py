"""An evaluation bench of point robots; its own module, so that spawned workers can import it."""

import os
from functools import partial

from actor import point
from lwd.eval.evaluate import Bench


def robot(task, control):
    """`reach` gives five seconds, `reach-slowly` one, which is too little for any goal at 1 m."""
    assert control == point.CONTROL
    return point.PointRobot(task, time_limit_s={"reach": 5.0, "reach-slowly": 1.0}[task])


def build(control):
    return point.build


def _threads(tensors, metadata, version):
    assert os.environ["OMP_NUM_THREADS"] == os.environ["NPROC"] == "1"
    assert "--xla_cpu_multi_thread_eigen=false" in os.environ["XLA_FLAGS"]
    return point.build(tensors, metadata, version)


def checking_threads(control):
    return _threads


def _dies(code, tensors, metadata, version):
    os._exit(code)


def dying(control):
    return partial(_dies, 7)


BENCH = Bench(robot=robot, build=build)
CHECKING = Bench(robot=robot, build=checking_threads)
DYING = Bench(robot=robot, build=dying)

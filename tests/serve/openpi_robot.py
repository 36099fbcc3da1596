"""A robot that knows nothing of lwd: runs in openpi-client's own environment and prints JSON.

python openpi_robot.py URL [KEY]
"""

import json
import sys

import numpy as np
from openpi_client import action_chunk_broker, image_tools
from openpi_client.runtime import environment, runtime, subscriber
from openpi_client.runtime.agents import policy_agent
from openpi_client.websocket_client_policy import WebsocketClientPolicy


class Arm(environment.Environment):
    """Observes as openpi's LIBERO example; done after eight actions."""

    def __init__(self) -> None:
        self.actions = []

    def reset(self) -> None:
        """The runtime resets at both ends of an episode."""

    def is_episode_complete(self) -> bool:
        return len(self.actions) == 8

    def get_observation(self) -> dict:
        image = np.random.default_rng(0).random((480, 640, 3))
        image = image_tools.resize_with_pad(image_tools.convert_to_uint8(image), 224, 224)
        state = np.array([len(self.actions), 0, 1, 2, 0, 0, 0, 0], np.float64)
        return {
            "observation/image": image,
            "observation/wrist_image": image,
            "observation/state": state,
            "prompt": "go there",
        }

    def apply_action(self, action: dict) -> None:
        self.actions.append(action["actions"].tolist())


class Timings(subscriber.Subscriber):
    """Keeps the server's own timings."""

    seen: list = []  # noqa: RUF012

    def on_episode_start(self) -> None:
        pass

    def on_step(self, observation: dict, action: dict) -> None:
        self.seen.append(sorted(action["server_timing"]))

    def on_episode_end(self) -> None:
        pass


def main(url: str, key: str = "") -> None:
    policy = WebsocketClientPolicy(url, api_key=key or None)
    broker = action_chunk_broker.ActionChunkBroker(policy, action_horizon=4)
    arm = Arm()
    agent = policy_agent.PolicyAgent(broker)
    runtime.Runtime(arm, agent, [Timings()], max_hz=100, num_episodes=1).run()
    found = {"actions": arm.actions, "timing": Timings.seen}
    found["metadata"] = policy.get_server_metadata()
    try:
        policy.infer({"prompt": "no state"})
    except RuntimeError as error:
        found["error"] = str(error)
    found["after"] = policy.infer(arm.get_observation())["actions"].shape
    sys.stdout.write(json.dumps(found))


main(*sys.argv[1:])

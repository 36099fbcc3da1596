"""What a run begins with that others have trained."""

from dataclasses import dataclass

from lwd.config.require import require


@dataclass(frozen=True, kw_only=True)
class PretrainedConfig:
    """Paths of checkpoints; empty where a network starts from nothing."""

    policy: str = ""
    """pi0.5: openpi's folder, LeRobot's safetensors, or PaliGemma's npz, whose expert is fresh."""
    norm_stats: str = ""
    """The policy's norm_stats.json; without it statistics are those of the demonstrations."""
    gemma3: str = ""
    """Gemma3's text model for the critic, safetensors of Hugging Face."""
    siglip: str = ""
    """SigLIP for the critic, safetensors of Hugging Face."""
    critic_tokenizer: str = ""
    """Gemma3's tokenizer; without it the critic reads the policy's tokens."""

    def __post_init__(self) -> None:
        require(
            bool(self.gemma3) == bool(self.siglip),
            "gemma3 and siglip make one backbone of the critic; give both or neither.",
        )

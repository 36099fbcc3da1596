"""Frames out of and into video files, each at its exact time, with PyAV alone."""

import io
import logging
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.error import FFmpegError
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream

from lwd.errors import EpisodeError

log = logging.getLogger(__name__)

SEEK_S = 1.0
"""A frame that lies further ahead is sought, one that is nearer is decoded up to."""


class Video:
    """A video file that is read forward as far as possible: neighbouring episodes need no seek."""

    def __init__(self, path: Path) -> None:
        """EpisodeError if the file is not there, or is no video."""
        self.path = path
        try:
            self._container = av.open(str(path))
            self._stream = self._container.streams.video[0]
        except (FFmpegError, OSError, IndexError) as error:
            reason = "not there" if not path.exists() else f"no whole video: {_short(error)}"
            raise EpisodeError(f"video {path.name} is {reason}.") from error
        if self._stream.codec_context is None:
            self._container.close()
            raise EpisodeError(f"video {path.name} has a codec that PyAV cannot decode.")
        self._stream.thread_type = "AUTO"
        self._frames: Iterator[VideoFrame] = iter(())
        self._now: VideoFrame | None = None
        self._ahead: VideoFrame | None = None
        self._asked = 0.0

    def __enter__(self) -> "Video":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    @property
    def fps(self) -> float:
        """Frames a second, as the file says."""
        return float(self._stream.average_rate or 0)

    @property
    def duration_s(self) -> float:
        """Length of the stream, as the file says; 0 if it does not."""
        length, base = self._stream.duration, self._stream.time_base
        return float(length * base) if length and base else 0.0

    @property
    def codec(self) -> str:
        """Name of the codec."""
        return self._stream.codec_context.name

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self._stream.codec_context.height, self._stream.codec_context.width

    @property
    def frames_promised(self) -> int:
        """Frames that the file's index lists; 0 if it has none."""
        return self._stream.frames

    def ends_well(self) -> bool:
        """Whether the last frame that is promised can be decoded."""
        last = self._stream.frames - 1
        if last < 0 or not self.fps:
            return False
        try:
            frame = self._at(last / self.fps)
        except (FFmpegError, OSError):
            return False
        return frame is not None and abs(_time(frame) - last / self.fps) < 0.5 / self.fps

    def count(self) -> int:
        """Frames from the first one on that can be decoded."""
        self._container.seek(0, stream=self._stream)
        number = 0
        try:
            for _ in self._container.decode(self._stream):
                number += 1
        except (FFmpegError, OSError) as error:
            log.debug("cut off video=%s frames=%d reason=%s", self.path, number, error)
        self._now = self._ahead = None
        return number

    def read(self, times: Sequence[float], tolerance_s: float) -> Iterator[VideoFrame]:
        """The frame at each of the growing times; EpisodeError if one has none that near."""
        for number, time in enumerate(times):
            try:
                frame = self._at(time)
            except (FFmpegError, OSError) as error:
                raise EpisodeError(
                    f"video {self.path.name} cannot be decoded at {time:.3f} s (frame {number} of "
                    f"{len(times)}): {_short(error)}."
                ) from error
            if frame is None or abs(_time(frame) - time) > tolerance_s:
                nearest = "it ends before" if frame is None else f"nearest {_time(frame):.4f} s"
                raise EpisodeError(
                    f"video {self.path.name} has no frame at {time:.4f} s (frame {number} of "
                    f"{len(times)}; {nearest}; tolerance {tolerance_s} s)."
                )
            if frame.is_corrupt:
                raise EpisodeError(f"video {self.path.name} is damaged at {time:.3f} s.")
            yield frame

    def _at(self, time: float) -> VideoFrame | None:
        """The frame nearest to a time, of two as near the earlier one."""
        if self._now is None or not self._asked <= time <= _time(self._now) + SEEK_S:
            self._seek(time)
        self._asked = time
        while self._ahead is not None and (
            self._now is None or abs(_time(self._ahead) - time) < abs(_time(self._now) - time)
        ):
            self._now, self._ahead = self._ahead, next(self._frames, None)
        return self._now

    def _seek(self, time: float) -> None:
        base = cast(Fraction, self._stream.time_base)
        self._container.seek(max(0, int(time / base)), stream=self._stream, backward=True)
        self._frames = self._container.decode(self._stream)
        self._now, self._ahead = None, next(self._frames, None)


class VideoWriter:
    """Writes H.264 with a key frame every few frames, frame n at exactly n / fps."""

    def __init__(
        self, path: Path, *, fps: int, size: tuple[int, int], crf: int = 18, gop: int = 2
    ) -> None:
        """`size` is height and width."""
        self.frames = 0
        self._container = av.open(str(path), "w", format="mp4")
        options = {"crf": str(crf), "preset": "veryfast", "bf": "0"}
        stream = self._container.add_stream("libx264", rate=fps, options=options)
        self._stream: VideoStream = stream
        self._stream.height, self._stream.width = size
        odd = size[0] % 2 or size[1] % 2
        self._stream.pix_fmt = "yuv444p" if odd else "yuv420p"
        self._stream.time_base = Fraction(1, fps)
        self._stream.gop_size = gop
        self._base = Fraction(1, fps)

    def add(self, picture: np.ndarray, *, first: bool = False) -> None:
        """Append a picture [height, width, 3] uint8, RGB; `first` makes it a key frame."""
        frame = VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        frame.pict_type = PictureType.I if first else PictureType.NONE
        frame.pts, frame.time_base = self.frames, self._base
        self._container.mux(self._stream.encode(frame))
        self.frames += 1

    def close(self) -> None:
        """Write what is buffered and close the file."""
        self._container.mux(self._stream.encode(None))
        self._container.close()


def luma(frame: VideoFrame) -> bytes:
    """First plane of a decoded frame: the same bits with every decoder of the codec."""
    plane = frame.planes[0]
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, -1)
    return rows[:, : plane.width].tobytes()


def decode_picture(data: bytes) -> np.ndarray:
    """[height, width, 3] uint8 of an encoded picture, PNG or JPEG; EpisodeError if it is none."""
    kind = "png_pipe" if data[:8] == b"\x89PNG\r\n\x1a\n" else "jpeg_pipe"
    try:
        with av.open(io.BytesIO(data), "r", format=kind) as container:
            for frame in container.decode(video=0):
                return frame.to_ndarray(format="rgb24")
    except (FFmpegError, OSError, IndexError) as error:
        raise EpisodeError(f"a picture is neither PNG nor JPEG: {_short(error)}.") from error
    raise EpisodeError("a picture is empty.")


def _time(frame: VideoFrame) -> float:
    return float(frame.time if frame.time is not None else 0.0)


def _short(error: Exception) -> str:
    return str(error).splitlines()[0][:160] if str(error) else type(error).__name__

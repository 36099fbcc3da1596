"""Images: the right pixels from mapped payloads, however small the cache and whatever breaks."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import simplejpeg

from lwd.episode.types import Episode
from lwd.errors import ConfigError, IntegrityError, ServiceError
from lwd.replay.cache import Cache
from lwd.replay.images import ATTEMPTS, ImageReader, columns
from lwd.replay.reader import Options
from lwd.store import metrics
from lwd.store.objects import sha256_of
from processes import wait_until
from sample_episodes import make_episode

CAMERAS = ("head", "left_wrist")
SIZE = 24


def picture(seed: int, size: int = SIZE) -> bytes:
    """A JPEG of four coloured corners, which differ from seed to seed."""
    corners = np.random.default_rng(seed).integers(0, 256, (2, 2, 3), np.uint8)
    return simplejpeg.encode_jpeg(np.kron(corners, np.ones((size // 2, size // 2, 1), np.uint8)))


def seen(ticks: int = 20, *, seed: int = 0, every: int = 5, **header) -> Episode:
    """An episode with an image of each camera every few ticks and after the last one."""
    kept = [tick % every == 0 or tick == ticks for tick in range(ticks + 1)]
    images = {
        camera: tuple(
            picture(1000 * seed + 100 * number + tick) if keep else None
            for tick, keep in enumerate(kept)
        )
        for number, camera in enumerate(CAMERAS)
    }
    return replace(make_episode(ticks, seed=seed, **header), images=images)


def pixels(episode: Episode, camera: str, tick: int) -> np.ndarray:
    jpeg = episode.images[camera][tick]
    assert jpeg is not None
    return simplejpeg.decode_jpeg(jpeg)


def shown(images: np.ndarray) -> list[bool]:
    """Which images are not black."""
    return [bool(image.any()) for image in images]


@pytest.fixture
def opened(plane) -> Iterator[Callable[..., ImageReader]]:
    readers = []

    def build(limit: int = 1 << 30, **settings) -> ImageReader:
        cache = Cache(plane.folder / "cache", limit)
        settings = {"size": SIZE, "workers": 2, "sleep": lambda seconds: None} | settings
        readers.append(ImageReader(plane.objects, cache, **settings))
        return readers[-1]

    yield build
    for reader in readers:
        reader.close()


def at(*ticks: int) -> np.ndarray:
    return np.array(ticks)


def test_pixels_are_those_of_the_tick_and_nothing_else(plane, opened) -> None:
    episodes = [seen(seed=seed) for seed in range(3)]
    rows = [plane.put(episode) for episode in episodes]
    now, later = opened().read(
        [rows[i].sha256 for i in (2, 0, 0, 1)], [at(0, 5, 3, 20), at(10, 5, 15, 20)], CAMERAS
    )
    for camera in CAMERAS:
        assert shown(now[camera]) == [True, True, False, True]
        for index, (number, tick) in {0: (2, 0), 1: (0, 5), 3: (1, 20)}.items():
            expected = pixels(episodes[number], camera, tick)
            np.testing.assert_array_equal(now[camera][index], expected)
        np.testing.assert_array_equal(later[camera][2], pixels(episodes[0], camera, 15))


def test_a_camera_that_is_not_in_an_episode_is_black(plane, opened) -> None:
    row = plane.put(seen())
    (images,) = opened().read([row.sha256], [at(0)], ["chest"])
    assert not images["chest"].any()


def test_other_sizes_are_resized_or_left(plane, opened) -> None:
    episode = seen()
    big = tuple(None if jpeg is None else picture(9, 2 * SIZE) for jpeg in episode.images["head"])
    row = plane.put(replace(episode, images={"head": big}))
    (scaled,) = opened().read([row.sha256], [at(0)], ["head"])
    (plain,) = opened(size=None).read([row.sha256, row.sha256], [at(0, 1)], ["head"])
    assert scaled["head"].shape == (1, SIZE, SIZE, 3)
    decoded = simplejpeg.decode_jpeg(picture(9, 2 * SIZE))
    np.testing.assert_array_equal(plain["head"][0], decoded)
    assert plain["head"][1] is None
    corner = (slice(0, SIZE // 4),) * 2
    assert np.abs(scaled["head"][0][corner].astype(int) - decoded[corner]).max() < 12


def test_a_batch_that_is_still_in_use_is_not_written_over(plane, opened) -> None:
    rows = [plane.put(seen(seed=seed)) for seed in range(8)]
    reader = opened()
    kept = [reader.read([row.sha256], [at(0)], ["head"])[0]["head"] for row in rows]
    copies = [array.copy() for array in kept]
    for row in rows:
        reader.read([row.sha256], [at(5)], ["head"])
    for array, copy in zip(kept, copies, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_memory_of_a_batch_that_is_gone_is_used_again(plane, opened) -> None:
    row, reader = plane.put(seen()), opened()
    places = {reader.read([row.sha256], [at(0)], ["head"])[0]["head"].ctypes.data for _ in range(6)}
    assert len(places) == 1


def test_cache_stays_in_its_bound_and_reads_stay_right(plane, opened) -> None:
    episodes = [seen(seed=seed) for seed in range(6)]
    rows = [plane.put(episode) for episode in episodes]
    limit = 3 * max(row.size_bytes for row in rows)
    reader, cache = opened(limit), Cache(plane.folder / "cache", limit)
    random = np.random.default_rng(0)
    for _ in range(40):
        drawn = random.integers(6, size=2)
        (images,) = reader.read([rows[i].sha256 for i in drawn], [at(0, 10)], ["head"])
        for index, (number, tick) in enumerate(zip(drawn, (0, 10), strict=True)):
            expected = pixels(episodes[number], "head", tick)
            np.testing.assert_array_equal(images["head"][index], expected)
        assert sum(cache.sizes().values()) <= limit
        reader._open.clear()  # as if it had been restarted


def test_a_call_gets_all_it_needs_even_beyond_the_bound(plane, opened) -> None:
    rows = [plane.put(seen(seed=seed)) for seed in range(4)]
    (images,) = opened(limit=1).read([row.sha256 for row in rows], [at(0, 0, 0, 0)], ["head"])
    assert all(shown(images["head"]))


def test_what_the_reader_has_not_loaded_yet_is_not_evicted(plane, opened) -> None:
    rows = [plane.put(seen(seed=seed)) for seed in range(3)]
    waiting = rows[0].sha256
    reader = opened(limit=1, ahead=lambda: {waiting})
    cache = Cache(plane.folder / "cache", 1)
    for row in rows:
        reader.read([row.sha256], [at(0)], ["head"])
    assert set(cache.sizes()) == {waiting, rows[2].sha256}


def test_another_process_may_evict_at_any_time(plane, opened) -> None:
    episode = seen()
    row, stop = plane.put(episode), threading.Event()
    cache = Cache(plane.folder / "cache", 0)

    def evict() -> None:
        while not stop.wait(0.02):
            cache.drop(row.sha256)

    other = threading.Thread(target=evict)
    other.start()
    try:
        reader = opened(sleep=lambda seconds: stop.wait(0.01))
        for _ in range(30):
            reader._open.clear()
            (images,) = reader.read([row.sha256], [at(5)], ["head"])
            expected = pixels(episode, "head", 5)
            np.testing.assert_array_equal(images["head"][0], expected)
    finally:
        stop.set()
        other.join()


def test_an_image_that_was_recorded_damaged_is_left_out_and_said_once(
    plane, opened, caplog, monkeypatch
) -> None:
    episode = seen()
    broken = list(episode.images["head"])
    broken[5] = broken[5][:20]
    row = plane.put(replace(episode, images={"head": tuple(broken)}))
    reader = opened()
    for _ in range(2):
        (images,) = reader.read(2 * [row.sha256], [at(5, 10)], ["head"])
        assert shown(images["head"]) == [False, True]
        monkeypatch.setattr(reader, "_is_intact", None)  # the file is not read again
    assert caplog.text.count("unusable image") == 1


@pytest.fixture
def damaged(monkeypatch) -> Callable[[], float]:
    """How many files were found damaged."""
    monkeypatch.setattr(metrics, "_exposed", [0])
    metrics.DAMAGED.add(0)
    before = metrics._made[metrics.DAMAGED.name].collect()[0].samples[0].value
    return lambda: metrics._made[metrics.DAMAGED.name].collect()[0].samples[0].value - before


def test_a_cached_file_that_rots_is_fetched_again_and_counted(plane, opened, damaged) -> None:
    """While it is open: in one the image, in the other where each image begins."""
    episodes = [seen(seed=1), seen(seed=2)]
    rows = [plane.put(episode) for episode in episodes]
    hashes, ticks = [row.sha256 for row in rows], [at(5, 10)]
    reader, cache = opened(), Cache(plane.folder / "cache", 1 << 30)
    before = reader.read(hashes, ticks, ["head"])[0]["head"].copy()
    jpeg = columns(cache.path(hashes[0]))["head"][5].tobytes()
    offsets = columns(cache.path(hashes[1]))["head"].offset.tobytes()
    for sha256, found, rot in zip(hashes, (jpeg, offsets), (b"\x00", b"\xff"), strict=True):
        path = cache.path(sha256)
        place = path.read_bytes().index(found)
        with path.open("r+b") as file:
            file.seek(place + len(found) // 3 // 4 * 4)
            file.write(rot * (len(found) // 3))
    (images,) = reader.read(hashes, ticks, ["head"])
    np.testing.assert_array_equal(images["head"], before)
    assert damaged() == 2
    for row, sha256 in zip(rows, hashes, strict=True):
        assert sha256_of(cache.path(sha256).read_bytes()) == row.sha256


def test_a_damaged_cache_file_is_fetched_again(plane, opened, damaged) -> None:
    row = plane.put(seen())
    path = Cache(plane.folder / "cache", 1 << 30).path(row.sha256)
    path.write_bytes(b"rot")
    (images,) = opened().read([row.sha256], [at(0)], ["head"])
    assert all(shown(images["head"]))
    assert path.stat().st_size == row.size_bytes
    assert damaged() == 1


def test_a_lost_payload_is_black_and_asked_for_once(plane, opened, caplog) -> None:
    lost, whole = plane.put(seen(), store=False), plane.put(seen(seed=1))
    reader = opened()
    for _ in range(2):
        (images,) = reader.read([lost.sha256, whole.sha256], [at(0, 0)], ["head"])
        assert shown(images["head"]) == [False, True]
    assert caplog.text.count("lost payload") == 1


@pytest.fixture
def flipped(plane, monkeypatch) -> Callable[[int], None]:
    """Lets the next so many downloads come with a wrong byte."""
    whole, left = plane.objects._chunks, []

    def damaged(key: str) -> Iterator[bytes]:
        flip = bool(left) and left.pop()
        for number, chunk in enumerate(whole(key)):
            yield bytes([chunk[0] ^ 1]) + chunk[1:] if flip and number == 0 else chunk

    monkeypatch.setattr(plane.objects, "_chunks", damaged)
    return lambda count: left.extend(count * [True])


def test_a_download_that_came_damaged_is_tried_again(plane, opened, flipped, caplog) -> None:
    episode = seen()
    row = plane.put(episode)
    flipped(1)
    (images,) = opened().read([row.sha256], [at(5)], ["head"])
    np.testing.assert_array_equal(images["head"][0], pixels(episode, "head", 5))
    assert "lost payload" not in caplog.text


def test_a_payload_that_comes_damaged_every_time_is_lost(plane, opened, flipped, caplog) -> None:
    damaged, whole = plane.put(seen()), plane.put(seen(seed=1))
    reader, waits = opened(sleep=lambda seconds: waits.append(seconds)), []
    reader.read([whole.sha256], [at(0)], ["head"])
    flipped(ATTEMPTS)
    for _ in range(2):
        (images,) = reader.read([damaged.sha256, whole.sha256], [at(0, 0)], ["head"])
        assert shown(images["head"]) == [False, True]
    assert len(waits) == ATTEMPTS - 1
    assert caplog.text.count("lost payload") == 1


def test_a_store_that_stays_away_is_an_error_that_says_so(plane, opened, monkeypatch) -> None:
    row, waits = plane.put(seen()), []

    def away(key: str) -> int:
        raise ServiceError("no route to the store")

    monkeypatch.setattr(plane.objects, "head", away)
    with pytest.raises(ServiceError, match=r"1 payloads.* in 8 tries: no route to the store"):
        opened(sleep=waits.append).read([row.sha256], [at(0)], ["head"])
    assert len(waits) == ATTEMPTS - 1
    assert sum(waits) > 20


def test_not_a_payload_is_an_integrity_error(tmp_path) -> None:
    path = tmp_path / "x.arrow"
    path.write_bytes(b"ARROW1 but not for long")
    with pytest.raises(IntegrityError, match="cannot be read"):
        columns(path)
    with pytest.raises(FileNotFoundError):
        columns(tmp_path / "y.arrow")


@pytest.mark.parametrize("wrong", [{"size": 0}, {"workers": 0}])
def test_nonsense_is_refused(opened, wrong: dict) -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        opened(**wrong)


def test_batches_have_the_images_of_their_windows(plane, read) -> None:
    """With a cache of one payload, so that most of them are fetched again and again.

    A recording of somebody else has no image after its last action; its end has no value."""
    episodes = {e.header.episode_id: e for e in (seen(seed=s, kind="demo") for s in range(4))}
    ended = seen(seed=4, kind="demo", outcome="success")
    images = {camera: (*kept[:-1], None) for camera, kept in ended.images.items()}
    episodes[ended.header.episode_id] = replace(ended, images=images)
    plane.commit(*episodes.values())
    size = max(len(plane.objects.get(key)) for key in plane.objects.list("episodes"))
    options = Options(prefetcher=False, cameras=CAMERAS, image_size=SIZE, cache_bytes=size)
    reader = read(options=options)
    wait_until(lambda: reader.sync() == 1, "the snapshot")
    sampled, every = reader.sample(3, {"demo": 1.0}, 16), next(reader.transitions("demo"))
    assert set(every.episode) == set(episodes)
    for batch in (sampled, every):
        assert set(batch.tick) <= {0, 5, 10, 15}
        assert batch.images is not None
        assert batch.next_images is not None
        for camera in CAMERAS:
            for index, episode_id in enumerate(batch.episode):
                for images, ticks in (
                    (batch.images, batch.tick),
                    (batch.next_images, batch.next_tick),
                ):
                    whole = episodes[episode_id].images[camera][ticks[index]] is not None
                    expected = pixels(episodes[episode_id], camera, ticks[index]) if whole else 0
                    np.testing.assert_array_equal(images[camera][index], expected)


def test_without_cameras_batches_have_no_images(plane, read) -> None:
    plane.commit(seen(kind="demo"))
    reader = read()
    reader.sync()
    assert reader.sample(0, {"demo": 1.0}, 2).images is None

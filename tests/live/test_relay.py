"""What is handed over to Redis, where Redis keeps it waiting."""

import asyncio

from web.data import store
from web.live.relay import FRAMES, Frame, Relay


def test_a_frame_that_redis_has_not_taken_yet_is_handed_over_before_the_process_ends(environ: dict[str, str]) -> None:
    async def run() -> None:
        async with store.connect(environ["REDIS_URL"]) as redis, redis.client.pubsub() as listening:
            await listening.subscribe(FRAMES)
            relay = Relay[None](redis, update_lists=lambda *_: None, enqueue=lambda _: None)
            async with relay.running():
                await redis.client.client_pause(500)
                relay.publish(Frame([1], "the last frame"))
                await asyncio.sleep(0.1)

            async with asyncio.timeout(5):  # it never comes where it was lost
                async for message in listening.listen():
                    if "the last frame" in str(message["data"]):
                        break

    asyncio.run(run())

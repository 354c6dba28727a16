"""The loops of a process end with it, whatever the libraries in them do."""

import asyncio

from web import loops


def test_a_loop_whose_cancellation_was_swallowed_is_cancelled_again() -> None:
    cancelled = 0

    async def stubborn() -> None:
        nonlocal cancelled
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                cancelled += 1
                if cancelled == 2:
                    raise

    async def process() -> None:
        async with loops.loops(stubborn):
            await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(process(), 10))

    assert cancelled == 2

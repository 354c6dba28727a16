"""uvicorn's supervisor, which starts the web processes and replaces those that end, made quick at noticing it."""

from uvicorn.supervisors import Multiprocess, multiprocess


class Process(multiprocess.Process):
    """Lets go of the child's end of the pipe that asks whether it is well.

    uvicorn's own keeps it open in the parent, so the death of a child that is being asked is no end of file there: the
    parent waits for an answer until its patience is over, and replaces no other process meanwhile.
    """

    def start(self) -> None:
        super().start()
        self.child_conn.close()


multiprocess.Process = Process  # type: ignore[misc]  # the one way in which Multiprocess takes another

__all__ = ["Multiprocess"]

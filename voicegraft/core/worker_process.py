"""What a worker process does for its parent; without torch, so that a worker that needs none starts at once."""

import multiprocessing
import os
import threading


def end_with_parent() -> None:
    """In a worker process: ends it when its parent dies, which would leave it waiting for work for ever."""

    def watch() -> None:
        if (parent := multiprocessing.parent_process()) is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()

"""A process for work that may end the process that does it."""

import concurrent.futures
import multiprocessing


class WorkerProcess:
    """One process, started when it is needed and again when it has ended.

    Args:
        jobs: after how many of them a fresh process follows, whose memory is
            its own again.
    """

    def __init__(self, jobs):
        self._jobs = jobs
        self._pool = None

    def __call__(self, function, *arguments):
        """Calls a function in the process.

        Args:
            function: one that `pickle` can name.
            *arguments: values that `pickle` can write.

        Returns:
            The value of the function.

        Raises:
            concurrent.futures.process.BrokenProcessPool: the process ended
                meanwhile. The next call starts another.
        """
        if self._pool is None:
            self._pool = concurrent.futures.ProcessPoolExecutor(
                1,
                multiprocessing.get_context("spawn"),
                max_tasks_per_child=self._jobs,
            )
        try:
            return self._pool.submit(function, *arguments).result()
        except concurrent.futures.process.BrokenProcessPool:
            self.close()
            raise

    def close(self):
        """Ends the process."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None

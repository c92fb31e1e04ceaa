"""The way to a Dask scheduler.

Addresses are those that the user typed: there is no discovery, and no address is taken from Dask's own
configuration, which holds the certificates for ``tls://`` (``distributed.comm.tls``).
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from upscale.errors import ClusterError, UpscaleError, first_line
from upscale.events import Result
from upscale.job import stopping
from upscale.jobs.cluster.worker import versions
from upscale.jobs.resume.journal import Segment
from upscale.system.cores import cores

if TYPE_CHECKING:
    from distributed import Client

#: The scheduler's address that starts one here.
LOCAL = "local"
#: Seconds to wait for an answer of the scheduler, and for its first worker.
ANSWER, _FIRST_WORKER = 10.0, 30.0


@contextmanager
def connected(address: str) -> Iterator[Client]:
    """A client of the scheduler, with at least one worker."""
    try:
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise ClusterError(f"--cluster needs Dask: pip install '.[cluster]' ({error})") from error
    log = logging.getLogger("distributed")
    level = log.level
    log.setLevel(logging.CRITICAL)  # what matters is reported as events
    with ExitStack() as stack:
        stack.callback(log.setLevel, level)
        try:
            where: Any = address
            if address == LOCAL:
                # Processes that are started here leave Ctrl-C to this one.
                with stopping.signals_held(signal.SIGINT):
                    where = stack.enter_context(
                        LocalCluster(
                            n_workers=cores(),
                            threads_per_worker=1,
                            memory_limit=None,
                            dashboard_address="127.0.0.1:0",  # None is a port that may be taken
                            silence_logs=logging.CRITICAL,
                        )
                    )
            client = stack.enter_context(Client(where, timeout=ANSWER, set_as_default=False))
            client.wait_for_workers(1, timeout=_FIRST_WORKER)
            _check_versions(client)
        except TimeoutError as error:
            raise ClusterError("the scheduler has no workers", path=address) from error
        except (OSError, ValueError, TypeError, RuntimeError) as error:
            raise ClusterError(f"cannot be reached: {first_line(error)}", path=address) from error
        yield client


def _check_versions(client: Client) -> None:
    """Workers with another upscale, or none, could not even unpickle the work.

    Raises:
        ClusterError: there is such a worker.
    """
    here = versions()
    for address, found in client.run(versions, on_error="return").items():
        if isinstance(found, BaseException):
            raise ClusterError(f"the worker cannot run upscale: {first_line(found)}", path=address)
        if found != here:
            raise ClusterError(f"the worker runs {found}, not {here}", path=address)


def answer_of(future: Any, result: Any) -> Result | Segment | Exception:
    """The result of a future."""
    from distributed import KilledWorker

    if future.status == "error":
        result = result[1]
    match result:
        case Result() | Segment() | UpscaleError():
            return result
        case KilledWorker():
            return ClusterError("the workers that had it died, one after the other")
        case Exception() | BaseException():
            return ClusterError(f"a worker failed: {type(result).__name__}: {first_line(result)}")
        case _:
            return ClusterError(f"a worker returned no result but {type(result).__name__}")

"""A process that publishes logs when it is told to, and says how much memory it took at most.

Writes a line when it is ready. Reads `on` and publishes as a worker does; reads `off`, stops, and writes `off`; at the
end of its input it writes one JSON object: peak_mb, start_mb. The databases come from the environment.
"""

from __future__ import annotations

import json
import sys
from threading import Event, Thread

from api.bootstrap import make_work, running
from api.settings import Settings
from bench.child_authorise import peak_mb


def main() -> None:
    """Publish as standard input orders."""
    with running(Settings(), application="lethe-bench-publish") as instance:
        publish = make_work(instance)["sequencer"]
        start_mb = peak_mb()
        print("ready", flush=True)
        stop, thread = Event(), Thread()
        for order in sys.stdin:
            if order.strip() == "on":
                stop = Event()
                thread = Thread(target=publish, args=(stop,))
                thread.start()
            else:
                stop.set()
                thread.join()
                print("off", flush=True)
        print(json.dumps({"peak_mb": peak_mb(), "start_mb": start_mb}))


if __name__ == "__main__":
    main()

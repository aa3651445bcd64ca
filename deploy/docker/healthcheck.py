"""Asks the operations port of the service in this container; exits 0 when it answers 200.

python healthcheck.py [PATH]    PATH: /readyz (the default) or /healthz
"""

import http.client
import os
import sys

TIMEOUT_S = 4.0


def main() -> int:
    """Return the exit code."""
    path = sys.argv[1] if len(sys.argv) > 1 else "/readyz"
    port = int(os.environ.get("ENGRAM_OPS_PORT", "8081"))
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        sys.stdout.buffer.write(answer.read())
    except (OSError, http.client.HTTPException) as error:
        sys.stdout.write(f"{path} does not answer ({type(error).__name__})")
        return 1
    finally:
        connection.close()
    return 0 if answer.status == 200 else 1


if __name__ == "__main__":
    sys.exit(main())

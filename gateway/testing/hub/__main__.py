"""`python -m gateway.testing.hub --help`"""

from gateway.testing.hub.control import main

main()

"""What HTTP clients of the programs on this host share."""

import ssl

# As ``verify=`` of a client. These programs speak no TLS, so nobody is trusted and nothing has to be loaded: by default
# httpx reads the bundle of certificate authorities for every client, which takes 40 ms of processor time, and who waits
# for a program to get ready would spend a whole processor on that.
PLAIN_HTTP_ONLY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

"""The built-in 8x12 font of the firmware: printable ASCII characters, 12 bytes each, a row a byte, left pixel first.

Data: MaixPy-v1 ``font.c``, Copyright 2013-2018 the OpenMV project and Sipeed, MIT and Apache-2.0 (see NOTICE).
"""

from __future__ import annotations

import base64
import zlib
from functools import cache

WIDTH, HEIGHT = 8, 12
FIRST, LAST = 0x20, 0x7E


@cache
def glyphs() -> bytes:
    """Return the bitmaps of characters ``FIRST`` to ``LAST`` one behind another."""
    return zlib.decompress(base64.b64decode(_DATA))


_DATA = (
    "eNpdVKGOGzEQNbAiQ4MDCwIWnCpDqzpgsMBggE9asMCgMCCqCg4cOi2wqqqoH1BUFRb1Gws68zxOtn2J5cnkefzmzSbGHOAB3jgupRy+CS3wG5xl"
    "2+L08LALKT6/t86/ez5xvJft46/v3956nXHQeT8D3jtZAOeMr6n6w83tfkYwTbEHzfyDKGlrUWPO2ZhEtNYrUZIqsXcgcSJWxozWYztZC46bQiil"
    "OSe1c867tXaH0Dnv1Ou0cQHOck7z2IV41xLjMb5oodk71fuHXx2S1KNch8V1nxN9/fGb8fNLRv3Gi8RO3rA4PnMfjPnM8WsRApXXoT/3Hkeclb8S"
    "PQqfDjVbt8c3eAigLy63XbYCTlY05F9eau1nia7XWteV1AdST6BR79V8ebKa15pLlua7z0ODV22jjuwhhHu+1hoQczIE1SAf+lmZkc43zTck1o9n"
    "jW8zyd2Q2GwuYv7DZx7adEwkaxeiBTbskLEjjwmI/xYEAqd3zMYvYMw7JCAPzmJt40IfrqT+exNvvTszqbbIHB2APEgHf4z5VAHE9zrD6YRYdWIC"
    "qo2bF37WuWACqfs/ZJ6RB319GrH6j1j9xwR80HvHkGZMQAbA/p/kJ33Bb/vkD7jwcieHUA4/1v6X8hcrgpqV"
)

"""What processors get besides their record or request: declared once, made as often as its scope says.

`declared.py` is what users write, `needs.py` reads and checks what depends on what, `making.py` makes it.
`consumers.py` and `raflow/http/injection.py` hand it to processors.
"""

from raflow.dependencies.credentials import AWSCredentials, FlowCredentials, GCPCredentials
from raflow.dependencies.declared import dependency
from raflow.dependencies.scopes import Scope

__all__ = ["AWSCredentials", "FlowCredentials", "GCPCredentials", "Scope", "dependency"]

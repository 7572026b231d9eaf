"""What both sides write down so that others can check it later: audit logs, and receipts for updates.

chain       the hashes that chain a log's lines, one form for the coordinator and one for a site
logs        a log read from a folder, while its process runs or without one, and checked
tree        one root for the updates of a round, and a short proof that one of them is in it
receipts    what the coordinator signs for a published round, and what a client keeps of it
"""

from .chain import START
from .logs import Log, Row, find_log
from .receipts import Counted, Published, Receipt, What, leaf, tree_of
from .tree import Tree

__all__ = [
    "Counted",
    "Log",
    "Published",
    "Receipt",
    "Row",
    "START",
    "Tree",
    "What",
    "find_log",
    "leaf",
    "tree_of",
]

"""A test of the contract of hash methods, for the tests of those who write one.

from math_hash.testing import check_method

def test_my_method():
    check_method(MyMethod)
"""

from math_hash.testing.check_method import check_method

__all__ = ["check_method"]

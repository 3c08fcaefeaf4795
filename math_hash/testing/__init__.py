"""What a method has to do, tried on a class; for the tests of whoever writes one.

from math_hash.testing import check_method

def test_my_method():
    check_method(MyMethod)
"""

from math_hash.testing.check_method import check_method

__all__ = ["check_method"]

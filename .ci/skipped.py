"""Print the node id of every test that a JUnit report calls skipped: python skipped.py REPORT."""

import sys
from xml.etree import ElementTree

for case in ElementTree.parse(sys.argv[1]).iter("testcase"):
    if case.find("skipped") is not None:
        module = case.get("classname") or case.get("name")  # a file that was skipped whole has its name alone
        test = [case.get("name")] if case.get("classname") else []
        sys.stdout.write("::".join([module.replace(".", "/") + ".py", *test]) + "\n")

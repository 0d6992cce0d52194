"""pytest's view of dlcheck: a suite is a module, a subject a class, a check a function.

Items are ordinary `pytest.Function`s, parametrised over the trials of a check, so that selection,
fixtures, marks, xdist, --lf and IDEs work on them as on any test. At import and at collection
nothing but the standard library and pytest is loaded; torch comes with the first trial that runs.
"""

from _dlcheck_pytest.collection import pytest_collect_directory as pytest_collect_directory
from _dlcheck_pytest.collection import pytest_collect_file as pytest_collect_file
from _dlcheck_pytest.collection import pytest_collection_finish as pytest_collection_finish
from _dlcheck_pytest.collection import pytest_generate_tests as pytest_generate_tests
from _dlcheck_pytest.collection import pytest_make_collect_report as pytest_make_collect_report
from _dlcheck_pytest.collection import pytest_pycollect_makeitem as pytest_pycollect_makeitem
from _dlcheck_pytest.collection import pytest_runtest_setup as pytest_runtest_setup
from _dlcheck_pytest.collection import (
    pytest_xdist_node_collection_finished as pytest_xdist_node_collection_finished,
)
from _dlcheck_pytest.configuring import pytest_addoption as pytest_addoption
from _dlcheck_pytest.configuring import pytest_configure as pytest_configure
from _dlcheck_pytest.crashing import pytest_enter_pdb as pytest_enter_pdb
from _dlcheck_pytest.crashing import pytest_handlecrashitem as pytest_handlecrashitem
from _dlcheck_pytest.guarding import pytest_deselected as pytest_deselected
from _dlcheck_pytest.recording import pytest_sessionfinish as pytest_sessionfinish
from _dlcheck_pytest.running import pytest_report_teststatus as pytest_report_teststatus
from _dlcheck_pytest.running import pytest_runtest_makereport as pytest_runtest_makereport
from _dlcheck_pytest.running import pytest_runtestloop as pytest_runtestloop
from _dlcheck_pytest.sharding import pytest_collection_modifyitems as pytest_collection_modifyitems
from _dlcheck_pytest.sharding import pytest_testnodedown as pytest_testnodedown
from _dlcheck_pytest.summary import pytest_terminal_summary as pytest_terminal_summary
from _dlcheck_pytest.workers import pytest_configure_node as pytest_configure_node
from _dlcheck_pytest.workers import pytest_runtest_protocol as pytest_runtest_protocol
from _dlcheck_pytest.workers import pytest_xdist_auto_num_workers as pytest_xdist_auto_num_workers
from _dlcheck_pytest.workers import pytest_xdist_setupnodes as pytest_xdist_setupnodes

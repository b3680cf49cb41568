"""What sidecars' counters say about policies that are tried out."""

# ruff: noqa: E501 (metrics are one line each)

from __future__ import annotations

from tulle.status.dry_run import Outcome, Policy, outcomes
from tulle.xds.names import access_rules

ONE = Policy("deny", "one", access_rules("AuthorizationPolicy", "shop", "one"))
TWO = Policy("deny", "two", access_rules("AuthorizationPolicy", "shop", "two"))
READ = Policy("allow", "read", access_rules("AuthorizationPolicy", "shop", "read"))

OWN = """\
envoy_http_rbac_shadow_denied{envoy_http_conn_manager_prefix="inbound"} 99
envoy_http_rbac_policy_shadow_denied{envoy_rbac_http_prefix="istio_dry_run_deny_",envoy_rbac_policy_name="ns[shop]-policy[one]-rule[0]"} 3
envoy_http_rbac_policy_shadow_denied{envoy_rbac_http_prefix="istio_dry_run_deny_",envoy_rbac_policy_name="ns[shop]-policy[one]-rule[1]-2"} 1
envoy_http_rbac_policy_shadow_denied{envoy_rbac_http_prefix="istio_dry_run_deny_",envoy_rbac_policy_name="ns[shop]-policy[gone]-rule[0]"} 7
envoy_http_rbac_policy_shadow_allowed{envoy_rbac_http_prefix="istio_dry_run_deny_",envoy_rbac_policy_name="none"} 9
envoy_http_rbac_policy_shadow_denied{envoy_rbac_http_prefix="istio_dry_run_allow_",envoy_rbac_policy_name="none"} 5
envoy_http_rbac_policy_shadow_allowed{envoy_rbac_http_prefix="istio_dry_run_allow_",envoy_rbac_policy_name="ns[shop]-policy[read]-rule[0]"} 2
envoy_http_rbac_policy_shadow_denied{envoy_rbac_http_prefix="tulle_authorizer_0_",envoy_rbac_policy_name="ns[shop]-policy[custom]-rule[0]"} 50
"""

ENVOY = """\
envoy_http_rbac_shadow_denied{envoy_rbac_http_prefix="istio_dry_run_deny_",envoy_http_conn_manager_prefix="inbound|1"} 4
envoy_http_rbac_shadow_allowed{envoy_rbac_http_prefix="istio_dry_run_deny_",envoy_http_conn_manager_prefix="inbound|1"} 9
envoy_http_rbac_policy_shadow_denied{envoy_rbac_policy_name="ns[shop]-policy[one]-rule[0]",envoy_rbac_http_prefix="istio_dry_run_deny_",envoy_http_conn_manager_prefix="inbound|1"} 4
envoy_http_rbac_shadow_denied{envoy_rbac_http_prefix="istio_dry_run_allow_",envoy_http_conn_manager_prefix="inbound|1"} 5
envoy_http_rbac_shadow_allowed{envoy_rbac_http_prefix="istio_dry_run_allow_",envoy_http_conn_manager_prefix="inbound|1"} 2
envoy_http_rbac_policy_shadow_allowed{envoy_rbac_policy_name="ns[shop]-policy[read]-rule[0]",envoy_rbac_http_prefix="istio_dry_run_allow_",envoy_http_conn_manager_prefix="inbound|1"} 2
envoy_rbac_istio_dry_run_deny__shadow_denied{envoy_rbac_prefix="inbound"} 6
envoy_http_rbac_shadow_denied{envoy_http_conn_manager_prefix="inbound|1"} 99
"""


def test_denials_are_counted_by_policy() -> None:
    assert list(outcomes(OWN, [ONE, TWO])) == [
        Outcome("deny", ("one",), 4, 20), Outcome("deny", ("two",), 0, 20),
    ]  # fmt: skip


def test_what_no_allow_policy_names_is_denied_by_all_of_them() -> None:
    other = Policy("allow", "other", access_rules("AuthorizationPolicy", "shop", "other"))
    for text in (OWN, ENVOY):
        assert list(outcomes(text, [READ, other])) == [Outcome("allow", ("read", "other"), 5, 7)]


def test_stock_envoy_tells_requests_apart_and_not_connections() -> None:
    assert list(outcomes(ENVOY, [ONE, TWO])) == [
        Outcome("deny", ("one",), 4, 19), Outcome("deny", ("two",), 0, 19), Outcome("deny", ("one", "two"), 6, 19),
    ]  # fmt: skip
    assert list(outcomes(ENVOY, [ONE])) == [Outcome("deny", ("one",), 10, 19)]


def test_nobody_has_called() -> None:
    assert list(outcomes("", [ONE, READ])) == [Outcome("allow", ("read",), 0, 0), Outcome("deny", ("one",), 0, 0)]
    assert list(outcomes(OWN, [])) == []

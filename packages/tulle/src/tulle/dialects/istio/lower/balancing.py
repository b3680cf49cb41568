"""Lowers a DestinationRule's load balancer: the method, consistent hashing, localities."""

from __future__ import annotations

from tulle.dialects.findings import Findings
from tulle.dialects.istio.schema import destination_rule as schema
from tulle.model.policies import (
    Balancing,
    ConsistentHash,
    Failover,
    HashAlgorithm,
    HashCookie,
    HashHeader,
    HashKey,
    HashQuery,
    HashSourceIp,
    LoadBalancer,
    LocalityPolicy,
    LocalityShare,
)
from tulle.objects import Path

_SIMPLE = {
    "UNSPECIFIED": Balancing.LEAST_REQUEST,
    "LEAST_CONN": Balancing.LEAST_REQUEST,
    "LEAST_REQUEST": Balancing.LEAST_REQUEST,
    "RANDOM": Balancing.RANDOM,
    "PASSTHROUGH": Balancing.PASSTHROUGH,
    "ROUND_ROBIN": Balancing.ROUND_ROBIN,
}


def load_balancer(written: schema.LoadBalancer, path: Path, findings: Findings) -> LoadBalancer | None:
    """None when only localities are set, so that the method is inherited."""
    if written.simple is not None and written.consistent_hash is not None:
        message = "must say only one of simple and consistentHash"
        findings.error("conflicting-fields", message, (*path, "consistentHash"))
    if written.simple == "LEAST_CONN":
        message = "LEAST_CONN is deprecated; it means LEAST_REQUEST"
        findings.warning("deprecated", message, (*path, "simple"), "write LEAST_REQUEST")
    slow_start = written.warmup.duration if written.warmup else written.warmup_duration_secs
    if written.consistent_hash is not None:
        if slow_start is not None:
            field = "warmup" if written.warmup else "warmupDurationSecs"
            message = "warm-up applies to ROUND_ROBIN and LEAST_REQUEST only"
            findings.warning("no-effect", message, (*path, field))
        hashing = _hash(written.consistent_hash, (*path, "consistentHash"), findings)
        return None if hashing is None else LoadBalancer(hashing)
    if written.simple is None and slow_start is None:
        return None
    return LoadBalancer(_SIMPLE[written.simple or "UNSPECIFIED"], slow_start)


def locality(written: schema.LoadBalancer, path: Path, findings: Findings) -> LocalityPolicy | None:
    """None inherits the mesh's setting."""
    setting = written.locality_lb_setting
    if setting is None:
        return None
    at = (*path, "localityLbSetting")
    if setting.distribute and (setting.failover or setting.failover_priority):
        message = "distribute excludes failover and failoverPriority"
        findings.error("conflicting-fields", message, (*at, "distribute"))
    for index, rule in enumerate(setting.distribute):
        if sum(rule.to.values()) != 100:
            message = f"the shares add up to {sum(rule.to.values())}, not to 100"
            findings.error("weights", message, (*at, "distribute", index, "to"))
    return LocalityPolicy(
        enabled=setting.enabled is not False,
        distribute=tuple(
            LocalityShare(rule.from_, tuple(sorted(rule.to.items()))) for rule in setting.distribute
        ),
        failover=tuple(Failover(rule.from_, rule.to) for rule in setting.failover),
        failover_priority=tuple(setting.failover_priority),
    )


def _hash(written: schema.ConsistentHash, path: Path, findings: Findings) -> ConsistentHash | None:
    keys = _keys(written)
    if len(keys) != 1:
        names = "httpHeaderName, httpCookie, useSourceIp and httpQueryParameterName"
        findings.error("conflicting-fields", f"must say exactly one of {names}", path)
        return None
    if written.maglev is not None:
        if written.ring_hash is not None or written.minimum_ring_size is not None:
            findings.error("conflicting-fields", "maglev excludes a ring size", (*path, "maglev"))
        size = written.maglev.table_size
        if size is not None and not _is_prime(size):
            findings.error("wrong-value", f"must be a prime, not {size}", (*path, "maglev", "tableSize"))
        return ConsistentHash((keys[0],), HashAlgorithm.MAGLEV, size)
    size = written.ring_hash.minimum_ring_size if written.ring_hash else None
    if written.minimum_ring_size is not None:
        at = (*path, "minimumRingSize")
        hint = f"write ringHash: {{minimumRingSize: {written.minimum_ring_size}}}"
        message = "minimumRingSize is deprecated here"
        if size is not None:
            message, hint = message + " and ringHash wins", "delete it"
        findings.info("deprecated", message, at, hint)
        size = size or written.minimum_ring_size or None
    return ConsistentHash((keys[0],), HashAlgorithm.RING_HASH, size)


def _keys(written: schema.ConsistentHash) -> list[HashKey]:
    keys: list[HashKey] = []
    if written.http_header_name is not None:
        keys.append(HashHeader(written.http_header_name.lower()))
    if written.http_cookie is not None:
        cookie = written.http_cookie
        keys.append(HashCookie(cookie.name, cookie.path, cookie.ttl))
    if written.use_source_ip:
        keys.append(HashSourceIp())
    if written.http_query_parameter_name is not None:
        keys.append(HashQuery(written.http_query_parameter_name))
    return keys


def _is_prime(number: int) -> bool:
    """Trial division: table sizes are at most some millions."""
    if number < 2:
        return False
    divisor = 2
    while divisor * divisor <= number:
        if number % divisor == 0:
            return False
        divisor += 1
    return True

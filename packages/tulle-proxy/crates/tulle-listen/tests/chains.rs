//! Which chain takes which connection: tables against Envoy's documented rule.

use std::sync::Arc;
use std::time::Duration;

use tulle_config::Cidr;
use tulle_config::listener::{
    ChainMatch, DrainType, FilterChain, Listener, ListenerFilters, NetworkFilter, ProxyProtocol, SourceType,
    TrafficDirection, TransportProtocol,
};
use tulle_config::tcp::{TcpProxy, WeightedTcpCluster};
use tulle_listen::{ConnectionFacts, select_chain};

fn tcp() -> NetworkFilter {
    NetworkFilter::Tcp(Arc::new(TcpProxy {
        stat_prefix: "t".into(),
        clusters: vec![WeightedTcpCluster { name: "c".into(), weight: 1, subset: Default::default() }],
        total_weight: 1,
        idle_timeout: None,
        max_connection_duration: None,
        max_connect_attempts: 1,
        hash_source_ip: false,
        access_logs: vec![],
        sni_port: None,
        sni_cluster: false,
        tunneling: None,
    }))
}

fn chain(name: &str, matches: ChainMatch) -> FilterChain {
    FilterChain {
        name: name.into(),
        matches,
        tls: None,
        transport_connect_timeout: None,
        limits: Box::default(),
        access: Box::default(),
        filter: tcp(),
        metadata: Arc::default(),
    }
}

fn listener(chains: Vec<FilterChain>) -> Listener {
    Listener {
        name: "l".into(),
        stat_prefix: "l".into(),
        address: "127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into(),
        additional_addresses: vec![],
        reuse_port: true,
        bind_to_port: true,
        use_original_dst: false,
        transparent: false,
        socket_options: Vec::new(),
        backlog: 128,
        chains,
        default_chain: None,
        inspect: ListenerFilters {
            tls: true,
            http: true,
            proxy_protocol: None::<ProxyProtocol>,
            original_dst: false,
            timeout: Some(Duration::from_secs(15)),
            continue_on_timeout: false,
            disabled: Vec::new(),
        },
        direction: TrafficDirection::Inbound,
        drain: DrainType::Default,
        buffer_limit: 1 << 20,
        access_logs: vec![],
        metadata: Arc::default(),
        counted: true,
        gate: Arc::default(),
    }
}

fn chosen(listener: &Listener, server_name: Option<&str>, tls: bool, alpn: &[&str]) -> Option<String> {
    let protocols: Vec<Vec<u8>> = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let facts = ConnectionFacts {
        destination: "10.0.0.1:443".parse().unwrap(),
        source: "10.0.0.9:5000".parse().unwrap(),
        direct_source: "10.0.0.9:5000".parse().unwrap(),
        server_name,
        tls,
        application_protocols: &protocols,
    };
    select_chain(listener, &facts).map(|chain| chain.name.to_string())
}

fn named(name: &str, server_names: &[&str]) -> FilterChain {
    let server_names = server_names.iter().map(|name| (*name).into()).collect();
    chain(name, ChainMatch { server_names, ..ChainMatch::default() })
}

#[test]
fn the_longest_server_name_wins() {
    let listener = listener(vec![
        named("any", &[]),
        named("wide", &["*.example.com"]),
        named("deep", &["*.b.example.com"]),
        named("exact", &["a.b.example.com"]),
    ]);
    for (asked, expected) in [
        (Some("a.b.example.com"), "exact"),
        (Some("c.b.example.com"), "deep"),
        (Some("c.example.com"), "wide"),
        (Some("example.com"), "any"),
        (Some("notexample.com"), "any"),
        (None, "any"),
    ] {
        assert_eq!(chosen(&listener, asked, true, &[]).as_deref(), Some(expected), "{asked:?}");
    }
}

#[test]
fn transport_and_application_protocols_decide_after_the_name() {
    let with = |name: &str, transport, protocols: &[&str]| {
        let application_protocols = protocols.iter().map(|name| (*name).into()).collect();
        chain(name, ChainMatch { transport_protocol: transport, application_protocols, ..ChainMatch::default() })
    };
    let listener = listener(vec![
        with("mesh-http", Some(TransportProtocol::Tls), &["h2", "http/1.1"]),
        with("mesh-tcp", Some(TransportProtocol::Tls), &[]),
        with("plain-http", Some(TransportProtocol::RawBuffer), &["http/1.1", "h2c"]),
    ]);
    for (tls, alpn, expected) in [
        (true, &["h2"][..], Some("mesh-http")),
        (true, &["other"], Some("mesh-tcp")),
        (true, &[], Some("mesh-tcp")),
        (false, &["http/1.1"], Some("plain-http")),
        (false, &[], None),
    ] {
        assert_eq!(chosen(&listener, None, tls, alpn).as_deref(), expected, "tls={tls} {alpn:?}");
    }
}

#[test]
fn a_chain_excluded_by_an_earlier_criterion_is_not_reconsidered() {
    let mut by_port = chain("port", ChainMatch { destination_port: Some(443), ..ChainMatch::default() });
    by_port.matches.server_names = vec!["only.example".into()];
    let listener = listener(vec![by_port, named("any", &[])]);
    assert_eq!(chosen(&listener, Some("only.example"), true, &[]).as_deref(), Some("port"));
    // The port matched, so chains without a port are out, although the name then fails: Envoy does the same.
    assert_eq!(chosen(&listener, Some("other.example"), true, &[]), None);
}

#[test]
fn sources_and_the_default_chain() {
    let mut near = chain("near", ChainMatch::default());
    near.matches.source.ranges = vec![Cidr::new("10.0.0.0".parse().unwrap(), 24).unwrap()];
    let mut local = chain("local", ChainMatch::default());
    local.matches.source.kind = SourceType::SameIpOrLoopback;
    let mut with_default = listener(vec![local.clone()]);
    assert_eq!(chosen(&with_default, None, false, &[]), None);
    with_default.default_chain = Some(chain("default", ChainMatch::default()));
    assert_eq!(chosen(&with_default, None, false, &[]).as_deref(), Some("default"));
    assert_eq!(chosen(&listener(vec![near, local]), None, false, &[]).as_deref(), Some("near"));
}

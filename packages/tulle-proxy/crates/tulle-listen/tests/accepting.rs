//! Listener sets and inspection over real sockets.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io::ErrorKind;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;
use tulle_config::listener::{DrainType, Listener, ListenerFilters, Place, ProxyProtocol, TrafficDirection};
use tulle_listen::{InspectError, ListenerSet, inspect};
use tulle_testkit::netns::Namespace;

fn listener(name: &str, backlog: u32) -> Arc<Listener> {
    Arc::new(Listener {
        name: name.into(),
        stat_prefix: name.into(),
        address: "127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into(),
        additional_addresses: vec![],
        reuse_port: true,
        bind_to_port: true,
        use_original_dst: false,
        transparent: false,
        socket_options: Vec::new(),
        backlog,
        chains: vec![],
        default_chain: None,
        inspect: filters(None),
        direction: TrafficDirection::Unspecified,
        drain: DrainType::Default,
        buffer_limit: 1 << 20,
        access_logs: vec![],
        metadata: Arc::default(),
        counted: true,
        gate: Arc::default(),
    })
}

fn filters(proxy_protocol: Option<ProxyProtocol>) -> ListenerFilters {
    ListenerFilters {
        tls: true,
        http: true,
        proxy_protocol,
        original_dst: false,
        timeout: Some(Duration::from_secs(1)),
        continue_on_timeout: true,
        disabled: Vec::new(),
    }
}

#[tokio::test]
async fn established_connections_survive_the_close_of_their_listener() {
    LocalSet::new()
        .run_until(async {
            let served = Rc::new(RefCell::new(Vec::new()));
            let record = served.clone();
            let mut set = ListenerSet::new(move |accepted| record.borrow_mut().push(accepted));
            let wanted = Arc::new(HashMap::from([("a".into(), listener("a", 64))]));
            assert!(set.apply(&wanted).is_empty());
            let address = set.addresses().next().unwrap().1;
            // Established in the kernel's queue; the accept loop has had no chance to run yet.
            let clients: Vec<_> = (0..8).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
            assert!(served.borrow().is_empty());
            set.close();
            while served.borrow().len() < clients.len() {
                tokio::task::yield_now().await;
            }
            assert!(
                served.borrow().iter().all(|accepted| accepted.local == address && &*accepted.listener.name == "a")
            );
        })
        .await;
}

#[tokio::test]
async fn a_changed_listener_keeps_its_socket() {
    LocalSet::new()
        .run_until(async {
            let served = Rc::new(RefCell::new(Vec::new()));
            let record = served.clone();
            let mut set =
                ListenerSet::new(move |accepted| record.borrow_mut().push(accepted.listener.stat_prefix.clone()));
            set.apply(&Arc::new(HashMap::from([("a".into(), listener("a", 64))])));
            let before = set.addresses().next().unwrap().1;
            let mut changed = (*listener("a", 64)).clone();
            changed.stat_prefix = "changed".into();
            set.apply(&Arc::new(HashMap::from([("a".into(), Arc::new(changed))])));
            assert_eq!(set.addresses().next().unwrap().1, before);
            let _client = TcpStream::connect(before).await.unwrap();
            while served.borrow().is_empty() {
                tokio::task::yield_now().await;
            }
            assert_eq!(*served.borrow(), ["changed".into()]);
        })
        .await;
}

#[tokio::test]
async fn a_listener_of_another_namespace_is_bound_anew() {
    let Some(namespace) = Namespace::or_skip() else { return };
    LocalSet::new()
        .run_until(async {
            let mut set = ListenerSet::new(|_| {});
            let at = |namespace: Option<&str>| {
                let mut listener = (*listener("a", 64)).clone();
                let address = "127.77.0.1:0".parse::<std::net::SocketAddr>().unwrap().into();
                listener.address = Place { address, namespace: namespace.map(Into::into) };
                Arc::new(HashMap::from([("a".into(), Arc::new(listener))]))
            };
            assert!(set.apply(&at(None)).is_empty());
            let outside = set.addresses().next().unwrap().1;
            TcpStream::connect(outside).await.unwrap();
            assert!(set.apply(&at(Some(namespace.path()))).is_empty());
            let within = set.addresses().next().unwrap().1;
            assert_eq!(TcpStream::connect(within).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
            tulle_netns::inside(namespace.path(), || std::net::TcpStream::connect(within)).unwrap();
            let failed = set.apply(&at(Some("/nowhere")));
            assert_eq!(
                failed[0].to_string(),
                "listener a: cannot listen on 127.77.0.1:0 in /nowhere: the network namespace /nowhere cannot be opened: \
                 No such file or directory (os error 2)"
            );
            assert_eq!(set.addresses().count(), 0);
        })
        .await;
}

#[tokio::test]
async fn a_resting_set_takes_connections_when_it_goes_on() {
    LocalSet::new()
        .run_until(async {
            let sets = [true, false].map(|resting| {
                let served = Rc::new(Cell::new(0));
                let count = served.clone();
                let mut set = ListenerSet::new(move |_| count.set(count.get() + 1));
                set.apply(&Arc::new(HashMap::from([("a".into(), listener("a", 64))])));
                set.rest(resting);
                (set, served)
            });
            let mut clients = Vec::new();
            for (set, _) in &sets {
                clients.push(TcpStream::connect(set.addresses().next().unwrap().1).await.unwrap());
            }
            // The other set, which was called last, shows that there was time enough.
            while sets[1].1.get() == 0 {
                tokio::task::yield_now().await;
            }
            assert_eq!(sets[0].1.get(), 0);
            sets[0].0.rest(false);
            while sets[0].1.get() == 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
}

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (client, listener.accept().await.unwrap().0)
}

#[tokio::test]
async fn what_was_inspected_is_still_read() {
    let (mut client, server) = pair().await;
    let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    client.write_all(request).await.unwrap();
    let (found, mut stream) = inspect(server, &filters(None)).await.unwrap();
    assert_eq!((found.tls, &found.application_protocols[..]), (false, &[b"http/1.1".to_vec()][..]));
    let mut read = vec![0; request.len()];
    stream.read_exact(&mut read).await.unwrap();
    assert_eq!(read, request);
}

#[tokio::test]
async fn a_proxy_header_is_taken_off_and_a_missing_one_refused() {
    let required = Some(ProxyProtocol::default());
    let (mut client, server) = pair().await;
    client.write_all(b"PROXY TCP4 192.0.2.1 192.0.2.2 5000 80\r\n\x16bytes").await.unwrap();
    client.shutdown().await.unwrap();
    let mut http_only = filters(required);
    http_only.tls = false;
    let (found, mut stream) = inspect(server, &http_only).await.unwrap();
    assert_eq!(found.proxied.unwrap().0, "192.0.2.1:5000".parse().unwrap());
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"\x16bytes");

    let (mut client, server) = pair().await;
    client.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    assert!(matches!(inspect(server, &http_only).await, Err(InspectError::ProxyProtocol)));
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_counts_as_unknown_after_the_timeout() {
    let (client, server) = pair().await;
    let (found, _stream) = inspect(server, &filters(None)).await.unwrap();
    assert!(!found.tls && found.application_protocols.is_empty());
    drop(client);

    let (_client, server) = pair().await;
    let strict = ListenerFilters { continue_on_timeout: false, ..filters(None) };
    assert!(matches!(inspect(server, &strict).await, Err(InspectError::Timeout)));
}

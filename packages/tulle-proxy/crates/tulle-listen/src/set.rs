//! One worker's listeners, kept equal to the configuration: bound when added, swapped in place when changed on the same
//! address of the same network namespace, closed when removed. Connections already accepted are not touched: they belong to the caller.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tulle_config::Listener;
use tulle_config::listener::Place;
use tulle_config::store::Resources;
use tulle_core::Str;

use crate::socket::{self, SharePort};

/// A connection just accepted, with the listener's configuration as of that moment.
#[derive(Debug)]
pub struct Accepted {
    pub stream: TcpStream,
    pub peer: SocketAddr,
    /// The address that was listened on (the port chosen by the system where 0 was asked for).
    pub local: SocketAddr,
    pub listener: Arc<Listener>,
}

/// A listener that could not be bound; it is tried again at the next `apply`.
#[derive(Debug, thiserror::Error)]
#[error("listener {name}: cannot listen on {at}: {cause}")]
pub struct BindError {
    pub name: Str,
    pub at: Place,
    pub cause: io::Error,
}

/// The listeners of one worker. `serve` is called on the worker's thread for every connection and must not block.
pub struct ListenerSet {
    bound: HashMap<Key, Bound>,
    serve: Rc<dyn Fn(Accepted)>,
    /// Whether no connection is taken for now.
    resting: watch::Sender<bool>,
}

/// A listener's name, one of its addresses, and the network namespace of that.
type Key = (Str, SocketAddr, Option<Str>);

struct Bound {
    current: Rc<RefCell<Arc<Listener>>>,
    local: SocketAddr,
    /// Dropped to close: the accept loop takes what the kernel has already queued, then closes its socket, so that no
    /// client whose connection was established sees a reset.
    _open: oneshot::Sender<()>,
}

impl ListenerSet {
    pub fn new(serve: impl Fn(Accepted) + 'static) -> Self {
        ListenerSet { bound: HashMap::new(), serve: Rc::new(serve), resting: watch::channel(false).0 }
    }

    /// Makes the set equal to `wanted`; needs a `LocalSet` (or local runtime) around it. A changed listener keeps its
    /// socket: the next connection sees the new configuration. One failure does not keep others from being bound.
    pub fn apply(&mut self, wanted: &Resources<Listener>) -> Vec<BindError> {
        let mut keep: HashMap<Key, Arc<Listener>> = HashMap::new();
        for (name, listener) in wanted.iter().filter(|(_, listener)| listener.bind_to_port) {
            for place in std::iter::once(&listener.address).chain(&listener.additional_addresses) {
                let Some(address) = place.address.socket() else { continue };
                keep.insert((name.clone(), address, place.namespace.clone()), listener.clone());
            }
        }
        // Close first: a renamed listener may want the address of a removed one.
        self.bound.retain(|key, _| keep.contains_key(key));
        let mut failures = Vec::new();
        for (key, listener) in keep {
            if let Some(bound) = self.bound.get(&key) {
                *bound.current.borrow_mut() = listener;
                continue;
            }
            let (name, address, namespace) = key;
            match self.bind((address, namespace.as_deref()), listener) {
                Ok(bound) => drop(self.bound.insert((name, address, namespace), bound)),
                Err(cause) => {
                    failures.push(BindError { name, at: Place { address: address.into(), namespace }, cause })
                }
            }
        }
        failures
    }

    /// Takes no connections while `resting`: they wait in the kernel's queues.
    pub fn rest(&self, resting: bool) {
        self.resting.send_replace(resting);
    }

    /// Stops accepting everywhere.
    pub fn close(&mut self) {
        self.bound.clear();
    }

    /// The addresses in use, by listener name.
    pub fn addresses(&self) -> impl Iterator<Item = (&Str, SocketAddr)> {
        self.bound.iter().map(|((name, ..), bound)| (name, bound.local))
    }

    fn bind(&self, at: (SocketAddr, Option<&str>), listener: Arc<Listener>) -> io::Result<Bound> {
        let share = if listener.reuse_port { SharePort::Yes } else { SharePort::No };
        let socket = socket::bind(at, share, listener.backlog, &listener.socket_options)?;
        let local = socket.local_addr()?;
        let current = Rc::new(RefCell::new(listener));
        let (open, closed) = oneshot::channel();
        let signals = Signals { closed, resting: self.resting.subscribe() };
        tokio::task::spawn_local(accept_until(socket, signals, current.clone(), self.serve.clone()));
        Ok(Bound { current, local, _open: open })
    }
}

/// What an accept loop is told.
struct Signals {
    closed: oneshot::Receiver<()>,
    resting: watch::Receiver<bool>,
}

async fn accept_until(
    socket: TcpListener,
    mut signals: Signals,
    config: Rc<RefCell<Arc<Listener>>>,
    serve: Rc<dyn Fn(Accepted)>,
) {
    let Ok(local) = socket.local_addr() else {
        return;
    };
    let hand_over = |(stream, peer): (TcpStream, SocketAddr)| {
        let listener = config.borrow().clone();
        serve(Accepted { stream, peer, local, listener });
    };
    loop {
        let resting = *signals.resting.borrow_and_update();
        tokio::select! {
            accepted = socket::accept(&socket), if !resting => hand_over(accepted),
            Ok(()) = signals.resting.changed() => {}
            _ = &mut signals.closed => break,
        }
    }
    // At most a full queue: a flood of new connections must not keep the socket open.
    let limit = config.borrow().backlog;
    socket::accept_queued(socket, limit).into_iter().for_each(hand_over);
}

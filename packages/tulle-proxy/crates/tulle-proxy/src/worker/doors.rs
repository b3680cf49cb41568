//! How many connections from clients are let in, of the process and of each listener.

use std::sync::Arc;

use tulle_config::{ConnectionLimits, Listener, OverloadManager};
use tulle_policy::gate::{Gate, Inside};

/// Of the process where nothing is configured and descriptors would allow more: what Envoy recommends for an edge.
const MOST: u64 = 50_000;
/// Descriptors that are never spent on clients: listeners, log files, the control plane, the admin endpoint's connections.
const RESERVED: u64 = 128;

/// The limits, which all workers share.
#[derive(Debug)]
pub struct Doors {
    process: Arc<Gate>,
    most: u64,
    /// Of a listener that has no limit of its own.
    share: u64,
    limits: ConnectionLimits,
}

/// Why a connection is closed as it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    Process,
    Listener,
}

/// A connection's places, for as long as it lives.
#[derive(Debug)]
pub struct Places {
    _places: [Option<Inside>; 2],
}

impl Doors {
    /// What is configured; else as many as `descriptors`, the most files that the process may have open, allow when each
    /// client has a connection to an upstream too. Then no listener takes more than three quarters of them, so that a flood
    /// at one leaves room at the others.
    pub fn new(overload: Option<&OverloadManager>, limits: &ConnectionLimits, descriptors: u64) -> Doors {
        let configured = overload.and_then(|manager| manager.max_connections).or(limits.process);
        let (most, share) = match configured {
            Some(most) => (most, u64::MAX),
            None => {
                let reserved = RESERVED.min(descriptors / 4);
                let most = ((descriptors - reserved) / 2).clamp(1, MOST);
                (most, (most - most / 4).max(1))
            }
        };
        Doors { process: Arc::default(), most, share, limits: limits.clone() }
    }

    /// Lets a connection of a listener in.
    ///
    /// # Errors
    /// When there are as many as there may be.
    pub fn enter(&self, listener: &Listener) -> Result<Places, Full> {
        let most = self.limits.listeners.get(&listener.name).copied().unwrap_or(self.share);
        let own = listener.gate.enter(most).ok_or(Full::Listener)?;
        let common = if listener.counted { Some(self.process.enter(self.most).ok_or(Full::Process)?) } else { None };
        Ok(Places { _places: [Some(own), common] })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tulle_config::{ConnectionLimits, Listener};

    use super::{Doors, Full};

    fn listeners() -> Vec<Arc<Listener>> {
        let listener = |name: &str, more: &str| {
            format!(
                "{{name: {name}, address: {{socket_address: {{address: 127.0.0.1, port_value: 1}}}}{more}, filter_chains: \
                 [{{filters: [{{name: t, typed_config: {{\"@type\": type.googleapis.com/\
                 envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: t, cluster: c}}}}]}}]}}"
            )
        };
        let text = format!(
            "static_resources: {{listeners: [{}, {}, {}]}}",
            listener("one", ""),
            listener("two", ""),
            listener("free", ", ignore_global_conn_limit: true")
        );
        tulle_xds::bootstrap::load(&text).unwrap().bootstrap.resources.listeners
    }

    #[test]
    fn by_default_descriptors_decide_and_one_listener_leaves_room() {
        let all = listeners();
        let doors = Doors::new(None, &ConnectionLimits::default(), 21);
        assert_eq!((doors.most, doors.share), (8, 6));
        let mut inside: Vec<_> = (0..6).map(|_| doors.enter(&all[0]).unwrap()).collect();
        assert_eq!(doors.enter(&all[0]).unwrap_err(), Full::Listener);
        inside.extend((0..2).map(|_| doors.enter(&all[1]).unwrap()));
        assert_eq!(doors.enter(&all[1]).unwrap_err(), Full::Process);
        assert!(doors.enter(&all[2]).is_ok(), "it does not count");
        inside.pop();
        assert!(doors.enter(&all[1]).is_ok(), "there is room again");
    }

    #[test]
    fn few_and_many_descriptors() {
        let of = |descriptors| {
            let doors = Doors::new(None, &ConnectionLimits::default(), descriptors);
            (doors.most, doors.share)
        };
        assert_eq!([of(0), of(1024), of(1 << 40)], [(1, 1), (448, 336), (50_000, 37_500)]);
    }

    #[test]
    fn what_is_configured_holds() {
        let all = listeners();
        let limits = ConnectionLimits { process: Some(3), listeners: [("one".into(), 1)].into() };
        let doors = Doors::new(None, &limits, 1 << 20);
        let _one = doors.enter(&all[0]).unwrap();
        assert_eq!(doors.enter(&all[0]).unwrap_err(), Full::Listener);
        let _two: Vec<_> = (0..2).map(|_| doors.enter(&all[1]).unwrap()).collect();
        assert_eq!(doors.enter(&all[1]).unwrap_err(), Full::Process);
    }
}

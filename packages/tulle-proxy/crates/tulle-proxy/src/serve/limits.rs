//! A filter chain's limits on its connections (`envoy.filters.network.connection_limit`).

use std::rc::Rc;

use tulle_policy::gate::{ConnectionLimit, Inside};
use tulle_telemetry::envoy::ConnectionLimitStats;

use crate::worker::Worker;

/// A connection's places in the limits of its chain, for as long as it lives. A chain without limits has none.
pub struct Limited {
    _places: Box<[Place]>,
}

struct Place {
    worker: Rc<Worker>,
    stats: ConnectionLimitStats,
    _inside: Inside,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.worker.metrics.sheet.move_by(self.stats.active_connections, -1);
    }
}

/// Takes a place in each limit. `None`: there is none left in one of them, and the connection has waited, unread, for as
/// long as that one says.
pub async fn enter(worker: &Rc<Worker>, limits: &[ConnectionLimit]) -> Option<Limited> {
    let mut places = Vec::with_capacity(limits.len());
    for limit in limits {
        let stats = worker.metrics.connection_limit(&limit.stat_prefix);
        let Some(inside) = limit.gate.enter(limit.most) else {
            worker.metrics.sheet.inc(stats.limited_connections);
            if !limit.delay.is_zero() {
                Box::pin(tokio::time::sleep(limit.delay)).await;
            }
            return None;
        };
        worker.metrics.sheet.move_by(stats.active_connections, 1);
        places.push(Place { worker: worker.clone(), stats, _inside: inside });
    }
    Some(Limited { _places: places.into() })
}

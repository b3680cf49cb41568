//! Keeping a client's requests at one endpoint, for as long as the endpoint is there.

use std::sync::Arc;

use tulle_balance::{Host, NoHost};
use tulle_core::{Address, UnixNanos};
use tulle_http::Headers;
use tulle_policy::session::Session;

use super::Exchange;
use super::reply::Reply;

/// A request that has, or will have, an endpoint of its own.
pub struct Affinity {
    settings: Arc<Session>,
    /// The endpoint that the client named.
    pub named: Option<Address>,
}

fn seconds(now: UnixNanos) -> u64 {
    now.0 / 1_000_000_000
}

/// Looks for the endpoint that the request belongs to.
pub fn begin(x: &mut Exchange<'_>, settings: &Arc<Session>) {
    let request = &x.heads.request;
    let path = String::from_utf8_lossy(request.path());
    let Some(store) = settings.store.as_ref().filter(|store| store.concerns(&path)) else { return };
    let named = store.endpoint(request, seconds(x.worker.clock.wall()));
    x.record.edits.get_or_insert_default().session = Some(Affinity { settings: settings.clone(), named });
}

/// The affinity of the request, where it has one.
pub fn of<'x>(x: &'x Exchange<'_>) -> Option<&'x Affinity> {
    x.record.edits.as_ref()?.session.as_ref()
}

impl Affinity {
    /// Whether no endpoint but the named one will do.
    pub fn is_strict(&self) -> bool {
        self.settings.strict && self.named.is_some()
    }

    /// The answer when there is no endpoint.
    pub fn refused(&self, why: NoHost) -> Reply {
        let reply = Reply::no_healthy_upstream();
        if why == NoHost::Gone { Reply { status: self.settings.gone_status, ..reply } } else { reply }
    }

    /// Tells the client which endpoint it belongs to, where that has changed.
    pub fn tell(&self, host: Option<&Host>, now: UnixNanos, headers: &mut Headers) {
        let (Some(host), Some(store)) = (host, &self.settings.store) else { return };
        let address = &host.endpoint.address;
        if self.named.as_ref() == Some(address) {
            return;
        }
        let (name, value) = store.field(address, seconds(now));
        if name == "set-cookie" {
            headers.push(name.as_bytes(), value.as_bytes());
        } else {
            headers.set(name.as_bytes(), value.as_bytes());
        }
    }
}

//! Clusters that are asked of the control plane once a request needs them (`envoy.filters.http.on_demand`).

use std::time::Duration;

use tulle_core::Str;
use tulle_http::Side;
use tulle_route::Selected;

use super::filters::gone;
use super::{Exchange, Failed};

/// A cluster that is not known yet.
pub struct Wanted {
    name: Str,
    /// How long the control plane may take.
    patience: Duration,
}

/// The cluster that the request is to go to, when it is not there.
pub fn wanted(x: &Exchange<'_>, selected: Option<&Selected<'_>>, patience: Duration) -> Option<Wanted> {
    let name = selected?.cluster(&x.heads.request)?;
    x.worker.target(name).is_none().then(|| Wanted { name: name.into(), patience })
}

/// Waits until the cluster is there, or is known not to exist, or time is up; the request then goes on either way.
pub async fn wait(x: &mut Exchange<'_>, down: &mut Side, wanted: Wanted) -> Result<(), Failed> {
    let worker = x.worker.clone();
    let discovery = tokio::time::timeout(wanted.patience, worker.discover(&wanted.name));
    tokio::select! {
        // Without an answer the request finds no cluster, as with one that says so.
        _settled = discovery => Ok(()),
        left = gone(x, down) => Err(left),
    }
}
